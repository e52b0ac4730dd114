//! Keeping tincan's own binary from containers (CVE-2019-5736). A process of tincan that is in a container, or a container's
//! program that is `/proc/self/exe`, shows the binary to whoever may look at it there, and root of the container may write to
//! it once nobody executes it any more.
//!
//! * Before it joins a container in which others are already, tincan becomes itself by way of a read-only mount of its
//!   binary that nobody else knows of: what `/proc/PID/exe` leads to then cannot be opened for writing. That is one more exec,
//!   so it is done only there.
//! * The first process of a container that has its process ids for itself has nobody to look at it; it only does not execute
//!   tincan instead of its program ([`Own`]).

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use super::user::User;
use crate::sys::mount::{self, Change};
use crate::sys::process;

/// The binary that the calling process executes.
const OWN: &str = "/proc/self/exe";

/// Tells a tincan that was executed by [`seal`] that it is meant to be sealed.
pub const SEALED: &str = "TINCAN_SEALED";

/// How many interpreters of interpreters the kernel goes through (fs/exec.c, `exec_binprm`).
const INTERPRETERS: usize = 5;

/// How much of a script's first line the kernel looks at (linux/binfmts.h, BINPRM_BUF_SIZE).
const FIRST_LINE: u64 = 256;

/// Goes on as the same program with the same arguments, executed from a read-only mount, unless it is that already.
///
/// # Errors
/// When the mount cannot be made, or the binary cannot be executed from it.
pub fn seal(user: Option<&User>) -> Result<(), Errno> {
    if rustix::fs::statvfs(OWN)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY)
    {
        return Ok(());
    }
    if std::env::var_os(SEALED).is_some() {
        // Never again and again.
        return Err(Errno::ROFS);
    }
    let sealed = clone_own()?;
    mount::set_attributes(
        sealed.as_fd(),
        Change {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Change::default()
        },
    )?;
    let args = std::env::args_os();
    let mut env: Vec<_> = std::env::vars_os()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect();
    env.push(format!("{SEALED}=1").into_bytes());
    let bequest = user.map(User::bequeath).transpose()?;
    if let Some((_, told)) = &bequest {
        env.push(told.clone());
    }
    let args = args.map(|word| word.as_bytes().to_vec()).collect();
    Err(process::exec_descriptor(sealed.as_fd(), args, env))
}

/// A mount of the own binary alone.
fn clone_own() -> Result<OwnedFd, Errno> {
    match mount::clone_path(Path::new(OWN), false) {
        // The link leads to the mount namespace that the program was executed in, and only one's own can be cloned from: in
        // a user's it is looked for by name.
        Err(Errno::INVAL) => {
            let path = rustix::fs::readlink(OWN, Vec::new())?;
            let path = Path::new(OsStr::from_bytes(path.as_bytes()));
            let cloned = mount::clone_path(path, false)?;
            let same = Own::look()?.is(&rustix::fs::fstat(&cloned)?);
            if same { Ok(cloned) } else { Err(Errno::NOENT) }
        }
        other => other,
    }
}

/// Which file tincan's own binary is.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    device: u64,
    inode: u64,
}

impl Own {
    /// To be asked while `/proc` is the host's.
    pub fn look() -> Result<Self, Errno> {
        let found = rustix::fs::stat(OWN)?;
        Ok(Own {
            device: found.st_dev,
            inode: found.st_ino,
        })
    }

    fn is(self, found: &Stat) -> bool {
        (found.st_dev, found.st_ino) == (self.device, self.inode)
    }

    /// Whether executing this path would execute tincan by way of a link such as `/proc/self/exe`, be it the program or a
    /// script's interpreter. A path that leads to the binary without one is a file of the container.
    ///
    /// # Errors
    /// When there is no such program, as execve(2) would say.
    pub fn is_behind(self, program: &Path) -> Result<bool, Errno> {
        let mut program = program.to_owned();
        for _ in 0..=INTERPRETERS {
            // A pipe of that name would keep us waiting.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let how = ResolveFlags::NO_MAGICLINKS;
            let file = match rustix::fs::openat2(CWD, &program, flags, Mode::empty(), how) {
                Ok(file) => file,
                Err(Errno::LOOP) => return Ok(self.is(&rustix::fs::stat(&program)?)),
                Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => return Err(errno),
                // It may be executed all the same, and execve(2) knows better what is wrong with it.
                Err(_) => return Ok(false),
            };
            if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
                return Ok(false);
            }
            let mut start = Vec::new();
            if File::from(file)
                .take(FIRST_LINE)
                .read_to_end(&mut start)
                .is_err()
            {
                return Ok(false);
            }
            match interpreter(&start) {
                Some(next) => program = next.to_owned(),
                None => return Ok(false),
            }
        }
        Ok(false)
    }
}

/// The interpreter that a script's first line names (execve(2), Interpreter scripts).
fn interpreter(start: &[u8]) -> Option<&Path> {
    let line = start
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0));
    let word = words.find(|word| !word.is_empty())?;
    Some(Path::new(std::ffi::OsStr::from_bytes(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_the_first_word_of_the_first_line() {
        let of = |start: &str| interpreter(start.as_bytes()).map(|path| path.display().to_string());
        assert_eq!(of("#! /bin/sh -e\nx"), Some("/bin/sh".to_owned()));
        assert_eq!(of("#!/proc/self/exe"), Some("/proc/self/exe".to_owned()));
        assert_eq!(of("#!\n/bin/sh"), None);
        assert_eq!(of("\x7fELF"), None);
    }

    #[test]
    fn the_own_binary_is_found_behind_links_and_scripts() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let own = Own::look().unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink(OWN, at("link")).unwrap();
        std::fs::write(at("script"), format!("#!{}\n", at("link").display())).unwrap();
        std::fs::write(at("outer"), format!("#!{} x\n", at("script").display())).unwrap();
        for name in ["link", "script", "outer"] {
            assert_eq!(own.is_behind(&at(name)), Ok(true), "{name}");
        }
        std::fs::write(at("other"), "#!/bin/sh\n").unwrap();
        assert_eq!(own.is_behind(&at("other")), Ok(false));
        let plain = std::env::current_exe().unwrap();
        assert_eq!(own.is_behind(&plain), Ok(false));
        assert_eq!(own.is_behind(&at("none")), Err(Errno::NOENT));
    }
}
