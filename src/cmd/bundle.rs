//! What `create` and `run` have in common: an OCI bundle, and what its callers want to be told.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::Usage;
use crate::engine::hold::{Engine, Up};
use crate::plan::name::ContainerName;
use crate::plan::oci::{self, Request};
use crate::plan::topology::{Hierarchies, Node, Origin};
use crate::sys::channel;

/// The options of a bundle, as runc has them.
#[derive(Debug, clap::Args)]
pub struct BundleArgs {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// A socket to which the master of the container's terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// A file into which the first process's id is written
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting to it
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// How many descriptors after the standard three the process gets
    #[arg(long, value_name = "N", default_value = "0")]
    pub preserve_fds: u32,
    /// Leave the state when the container has ended
    #[arg(long)]
    pub keep: bool,
}

/// Plans the container of a bundle.
///
/// # Errors
/// When the bundle, or something in it, is not right.
pub fn plan(
    engine: &Engine,
    id: &ContainerName,
    args: &BundleArgs,
    gate_start: bool,
    detach: bool,
) -> anyhow::Result<Node> {
    let dir = directory(&args.bundle, "bundle", "--bundle DIR with a config.json")?;
    let config = dir.join("config.json");
    let json = std::fs::read(&config).map_err(|cause| {
        Usage::new(
            format!("{}: {cause}", config.display()),
            "`tincan spec` writes one",
        )
    })?;
    let bundle = oci::parse(&json)?;
    for warning in &bundle.warnings {
        eprintln!("tincan: {id}: {warning}");
    }
    let terminal = bundle
        .spec
        .process()
        .as_ref()
        .and_then(|p| p.terminal())
        .unwrap_or(false);
    match (terminal, &args.console_socket) {
        (true, None) if gate_start || detach => {
            return Err(Usage::new(
                "the bundle asks for a terminal (process.terminal), and nobody is there to get it",
                "give --console-socket, or set process.terminal to false",
            )
            .into());
        }
        (false, Some(_)) => {
            return Err(Usage::new(
                "--console-socket is given, and the bundle asks for no terminal",
                "set process.terminal to true",
            )
            .into());
        }
        _ => {}
    }
    Ok(oci::node(
        id,
        &bundle,
        &Request {
            bundle_dir: &dir,
            origin: Origin::Bundle,
            layout: engine.layout()?,
            hierarchies: Hierarchies::Every,
            gate_start,
            // Also without a wire: `lo` is up before the workload is there.
            wired: true,
            console_size: None,
            no_pivot: args.no_pivot,
            no_new_keyring: args.no_new_keyring,
            preserve_fds: args.preserve_fds,
            overlay: false,
            die_with_parent: false,
            hold: false,
        },
    )?)
}

/// The absolute path of a directory that a user has named.
///
/// # Errors
/// When it is missing, or no directory.
pub fn directory(path: &Path, what: &str, right: &'static str) -> Result<PathBuf, Usage> {
    let absolute = path
        .canonicalize()
        .map_err(|cause| Usage::new(format!("{what} {}: {cause}", path.display()), right))?;
    if absolute.is_dir() {
        Ok(absolute)
    } else {
        Err(Usage::new(
            format!("{what} {} is no directory", path.display()),
            right,
        ))
    }
}

/// Writes the pid file and sends the terminal where they are wanted.
///
/// # Errors
/// When a file or socket does not take it.
pub fn hand_out(up: &Up, args: &BundleArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.pid_file {
        write_pid(path, up.pid)?;
    }
    match &args.console_socket {
        Some(path) => hand_out_terminal(up, path),
        None => Ok(()),
    }
}

/// Sends the master of a container's terminal, if it has one, over a socket.
///
/// # Errors
/// When the socket does not take it.
pub fn hand_out_terminal(up: &Up, path: &Path) -> anyhow::Result<()> {
    let Some(master) = &up.console else {
        return Ok(());
    };
    let socket = std::os::unix::net::UnixStream::connect(path)
        .map_err(|cause| anyhow::anyhow!("--console-socket {}: {cause}", path.display()))?;
    channel::send_with(&socket, b"/dev/ptmx", Some(master.as_fd()))
        .map_err(|errno| anyhow::anyhow!("--console-socket {}: {errno}", path.display()))
}

/// Writes a process id into a file that appears whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pid(path: &Path, pid: i32) -> anyhow::Result<()> {
    let named = |cause: std::io::Error| anyhow::anyhow!("--pid-file {}: {cause}", path.display());
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let mut file = std::fs::File::create(&next).map_err(named)?;
    write!(file, "{pid}").map_err(named)?;
    std::fs::rename(&next, path).map_err(named)
}
