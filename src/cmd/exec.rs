//! `tincan exec`: one more process in a running container.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};

use super::bundle::{
    Sockets, check_preserved, without_capabilities, without_labels, write_pid_file,
};
use super::run::session_of;
use super::{Usage, seal_own};
use crate::cgroup::Entrances;
use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::state::{State, Status};
use crate::engine::supervise::{callers_size, supervise};
use crate::engine::user::Need;
use crate::plan::name::{BadWord, ContainerName};
use crate::plan::oci::{self, ExecRequest, exec_steps};
use crate::plan::topology::{Node, Origin};
use crate::sys::process;

/// The arguments of `tincan exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file with the process, as config.json has it
    #[arg(short, long, value_name = "FILE", conflicts_with_all = [
        "command", "user", "additional_gids", "cwd", "env", "cap", "no_new_privs",
    ])]
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
    /// Be in this group as well
    #[arg(short = 'g', long, value_name = "GID", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(..i64::from(u32::MAX)))]
    additional_gids: Vec<u32>,
    /// Run in this directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set a variable
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Have this capability too
    #[arg(short, long, value_name = "CAP", value_delimiter = ',')]
    cap: Vec<String>,
    /// Give up gaining privileges, or with =false do not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_new_privs: Option<bool>,
    /// Confine it by this AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Confine it by this SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Run in this cgroup below the container's, for CONTROLLER alone or for all
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Start it in a container that is paused, too
    #[arg(long)]
    ignore_paused: bool,
    /// A file into which the process's id is written
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    #[command(flatten)]
    sockets: Sockets,
    /// How many descriptors after the standard three the process gets
    #[arg(long, value_name = "N", default_value = "0")]
    preserve_fds: u32,
    /// The container
    id: ContainerName,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the process, and in the foreground waits for it.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Join)?;
    let state = engine.root.load(&args.id).map_err(EngineError::from)?;
    let status = engine.root.status(&state);
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => {
            return Err(Usage::new(
                format!("{}: cannot exec in a paused container", args.id),
                "--ignore-paused starts it all the same; it runs when the container does",
            )
            .into());
        }
        Status::Creating | Status::Stopped => return Err(EngineError::NotRunning(args.id).into()),
    }
    let user_namespace = has_user_namespace(&state)?;
    // Over the host's files there is nobody to keep the binary from; in a user namespace nobody may write to it.
    if state.rootfs != Path::new("/") && !user_namespace {
        seal_own(engine, &args.id)?;
    }
    let mut process = process(engine, &args, &state)?;
    confine(engine, &mut process, &args, &state);
    if !user_namespace {
        for warning in without_capabilities(&mut process)? {
            engine.warn(&format!("{}: {warning}", args.id));
        }
    }
    args.sockets
        .check(process.terminal().unwrap_or(false), args.detach)?;
    check_preserved(args.preserve_fds, 0)?;
    let entrances = entrances(&args, &state)?;
    let steps = exec_steps(
        &process,
        &ExecRequest {
            name: &args.id,
            user_namespace,
            console_size: callers_size(),
            keyring: state.workload.as_ref().is_some_and(|it| it.keyring),
            seccomp: state.workload.as_ref().and_then(|it| it.seccomp.as_ref()),
            personality: state.workload.as_ref().and_then(|it| it.personality),
            preserve_fds: args.preserve_fds,
        },
    )?;
    let node = Node {
        steps,
        ..Node::beside(&args.id)
    };
    // systemd knows of no cgroup below.
    let unit = state.unit().filter(|_| args.cgroup.is_empty());
    let up = engine.enter(&state, &node, entrances, unit)?;
    let session = session_of(&node);
    let told = write_pid_file(args.pid_file.as_deref(), up.pid)
        .and_then(|()| args.sockets.hand_out(&up, "setns"));
    if let Err(error) = told {
        // Nobody has heard of it, so nobody would end it.
        process::signal(up.pidfd.as_fd(), libc::SIGKILL)?;
        process::wait(up.pidfd.as_fd())?;
        return Err(error);
    }
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = supervise(up.pidfd.as_fd(), session, up.console)
        .map_err(|errno| anyhow::anyhow!("{}: wait for the process: {errno}", args.id))?;
    Ok(ExitCode::from(ended.shell_code()))
}

/// The process has the AppArmor profile and the SELinux label of the command line, or else its own, or else the container's, as in runc.
fn confine(engine: &Engine, process: &mut Process, args: &Args, state: &State) {
    let asked = |word: &Option<String>| word.clone().filter(|word| !word.is_empty());
    let containers = state.workload.as_ref().map(|it| &it.process);
    let profile = asked(&args.apparmor).or_else(|| process.apparmor_profile().clone());
    let profile = profile.or_else(|| containers?.apparmor_profile().clone());
    process.set_apparmor_profile(profile);
    let label = asked(&args.process_label).or_else(|| process.selinux_label().clone());
    let label = label.or_else(|| containers?.selinux_label().clone());
    process.set_selinux_label(label);
    for warning in without_labels(process) {
        engine.warn(&format!("{}: {warning}", args.id));
    }
}

/// The ways into the cgroup that the process is to be in: the container's, or one below.
fn entrances(args: &Args, state: &State) -> Result<Option<Entrances>, anyhow::Error> {
    let failed = |cause| EngineError::of_cgroup(&args.id, cause);
    let Some(location) = &state.cgroup else {
        return match args.cgroup.first() {
            Some(asked) => Err(Usage::new(
                format!("--cgroup {asked}: {} has no cgroup of its own", args.id),
                "leave it out",
            )
            .into()),
            None => Ok(None),
        };
    };
    let mut location = location.clone();
    for asked in &args.cgroup {
        let (controller, below) = match asked.split_once(':') {
            Some((controller, below)) => (Some(controller), below),
            None => (None, asked.as_str()),
        };
        if !location.descend(controller, Path::new(below)) {
            return Err(BadWord::new(
                "cgroup",
                asked,
                "names no cgroup below the container's",
                "/sub or cpu:/sub",
            )
            .into());
        }
    }
    Ok(Some(location.open_existing().map_err(failed)?))
}

/// The process: a file's, or the container's own with another command.
fn process(engine: &Engine, args: &Args, state: &State) -> anyhow::Result<Process> {
    if let Some(path) = &args.process {
        let json = std::fs::read(path)
            .map_err(|cause| anyhow::anyhow!("--process {}: {cause}", path.display()))?;
        let (mut process, warnings) = oci::parse_process(&json)?;
        for warning in warnings {
            engine.warn(&format!("{}: {warning}", args.id));
        }
        if args.tty {
            process.set_terminal(Some(true));
        }
        return Ok(process);
    }
    if args.command.is_empty() {
        return Err(Usage::new(
            "there is no command",
            format!("tincan exec {} COMMAND", args.id),
        )
        .into());
    }
    let mut process = own_process(state)?;
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        if !cwd.is_absolute() {
            let cwd = cwd.display().to_string();
            return Err(BadWord::new("directory", &cwd, "is not absolute", "/tmp").into());
        }
        process.set_cwd(cwd.clone());
    }
    let mut user = process.user().clone();
    if let Some(asked) = &args.user {
        let (uid, gid) = user_of(asked)?;
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&args.additional_gids);
        user.set_additional_gids(Some(gids));
    }
    process.set_user(user);
    if let Some(no_new_privs) = args.no_new_privs {
        process.set_no_new_privileges(Some(no_new_privs));
    }
    if !args.cap.is_empty() {
        let sets = with_capabilities(&process, &args.cap)?;
        process.set_capabilities(Some(sets));
    }
    let mut env = process.env().clone().unwrap_or_default();
    for pair in &args.env {
        if pair.find('=').is_none_or(|at| at == 0) {
            return Err(
                BadWord::new("variable", pair, "has no name or no `=`", "KEY=value").into(),
            );
        }
        env.push(pair.clone());
    }
    process.set_env(Some(env));
    Ok(process)
}

/// The process that the container was made with.
fn own_process(state: &State) -> anyhow::Result<Process> {
    let Some(workload) = &state.workload else {
        return Err(Usage::new(
            "the container was made without a process to go by",
            "give one with --process FILE",
        )
        .into());
    };
    let mut process = workload.process.clone();
    if state.origin == Origin::Command && state.rootfs == Path::new("/") {
        // Over the host's files nothing was taken from the command, and nothing is taken from this one.
        let all: Vec<_> = caps::read(None, caps::CapSet::Permitted)?
            .into_iter()
            .collect();
        process.set_capabilities(Some(every_capability(&all)?));
    }
    Ok(process)
}

/// The process's capabilities and these, where runc puts them: in all sets but the inheritable one (CVE-2022-29162).
fn with_capabilities(process: &Process, more: &[String]) -> anyhow::Result<LinuxCapabilities> {
    let mut sets = match process.capabilities() {
        Some(sets) => sets.clone(),
        None => every_capability(&[])?,
    };
    let mut asked = Vec::new();
    for word in more {
        let bad = || BadWord::new("capability", word, "is no capability", "CAP_NET_ADMIN");
        let known = oci::capability(word).ok_or_else(bad)?;
        asked.push(serde_json::from_value(serde_json::json!(
            known.to_string()
        ))?);
    }
    let add = |set: &Option<Capabilities>| {
        Some(
            set.iter()
                .flatten()
                .chain(&asked)
                .copied()
                .collect::<Capabilities>(),
        )
    };
    sets.set_bounding(add(sets.bounding()));
    sets.set_effective(add(sets.effective()));
    sets.set_permitted(add(sets.permitted()));
    sets.set_ambient(add(sets.ambient()));
    Ok(sets)
}

fn every_capability(all: &[caps::Capability]) -> anyhow::Result<LinuxCapabilities> {
    let names: Vec<String> = all.iter().map(ToString::to_string).collect();
    let sets = serde_json::json!({"bounding": names, "effective": names, "permitted": names});
    Ok(serde_json::from_value(sets)?)
}

/// A user, and the group if there is one.
fn user_of(text: &str) -> Result<(u32, Option<u32>), BadWord> {
    let bad = || BadWord::new("user", text, "is no UID or UID:GID in numbers", "1000:1000");
    // -1, as 32 bits, is no id (setresuid(2)).
    let is_id = |id: &u32| *id != u32::MAX;
    let number = |word: &str| word.parse::<u32>().ok().filter(is_id).ok_or_else(bad);
    Ok(match text.split_once(':') {
        Some((uid, gid)) => (number(uid)?, Some(number(gid)?)),
        None => (number(text)?, None),
    })
}

fn has_user_namespace(state: &State) -> anyhow::Result<bool> {
    let Some(process) = state.process else {
        return Ok(false);
    };
    let theirs = std::fs::read_link(format!("/proc/{}/ns/user", process.pid))?;
    Ok(theirs != std::fs::read_link("/proc/self/ns/user")?)
}
