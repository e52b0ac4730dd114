//! The options of mounts: what each word does in a container, as its `/proc/self/mountinfo` has it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        words_change_the_mount_and_with_an_r_those_below needs [Root],
        words_of_propagation_do_what_they_say needs [Root],
        words_of_file_systems_reach_them,
        what_is_mounted_is_mounted_again_with_other_options,
        what_is_not_mounted_cannot_be_mounted_again,
        every_word_that_is_told_of_is_tried,
    ]
}

/// Words for one flag: that which sets it, that which clears it, and how mountinfo shows it.
const FLAGS: [(&str, &str, &str); 6] = [
    ("ro", "rw", "ro"),
    ("nosuid", "suid", "nosuid"),
    ("nodev", "dev", "nodev"),
    ("noexec", "exec", "noexec"),
    ("nodiratime", "diratime", "nodiratime"),
    ("nosymfollow", "symfollow", "nosymfollow"),
];

/// Words for access times: whether it is tried on what is closed, and what comes of it. Strict times are not shown.
const TIMES: [(&str, bool, &str); 6] = [
    ("noatime", false, "noatime"),
    ("atime", true, "relatime"),
    ("strictatime", false, ""),
    ("nostrictatime", true, "relatime"),
    ("relatime", true, "relatime"),
    ("norelatime", true, "relatime"),
];

/// Words of propagation, on what follows the host's mounts: those that are given, and what comes of it for the mount and for the one below.
const PROPAGATIONS: [(&[&str], &str, &str); 9] = [
    (&[], "master", "master"),
    (&["private"], "", "master"),
    (&["rprivate"], "", ""),
    (&["shared"], "shared master", "master"),
    (&["rshared"], "shared master", "shared master"),
    (&["unbindable"], "unbindable", "master"),
    (&["runbindable"], "unbindable", "unbindable"),
    (&["rshared", "slave"], "master", "shared master"),
    (&["rshared", "rslave"], "master", "master"),
];

/// Words for a new tmpfs, and what mountinfo shows of its file system, or not.
const FILE_SYSTEMS: [(&[&str], &str, bool); 12] = [
    (&["sync"], "sync", true),
    (&["sync", "async"], "sync", false),
    (&["dirsync"], "dirsync", true),
    (&["lazytime"], "lazytime", true),
    (&["lazytime", "nolazytime"], "lazytime", false),
    (&["mand"], "mand", true),
    (&["mand", "nomand"], "mand", false),
    (&["size=64k"], "size=64k", true),
    // Nothing of these is shown.
    (&["defaults", "silent", "loud"], "sync", false),
    (&["noiversion"], "sync", false),
    (&["iversion", "size=64k"], "size=64k", true),
    (&["iversion", "sync", "ro"], "sync", true),
];

/// What mountinfo says of one mount (proc_pid_mountinfo(5)).
#[derive(Debug)]
struct Mounted {
    options: BTreeSet<String>,
    propagation: String,
    filesystem: BTreeSet<String>,
}

impl Mounted {
    fn time(&self) -> &str {
        let times = ["noatime", "relatime"];
        let time = times.into_iter().find(|time| self.options.contains(*time));
        time.unwrap_or_default()
    }
}

/// The topmost mount at a path, in what a container printed.
fn mounted(mountinfo: &str, at: &str) -> Mounted {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(at));
    let fields: Vec<&str> = line
        .unwrap_or_else(|| panic!("no {at}: {mountinfo}"))
        .split(' ')
        .collect();
    let end = fields.iter().position(|field| *field == "-").unwrap();
    let kinds = fields[6..end]
        .iter()
        .map(|it| it.split(':').next().unwrap());
    let words = |field: &str| field.split(',').map(str::to_owned).collect();
    Mounted {
        options: words(fields[5]),
        propagation: kinds.collect::<Vec<_>>().join(" "),
        filesystem: words(fields[end + 3]),
    }
}

/// What mountinfo is in a container with these mounts after the template's.
fn mountinfo(
    host: &Host,
    name: &str,
    mounts: Vec<Value>,
    change: impl FnOnce(&mut Value),
) -> String {
    let bundle = host.bundle(name, |spec| {
        spec["process"]["args"] = json!(["cat", "/proc/self/mountinfo"]);
        spec["mounts"]
            .as_array_mut()
            .expect("a list")
            .extend(mounts);
        change(spec);
    });
    let run = ["run", "--bundle", bundle.to_str().unwrap(), "c1"];
    host.tincan(run).ok()
}

/// Two directories, a mount each with another below: one is open, and the other has every restriction.
struct Sources<'h>(&'h Host);

impl<'h> Sources<'h> {
    fn new(host: &'h Host) -> Self {
        host.sh("for d in open closed; do
                mkdir $d; mount -t tmpfs $d $d; mkdir $d/below; mount -t tmpfs $d $d/below
            done
            for d in closed/below closed; do
                mount -o remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow $d
            done");
        Sources(host)
    }

    fn bind(&self, closed: bool, words: &[&str], at: &str) -> Value {
        let source = self.0.dir().join(if closed { "closed" } else { "open" });
        let options = [&["rbind"][..], words].concat();
        json!({"destination": at, "source": source, "options": options})
    }
}

impl Drop for Sources<'_> {
    fn drop(&mut self) {
        self.0
            .sh("for d in open closed; do umount $d/below $d; rmdir $d; done");
    }
}

fn words_change_the_mount_and_with_an_r_those_below(host: &Host) {
    let sources = Sources::new(host);
    let mut mounts = Vec::new();
    for (set, clear, _) in FLAGS {
        for (word, closed) in [(set, false), (clear, true)] {
            mounts.push(sources.bind(closed, &[word], &format!("/of/{word}")));
            let below = format!("r{word}");
            mounts.push(sources.bind(closed, &[&below], &format!("/of/{below}")));
        }
    }
    for (word, closed, _) in TIMES {
        mounts.push(sources.bind(closed, &[word], &format!("/of/{word}")));
        let below = format!("r{word}");
        mounts.push(sources.bind(closed, &[&below], &format!("/of/{below}")));
    }
    let said = mountinfo(host, "words", mounts, |_| ());
    let at = |path: &str| mounted(&said, &format!("/of/{path}"));
    for (set, clear, shown) in FLAGS {
        let has = |path: &str| at(path).options.contains(shown);
        for (path, expected) in [
            (set.to_owned(), true),
            (format!("{set}/below"), false),
            (format!("r{set}"), true),
            (format!("r{set}/below"), true),
            (clear.to_owned(), false),
            (format!("{clear}/below"), true),
            (format!("r{clear}"), false),
            (format!("r{clear}/below"), false),
        ] {
            assert_eq!(has(&path), expected, "{path}: {:?}", at(&path));
        }
    }
    for (word, closed, time) in TIMES {
        let before = if closed { "noatime" } else { "relatime" };
        for (path, expected) in [
            (word.to_owned(), time),
            (format!("{word}/below"), before),
            (format!("r{word}"), time),
            (format!("r{word}/below"), time),
        ] {
            assert_eq!(at(&path).time(), expected, "{path}: {:?}", at(&path));
        }
    }
}

fn words_of_propagation_do_what_they_say(host: &Host) {
    let sources = Sources::new(host);
    host.sh("mount --make-rshared open");
    let mounts = PROPAGATIONS
        .iter()
        .enumerate()
        .map(|(number, (words, ..))| sources.bind(false, words, &format!("/of/{number}")))
        .collect();
    let said = mountinfo(host, "propagation", mounts, |spec| {
        spec["linux"]["rootfsPropagation"] = json!("rslave");
    });
    for (number, (words, top, below)) in PROPAGATIONS.iter().enumerate() {
        let at = |path: String| mounted(&said, &path).propagation;
        let found = (
            at(format!("/of/{number}")),
            at(format!("/of/{number}/below")),
        );
        assert_eq!(
            (found.0.as_str(), found.1.as_str()),
            (*top, *below),
            "{words:?}"
        );
    }
}

fn tmpfs(at: &str, options: &[&str]) -> Value {
    json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": options})
}

fn words_of_file_systems_reach_them(host: &Host) {
    let mounts = FILE_SYSTEMS
        .iter()
        .enumerate()
        .map(|(number, (words, ..))| tmpfs(&format!("/of/{number}"), words))
        .collect();
    let said = mountinfo(host, "filesystems", mounts, |_| ());
    for (number, (words, shown, expected)) in FILE_SYSTEMS.iter().enumerate() {
        let found = mounted(&said, &format!("/of/{number}"));
        let is_there = found.filesystem.contains(*shown);
        assert_eq!(is_there, *expected, "{words:?}: {found:?}");
        assert_eq!(
            found.options.contains("ro"),
            words.contains(&"ro"),
            "{words:?}: {found:?}"
        );
    }

    let bundle = host.bundle("copied", |spec| {
        spec["process"]["args"] = json!(["cat", "/plain/file", "/versions/file"]);
        let mounts = spec["mounts"].as_array_mut().expect("a list");
        mounts.push(tmpfs("/plain", &["tmpcopyup"]));
        mounts.push(tmpfs("/versions", &["tmpcopyup", "iversion", "ro"]));
    });
    host.sh(&format!(
        "cd {}/rootfs && mkdir plain versions && echo a >plain/file && echo b >versions/file",
        bundle.display()
    ));
    let run = ["run", "--bundle", bundle.to_str().unwrap(), "c1"];
    assert_eq!(host.tincan(run).ok(), "a\nb\n");
}

fn what_is_mounted_is_mounted_again_with_other_options(host: &Host) {
    let remount = |at: &str, fstype: &str, options: &[&str]| {
        let options = [&["remount"][..], options].concat();
        json!({"destination": at, "type": fstype, "options": options})
    };
    let mounts = vec![
        tmpfs("/of/one", &["size=32k", "nosuid"]),
        remount("/of/one", "tmpfs", &["size=64k", "noexec", "ro", "shared"]),
        tmpfs("/of/two", &["ro", "size=32k"]),
        remount("/of/two", "tmpfs", &["rw"]),
        // Of the kernel's own the mount alone: the file system is the host's, too.
        remount("/sys", "sysfs", &["rw"]),
        remount("/proc", "proc", &["nosuid"]),
        remount("/dev/shm", "", &["noatime"]),
        remount("/dev", "", &["ro"]),
    ];
    let said = mountinfo(host, "again", mounts, |_| ());
    let has = |at: &str, words: &[&str]| {
        let found = mounted(&said, at);
        for word in words {
            let (word, expected) = match word.strip_prefix('!') {
                Some(word) => (word, false),
                None => (*word, true),
            };
            let all = found.options.union(&found.filesystem);
            let is_there = all.into_iter().any(|it| it == word);
            assert_eq!(is_there, expected, "{at}, {word}: {found:?}");
        }
        found
    };
    let one = has("/of/one", &["size=64k", "noexec", "nosuid"]);
    assert!(
        one.options.contains("ro") && one.propagation == "shared",
        "{one:?}"
    );
    let two = has("/of/two", &["size=32k"]);
    assert!(two.options.contains("rw"), "{two:?}");
    assert!(has("/sys", &["nosuid", "noexec"]).options.contains("rw"));
    has("/proc", &["nosuid", "!noexec"]);
    has("/dev/shm", &["noatime", "nosuid", "!relatime"]);
    assert!(has("/dev", &["nosuid"]).options.contains("ro"));
}

fn what_is_not_mounted_cannot_be_mounted_again(host: &Host) {
    let failure = |name: &str, at: &str, options: &[&str], wrong: &str| {
        let bundle = host.bundle(name, |spec| {
            let remount = json!({"destination": at, "type": "tmpfs", "options": options});
            spec["mounts"].as_array_mut().expect("a list").push(remount);
        });
        let run = ["run", "--bundle", bundle.to_str().unwrap(), "c1"];
        let said = host.tincan(run).fails(125);
        assert!(said.contains(wrong), "{said}");
    };
    let no_mount = "c1: remount what is on /bin: Invalid argument";
    failure("plain", "/bin", &["remount", "size=1k"], no_mount);
    let missing = "c1: remount what is on /none: No such file or directory";
    failure("missing", "/none", &["remount"], missing);
    let unknown = "c1: remount what is on /dev/shm: Invalid argument";
    failure("unknown", "/dev/shm", &["remount", "nosuch=1"], unknown);
    let versions = "has `iversion`, which the kernel lets nobody change alone (fsconfig(2))";
    failure("versions", "/dev/shm", &["remount", "iversion"], versions);
}

/// What `features` lists is what the tests here try, and those of `idmap.rs`; and it is at least what runc lists.
fn every_word_that_is_told_of_is_tried(host: &Host) {
    let mut tried: BTreeSet<String> = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"]
        .map(str::to_owned)
        .into();
    let flags = FLAGS.iter().flat_map(|(set, clear, _)| [*set, *clear]);
    for word in flags.chain(TIMES.iter().map(|(word, ..)| *word)) {
        tried.extend([word.to_owned(), format!("r{word}")]);
    }
    let propagations = PROPAGATIONS.iter().flat_map(|(words, ..)| *words);
    let file_systems = FILE_SYSTEMS.iter().flat_map(|(words, ..)| *words);
    let words = propagations.chain(file_systems).copied();
    tried.extend(words.filter(|word| !word.contains('=')).map(str::to_owned));
    let told = |features: &str| {
        let features: Value = serde_json::from_str(features).expect("JSON");
        let words: BTreeSet<String> =
            serde_json::from_value(features["mountOptions"].clone()).expect("a list of words");
        words
    };
    let own = told(&host.tincan(["features"]).ok());
    assert_eq!(own, tried);
    let mut runcs = told(&host.sh("runc features"));
    // The file system's own, which an old runc took for flags.
    runcs.retain(|word| word != "acl" && word != "noacl");
    assert!(runcs.is_subset(&own), "{:?}", runcs.difference(&own));
}
