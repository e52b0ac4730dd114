//! Binds that the container's first process could not make: those whose ids are mapped (mount_setattr(2), ID-mapped mounts), and in a user
//! namespace those of what its root does not reach. The engine makes them before that process is, which takes them along.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use super::error::EngineError;
use super::rootfs::propagate;
use crate::plan::step::{Mount, MountWhat, Propagation, PropagationKind, Step};
use crate::plan::subid;
use crate::plan::topology::{IdMaps, NamespaceKind, NamespaceSource, Node};
use crate::sys::{mount, process};

/// What is bound by the steps of a node, in their order and not yet attached; none where the process needs no help.
///
/// # Errors
/// The step that the first one with mapped ids is of which could not be made: EPERM for whoever is not the machine's root, EINVAL where the
/// file system does not do this.
pub fn prepare(node: &Node) -> Result<VecDeque<Option<OwnedFd>>, EngineError> {
    // In a mount namespace that is joined, a path leads elsewhere than here.
    let is_somebody_else = node.namespaces.contains_key(&NamespaceKind::User)
        && !matches!(
            node.namespaces.get(&NamespaceKind::Mount),
            Some(NamespaceSource::Path(_))
        );
    let propagation = propagation(node, is_somebody_else);
    let tree_at = |source: &Path, recursive| {
        let tree = mount::clone_path(source, recursive)?;
        for each in &propagation {
            propagate(tree.as_fd(), *each)?;
        }
        Ok(tree)
    };
    let mut trees = VecDeque::new();
    for step in &node.steps {
        let Step::Mount(Mount {
            what:
                MountWhat::Bind {
                    source,
                    recursive,
                    ids,
                },
            ..
        }) = step
        else {
            continue;
        };
        trees.push_back(match ids {
            Some(ids) => {
                let made = tree_at(source, *recursive).and_then(|tree| {
                    let user_namespace = user_namespace(&ids.maps)?;
                    mount::map_ids(tree.as_fd(), user_namespace.as_fd(), ids.recursive)?;
                    Ok(tree)
                });
                Some(made.map_err(|errno| EngineError::of_step(&node.name, step, errno))?)
            }
            // Why it fails here the process finds out, too.
            None if is_somebody_else => tree_at(source, *recursive).ok(),
            None => None,
        });
    }
    Ok(trees)
}

/// What makes a mount of this mount namespace's one as the node has them: what is mounted on it there must not be mounted here, too. The
/// kernel itself makes those slaves that another user namespace gets (mount_namespaces(7)).
fn propagation(node: &Node, is_somebody_else: bool) -> Vec<Propagation> {
    let slave = is_somebody_else.then_some(Propagation {
        kind: PropagationKind::Slave,
        recursive: true,
    });
    let of_root = node.steps.iter().find_map(|step| match step {
        Step::RootPropagation(propagation) if propagation.recursive => Some(*propagation),
        _ => None,
    });
    slave.into_iter().chain(of_root).collect()
}

/// A user namespace of nobody's, which says how ids are mapped.
fn user_namespace(maps: &IdMaps) -> Result<OwnedFd, Errno> {
    process::user_namespace(&subid::lines(&maps.uids), &subid::lines(&maps.gids))
}
