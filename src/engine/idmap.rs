//! Mounts whose ids are mapped (mount_setattr(2), ID-mapped mounts): made by the engine before the container's first process is, which in a
//! user namespace of its own could not, and takes them along.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;

use super::error::EngineError;
use crate::plan::step::{Mount, MountWhat, Step};
use crate::plan::subid;
use crate::plan::topology::{IdMaps, Node};
use crate::sys::{mount, process};

/// The mounts of a node whose ids are mapped, not yet attached, in the order of its steps.
///
/// # Errors
/// The step that the first one is of which could not be made: EPERM for whoever is not the machine's root, EINVAL where the file system does
/// not do this.
pub fn prepare(node: &Node) -> Result<VecDeque<OwnedFd>, EngineError> {
    let mut trees = VecDeque::new();
    for step in &node.steps {
        if let Step::Mount(Mount {
            what:
                MountWhat::Bind {
                    source,
                    recursive,
                    ids: Some(ids),
                },
            ..
        }) = step
        {
            let made = mount::clone_path(source, *recursive).and_then(|tree| {
                let user_namespace = user_namespace(&ids.maps)?;
                mount::map_ids(tree.as_fd(), user_namespace.as_fd(), ids.recursive)?;
                Ok(tree)
            });
            let of_step = |errno| EngineError::of_step(&node.name, step, errno);
            trees.push_back(made.map_err(of_step)?);
        }
    }
    Ok(trees)
}

/// A user namespace of nobody's, which says how ids are mapped.
fn user_namespace(maps: &IdMaps) -> Result<OwnedFd, Errno> {
    process::user_namespace(&subid::lines(&maps.uids), &subid::lines(&maps.gids))
}
