//! Cgroups made by systemd: transient scopes, started and stopped over D-Bus (org.freedesktop.systemd1(5)).

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use nix::sys::signal::Signal;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dbus::{self, Connection, Method, parse_address, path_address};
use crate::plan::facts::{CgroupLayout, Manager};
use crate::plan::systemd::{Property, Scope};
use crate::plan::variant::Value;
use crate::sys::signal::Interrupts;

/// Something that systemd did not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// Nobody who could do it answers.
    Nobody {
        /// Which systemd was looked for.
        manager: Manager,
        /// The last place that was tried.
        at: String,
        /// Why there is no answer there.
        why: String,
    },
    /// tincan was asked to go before somebody answered.
    Interrupted(Signal),
    /// There is a unit of that name already.
    Taken {
        /// Its name.
        unit: String,
    },
    /// A call.
    Call {
        /// What was asked for, and of which unit.
        what: String,
        /// What came instead.
        cause: dbus::Failed,
    },
    /// The job was done otherwise than asked.
    Job {
        /// What was asked for, and of which unit.
        what: String,
        /// As systemd has it: `failed`, `canceled`, …
        result: String,
    },
    /// The processes that systemd sees have other numbers.
    ElsewhereProcesses,
    /// The cgroup is not where this process could see it.
    ElsewhereCgroup {
        /// The unit.
        unit: String,
        /// Where it is, as the process in it has it.
        path: String,
    },
    /// The first process's cgroup cannot be read.
    Lost {
        /// The file.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Nobody { manager, at, why } => {
                let whose = match manager {
                    Manager::System => String::new(),
                    Manager::User(uid) => format!(" of user {uid}"),
                };
                write!(f, "no systemd{whose} answers at {at}: {why}")
            }
            Failed::Interrupted(signal) => write!(f, "interrupted by {signal}"),
            Failed::Taken { unit } => write!(f, "systemd has a unit {unit} already"),
            Failed::Call { what, cause } => {
                write!(f, "{what}: ")?;
                match cause {
                    dbus::Failed::Refused { message, .. } => {
                        f.write_str(message.trim_end_matches('.'))
                    }
                    other => write!(f, "{other}"),
                }
            }
            Failed::Job { what, result } => write!(f, "{what}: systemd's job ends as `{result}`"),
            Failed::ElsewhereProcesses => f.write_str(
                "systemd is in another pid namespace, and knows the container's process by another number",
            ),
            Failed::ElsewhereCgroup { unit, path } => {
                write!(f, "the scope {unit} is at {path}, which cannot be seen from here")
            }
            Failed::Lost { path, errno } => {
                let cause = nix::errno::Errno::from_raw(errno.raw_os_error()).desc();
                write!(f, "read {}: {cause}", path.display())
            }
        }
    }
}

impl fmt::Display for dbus::Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            dbus::Failed::Io(errno) => {
                let cause = nix::errno::Errno::from_raw(errno.raw_os_error()).desc();
                f.write_str(cause)
            }
            dbus::Failed::TimedOut => f.write_str("it does not answer in time"),
            dbus::Failed::Interrupted(signal) => write!(f, "interrupted by {signal}"),
            dbus::Failed::Refused { message, .. } => f.write_str(message),
            dbus::Failed::Garbled => f.write_str("what it says is no D-Bus"),
        }
    }
}

impl std::error::Error for Failed {}

impl Failed {
    /// Whether a unit of the name is somebody else's, or there is none, so that its undo has nothing to do.
    pub fn made_nothing(&self) -> bool {
        matches!(
            self,
            Failed::Nobody { .. }
                | Failed::Interrupted(_)
                | Failed::Taken { .. }
                | Failed::ElsewhereProcesses
        )
    }

    /// The signal by which tincan was asked to go while it waited for systemd.
    pub fn interrupted_by(&self) -> Option<Signal> {
        match self {
            Failed::Interrupted(signal)
            | Failed::Call {
                cause: dbus::Failed::Interrupted(signal),
                ..
            } => Some(*signal),
            _ => None,
        }
    }

    /// What the user could do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Failed::Nobody {
                manager: Manager::System,
                ..
            } => Some(
                "where systemd is not process 1, leave --systemd-cgroup out: tincan makes cgroups itself",
            ),
            Failed::Nobody {
                manager: Manager::User(_),
                ..
            } => Some(
                "`loginctl enable-linger` starts the user's systemd; or leave --systemd-cgroup out",
            ),
            Failed::Taken { .. } => {
                Some("`systemctl status` shows whose it is; `systemctl stop` ends it")
            }
            Failed::ElsewhereProcesses => Some(
                "run tincan where systemd runs; or leave --systemd-cgroup out: tincan makes cgroups itself",
            ),
            _ => None,
        }
    }
}

/// The systemd that makes cgroups for this process: that of its user, whom the host knows, and not a user namespace.
pub fn manager() -> Manager {
    let own = rustix::process::geteuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    match outer_id(&map, own) {
        0 => Manager::System,
        uid => Manager::User(uid),
    }
}

/// What an id is outside of the user namespace with this map (user_namespaces(7)).
fn outer_id(map: &str, own: u32) -> u32 {
    let outer = map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(size))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return None;
        };
        let offset = own.checked_sub(inside)?;
        (offset < size).then(|| outside + offset)
    });
    outer.unwrap_or(own)
}

/// A unit of ours, for the journal: enough to stop it, and never somebody else's of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Which systemd has it.
    manager: Manager,
    /// Its name.
    name: String,
    /// By which it is known to be ours.
    description: String,
}

/// Where a systemd can be talked to.
struct Candidate {
    /// For messages.
    shown: String,
    address: Option<SocketAddr>,
    /// A bus, with its daemon between; or systemd itself.
    is_bus: bool,
}

/// Where to look for a systemd: the standard's variables first, then the places that are by systemd's own rules.
fn candidates(manager: Manager) -> Vec<Candidate> {
    let mut found = Vec::new();
    let variable = match manager {
        Manager::System => "DBUS_SYSTEM_BUS_ADDRESS",
        Manager::User(_) => "DBUS_SESSION_BUS_ADDRESS",
    };
    if let Ok(list) = env::var(variable) {
        found.push(Candidate {
            address: parse_address(&list),
            shown: list,
            is_bus: true,
        });
    }
    let mut path = |path: String, is_bus| {
        found.push(Candidate {
            address: path_address(&path).ok(),
            shown: path,
            is_bus,
        });
    };
    match manager {
        Manager::System => {
            path("/run/systemd/private".to_owned(), false);
            path("/run/dbus/system_bus_socket".to_owned(), true);
        }
        Manager::User(uid) => {
            let own = format!("/run/user/{uid}");
            let given = env::var("XDG_RUNTIME_DIR").ok().filter(|dir| *dir != own);
            for dir in given.into_iter().chain([own]) {
                path(format!("{dir}/systemd/private"), false);
                path(format!("{dir}/bus"), true);
            }
        }
    }
    found
}

const SYSTEMD: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A method of systemd's manager.
fn of_manager(member: &str) -> Method<'_> {
    Method {
        destination: SYSTEMD,
        path: ROOT,
        interface: "org.freedesktop.systemd1.Manager",
        member,
    }
}

/// A method of the bus itself.
fn of_bus(member: &str) -> Method<'_> {
    Method {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member,
    }
}

/// Connects to a systemd, so that it tells of its jobs.
fn connect(manager: Manager, interrupts: Option<&Interrupts>) -> Result<Connection<'_>, Failed> {
    let mut missed = (String::new(), "there is no place to look".to_owned());
    for candidate in candidates(manager) {
        let Some(address) = candidate.address else {
            missed = (candidate.shown, "it is no address of a socket".to_owned());
            continue;
        };
        match introduce(&address, candidate.is_bus, interrupts) {
            Ok(connection) => return Ok(connection),
            Err(dbus::Failed::Interrupted(signal)) => return Err(Failed::Interrupted(signal)),
            Err(cause) => missed = (candidate.shown, cause.to_string()),
        }
    }
    let (at, why) = missed;
    Err(Failed::Nobody { manager, at, why })
}

fn introduce<'a>(
    address: &SocketAddr,
    is_bus: bool,
    interrupts: Option<&'a Interrupts>,
) -> Result<Connection<'a>, dbus::Failed> {
    let mut connection = Connection::open(address, interrupts)?;
    if is_bus {
        connection.call(of_bus("Hello"), &[])?;
        let rule = format!(
            "type='signal',sender='{SYSTEMD}',path='{ROOT}',interface='{SYSTEMD}.Manager',member='JobRemoved'"
        );
        connection.call(of_bus("AddMatch"), &[Value::Text(rule)])?;
    }
    // Without it systemd tells nobody on a bus of its jobs. That there is an answer shows that it is there, too.
    connection.call(of_manager("Subscribe"), &[])?;
    Ok(connection)
}

/// A property of an object.
fn get(
    connection: &mut Connection<'_>,
    path: &str,
    interface: &str,
    name: &str,
) -> Result<Option<String>, dbus::Failed> {
    let method = Method {
        destination: SYSTEMD,
        path,
        interface: PROPERTIES,
        member: "Get",
    };
    let answer = connection.call(method, &[Value::text(interface), Value::text(name)])?;
    Ok(match answer.into_iter().next() {
        Some(Value::Variant(value)) => match *value {
            Value::Text(text) => Some(text),
            _ => None,
        },
        _ => None,
    })
}

/// The number of a version such as `252.39-1~deb12u2`, as units know it.
fn parse_version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().unwrap_or(0)
}

/// Calls a method that starts a job, and waits until that is done.
fn run_job(
    connection: &mut Connection<'_>,
    what: &str,
    method: Method<'_>,
    arguments: &[Value],
) -> Result<(), Failed> {
    let failed = |cause| Failed::Call {
        what: what.to_owned(),
        cause,
    };
    let answer = connection.call(method, arguments).map_err(failed)?;
    let Some(Value::ObjectPath(job)) = answer.into_iter().next() else {
        return Err(failed(dbus::Failed::Garbled));
    };
    let result = connection
        .await_signal("JobRemoved", |values| match values {
            [_, Value::ObjectPath(path), _, Value::Text(result)] if *path == job => {
                Some(result.clone())
            }
            _ => None,
        })
        .map_err(failed)?;
    match result.as_str() {
        "done" => Ok(()),
        _ => Err(Failed::Job {
            what: what.to_owned(),
            result,
        }),
    }
}

impl Unit {
    /// The unit of a scope, for a container that is known by these words among all.
    pub fn of(scope: &Scope, description: String) -> Unit {
        Unit {
            manager: scope.manager,
            name: scope.unit.clone(),
            description,
        }
    }

    /// Starts the scope around a process, and returns its cgroup's path below the mount points here.
    ///
    /// # Errors
    /// Those after which nothing was made are known by [`Failed::made_nothing`].
    pub fn start(
        &self,
        scope: &Scope,
        pid: i32,
        layout: &CgroupLayout,
        interrupts: &Interrupts,
    ) -> Result<PathBuf, Failed> {
        let what = format!("start the scope {scope}");
        let failed = |cause| Failed::Call {
            what: what.clone(),
            cause,
        };
        let mut connection = connect(self.manager, Some(interrupts))?;
        // A number of ours would be another process's there, and that would end up in the container's cgroup.
        if connection.peer().map_err(failed)? == 0 {
            return Err(Failed::ElsewhereProcesses);
        }
        let interface = "org.freedesktop.systemd1.Manager";
        let version = get(&mut connection, ROOT, interface, "Version").map_err(failed)?;
        let version = parse_version(&version.unwrap_or_default());
        let property = |name: &str, value: Value| {
            Value::Tuple(vec![Value::text(name), Value::Variant(Box::new(value))])
        };
        let process = Value::Uint32(pid.cast_unsigned());
        let mut properties = vec![
            property("Description", Value::text(&self.description)),
            property("Slice", Value::text(&scope.slice)),
            property("PIDs", Value::Array("u".to_owned(), vec![process])),
        ];
        let known = scope.properties.iter().filter(|one| one.since <= version);
        properties.extend(known.map(|one| property(&one.name, one.value.clone())));
        let arguments = [
            Value::text(&self.name),
            // What is to become of other jobs of this unit, of which there are none.
            Value::text("replace"),
            Value::Array("(sv)".to_owned(), properties),
            // Units to start along with it.
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        let start = of_manager("StartTransientUnit");
        match run_job(&mut connection, &what, start, &arguments) {
            Err(Failed::Call { cause, .. }) if cause.is("org.freedesktop.systemd1.UnitExists") => {
                return Err(Failed::Taken {
                    unit: self.name.clone(),
                });
            }
            other => other?,
        }
        self.path_of(pid, layout)
    }

    /// Puts one more process into the unit's cgroup, for who may not do it by himself: from where a user has logged in to where
    /// the user's systemd makes cgroups, only systemd may move a process (cgroup-v2.rst, Delegation Containment).
    ///
    /// # Errors
    /// When systemd does not do it.
    pub fn attach(&self, pid: i32, interrupts: &Interrupts) -> Result<(), Failed> {
        let mut connection = connect(self.manager, Some(interrupts))?;
        let arguments = [
            Value::text(&self.name),
            // No cgroup below the unit's own.
            Value::text(""),
            Value::Array("u".to_owned(), vec![Value::Uint32(pid.cast_unsigned())]),
        ];
        let attached = connection
            .peer()
            .and_then(|peer| match peer {
                0 => Ok(None),
                _ => connection
                    .call(of_manager("AttachProcessesToUnit"), &arguments)
                    .map(Some),
            })
            .map_err(|cause| Failed::Call {
                what: format!("enter the scope {}", self.name),
                cause,
            })?;
        attached.map(drop).ok_or(Failed::ElsewhereProcesses)
    }

    /// Gives the unit other properties, for as long as it is there.
    ///
    /// # Errors
    /// When systemd does not do it.
    pub fn set(&self, properties: &[Property]) -> Result<(), Failed> {
        let mut connection = connect(self.manager, None)?;
        let failed = |cause| Failed::Call {
            what: format!("change the scope {}", self.name),
            cause,
        };
        let interface = "org.freedesktop.systemd1.Manager";
        let version = get(&mut connection, ROOT, interface, "Version").map_err(failed)?;
        let version = parse_version(&version.unwrap_or_default());
        let known = properties.iter().filter(|one| one.since <= version);
        let known = known.map(|one| {
            let value = Value::Variant(Box::new(one.value.clone()));
            Value::Tuple(vec![Value::text(&one.name), value])
        });
        let arguments = [
            Value::text(&self.name),
            // Not beyond the next boot.
            Value::Bool(true),
            Value::Array("(sv)".to_owned(), known.collect()),
        ];
        let done = connection.call(of_manager("SetUnitProperties"), &arguments);
        done.map(drop).map_err(failed)
    }

    /// Where the cgroup of a process is, which must be that of this unit.
    fn path_of(&self, pid: i32, layout: &CgroupLayout) -> Result<PathBuf, Failed> {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = fs::read_to_string(&file).map_err(|cause| Failed::Lost {
            path: file,
            errno: crate::sys::errno_of(&cause),
        })?;
        // Where there are v1 hierarchies, systemd's own is one of them.
        let wanted = if layout.whole().v1.is_empty() {
            ""
        } else {
            "name=systemd"
        };
        let path = text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            (controllers == wanted).then_some(path)
        });
        let path = Path::new(path.unwrap_or_default());
        let is_seen = path.is_absolute() && !path.components().any(|c| c == Component::ParentDir);
        if is_seen && path.file_name().is_some_and(|name| *name == *self.name) {
            return Ok(path.to_owned());
        }
        Err(Failed::ElsewhereCgroup {
            unit: self.name.clone(),
            path: path.display().to_string(),
        })
    }

    /// Stops the unit, with all that is in it. What is not there, or somebody else's, counts as stopped: and where no systemd
    /// is, there is no unit.
    ///
    /// # Errors
    /// When systemd does not do it.
    pub fn stop(&self) -> Result<(), Failed> {
        let what = format!("stop the scope {}", self.name);
        let failed = |cause| Failed::Call {
            what: what.clone(),
            cause,
        };
        let is_gone = |cause: &dbus::Failed| cause.is("org.freedesktop.systemd1.NoSuchUnit");
        let mut connection = match connect(self.manager, None) {
            Err(Failed::Nobody { .. }) => return Ok(()),
            other => other?,
        };
        let name = || Value::text(&self.name);
        let path = match connection.call(of_manager("GetUnit"), &[name()]) {
            Err(cause) if is_gone(&cause) => return Ok(()),
            Err(cause) => return Err(failed(cause)),
            Ok(answer) => match answer.into_iter().next() {
                Some(Value::ObjectPath(path)) => path,
                _ => return Err(failed(dbus::Failed::Garbled)),
            },
        };
        let interface = "org.freedesktop.systemd1.Unit";
        let description = get(&mut connection, &path, interface, "Description").map_err(failed)?;
        if description.as_ref() != Some(&self.description) {
            return Ok(());
        }
        let arguments = [name(), Value::text("replace")];
        match run_job(&mut connection, &what, of_manager("StopUnit"), &arguments) {
            Err(Failed::Call { cause, .. }) if is_gone(&cause) => return Ok(()),
            other => other?,
        }
        // One that failed would keep its name. One that was collected already has none to keep.
        match connection.call(of_manager("ResetFailedUnit"), &[name()]) {
            Err(cause) if !is_gone(&cause) => Err(failed(cause)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_version_is_what_units_know() {
        for (text, number) in [
            ("252.39-1~deb12u2", 252),
            ("v257~rc1", 257),
            ("219", 219),
            ("", 0),
        ] {
            assert_eq!(parse_version(text), number, "{text}");
        }
    }

    #[test]
    fn an_id_is_the_one_outside() {
        let full = "         0          0 4294967295\n";
        let single = "         0       1000          1\n";
        let many = "0 1000 1\n1 100000 65536\n";
        for (map, own, outside) in [
            (full, 0, 0),
            (full, 1000, 1000),
            (single, 0, 1000),
            (many, 0, 1000),
            (many, 2, 100_001),
            ("", 7, 7),
        ] {
            assert_eq!(outer_id(map, own), outside, "{map}{own}");
        }
    }
}
