//! The mounts of a bundle (runtime-spec config.md, Mounts; config-linux.md, Mounts): option words become attributes,
//! propagation and options of the file system, and the types that are no file systems of the kernel become what they mean.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::super::facts::{CgroupLayout, Confinement, Hierarchy};
use super::super::step::{
    Mount, MountAttrs, MountIds, MountWhat, Propagation, PropagationKind, Step,
};
use super::super::topology::{Cgroup, IdMaps, NamespaceKind, NamespaceSource};
use super::BadBundle;

/// Words for one bit of a mount's attributes (mount_setattr(2)): the word, the bit, whether it sets or clears it. With an
/// `r` before it, each speaks of the mounts below as well.
const BITS: [(&str, u64, bool); 12] = [
    ("ro", libc::MOUNT_ATTR_RDONLY, true),
    ("rw", libc::MOUNT_ATTR_RDONLY, false),
    ("nosuid", libc::MOUNT_ATTR_NOSUID, true),
    ("suid", libc::MOUNT_ATTR_NOSUID, false),
    ("nodev", libc::MOUNT_ATTR_NODEV, true),
    ("dev", libc::MOUNT_ATTR_NODEV, false),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, true),
    ("exec", libc::MOUNT_ATTR_NOEXEC, false),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME, true),
    ("diratime", libc::MOUNT_ATTR_NODIRATIME, false),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, true),
    ("symfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, false),
];

/// Words for the access times, which are one value, not bits: the word, the value it is about, whether it asks for that
/// value or against it. Against one means the kernel's default, relatime.
const TIMES: [(&str, u64, bool); 6] = [
    ("relatime", libc::MOUNT_ATTR_RELATIME, true),
    ("norelatime", libc::MOUNT_ATTR_RELATIME, false),
    ("noatime", libc::MOUNT_ATTR_NOATIME, true),
    ("atime", libc::MOUNT_ATTR_NOATIME, false),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME, true),
    ("nostrictatime", libc::MOUNT_ATTR_STRICTATIME, false),
];

/// Words that fsconfig(2) takes as flags of any file system (fs/fs_context.c, `common_set_sb_flag` and `_clear_`): the word,
/// and whether a bind, which has no file system of its own, can do without it.
const SUPERBLOCK: [(&str, bool); 7] = [
    ("sync", false),
    ("async", true),
    ("dirsync", false),
    ("lazytime", false),
    ("nolazytime", true),
    ("mand", false),
    ("nomand", true),
];

/// Words that change nothing: how much the kernel prints.
const NOTHING: [&str; 4] = ["", "defaults", "silent", "loud"];

/// Words that say how a mount and others of the same file system follow each other (mount_namespaces(7)); with an `r` before it, each speaks
/// of the mounts below as well.
const PROPAGATIONS: [(&str, PropagationKind); 4] = [
    ("shared", PropagationKind::Shared),
    ("slave", PropagationKind::Slave),
    ("private", PropagationKind::Private),
    ("unbindable", PropagationKind::Unbindable),
];

/// The word for another flag of any file system, which only mount(2) takes, and that against it.
const VERSIONS: [&str; 2] = ["iversion", "noiversion"];

/// Words for what a mount is, beside its attributes.
const KINDS: [&str; 6] = ["bind", "idmap", "rbind", "remount", "ridmap", "tmpcopyup"];

/// All option words that are known, sorted. Others are the file system's own.
pub(super) fn option_words() -> Vec<String> {
    let attributes = BITS.iter().map(|(word, ..)| *word);
    let attributes = attributes.chain(TIMES.iter().map(|(word, ..)| *word));
    let propagations = PROPAGATIONS.iter().map(|(word, _)| *word);
    let both = attributes.chain(propagations);
    let mut words: Vec<String> = both
        .flat_map(|word| [word.to_owned(), format!("r{word}")])
        .collect();
    let others = KINDS
        .into_iter()
        .chain(SUPERBLOCK.iter().map(|(word, _)| *word));
    let nothing = NOTHING.into_iter().filter(|word| !word.is_empty());
    words.extend(others.chain(VERSIONS).chain(nothing).map(str::to_owned));
    words.sort();
    words
}

/// What a mount's option words mean.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    /// `bind` (false) or `rbind` (true).
    bind: Option<bool>,
    /// `idmap` (false) or `ridmap` (true).
    idmap: Option<bool>,
    attrs: MountAttrs,
    propagation: Vec<Propagation>,
    /// Words for the file system.
    options: Vec<(String, Option<String>)>,
    copy_up: bool,
    remount: bool,
    /// `iversion` or `noiversion`.
    version: Option<&'static str>,
}

impl Words {
    /// The options of a file system that is new, and has no versions unless it is told to.
    fn of_filesystem(&self) -> Vec<(String, Option<String>)> {
        let versions = self.version.filter(|word| *word == VERSIONS[0]);
        let versions = versions.map(|word| (word.to_owned(), None));
        self.options.iter().cloned().chain(versions).collect()
    }
}

/// One of the two pairs of masks of [`MountAttrs`], while it is being filled.
#[derive(Debug, Default)]
struct Mask {
    set: u64,
    clear: u64,
    time: Option<u64>,
}

impl Mask {
    /// Takes a word, if it is one of the tables'.
    fn take(&mut self, word: &str) -> bool {
        if let Some((_, bit, set)) = BITS.iter().find(|(known, ..)| *known == word) {
            if *set {
                self.set |= bit;
                self.clear &= !bit;
            } else {
                self.set &= !bit;
                self.clear |= bit;
            }
            return true;
        }
        let Some((_, value, wanted)) = TIMES.iter().find(|(known, ..)| *known == word) else {
            return false;
        };
        if *wanted {
            self.time = Some(*value);
        } else if self.time.is_none_or(|time| time == *value) {
            self.time = Some(libc::MOUNT_ATTR_RELATIME);
        }
        true
    }

    /// The bits to set and those to clear; the access times are set by clearing the whole field first (mount_setattr(2)).
    fn finish(&self) -> (u64, u64) {
        match self.time {
            Some(time) => (self.set | time, self.clear | libc::MOUNT_ATTR__ATIME),
            None => (self.set, self.clear),
        }
    }
}

fn propagation(word: &str) -> Option<Propagation> {
    let kind_of = |word: &str| PROPAGATIONS.iter().find(|(known, _)| *known == word);
    let (found, recursive) = match kind_of(word) {
        Some(found) => (found, false),
        None => (kind_of(word.strip_prefix('r')?)?, true),
    };
    let (_, kind) = *found;
    Some(Propagation { kind, recursive })
}

/// The propagation that `linux.rootfsPropagation` names: the words of the specification, and the recursive ones that runc
/// takes as well.
pub(super) fn rootfs_propagation(word: &str) -> Result<Propagation, BadBundle> {
    propagation(word).ok_or_else(|| {
        BadBundle::new(
            "linux.rootfsPropagation",
            format!("`{word}` is no propagation; there are shared, slave, private, unbindable"),
        )
    })
}

fn words(options: &[String]) -> Words {
    let mut words = Words::default();
    let (mut own, mut below) = (Mask::default(), Mask::default());
    for word in options {
        match word.as_str() {
            "bind" => words.bind = words.bind.or(Some(false)),
            "rbind" => words.bind = Some(true),
            "idmap" => words.idmap = words.idmap.or(Some(false)),
            "ridmap" => words.idmap = Some(true),
            "remount" => words.remount = true,
            "tmpcopyup" => words.copy_up = true,
            nothing if NOTHING.contains(&nothing) => {}
            word if VERSIONS.contains(&word) => {
                words.version = VERSIONS.into_iter().find(|known| *known == word);
            }
            own_word if own.take(own_word) => {}
            other => {
                if let Some(propagation) = propagation(other) {
                    words.propagation.push(propagation);
                } else if other.strip_prefix('r').is_some_and(|word| below.take(word)) {
                } else {
                    words.options.push(match other.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                        None => (other.to_owned(), None),
                    });
                }
            }
        }
    }
    let (set, clear) = own.finish();
    let (set_recursive, clear_recursive) = below.finish();
    words.attrs = MountAttrs {
        set,
        clear,
        set_recursive,
        clear_recursive,
    };
    words
}

/// What the mounts of a bundle depend on beside themselves.
pub(super) struct Around<'a> {
    pub bundle_dir: &'a Path,
    pub layout: &'a CgroupLayout,
    pub cgroup: &'a Cgroup,
    pub namespaces: &'a BTreeMap<NamespaceKind, NamespaceSource>,
    /// How ids are mapped in a user namespace of the container's own.
    pub ids: Option<&'a IdMaps>,
    /// The SELinux label of the files on what is mounted anew (`linux.mountLabel`).
    pub label: Option<&'a str>,
}

impl Around<'_> {
    /// Adds the label to the options of a file system that takes one, unless it has one of its own.
    fn labelled(
        &self,
        fstype: &str,
        mut options: Vec<(String, Option<String>)>,
    ) -> Vec<(String, Option<String>)> {
        let is_given = options.iter().any(|(key, _)| key == CONTEXT);
        if let Some(label) = self.label
            && !is_given
            && fstype != MQUEUE
            && !LABELLED_BY_POLICY.contains(&fstype)
        {
            options.push((CONTEXT.to_owned(), Some(label.to_owned())));
        }
        options
    }
}

/// The option by which all files of a file system have one label (mount(8), "context=").
const CONTEXT: &str = "context";

/// File systems whose labels are the policy's alone: their superblocks are others' too, or their files are the kernel's. As with runc
/// and crun.
const LABELLED_BY_POLICY: [&str; 4] = ["cgroup", "cgroup2", "proc", "sysfs"];

/// The file system that takes no label before it is mounted, as with runc and crun.
const MQUEUE: &str = "mqueue";

/// The steps that mount, in the bundle's order, and those that make read-only what has to take mount points, nodes and links
/// before: tmpfs, and whatever is on `/dev` (as in runc).
pub(super) fn plan(
    mounts: &[oci_spec::runtime::Mount],
    around: &Around,
) -> Result<(Vec<Step>, Vec<Step>), BadBundle> {
    let (mut now, mut late) = (Vec::new(), Vec::new());
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        let destination = in_root(mount.destination());
        if destination == Path::new("/") {
            return Err(BadBundle::new(
                &format!("{at}.destination"),
                "is the root itself, on which nothing can be mounted",
            ));
        }
        let words = words(mount.options().as_deref().unwrap_or_default());
        let fstype = mount.typ().as_deref().unwrap_or_default();
        let bind = is_bind(mount, &words).then(|| words.bind.unwrap_or(false));
        let remount = words.remount && bind.is_none();
        if !remount {
            check_proc(
                &at,
                &destination,
                bind.is_some(),
                fstype,
                mount.source().as_deref(),
            )?;
        }
        if words.copy_up && (remount || bind.is_some() || fstype != "tmpfs") {
            return Err(BadBundle::new(
                &format!("{at}.options"),
                "has `tmpcopyup`, which only a tmpfs can have",
            ));
        }
        let ids = mount_ids(&at, mount, &words, around)?;
        if let Some(recursive) = bind {
            let source = bind_source(&at, mount.source().as_deref(), around.bundle_dir)?;
            let what = MountWhat::Bind {
                source,
                recursive,
                ids,
            };
            now.push(bind_step(destination, what, words));
            continue;
        }
        if ids.is_some() {
            return Err(BadBundle::new(
                &format!("{at}.options"),
                "maps ids, which only a bind can have",
            ));
        }
        if remount {
            if (words.attrs.clear | words.attrs.clear_recursive) & libc::MOUNT_ATTR_RDONLY != 0 {
                // What was to be read-only in the end is not.
                let given_up = Step::ReadonlyMount(destination.clone());
                late.retain(|step| *step != given_up);
            }
            let (step, read_only) = remount_step(&at, destination, fstype, words)?;
            now.push(step);
            late.extend(read_only);
            continue;
        }
        match fstype {
            "" => return Err(BadBundle::new(&format!("{at}.type"), "is missing")),
            "cgroup" => cgroup(&at, &destination, words, around, &mut now, &mut late)?,
            "sysfs" if sysfs_is_not_ours(around) => now.push(host_sysfs(destination, words)),
            _ => {
                let mut attrs = words.attrs;
                // Nothing is inherited that could be cleared.
                attrs.clear = 0;
                late.extend(read_only_later(&mut attrs, fstype, &destination));
                let source = mount
                    .source()
                    .as_ref()
                    .map(|source| source.display().to_string());
                let label = around.label.filter(|_| fstype == MQUEUE);
                let label = label.map(|label| Step::LabelMount {
                    at: destination.clone(),
                    label: label.to_owned(),
                });
                now.push(Step::Mount(Mount {
                    destination,
                    what: MountWhat::Filesystem {
                        fstype: fstype.to_owned(),
                        // What mount(2) shows where nothing is given.
                        source: source
                            .filter(|source| !source.is_empty())
                            .unwrap_or_else(|| "none".to_owned()),
                        options: around.labelled(fstype, words.of_filesystem()),
                        copy_up: words.copy_up,
                    },
                    attrs,
                    propagation: words.propagation,
                }));
                now.extend(label);
            }
        }
    }
    Ok((now, late))
}

/// Whether something other than a file system of the container's own is bound on `/dev`: then it is left as it is.
pub(super) fn dev_is_bound(steps: &[Step]) -> bool {
    steps.iter().any(|step| {
        matches!(step, Step::Mount(Mount { destination, what: MountWhat::Bind { .. }, .. })
            if destination == Path::new("/dev"))
    })
}

/// A path in the container: absolute, without `.` and `..`, which stop at the root. A relative one is taken from the root
/// (config.md: deprecated, but to be accepted).
pub(super) fn in_root(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// The files below `/proc` that lxcfs and the like put their own over, as runc allows it.
const OVER_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// A false `/proc` would deceive whoever writes there on the container's behalf (CVE-2019-16884, CVE-2025-52881).
fn check_proc(
    at: &str,
    destination: &Path,
    bind: bool,
    fstype: &str,
    source: Option<&Path>,
) -> Result<(), BadBundle> {
    let bad = |why: String| Err(BadBundle::new(&format!("{at}.destination"), why));
    let Ok(inside) = destination.strip_prefix("/proc") else {
        return Ok(());
    };
    if inside.as_os_str().is_empty() {
        return match (bind, source) {
            (false, _) if fstype == "proc" => Ok(()),
            (true, Some(source)) if source == Path::new("/proc") => Ok(()),
            _ => bad("is /proc, on which only a procfs can be mounted".to_owned()),
        };
    }
    if OVER_PROC
        .iter()
        .any(|allowed| destination == Path::new(allowed))
    {
        return Ok(());
    }
    bad(format!(
        "`{}` is inside /proc, where nothing can be mounted",
        destination.display()
    ))
}

fn bind_source(at: &str, source: Option<&Path>, bundle: &Path) -> Result<PathBuf, BadBundle> {
    match source {
        Some(source) if !source.as_os_str().is_empty() => Ok(bundle.join(source)),
        _ => Err(BadBundle::new(&format!("{at}.source"), "is missing")),
    }
}

/// How the ids of a mount are mapped, if they are: as it says itself, or as the container's (config.md, Mounts, `idmap`).
fn mount_ids(
    at: &str,
    mount: &oci_spec::runtime::Mount,
    words: &Words,
    around: &Around,
) -> Result<Option<MountIds>, BadBundle> {
    let bad = |why: &str| Err(BadBundle::new(at, why));
    let own = IdMaps {
        uids: super::id_maps(mount.uid_mappings()),
        gids: super::id_maps(mount.gid_mappings()),
    };
    let has_none = own.uids.is_empty() && own.gids.is_empty();
    let maps = match (words.idmap, around.ids) {
        (None, _) if has_none => return Ok(None),
        (Some(_), Some(containers)) if has_none => containers.clone(),
        (Some(_), None) if has_none => {
            return bad(
                "has no uidMappings and gidMappings, and the container no user namespace of its own from which `idmap` could take them",
            );
        }
        _ => own,
    };
    if maps.uids.is_empty() || maps.gids.is_empty() {
        return bad("has one of uidMappings and gidMappings, which go together");
    }
    Ok(Some(MountIds {
        maps,
        recursive: words.idmap == Some(true),
    }))
}

fn bind_step(destination: PathBuf, what: MountWhat, words: Words) -> Step {
    Step::Mount(Mount {
        destination,
        what,
        attrs: words.attrs,
        propagation: words.propagation,
    })
}

/// What to say of option words that are left out, as mount(2) does with them: a bind shows a file system that is mounted already, and those
/// are options for one that is not.
pub(super) fn left_out(mounts: &[oci_spec::runtime::Mount]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        let options = mount.options().as_deref().unwrap_or_default();
        let words = words(options);
        if !is_bind(mount, &words) {
            continue;
        }
        let harmless = |(word, value): &&(String, Option<String>)| {
            value.is_none() && SUPERBLOCK.iter().any(|(known, ok)| known == word && *ok)
        };
        let options = words.of_filesystem();
        warnings.extend(options.iter().filter(|it| !harmless(it)).map(|(word, _)| {
            format!("{at}.options: `{word}` is left out, an option of a file system, which a bind cannot set")
        }));
    }
    warnings
}

/// Whether a mount is a bind. For binds the type means nothing (config.md); `bind` as a type is an old way to say it.
fn is_bind(mount: &oci_spec::runtime::Mount, words: &Words) -> bool {
    words.bind.is_some() || mount.typ().as_deref() == Some("bind")
}

/// Takes `ro` away from what has to take mount points, nodes and links before, for the step that sets it then.
fn read_only_later(attrs: &mut MountAttrs, fstype: &str, destination: &Path) -> Option<Step> {
    let read_only = attrs.set & libc::MOUNT_ATTR_RDONLY != 0;
    let later = read_only && (fstype == "tmpfs" || destination == Path::new("/dev"));
    later.then(|| {
        attrs.set &= !libc::MOUNT_ATTR_RDONLY;
        Step::ReadonlyMount(destination.to_owned())
    })
}

fn remount_step(
    at: &str,
    destination: PathBuf,
    fstype: &str,
    words: Words,
) -> Result<(Step, Option<Step>), BadBundle> {
    if let Some(word) = words.version {
        return Err(BadBundle::new(
            &format!("{at}.options"),
            format!("has `{word}`, which the kernel lets nobody change alone (fsconfig(2))"),
        ));
    }
    let mut attrs = words.attrs;
    let late = read_only_later(&mut attrs, fstype, &destination);
    let step = Step::Mount(Mount {
        destination,
        what: MountWhat::Remount {
            fstype: fstype.to_owned(),
            options: words.options,
        },
        attrs,
        propagation: words.propagation,
    });
    Ok((step, late))
}

/// A sysfs shows the network namespace it is mounted in, and can be mounted only by who owns that (sysfs in a user namespace
/// needs a network namespace of the same, fs/sysfs/mount.c).
fn sysfs_is_not_ours(around: &Around) -> bool {
    around.namespaces.contains_key(&NamespaceKind::User)
        && !around.namespaces.contains_key(&NamespaceKind::Network)
}

/// The host's `/sys` instead, with all below it, which a user namespace cannot leave out, and nothing of it writable.
fn host_sysfs(destination: PathBuf, words: Words) -> Step {
    Step::Mount(Mount {
        destination,
        what: MountWhat::Bind {
            source: PathBuf::from("/sys"),
            recursive: true,
            ids: None,
        },
        attrs: MountAttrs {
            set_recursive: libc::MOUNT_ATTR_RDONLY
                | libc::MOUNT_ATTR_NOSUID
                | libc::MOUNT_ATTR_NODEV
                | libc::MOUNT_ATTR_NOEXEC,
            ..MountAttrs::default()
        },
        propagation: words.propagation,
    })
}

/// A mount of type `cgroup` is the container's own cgroup, however the host has them (config-linux.md, Control groups): on v2
/// that directory, on v1 a tmpfs with that directory of each hierarchy.
fn cgroup(
    at: &str,
    destination: &Path,
    words: Words,
    around: &Around,
    now: &mut Vec<Step>,
    late: &mut Vec<Step>,
) -> Result<(), BadBundle> {
    if let Some((word, _)) = words.of_filesystem().first() {
        return Err(BadBundle::new(
            &format!("{at}.options"),
            format!("has `{word}`, which a mount of type `cgroup` cannot have"),
        ));
    }
    let layout = around.layout;
    let whole = layout.whole();
    let own = |hierarchy: &Hierarchy| {
        // Without a cgroup of its own the container is in ours.
        let path = if layout.whole.is_some() && layout.v2.is_none() {
            &hierarchy.own
        } else {
            &around.cgroup.path
        };
        let inside = path.strip_prefix("/").unwrap_or(path);
        hierarchy.mount_point.join(inside)
    };
    let bind = |hierarchy: &Hierarchy, destination: PathBuf| {
        Step::Mount(Mount {
            destination,
            what: MountWhat::Bind {
                source: own(hierarchy),
                recursive: false,
                ids: None,
            },
            attrs: words.attrs,
            propagation: words.propagation.clone(),
        })
    };

    if whole.v1.is_empty() {
        let Some(v2) = layout.v2.as_ref().or(whole.v2.as_ref()) else {
            return Err(BadBundle::new(
                at,
                "is of type `cgroup`, but the host has none mounted",
            ));
        };
        let new = around.namespaces.get(&NamespaceKind::Cgroup) == Some(&NamespaceSource::New);
        now.push(if new {
            Step::Mount(Mount {
                destination: destination.to_owned(),
                what: MountWhat::Filesystem {
                    fstype: "cgroup2".to_owned(),
                    source: "cgroup".to_owned(),
                    options: Vec::new(),
                    copy_up: false,
                },
                attrs: MountAttrs {
                    clear: 0,
                    ..words.attrs
                },
                propagation: words.propagation.clone(),
            })
        } else {
            bind(v2, destination.to_owned())
        });
        return Ok(());
    }

    let mut attrs = words.attrs;
    attrs.clear = 0;
    attrs.set &= !libc::MOUNT_ATTR_RDONLY;
    now.push(Step::Mount(Mount {
        destination: destination.to_owned(),
        what: MountWhat::Filesystem {
            fstype: "tmpfs".to_owned(),
            source: "tmpfs".to_owned(),
            options: around.labelled("tmpfs", vec![("mode".to_owned(), Some("755".to_owned()))]),
            copy_up: false,
        },
        attrs: MountAttrs {
            set: attrs.set,
            ..MountAttrs::default()
        },
        propagation: words.propagation.clone(),
    }));
    let all = layout.v1.iter().chain(&layout.v2);
    for hierarchy in all.filter(|one| around.cgroup.is_made_in(one, layout)) {
        let Some(name) = hierarchy.mount_point.file_name() else {
            continue;
        };
        now.push(bind(hierarchy, destination.join(name)));
        // Controllers that share a hierarchy are found under their own names too: cpu -> cpu,cpuacct.
        let is_v1 = layout.v1.contains(hierarchy);
        for controller in hierarchy.controllers.iter().filter(|_| is_v1) {
            let controller = controller.strip_prefix("name=").unwrap_or(controller);
            if name != controller {
                now.push(Step::Symlink {
                    target: PathBuf::from(name),
                    at: destination.join(controller),
                });
            }
        }
    }
    if words.attrs.set & libc::MOUNT_ATTR_RDONLY != 0 {
        late.push(Step::ReadonlyMount(destination.to_owned()));
    }
    Ok(())
}

/// Leaves out what the root of a user namespace cannot do: give terminals to a group that it does not have.
pub(super) fn confine(steps: &mut [Step], confinement: Confinement) {
    let is_had = |(name, value): &(String, Option<String>)| {
        let gid = value.as_deref().and_then(|value| value.parse().ok());
        name != "gid" || gid.is_none_or(|gid: u32| gid < confinement.groups)
    };
    for step in steps {
        if let Step::Mount(mount) = step
            && let MountWhat::Filesystem {
                fstype, options, ..
            } = &mut mount.what
            && fstype == "devpts"
        {
            options.retain(is_had);
        }
    }
}

/// Shows the machine's sysfs instead of one of the container's own, as the mounting takes a network namespace that belongs
/// to the user namespace (fs/sysfs/mount.c, `sysfs_init_fs_context`).
pub fn borrow_sysfs(steps: &mut [Step]) {
    for step in steps {
        if let Step::Mount(mount) = step
            && matches!(&mount.what, MountWhat::Filesystem { fstype, .. } if fstype == "sysfs")
        {
            mount.what = MountWhat::Bind {
                source: PathBuf::from("/sys"),
                recursive: true,
                ids: None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::topology::{Hierarchies, IdMap};
    use super::super::template::tests::{hybrid_joint, v1, v2};
    use super::*;

    fn read(options: &[&str]) -> Words {
        let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        words(&options)
    }

    fn plan_of(
        mount: serde_json::Value,
        layout: &CgroupLayout,
        kinds: &[NamespaceKind],
    ) -> Result<(Vec<Step>, Vec<Step>), String> {
        plan_in(Hierarchies::Every, mount, layout, kinds, None)
    }

    fn plan_in(
        hierarchies: Hierarchies,
        mount: serde_json::Value,
        layout: &CgroupLayout,
        kinds: &[NamespaceKind],
        label: Option<&str>,
    ) -> Result<(Vec<Step>, Vec<Step>), String> {
        let namespaces = kinds
            .iter()
            .map(|kind| (*kind, NamespaceSource::New))
            .collect();
        let map = |outside| {
            vec![IdMap {
                inside: 0,
                outside,
                size: 10,
            }]
        };
        let ids = IdMaps {
            uids: map(500),
            gids: map(600),
        };
        let mounts = [serde_json::from_value(mount).unwrap()];
        let around = Around {
            bundle_dir: Path::new("/b"),
            layout,
            cgroup: &Cgroup {
                path: PathBuf::from("/tincan/ns1"),
                settings: Vec::new(),
                devices: Vec::new(),
                hierarchies,
                undelegated: Vec::new(),
                scope: None,
            },
            namespaces: &namespaces,
            ids: kinds.contains(&NamespaceKind::User).then_some(&ids),
            label,
        };
        plan(&mounts, &around).map_err(|error| error.to_string())
    }

    fn lines(
        mount: serde_json::Value,
        layout: &CgroupLayout,
        kinds: &[NamespaceKind],
    ) -> Vec<String> {
        let (now, late) = plan_of(mount, layout, kinds).unwrap();
        now.iter().chain(&late).map(ToString::to_string).collect()
    }

    const OWN: [NamespaceKind; 2] = [NamespaceKind::Mount, NamespaceKind::Network];
    const OWN_IDS: [NamespaceKind; 2] = [NamespaceKind::Mount, NamespaceKind::User];

    #[test]
    fn each_word_sets_or_clears_its_attribute_and_with_an_r_also_below() {
        for (word, bit, set) in BITS {
            let own = read(&[word]).attrs;
            let want = if set { (bit, 0) } else { (0, bit) };
            assert_eq!((own.set, own.clear), want, "{word}");
            assert_eq!((own.set_recursive, own.clear_recursive), (0, 0), "{word}");
            let below = read(&[&format!("r{word}")]).attrs;
            assert_eq!(
                (below.set_recursive, below.clear_recursive),
                want,
                "r{word}"
            );
            assert_eq!((below.set, below.clear), (0, 0), "r{word}");
        }
        for (word, value, wanted) in TIMES {
            let value = if wanted {
                value
            } else {
                libc::MOUNT_ATTR_RELATIME
            };
            let own = read(&[word]).attrs;
            assert_eq!(
                (own.set, own.clear),
                (value, libc::MOUNT_ATTR__ATIME),
                "{word}"
            );
            let below = read(&[&format!("r{word}")]).attrs;
            assert_eq!(
                (below.set_recursive, below.clear_recursive),
                (value, libc::MOUNT_ATTR__ATIME),
                "r{word}"
            );
        }
    }

    #[test]
    fn the_last_word_counts() {
        assert_eq!(read(&["ro", "rw"]).attrs.set, 0);
        assert_eq!(read(&["rw", "ro"]).attrs.set, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(
            read(&["noatime", "nostrictatime"]).attrs.set,
            libc::MOUNT_ATTR_NOATIME
        );
        assert_eq!(
            read(&["noatime", "atime"]).attrs.set,
            libc::MOUNT_ATTR_RELATIME
        );
        assert_eq!(
            read(&["relatime", "strictatime"]).attrs.set,
            libc::MOUNT_ATTR_STRICTATIME
        );
    }

    #[test]
    fn propagation_words_keep_their_order() {
        use PropagationKind::{Private, Shared, Slave, Unbindable};
        for (word, kind, recursive) in [
            ("shared", Shared, false),
            ("rshared", Shared, true),
            ("slave", Slave, false),
            ("rslave", Slave, true),
            ("private", Private, false),
            ("rprivate", Private, true),
            ("unbindable", Unbindable, false),
            ("runbindable", Unbindable, true),
        ] {
            assert_eq!(
                read(&[word]).propagation,
                [Propagation { kind, recursive }],
                "{word}"
            );
        }
        assert_eq!(read(&["rslave", "shared"]).propagation.len(), 2);
    }

    #[test]
    fn other_words_go_to_the_file_system() {
        let words = read(&[
            "size=64k",
            "newinstance",
            "context=a=b",
            "sync",
            "nomand",
            "silent",
        ]);
        let option = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        assert_eq!(
            words.options,
            [
                option("size", Some("64k")),
                option("newinstance", None),
                option("context", Some("a=b")),
                option("sync", None),
                option("nomand", None),
            ]
        );
        assert_eq!(words.attrs, MountAttrs::default());
    }

    #[test]
    fn options_of_a_file_system_are_left_out_of_a_bind_with_a_warning() {
        let of = |fstype: &str, options: &[&str]| {
            let mount =
                json!({"destination": "/a", "source": "/b", "type": fstype, "options": options});
            let mount = serde_json::from_value(mount).unwrap();
            left_out(&[mount])
        };
        let said = |word: &str| {
            format!(
                "mounts[0].options: `{word}` is left out, an option of a file system, which a bind cannot set"
            )
        };
        let options = ["rbind", "mode=755", "ro", "sync", "async", "shared"];
        assert_eq!(of("", &options), [said("mode"), said("sync")]);
        assert_eq!(of("bind", &["size=1k"]), [said("size")]);
        assert_eq!(of("", &["bind", "iversion"]), [said("iversion")]);
        assert!(of("tmpfs", &["size=1k", "sync"]).is_empty());
    }

    #[test]
    fn words_that_cannot_be_done_are_named() {
        for (options, wrong) in [
            (
                json!(["rbind", "ridmap"]),
                "mounts[0]: has no uidMappings and gidMappings, and the container no user namespace of its own from which `idmap` could take them",
            ),
            (
                json!(["tmpcopyup", "bind"]),
                "mounts[0].options: has `tmpcopyup`, which only a tmpfs can have",
            ),
            (
                json!(["remount", "noiversion"]),
                "mounts[0].options: has `noiversion`, which the kernel lets nobody change alone (fsconfig(2))",
            ),
            (
                json!(["remount", "tmpcopyup"]),
                "mounts[0].options: has `tmpcopyup`, which only a tmpfs can have",
            ),
        ] {
            let mount =
                json!({"destination": "/a", "source": "/b", "type": "ext4", "options": options});
            assert_eq!(
                plan_of(mount, &v1(), &OWN).unwrap_err(),
                format!("config.json: {wrong}")
            );
        }
    }

    #[test]
    fn a_bind_keeps_what_it_does_not_speak_of() {
        let mount = json!({"destination": "a/../b", "source": "data", "options": ["rbind", "nosuid", "exec", "rw"]});
        let (now, late) = plan_of(mount, &v1(), &OWN).unwrap();
        assert!(late.is_empty());
        assert_eq!(
            now,
            [Step::Mount(Mount {
                destination: PathBuf::from("/b"),
                what: MountWhat::Bind {
                    source: PathBuf::from("/b/data"),
                    recursive: true,
                    ids: None,
                },
                attrs: MountAttrs {
                    set: libc::MOUNT_ATTR_NOSUID,
                    clear: libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_RDONLY,
                    ..MountAttrs::default()
                },
                propagation: Vec::new(),
            })]
        );
        let plain = json!({"destination": "/a", "source": "/b", "type": "bind"});
        let (now, _) = plan_of(plain, &v1(), &OWN).unwrap();
        let [Step::Mount(mount)] = &now[..] else {
            panic!("{now:?}");
        };
        assert_eq!(mount.attrs, MountAttrs::default());
        assert_eq!(
            mount.what,
            MountWhat::Bind {
                source: PathBuf::from("/b"),
                recursive: false,
                ids: None,
            }
        );
    }

    #[test]
    fn the_ids_of_a_bind_are_mapped_by_its_own_maps_or_the_containers() {
        let maps = |outside| json!([{"containerID": 0, "hostID": outside, "size": 10}]);
        let ids = |options: &[&str], own: Option<u32>| {
            let mut mount = json!({"destination": "/a", "source": "/b", "options": options});
            if let Some(outside) = own {
                mount["uidMappings"] = maps(outside);
                mount["gidMappings"] = maps(outside + 1);
            }
            let (now, _) = plan_of(mount, &v1(), &OWN_IDS).unwrap();
            match &now[..] {
                [
                    Step::Mount(Mount {
                        what: MountWhat::Bind { ids, .. },
                        ..
                    }),
                ] => ids.clone().map(|ids| {
                    let first = |maps: &[IdMap]| maps[0].outside;
                    (first(&ids.maps.uids), first(&ids.maps.gids), ids.recursive)
                }),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ids(&["bind"], None), None);
        // Whoever gives maps wants them.
        assert_eq!(ids(&["bind"], Some(7)), Some((7, 8, false)));
        assert_eq!(ids(&["rbind", "idmap"], Some(7)), Some((7, 8, false)));
        assert_eq!(ids(&["rbind", "ridmap"], Some(7)), Some((7, 8, true)));
        assert_eq!(
            ids(&["rbind", "ridmap", "idmap"], None),
            Some((500, 600, true))
        );
        assert_eq!(ids(&["bind", "idmap"], None), Some((500, 600, false)));
    }

    #[test]
    fn a_read_only_tmpfs_is_so_only_when_all_is_made() {
        let mount = json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nosuid"]});
        assert_eq!(
            lines(mount, &v1(), &OWN),
            [
                "mount tmpfs on /run (nosuid)",
                "make the mount /run read-only"
            ]
        );
        let mount = json!({"destination": "/sys", "type": "sysfs", "options": ["ro"]});
        assert_eq!(lines(mount, &v1(), &OWN), ["mount sysfs on /sys (ro)"]);
    }

    #[test]
    fn a_remount_changes_what_it_speaks_of() {
        let remount =
            |options: &[&str]| json!({"destination": "/run", "type": "tmpfs", "options": options});
        let (now, late) = plan_of(
            remount(&["remount", "rw", "size=1k", "rnoexec"]),
            &v1(),
            &OWN,
        )
        .unwrap();
        assert!(late.is_empty());
        assert_eq!(
            now,
            [Step::Mount(Mount {
                destination: PathBuf::from("/run"),
                what: MountWhat::Remount {
                    fstype: "tmpfs".to_owned(),
                    options: vec![("size".to_owned(), Some("1k".to_owned()))],
                },
                attrs: MountAttrs {
                    clear: libc::MOUNT_ATTR_RDONLY,
                    set_recursive: libc::MOUNT_ATTR_NOEXEC,
                    ..MountAttrs::default()
                },
                propagation: Vec::new(),
            })]
        );
        assert_eq!(
            lines(remount(&["remount", "ro"]), &v1(), &OWN),
            ["remount what is on /run", "make the mount /run read-only"]
        );
    }

    #[test]
    fn a_cgroup_mount_on_v1_is_the_containers_directory_of_each_hierarchy() {
        let mount = || json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["nosuid", "ro"]});
        assert_eq!(
            lines(mount(), &hybrid_joint(), &OWN),
            [
                "mount tmpfs on /sys/fs/cgroup (nosuid)",
                "bind /sys/fs/cgroup/cpu,cpuacct/tincan/ns1 on /sys/fs/cgroup/cpu,cpuacct (ro,nosuid)",
                "link /sys/fs/cgroup/cpu to cpu,cpuacct",
                "link /sys/fs/cgroup/cpuacct to cpu,cpuacct",
                "bind /sys/fs/cgroup/systemd/tincan/ns1 on /sys/fs/cgroup/systemd (ro,nosuid)",
                "bind /sys/fs/cgroup/unified/tincan/ns1 on /sys/fs/cgroup/unified (ro,nosuid)",
                "make the mount /sys/fs/cgroup read-only",
            ]
        );
    }

    #[test]
    fn a_cgroup_mount_shows_no_hierarchy_that_the_cgroup_is_not_made_in() {
        let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup"});
        let layout = hybrid_joint();
        let (now, _) = plan_in(Hierarchies::Needed, mount, &layout, &OWN, None).unwrap();
        let lines: Vec<String> = now.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "mount tmpfs on /sys/fs/cgroup",
                "bind /sys/fs/cgroup/unified/tincan/ns1 on /sys/fs/cgroup/unified",
            ]
        );
    }

    #[test]
    fn a_cgroup_mount_on_v2_is_new_in_a_new_namespace_and_a_bind_without() {
        let mount =
            || json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]});
        assert_eq!(
            lines(
                mount(),
                &v2(),
                &[NamespaceKind::Mount, NamespaceKind::Cgroup]
            ),
            ["mount cgroup2 on /sys/fs/cgroup (ro)"]
        );
        assert_eq!(
            lines(mount(), &v2(), &OWN),
            ["bind /sys/fs/cgroup/tincan/ns1 on /sys/fs/cgroup (ro)"]
        );
        let none = CgroupLayout {
            v1: Vec::new(),
            v2: None,
            whole: None,
        };
        assert_eq!(
            plan_of(mount(), &none, &OWN).unwrap_err(),
            "config.json: mounts[0]: is of type `cgroup`, but the host has none mounted"
        );
    }

    #[test]
    fn what_is_mounted_anew_is_labelled_where_it_can_be() {
        let label = "u:object_r:can_t:s0:c1,c2";
        let contexts = |mount, layout: &CgroupLayout| {
            let (now, _) = plan_in(Hierarchies::Every, mount, layout, &OWN, Some(label)).unwrap();
            let context = |(key, value): &(String, Option<String>)| {
                (key == "context").then(|| value.clone().unwrap())
            };
            let of = |step: &Step| match step {
                Step::Mount(Mount {
                    what: MountWhat::Filesystem { options, .. },
                    ..
                }) => options.iter().filter_map(context).collect(),
                Step::LabelMount { at, label } => vec![format!("{} {label}", at.display())],
                _ => Vec::new(),
            };
            now.iter().flat_map(of).collect::<Vec<String>>()
        };
        let of = |fstype: &str, options: &[&str]| {
            let at = if fstype == "proc" { "/proc" } else { "/a" };
            let mount =
                json!({"destination": at, "source": "/b", "type": fstype, "options": options});
            contexts(mount, &v1())
        };
        for fstype in ["tmpfs", "devpts", "ext4"] {
            assert_eq!(of(fstype, &["nosuid"]), [label], "{fstype}");
        }
        assert_eq!(of("tmpfs", &["context=own"]), ["own"]);
        assert_eq!(of("mqueue", &[]), [format!("/a {label}")]);
        for fstype in ["proc", "sysfs"] {
            assert!(of(fstype, &[]).is_empty(), "{fstype}");
        }
        assert!(of("ext4", &["bind"]).is_empty());
        // Of v1 the directory of the hierarchies is a tmpfs; v2 is the host's file system.
        let cgroup = || json!({"destination": "/sys/fs/cgroup", "type": "cgroup"});
        assert_eq!(contexts(cgroup(), &v1()), [label]);
        assert!(contexts(cgroup(), &v2()).is_empty());
    }

    #[test]
    fn a_sysfs_of_a_network_namespace_that_is_not_ours_is_the_hosts_read_only() {
        let mount = || json!({"destination": "/sys", "type": "sysfs", "options": ["nosuid"]});
        assert_eq!(
            lines(mount(), &v1(), &[NamespaceKind::User, NamespaceKind::Mount]),
            ["bind /sys on /sys (ro,nosuid,nodev,noexec)"]
        );
        assert_eq!(
            lines(
                mount(),
                &v1(),
                &[NamespaceKind::User, NamespaceKind::Network]
            ),
            ["mount sysfs on /sys (nosuid)"]
        );
    }

    #[test]
    fn nothing_deceives_about_proc() {
        for (mount, wrong) in [
            (
                json!({"destination": "/proc", "type": "tmpfs"}),
                "is /proc, on which only a procfs can be mounted",
            ),
            (
                json!({"destination": "/x/../proc/sys", "type": "tmpfs"}),
                "`/proc/sys` is inside /proc, where nothing can be mounted",
            ),
            (
                json!({"destination": "/..", "type": "tmpfs"}),
                "is the root itself, on which nothing can be mounted",
            ),
        ] {
            assert_eq!(
                plan_of(mount, &v1(), &OWN).unwrap_err(),
                format!("config.json: mounts[0].destination: {wrong}")
            );
        }
        for mount in [
            json!({"destination": "/proc", "source": "/proc", "options": ["rbind"]}),
            json!({"destination": "/proc/meminfo", "source": "/var/lib/lxcfs/proc/meminfo", "options": ["bind"]}),
            json!({"destination": "/process", "type": "tmpfs"}),
        ] {
            assert!(plan_of(mount, &v1(), &OWN).is_ok());
        }
    }
}
