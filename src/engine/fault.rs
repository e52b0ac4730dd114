//! Faults on demand, for the tests that walk the list of steps: only in a binary built with the feature `faults`.
//!
//! `TINCAN_FAULT=host:3:error` makes the engine's step 3 fail, `host:3:kill` ends tincan there by SIGKILL, and
//! `ns1:3:error`, `ns1:3:kill` do the same in the first process of the container `ns1`, `undo:1:error` and `undo:1:kill` where
//! the second deed of a journal is undone; the last step of `undo` forgets the container, and `forget:0:kill` ends it halfway; `link:0:kill`
//! ends `link add` when the wire is made and not yet recorded so, `unlink:0:kill` ends `link del` when it is gone and still recorded.

use rustix::io::Errno;

/// Fails, or ends the process, when this step of this side was asked to.
///
/// # Errors
/// `IO` at the step that was asked to fail.
#[cfg(feature = "faults")]
pub fn at(side: &str, step: usize) -> Result<(), Errno> {
    let Ok(fault) = std::env::var("TINCAN_FAULT") else {
        return Ok(());
    };
    let mut words = fault.rsplitn(3, ':');
    let (kind, index, whose) = (words.next(), words.next(), words.next());
    if whose != Some(side) || index != Some(step.to_string().as_str()) {
        return Ok(());
    }
    // By this line a test knows that the step was there to be met.
    let _ = rustix::io::write(
        rustix::stdio::stderr(),
        format!("fault {fault}\n").as_bytes(),
    );
    if kind == Some("kill") {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        // The first process of a pid namespace is deaf to its own SIGKILL (pid_namespaces(7)).
        crate::sys::process::exit_now(137);
    }
    Err(Errno::IO)
}

/// Does nothing: this binary has no faults.
///
/// # Errors
/// Never.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn at(_side: &str, _step: usize) -> Result<(), Errno> {
    Ok(())
}
