//! `tincan unshare`: a command beside the containers, where the far ends of their wires are.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::engine::error::EngineError;
use crate::engine::hold::Engine;
use crate::engine::supervise::{Session, supervise};
use crate::engine::user::Need;
use crate::sys::process::{self, Cloned};
use crate::sys::{channel, errno_of};

/// The arguments of `tincan unshare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command: for root where tincan is; for others in the user and network namespaces that are their containers' host.
/// They last at least as long as the command.
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    engine.become_root(Need::Make)?;
    engine.join_network()?;
    let (program, rest) = args.command.split_first().expect("clap wants one word");
    let mut command = Command::new(program);
    command.args(rest);
    let failed = |cause: std::io::Error| EngineError::Program {
        program: program.clone(),
        errno: errno_of(&cause),
    };
    if engine.user().is_none() {
        return Err(failed(command.exec()).into());
    }
    // As for a container: what is sent to tincan is passed on to the command.
    let mask = process::block_signals()?;
    let (ours, theirs) = channel::pair()?;
    let pidfd = match process::clone(0, None)? {
        Cloned::Child => {
            drop(ours);
            engine.forget_lock();
            let error = match process::set_signal_mask(&mask) {
                Ok(()) => command.exec(),
                Err(errno) => errno.into(),
            };
            let errno = errno_of(&error).raw_os_error();
            // Nobody to tell: then tincan is gone, and so is whoever waits for an exit code.
            let _ = channel::report(&theirs, channel::Report { step: 0, errno }, None);
            process::exit_now(126)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(theirs);
    if let Some((report, _)) = channel::receive(&ours)? {
        process::wait(pidfd.as_fd())?;
        return Err(failed(std::io::Error::from_raw_os_error(report.errno)).into());
    }
    let ended = supervise(pidfd.as_fd(), Session::Callers, None)?;
    Ok(ExitCode::from(ended.shell_code()))
}
