//! The command line: one command, one file, with its arguments and what it does.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use nix::sys::signal::SigHandler;

use crate::engine::error::{EngineError, without_errno};
use crate::engine::hold::{CgroupDriver, Engine};
use crate::engine::hook::OCI_VERSION;
use crate::engine::log::{LineFormat, Log};
use crate::engine::seal;
use crate::engine::state::StateRoot;
use crate::engine::user;
use crate::plan::name::ContainerName;
use crate::sys;

/// Declares the commands: each is `name: what it is for`, with a module of that name that has `Args` and `run`. The
/// arguments are built only for the command that is called: that saves half of clap's time.
macro_rules! commands {
    ($($name:literal $module:ident: $about:literal),* $(,)?) => {
        $(mod $module;)*

        fn commands() -> Vec<Command> {
            vec![$(Command::new($name).about($about).defer(|command| {
                $module::Args::augment_args(command).about($about)
            })),*]
        }

        fn dispatch(name: &str, matches: &ArgMatches, engine: &Engine) -> anyhow::Result<ExitCode> {
            match name {
                $($name => $module::run(<$module::Args>::from_arg_matches(matches)?, engine),)*
                other => unreachable!("clap accepts no command {other}"),
            }
        }
    };
}

mod bundle;
mod connect;
mod dry_run;
mod link_set;
mod names;
mod net;
mod plugins;

use net::NetworkError;

commands! {
    "run" run: "Run a command, or an OCI bundle, in a new container",
    "pair" pair: "Start two containers with one wire between them",
    "link" link: "Add, change, remove and list wires and other interfaces of running containers",
    "network" network: "Make, remove and list networks of many containers",
    "list" list: "List the containers",
    "doctor" doctor: "Show what this machine has of what tincan can use",
    "gc" gc: "Clear away what killed runs left",
    "create" create: "Create a container from an OCI bundle, up to its start",
    "start" start: "Start a created container",
    "state" state: "Print the state of a container",
    "kill" kill: "Send a signal to a container",
    "delete" delete: "Delete a container",
    "pause" pause: "Freeze the processes of a container",
    "resume" resume: "Let the processes of a paused container go on",
    "update" update: "Give a container other limits",
    "ps" ps: "Show the processes of a container",
    "events" events: "Show what a container uses, and when the kernel kills in it for want of memory",
    "checkpoint" checkpoint: "Keep the processes of a container in files, by CRIU",
    "restore" restore: "Create a container from its bundle and what checkpoint has kept, and let it go on",
    "exec" exec: "Run one more process in a running container",
    "unshare" unshare: "Run a command on the host of your containers, where the far ends of their wires are",
    "cni" cni: "Be a plugin of the Container Network Interface, as CNI_COMMAND in the environment says",
    "features" features: "Print what this runtime does of the OCI specification",
    "spec" spec: "Write a template of a bundle's config.json",
}

/// How errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// As a line of text.
    Text,
    /// As an object with `level`, `msg` and `time`.
    Json,
}

/// Who makes the cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CgroupManager {
    /// tincan itself.
    Cgroupfs,
    /// systemd.
    Systemd,
    /// Nobody: not done yet.
    Disabled,
}

/// Whether cgroups may be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Rootless {
    /// Not done yet.
    True,
    /// They may not.
    False,
    /// As the user is root or not: who is not goes without what is not delegated.
    Auto,
}

/// The options before the command, as runc has them.
#[derive(Debug, clap::Args)]
struct Globals {
    /// Where the containers' state is kept
    /// [default: /run/tincan, or $XDG_RUNTIME_DIR/tincan for whoever is not root]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Append errors to this file as well, and warnings to it alone
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How errors are written to the log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Write to the log what is called, too
    #[arg(long)]
    debug: bool,
    /// Let systemd make the cgroups: cgroupsPath is SLICE:PREFIX:NAME
    #[arg(long)]
    systemd_cgroup: bool,
    /// Who makes the cgroups
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs")]
    cgroup_manager: CgroupManager,
    /// Go on where cgroups may not be made
    #[arg(long, value_name = "WHETHER", default_value = "auto")]
    rootless: Rootless,
    /// Where CRIU is
    #[arg(long, value_name = "PATH")]
    criu: Option<PathBuf>,
}

impl Globals {
    /// Those of a command line that is not right as a whole: a log that is asked for is to hear of it.
    fn of_what_is_right() -> Option<Self> {
        let matches = command_line().ignore_errors(true).try_get_matches().ok()?;
        Globals::from_arg_matches(&matches).ok()
    }

    /// Who makes the cgroups: runc asks for systemd by the one option, crun by the other.
    fn driver(&self) -> CgroupDriver {
        if self.systemd_cgroup || self.cgroup_manager == CgroupManager::Systemd {
            CgroupDriver::Systemd
        } else {
            CgroupDriver::Cgroupfs
        }
    }

    /// Refuses what runc and crun have and tincan does not do yet.
    fn check(&self) -> Result<(), Usage> {
        let not_yet = |option: &str, hint: &str| {
            Err(Usage::new(
                format!("{option}: tincan does not do this yet"),
                hint,
            ))
        };
        if self.cgroup_manager == CgroupManager::Disabled {
            return not_yet(
                "--cgroup-manager disabled",
                "`--cgroup-manager cgroupfs` is there",
            );
        }
        match self.rootless {
            Rootless::False | Rootless::Auto => Ok(()),
            Rootless::True => not_yet("--rootless true", "`--rootless auto` is there"),
        }
    }

    /// The log that is asked for.
    fn log(&self) -> Option<Log> {
        let path = self.log.clone()?;
        let format = match self.log_format {
            LogFormat::Text => LineFormat::Text,
            LogFormat::Json => LineFormat::Json,
        };
        Some(Log { path, format })
    }

    /// Appends a line to the log, if there is one.
    fn tell(&self, level: &str, message: &str) {
        if let Some(log) = self.log() {
            log.write(level, message);
        }
    }
}

/// A failure of the command line itself, and not of what it asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Usage {
    message: String,
    hint: String,
}

impl Usage {
    /// A complaint, with what would be right.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Usage {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// The whole program: parse, dispatch, print the error, exit code.
pub fn main() -> ExitCode {
    // Rust's start-up ignores SIGPIPE; a reader that has seen enough of `tincan list` should end it as it ends any tool.
    if let Err(errno) = sys::process::set_sigpipe(SigHandler::SigDfl) {
        complain!("tincan: set the effect of SIGPIPE: {errno}");
        return ExitCode::from(125);
    }
    let words: Vec<OsString> = if cni::is_called() {
        vec!["tincan".into(), "cni".into()]
    } else {
        std::env::args_os().collect()
    };
    let parsed = command_line().try_get_matches_from(words);
    let parsed = parsed.and_then(|matches| Ok((Globals::from_arg_matches(&matches)?, matches)));
    let (globals, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error, Globals::of_what_is_right().as_ref()),
    };
    let Some((name, matches)) = matches.subcommand() else {
        unreachable!("clap requires a command");
    };
    if let Err(error) = globals.check() {
        return fail(&error.into(), &globals);
    }
    if globals.debug {
        let words: Vec<_> = std::env::args_os()
            .map(|word| word.display().to_string())
            .collect();
        globals.tell("debug", &words.join(" "));
    }
    let root = globals.root.clone().unwrap_or_else(user::default_root);
    let root = StateRoot::new(std::path::absolute(&root).unwrap_or(root));
    let engine = Engine::new(root, globals.driver());
    let engine = engine
        .with_criu(globals.criu.clone())
        .with_log(globals.log());
    let done = dispatch(name, matches, &engine);
    let code = done.unwrap_or_else(|error| fail(&error, &globals));
    match engine.leave() {
        Ok(()) => code,
        Err(error) => fail(&error.into(), &globals),
    }
}

fn command_line() -> Command {
    Globals::augment_args(Command::new("tincan"))
        .about("A minimal container runtime focused on networking")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(
            clap::Arg::new("version")
                .short('v')
                .visible_short_alias('V')
                .long("version")
                .action(clap::ArgAction::Version)
                .help("Print the version"),
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(commands())
}

/// Name and version, commit, specification and features, in the words of runc and crun: Docker reads the first two lines.
fn version() -> String {
    let commit = option_env!("TINCAN_COMMIT").filter(|commit| !commit.is_empty());
    format!(
        "tincan version {}\ncommit: {}\nspec: {OCI_VERSION}\n{FEATURES}",
        env!("CARGO_PKG_VERSION"),
        commit.unwrap_or("unknown"),
    )
}

/// What this build does, as crun tells it of its own.
const FEATURES: &str = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU";

/// Prints what clap has to say: help in full, a complaint in one line and what would be right. The log gets the complaint.
fn refuse(error: &clap::Error, globals: Option<&Globals>) -> ExitCode {
    use clap::error::ErrorKind;
    if error.kind() == ErrorKind::DisplayVersion {
        // Nor is a reader that is gone told of versions.
        let _ = writeln!(std::io::stdout(), "{}", version());
        return ExitCode::SUCCESS;
    }
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // A reader that is gone wants no help.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 125 } else { 0 });
    }
    let text = error.render().to_string();
    // A first line, then its details (which arguments are missing, which values are right), then the usage.
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut message = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned();
    if let Some(option) = without_value(error) {
        message = format!("flag needs an argument: {option}");
    }
    for line in
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
    {
        if let Some(tip) = line.strip_prefix("tip: ") {
            let _ = write!(message, "; {tip}");
        } else {
            let _ = write!(message, " {line}");
        }
    }
    complain!("tincan: {message}");
    if let Some(globals) = globals {
        globals.tell("error", &message);
    }
    let asked: Vec<OsString> = std::env::args_os().collect();
    let names = commands();
    let command = names
        .iter()
        .map(Command::get_name)
        .find(|name| asked.iter().any(|word| word == name))
        .map_or(String::new(), |name| format!(" {name}"));
    complain!("hint: `tincan{command} --help` shows what there is");
    ExitCode::from(125)
}

/// The option that lacks its value. It is told in runc's words: podman knows by them, of `restore --lsm-mount-context`, that a runtime
/// restores a container to another pod.
fn without_value(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let told = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let is_empty = told(ContextKind::InvalidValue).is_some_and(|value| value.is_empty());
    let is_one = error.kind() == ErrorKind::InvalidValue && is_empty;
    is_one.then(|| told(ContextKind::InvalidArg)).flatten()
}

/// Tells an error, on standard error and in the log, and gives the exit code for it.
fn fail(error: &anyhow::Error, globals: &Globals) -> ExitCode {
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        return refuse(error, Some(globals));
    }
    let message = without_errno(&format!("{error:#}"));
    let engine = error.downcast_ref::<EngineError>().or_else(|| {
        match error.downcast_ref::<NetworkError>() {
            Some(NetworkError::Engine(error)) => Some(error),
            _ => None,
        }
    });
    let hint = engine.and_then(EngineError::hint).or_else(|| {
        error
            .downcast_ref::<Usage>()
            .map(|usage| usage.hint.clone())
    });
    complain!("tincan: {message}");
    if let Some(hint) = hint {
        complain!("hint: {hint}");
    }
    globals.tell("error", &message);
    ExitCode::from(engine.map_or(125, EngineError::exit_code))
}

/// Keeps tincan's own binary from a container that it is about to join.
///
/// # Errors
/// When it cannot be kept.
pub fn seal_own(engine: &Engine, container: &ContainerName) -> Result<(), EngineError> {
    seal::seal(engine.user())
        .map_err(|errno| EngineError::of_deed(container, "seal tincan's own binary", errno))
}

/// Prints a value as JSON on standard output, indented, with a line's end.
///
/// # Errors
/// When it cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// How a command prints what a program may want to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The rows of a table with its columns under each other.
///
/// What controls a terminal is not passed on to it: a container can give its interfaces names of anything but `/`, `:` and white space.
pub fn aligned<const N: usize>(table: &[[String; N]]) -> String {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
    let mut text = String::new();
    for row in table {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            let shown = cell.replace(char::is_control, "?");
            line.push_str(&format!("{shown:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_need_no_number() {
        let said = "a: No such file (os error 2); b: Busy (os error 16)";
        assert_eq!(without_errno(said), "a: No such file; b: Busy");
        assert_eq!(without_errno("c: died"), "c: died");
    }

    #[test]
    fn help_begins_with_what_a_command_is_for() {
        for command in commands() {
            let (name, about) = (command.get_name(), command.get_about().unwrap());
            for words in [["tincan", name, "--help"], ["tincan", "help", name]] {
                let said = command_line().try_get_matches_from(words).unwrap_err();
                assert_eq!(said.kind(), clap::error::ErrorKind::DisplayHelp);
                let begin = format!("{about}\n\nUsage: tincan {name}");
                assert!(said.to_string().starts_with(&begin), "{said}");
            }
        }
    }

    #[test]
    fn columns_stand_under_each_other() {
        let table = [["ID", "PID"], ["ns1", "7"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&table), "ID   PID\nns1  7\n");
    }
}
