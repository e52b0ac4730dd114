//! `tincan exec`: one more process in a running container.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use oci_spec::runtime::{LinuxCapabilities, Process, User};

use super::bundle::{hand_out_terminal, write_pid};
use super::run::session_of;
use super::{Usage, need_root};
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::{State, Status};
use crate::engine::supervise::supervise;
use crate::plan::name::{BadWord, ContainerName};
use crate::plan::oci::template::{Wanted, default_bundle};
use crate::plan::oci::{self, ExecRequest, exec_steps};
use crate::plan::topology::{Node, Origin};

/// The arguments of `tincan exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file with the process, as config.json has it
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    process: Option<PathBuf>,
    /// Open a terminal
    #[arg(short, long)]
    tty: bool,
    /// Return when the process runs
    #[arg(short, long)]
    detach: bool,
    /// Run as this user
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Run in this directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set a variable
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// A file into which the process's id is written
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// A socket to which the master of the terminal is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// How many descriptors after the standard three the process gets
    #[arg(long, value_name = "N", default_value = "0")]
    preserve_fds: u32,
    /// The container
    id: ContainerName,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the process, and in the foreground waits for it.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    need_root()?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    let status = engine.root.status(&state);
    if !matches!(status, Status::Created | Status::Running) {
        return Err(EngineError::NotRunning(args.id).into());
    }
    let process = process(&args, engine, &state)?;
    if process.terminal().unwrap_or(false) && args.detach && args.console_socket.is_none() {
        return Err(Usage::new(
            "a terminal is asked for, and nobody is there to get it",
            "give --console-socket, or leave --detach out",
        )
        .into());
    }
    let steps = exec_steps(
        &process,
        &ExecRequest {
            name: &args.id,
            user_namespace: has_user_namespace(&state)?,
            console_size: None,
            no_new_keyring: true,
            preserve_fds: args.preserve_fds,
        },
    );
    let node = Node {
        steps,
        ..Node::beside(&args.id)
    };
    let up = engine.enter(&state, &node)?;
    if let Some(path) = &args.pid_file {
        write_pid(path, up.pid)?;
    }
    if let Some(socket) = &args.console_socket {
        hand_out_terminal(&up, socket)?;
    }
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let console = up.console.filter(|_| args.console_socket.is_none());
    let ended = supervise(up.pidfd.as_fd(), session_of(&node), console)
        .map_err(|errno| anyhow::anyhow!("{}: wait for the process: {errno}", args.id))?;
    Ok(ExitCode::from(ended.shell_code()))
}

/// The process: a file's, or the container's own with another command.
fn process(args: &Args, engine: &Engine, state: &State) -> anyhow::Result<Process> {
    if let Some(path) = &args.process {
        let json = std::fs::read(path)
            .map_err(|cause| anyhow::anyhow!("--process {}: {cause}", path.display()))?;
        let (mut process, warnings) = oci::parse_process(&json)?;
        for warning in warnings {
            eprintln!("tincan: {}: {warning}", args.id);
        }
        if args.tty {
            process.set_terminal(Some(true));
        }
        return Ok(process);
    }
    if args.command.is_empty() {
        return Err(Usage::new("there is no command", format!("tincan exec {} COMMAND", args.id)).into());
    }
    let mut process = own_process(engine, state)?;
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(user) = &args.user {
        process.set_user(user_of(user)?);
    }
    let mut env = process.env().clone().unwrap_or_default();
    for pair in &args.env {
        let Some((key, _)) = pair.split_once('=') else {
            return Err(BadWord::new("variable", pair, "has no `=`", "KEY=value").into());
        };
        env.retain(|other| other.split_once('=').is_none_or(|(name, _)| name != key));
        env.push(pair.clone());
    }
    process.set_env(Some(env));
    Ok(process)
}

/// The process that the container was made with: its bundle's; for `run -- CMD`, what that gives a command.
fn own_process(engine: &Engine, state: &State) -> anyhow::Result<Process> {
    let bundle = match state.origin {
        Origin::Bundle => {
            let config = state.bundle.join("config.json");
            let json = std::fs::read(&config)
                .map_err(|cause| anyhow::anyhow!("{}: {cause}", config.display()))?;
            oci::parse(&json)?
        }
        Origin::Command => default_bundle(
            &Wanted {
                root: &state.rootfs,
                readonly: false,
                args: vec!["/".to_owned()],
                env: vec![
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
                ],
                cwd: PathBuf::from("/"),
                terminal: false,
                hostname: state.id.as_str(),
                shared: &BTreeSet::new(),
            },
            engine.layout()?,
        )?,
    };
    let mut process = bundle
        .spec
        .process()
        .clone()
        .ok_or_else(|| Usage::new("the container has no process", "give one with --process FILE"))?;
    if state.origin == Origin::Command && state.rootfs == Path::new("/") {
        // Over the host's files nothing was taken from the command, and nothing is taken from this one.
        let all: Vec<_> = caps::read(None, caps::CapSet::Permitted)?.into_iter().collect();
        process.set_capabilities(Some(every_capability(&all)?));
        process.set_no_new_privileges(Some(false));
    }
    Ok(process)
}

fn every_capability(all: &[caps::Capability]) -> anyhow::Result<LinuxCapabilities> {
    let names: Vec<String> = all.iter().map(ToString::to_string).collect();
    let sets = serde_json::json!({"bounding": names, "effective": names, "permitted": names});
    Ok(serde_json::from_value(sets)?)
}

fn user_of(text: &str) -> anyhow::Result<User> {
    let bad = || BadWord::new("user", text, "is no UID or UID:GID in numbers", "1000:1000");
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let uid: u32 = uid.parse().map_err(|_| bad())?;
    let gid: u32 = gid.parse().map_err(|_| bad())?;
    Ok(serde_json::from_value(serde_json::json!({"uid": uid, "gid": gid}))?)
}

fn has_user_namespace(state: &State) -> anyhow::Result<bool> {
    let Some(process) = state.process else {
        return Ok(false);
    };
    let theirs = std::fs::read_link(format!("/proc/{}/ns/user", process.pid))?;
    Ok(theirs != std::fs::read_link("/proc/self/ns/user")?)
}
