//! Many at once, many one after another, and two for one name.

use std::ffi::OsStr;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Seek};
use std::process::{Child, Command, Stdio};

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        fifty_at_once_leave_nothing,
        fifty_with_made_up_names_leave_nothing,
        a_thousand_one_after_another_leave_nothing,
        of_two_runs_of_one_name_one_wins,
        of_two_creates_of_one_name_one_wins,
    ]
}

/// Lets many start at one moment: each waits for the end of this pipe, which reaches all at once.
struct Race {
    line: PipeReader,
    gun: PipeWriter,
    runners: Vec<(Child, fs::File)>,
}

impl Race {
    fn new() -> Self {
        let (line, gun) = std::io::pipe().expect("a pipe");
        let runners = Vec::new();
        Race { line, gun, runners }
    }

    /// Adds tincan with these arguments. Its streams are files, which nobody waits on.
    fn add<A: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = A>) {
        let said = tempfile::tempfile().expect("a file");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "read gun; exec \"$0\" \"$@\" </dev/null",
            Host::TINCAN,
        ]);
        let child = command
            .args(args)
            .stdin(self.line.try_clone().expect("a descriptor"))
            .stdout(Stdio::null())
            .stderr(said.try_clone().expect("a descriptor"))
            .spawn()
            .expect("sh starts");
        self.runners.push((child, said));
    }

    /// Lets them run: the exit code and the standard error of each.
    fn run(self) -> Vec<(Option<i32>, String)> {
        drop((self.line, self.gun));
        let end = |(mut child, mut said): (Child, fs::File)| {
            let code = child.wait().expect("it ends").code();
            said.rewind().expect("a file");
            let mut text = String::new();
            said.read_to_string(&mut text).expect("it says text");
            (code, text)
        };
        self.runners.into_iter().map(end).collect()
    }
}

#[track_caller]
fn all_succeed(host: &Host, race: Race) {
    for (number, (code, said)) in race.run().into_iter().enumerate() {
        assert_eq!((code, said.as_str()), (Some(0), ""), "number {number}");
    }
    host.assert_clean();
}

fn fifty_at_once_leave_nothing(host: &Host) {
    let mut race = Race::new();
    for number in 0..50 {
        let (name, net) = (format!("c{number}"), format!("172.16.{number}.1/16"));
        race.add(["run", "--name", &name, "--net", &net, "--", "true"]);
    }
    all_succeed(host, race);
}

fn fifty_with_made_up_names_leave_nothing(host: &Host) {
    let mut race = Race::new();
    for number in 0..50 {
        race.add([
            "run",
            "--net",
            &format!("172.16.{number}.1/16"),
            "--",
            "true",
        ]);
    }
    all_succeed(host, race);
}

/// What grows when something leaks, by its numbers. The end of the test looks at everything.
fn counts() -> [(&'static str, usize); 4] {
    let lines = |file: &str| {
        fs::read_to_string(file)
            .expect("it is readable")
            .lines()
            .count()
    };
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().count();
    [
        ("links", lines("/proc/self/net/dev")),
        ("mounts", lines("/proc/self/mountinfo")),
        ("processes", entries("/proc")),
        ("state", entries("/run/tincan")),
    ]
}

fn a_thousand_one_after_another_leave_nothing(host: &Host) {
    let before = counts();
    for number in 0..1000 {
        let code = if number % 2 == 0 {
            // A start that fails is undone as one that succeeds is.
            host.tincan(["run", "--net", "172.16.0.1/16", "--", "true"])
                .ok();
            0
        } else {
            host.tincan(["run", "--name", "c", "--", "no-such-program"])
                .fails(127);
            127
        };
        if number % 100 < 2 {
            host.wait_until(
                &format!("all is as before after number {number}, {code}"),
                || counts() == before,
            );
        }
    }
    host.assert_clean();
}

/// Of two at once one wins, and the other says so; twenty times.
fn one_wins(host: &Host, args: &[&str]) {
    for round in 0..20 {
        let mut race = Race::new();
        race.add(args);
        race.add(args);
        let mut ends = race.run();
        ends.sort();
        let [(Some(0), won), (Some(125), lost)] = ends.as_slice() else {
            panic!("round {round}: {ends:?}");
        };
        assert_eq!(won, "", "round {round}");
        let told = lost.starts_with("tincan: c: a container of this name is ");
        assert!(told && lost.contains("hint: "), "round {round}: {lost}");
        let state = host.tincan(["state", "c"]).ok();
        assert!(
            state.contains("running") || state.contains("created"),
            "{state}"
        );
        host.tincan(["delete", "-f", "c"]).ok();
        host.assert_clean();
    }
}

fn of_two_runs_of_one_name_one_wins(host: &Host) {
    one_wins(host, &["run", "-d", "--name", "c", "--", "sleep", "1000"]);
    let args = [
        "run",
        "-d",
        "--name",
        "c",
        "--netns-name",
        "--",
        "sleep",
        "1000",
    ];
    one_wins(host, &args);
}

fn of_two_creates_of_one_name_one_wins(host: &Host) {
    let bundle = host.bundle("bundle", |_| ());
    one_wins(host, &["create", "-b", bundle.to_str().expect("text"), "c"]);
}
