//! Who is on a network: by it, an address and a port say whose they are.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::{BadWord, ContainerName, LinkName};
use super::net::hashed_link_name;

/// Who has addresses of a network, and ports that lead there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tenant {
    /// A container of tincan's.
    Container(ContainerName),
    /// An interface of somebody else's container, which that has asked for by CNI.
    Attachment(AttachmentId),
}

/// An interface of a container that is not tincan's: `CONTAINER@INTERFACE`, of which no container's name has the `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttachmentId {
    /// What its runtime calls the container (CNI_CONTAINERID).
    pub container: ContainerName,
    /// The interface there (CNI_IFNAME).
    pub interface: LinkName,
}

impl Tenant {
    /// The container, whoever's it is.
    pub fn container(&self) -> &ContainerName {
        match self {
            Tenant::Container(name) => name,
            Tenant::Attachment(id) => &id.container,
        }
    }
}

impl AttachmentId {
    /// The alias of the host's end of its wire, by which anybody sees, and tincan finds again, whose it is. No container's begins so
    /// ([`super::net::host_link_alias`]): whether it is gone, its state root does not tell by a container's state.
    pub fn alias(&self, root: &Path) -> String {
        format!(
            "tincan cni:{}/{}@{}",
            self.container,
            self.interface,
            root.display()
        )
    }

    /// Whose end of a wire has this alias, if it is an attachment's of this state root.
    pub fn of_alias(alias: &str, root: &Path) -> Option<Self> {
        let rest = alias.strip_prefix("tincan cni:")?;
        let rest = rest.strip_suffix(&format!("@{}", root.display()))?;
        let (container, interface) = rest.split_once('/')?;
        Some(AttachmentId {
            container: container.parse().ok()?,
            interface: interface.parse().ok()?,
        })
    }

    /// What the host's end of its wire is called. `attempt` counts the names that were taken.
    pub fn port_name(&self, attempt: u32) -> LinkName {
        hashed_link_name(&format!("{self}/{attempt}"))
    }
}

impl From<&ContainerName> for Tenant {
    fn from(name: &ContainerName) -> Self {
        Tenant::Container(name.clone())
    }
}

impl From<&AttachmentId> for Tenant {
    fn from(id: &AttachmentId) -> Self {
        Tenant::Attachment(id.clone())
    }
}

impl FromStr for Tenant {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        if word.contains('@') {
            word.parse().map(Tenant::Attachment)
        } else {
            word.parse().map(Tenant::Container)
        }
    }
}

impl FromStr for AttachmentId {
    type Err = BadWord;
    fn from_str(word: &str) -> Result<Self, BadWord> {
        let Some((container, interface)) = word.split_once('@') else {
            return Err(BadWord::new("attachment", word, "has no `@`", "c1@eth0"));
        };
        Ok(AttachmentId {
            container: container.parse()?,
            interface: interface.parse()?,
        })
    }
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.container, self.interface)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tenant::Container(name) => name.fmt(f),
            Tenant::Attachment(id) => id.fmt(f),
        }
    }
}

/// What is a string on disk.
macro_rules! as_string {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = BadWord;
            fn try_from(word: String) -> Result<Self, BadWord> {
                word.parse()
            }
        }
        impl From<$type> for String {
            fn from(it: $type) -> String {
                it.to_string()
            }
        }
    };
}
as_string!(Tenant);
as_string!(AttachmentId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_is_told_from_a_container() {
        let tenant: Tenant = "c1".parse().unwrap();
        assert_eq!(tenant, Tenant::Container("c1".parse().unwrap()));
        let tenant: Tenant = "0a-b.c@eth0@x".parse().unwrap();
        let Tenant::Attachment(id) = &tenant else {
            panic!("{tenant}");
        };
        assert_eq!(
            (id.container.as_str(), id.interface.as_str()),
            ("0a-b.c", "eth0@x")
        );
        assert_eq!(tenant.to_string(), "0a-b.c@eth0@x");
        assert!("@eth0".parse::<Tenant>().is_err());
        assert!("c1@".parse::<Tenant>().is_err());
    }
}
