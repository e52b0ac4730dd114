//! What a bundle's annotations ask of tincan: links, beside those that whoever made the bundle gives it. So a caller that knows nothing of
//! tincan's `--net`, as podman, asks for it all the same.

use std::collections::BTreeMap;

use super::net::{NetSpec, Publish};
use super::oci::BadBundle;

/// What the annotations begin with that are values of `--net`; a number follows.
pub const NET: &str = "io.tincan.net.";

/// The annotation whose words, separated by commas, are values of `--publish`.
pub const PUBLISH: &str = "io.tincan.publish";

/// What the annotations of a bundle ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Annotated {
    /// Links, in the order of their numbers.
    pub net: Vec<NetSpec>,
    /// Ports of the host's that lead into the container.
    pub publish: Vec<Publish>,
}

/// Reads the annotations that are for tincan's links, and leaves the others alone (runtime-spec config.md, Annotations).
///
/// # Errors
/// [`BadBundle`] with the annotation whose number or value is none.
pub fn read(annotations: &BTreeMap<String, String>) -> Result<Annotated, BadBundle> {
    let bad = |key: &str, why: String| BadBundle::new(&format!("annotations.{key}"), why);
    let mut links: BTreeMap<u32, (&str, NetSpec)> = BTreeMap::new();
    for (key, value) in annotations {
        let Some(number) = key.strip_prefix(NET) else {
            continue;
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = match number.parse() {
            Ok(number) if digits => number,
            _ => {
                let why =
                    format!("ends with `{number}`, which is no number; a right one is `{NET}0`");
                return Err(bad(key, why));
            }
        };
        let spec: NetSpec = value.parse().map_err(|word| bad(key, format!("{word}")))?;
        if !spec.is_link() {
            let why =
                format!("`{value}` is no link but a whole network; a right one is `172.16.0.1/16`");
            return Err(bad(key, why));
        }
        if let Some((other, _)) = links.insert(number, (key, spec)) {
            return Err(bad(key, format!("has the number of {other}")));
        }
    }
    let publish = annotations.get(PUBLISH).map_or("", String::as_str);
    let words = publish
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let publish = words.map(|word| word.parse().map_err(|word| bad(PUBLISH, format!("{word}"))));
    Ok(Annotated {
        net: links.into_values().map(|(_, spec)| spec).collect(),
        publish: publish.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        all.iter().map(own).collect()
    }

    #[test]
    fn links_come_in_the_order_of_their_numbers() {
        let all = annotations(&[
            ("io.tincan.net.10", "lan0"),
            ("io.tincan.net.9", "172.16.0.1/16"),
            ("io.tincan.network", "no value"),
            ("org.example.net.0", "no value"),
            ("io.tincan.publish", "8080:80, 9000-9010/udp"),
        ]);
        let read = read(&all).unwrap();
        assert_eq!(
            read.net,
            ["172.16.0.1/16", "lan0"].map(|it| it.parse().unwrap())
        );
        let ports: Vec<String> = read.publish.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["8080:80", "9000-9010:9000-9010/udp"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, value, why) in [
            ("io.tincan.net.0", "172.16.0.300/16", "no IP address"),
            ("io.tincan.net.0", "host", "is no link"),
            ("io.tincan.net.0", "container:c1", "is no link"),
            ("io.tincan.net.", "lan0", "is no number"),
            ("io.tincan.net.x", "lan0", "`x`, which is no number"),
            ("io.tincan.net.+1", "lan0", "is no number"),
            ("io.tincan.publish", "0:80", "is no port"),
        ] {
            let error = read(&annotations(&[(key, value)])).unwrap_err().to_string();
            let named = format!("config.json: annotations.{key}: ");
            assert!(error.starts_with(&named) && error.contains(why), "{error}");
        }
        let twice = annotations(&[("io.tincan.net.1", "lan0"), ("io.tincan.net.01", "lan1")]);
        let error = read(&twice).unwrap_err().to_string();
        assert!(
            error.contains("has the number of io.tincan.net."),
            "{error}"
        );
    }
}
