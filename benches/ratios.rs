//! `make bench`: tincan beside its peers, interleaved in one run on a disposable machine, so that what disturbs one
//! disturbs all. Absolute times are this machine's; the ratios are what carries over.

mod bare;
#[path = "../tests/it/machine.rs"]
mod machine;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const TINCAN: &str = env!("CARGO_BIN_EXE_tincan");
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Longer than everything takes, also where each number is ten times this machine's.
const LIMIT: Duration = Duration::from_secs(1800);

/// The pause before every sample, in which the kernel cleans up behind the one before.
const PAUSE: Duration = Duration::from_millis(20);

/// How much is measured.
struct Effort {
    rounds: usize,
    containers: usize,
    /// How often many containers are started at once.
    crowds: usize,
    iperf_rounds: usize,
    iperf_seconds: u32,
}

const FULL: Effort = Effort {
    rounds: 51,
    containers: 1000,
    crowds: 5,
    iperf_rounds: 15,
    iperf_seconds: 3,
};

const QUICK: Effort = Effort {
    rounds: 11,
    containers: 100,
    crowds: 1,
    iperf_rounds: 3,
    iperf_seconds: 1,
};

fn main() -> ExitCode {
    if let Some((stage, job)) = machine::stage() {
        return machine::go_on(&stage, &job, machine::Kind::Alone, || {
            measure(job == "full")
        });
    }
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("the benchmarks need root: they make namespaces and links");
        return ExitCode::FAILURE;
    }
    machine::remove_abandoned_cgroups();
    let quick = std::env::args().any(|argument| argument == "--quick");
    match machine::run(if quick { "quick" } else { "full" }, LIMIT, true) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything and prints it; a full run is written down as well.
fn measure(full: bool) {
    let effort = if full { FULL } else { QUICK };
    let setting = Setting::make();
    let mut report = heading(&effort);
    print!("{report}");
    let mut failures = 0;
    let mut add = |table: Table| {
        let text = table.markdown();
        print!("{text}");
        report += &text;
        failures += table.rows.iter().filter(|row| row.values.is_err()).count();
    };

    let bundle = bundle(&setting, &effort);
    let wiring = wiring(&effort, bundle.added_by_net());
    add(bundle);
    add(pair(&setting, &effort));
    add(wiring);
    add(exec(&setting, &effort));
    for table in lifecycle(&setting, &effort) {
        add(table);
    }
    add(memory(&setting, &effort));
    let (cost, memory) = rootless(&setting, &effort);
    add(cost);
    add(memory);
    let (cost, totals) = scale(&setting, &effort);
    add(cost);
    add(totals);
    add(network(&setting, &effort));
    for table in crowds(&setting, &effort) {
        add(table);
    }
    for table in network_memory(&setting, &effort) {
        add(table);
    }
    add(throughput(&effort));
    add(network_throughput(&effort));

    if full {
        if let Ok(notes) = fs::read_to_string(Path::new(HERE).join("benches/NOTES.md")) {
            report += "\n";
            report += &notes;
        }
        fs::write(Path::new(HERE).join("benches/RESULTS.md"), report)
            .expect("RESULTS.md is writable");
    }
    assert_eq!(
        failures, 0,
        "so many subjects could not be measured; the tables say why"
    );
}

/// The files that all subjects share.
struct Setting {
    rootfs: PathBuf,
    /// The bundle that runs `/bin/true`.
    short: PathBuf,
    /// The same under podman's seccomp profile.
    filtered: PathBuf,
    /// The same with `/bin/sleep 0.3`, long enough to look at the runtime meanwhile.
    brief: PathBuf,
    /// The same with a workload that stays.
    long: PathBuf,
}

impl Setting {
    fn make() -> Self {
        let work = Path::new(machine::WORK);
        let rootfs = work.join("busybox");
        let recipe = Path::new(HERE).join("rootfs-examples/busybox/make.sh");
        must(Command::new(recipe).arg(&rootfs));
        let bundle = |name: &str, args: Value, seccomp: Value| {
            let dir = work.join(name);
            fs::create_dir(&dir).expect("the work directory is empty");
            must(Command::new("runc").arg("spec").current_dir(&dir));
            let config = dir.join("config.json");
            let text = fs::read_to_string(&config).expect("runc wrote it");
            let mut spec: Value = serde_json::from_str(&text).expect("runc writes JSON");
            spec["process"]["terminal"] = json!(false);
            spec["process"]["args"] = args;
            spec["root"]["path"] = json!(rootfs);
            spec["linux"]["seccomp"] = seccomp;
            fs::write(config, spec.to_string()).expect("the work directory is writable");
            dir
        };
        Setting {
            short: bundle("short", json!(["/bin/true"]), json!(null)),
            filtered: bundle("filtered", json!(["/bin/true"]), podmans_profile()),
            brief: bundle("brief", json!(["/bin/sleep", "0.3"]), json!(null)),
            long: bundle("long", json!(["/bin/sleep", "100000"]), json!(null)),
            rootfs,
        }
    }
}

/// Something that is measured: its name, and what takes the n-th sample.
struct Subject<'a> {
    what: String,
    sample: Box<dyn FnMut(usize) -> Result<f64, String> + 'a>,
}

fn subject<'a>(
    what: impl Into<String>,
    sample: impl FnMut(usize) -> Result<f64, String> + 'a,
) -> Subject<'a> {
    Subject {
        what: what.into(),
        sample: Box::new(sample),
    }
}

/// Takes a sample of every subject in turn, beginning with another one each round, so that nobody always runs behind the
/// same predecessor. The first round warms up and does not count.
fn interleaved(rounds: usize, subjects: Vec<Subject>) -> Vec<Row> {
    let mut rows: Vec<Row> = subjects
        .iter()
        .map(|subject| Row {
            what: subject.what.clone(),
            values: Ok(Vec::new()),
            target: None,
        })
        .collect();
    let mut subjects = subjects;
    for round in 0..=rounds {
        for turn in 0..subjects.len() {
            let index = (turn + round) % subjects.len();
            let Ok(values) = &mut rows[index].values else {
                continue;
            };
            std::thread::sleep(PAUSE);
            match (subjects[index].sample)(round) {
                Ok(value) if round > 0 => values.push(value),
                Ok(_) => {}
                Err(why) => rows[index].values = Err(why),
            }
        }
    }
    rows
}

/// One line of a table.
struct Row {
    what: String,
    /// The samples, or why there are none.
    values: Result<Vec<f64>, String>,
    /// What was aimed at, and whether it is reached.
    target: Option<(String, bool)>,
}

impl Row {
    fn median(&self) -> Option<f64> {
        quantile(self.values.as_ref().ok()?, 0.5)
    }
}

/// One table of the report.
struct Table {
    title: &'static str,
    /// What is measured, and what to know about it.
    about: String,
    unit: &'static str,
    /// The row that the others are compared with.
    reference: usize,
    rows: Vec<Row>,
}

impl Table {
    /// A row's median as a multiple of the reference's.
    fn ratio(&self, row: usize) -> Option<f64> {
        Some(self.rows[row].median()? / self.rows[self.reference].median()?)
    }

    /// Sets the aim of a row: a ratio that is to be at most, or at least, this much.
    fn aim(mut self, row: usize, at_most: bool, ratio: f64) -> Self {
        let sign = if at_most { "≤" } else { "≥" };
        let met = self
            .ratio(row)
            .is_some_and(|is| if at_most { is <= ratio } else { is >= ratio });
        let of = &self.rows[self.reference].what;
        self.rows[row].target = Some((format!("{sign} {ratio} × {of}"), met));
        self
    }

    /// In the first table: how much longer `run --net` takes than `run`, sample by sample.
    fn added_by_net(&self) -> Result<Vec<f64>, String> {
        let (without, with) = (self.rows[0].values.clone()?, self.rows[1].values.clone()?);
        Ok(with
            .iter()
            .zip(without)
            .map(|(with, without)| with - without)
            .collect())
    }

    fn markdown(&self) -> String {
        let mut text = format!("\n## {}\n{}\n\n", self.title, self.about);
        let reference = &self.rows[self.reference].what;
        let _ = writeln!(
            text,
            "| | median, {} | 10–90 % | × {reference} | target | |",
            self.unit
        );
        let _ = writeln!(text, "| --- | ---: | ---: | ---: | --- | --- |");
        for (index, row) in self.rows.iter().enumerate() {
            let (target, verdict) = match &row.target {
                Some((target, true)) => (target.as_str(), "met"),
                Some((target, false)) => (target.as_str(), "**not met**"),
                None => ("", ""),
            };
            let ratio = self
                .ratio(index)
                .map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            let (median, spread) = match &row.values {
                Ok(values) => (
                    number(quantile(values, 0.5).unwrap_or(f64::NAN)),
                    format!(
                        "{}–{}",
                        number(quantile(values, 0.1).unwrap_or(f64::NAN)),
                        number(quantile(values, 0.9).unwrap_or(f64::NAN))
                    ),
                ),
                Err(why) => (
                    "failed".to_owned(),
                    why.replace('|', "/").replace('\n', " "),
                ),
            };
            let what = &row.what;
            let _ = writeln!(
                text,
                "| {what} | {median} | {spread} | {ratio} | {target} | {verdict} |"
            );
        }
        text
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// The value below which this share of the values lies.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    // In range: a share is at most 1.
    sorted.get((last as f64 * share).round() as usize).copied()
}

/// A bundle's whole life, and what the same costs with programs that know no bundles.
fn bundle(setting: &Setting, effort: &Effort) -> Table {
    let runtime = |program: &'static str| {
        subject(program_name(program), move |round| {
            time(
                Command::new(program)
                    .args(["run", "-b"])
                    .arg(&setting.short)
                    .arg(format!("b{round}")),
            )
        })
    };
    let rows = interleaved(
        effort.rounds,
        vec![
            runtime(TINCAN),
            subject("tincan `--net`", |round| {
                let mut run = Command::new(TINCAN);
                run.args(["run", "--net", &slash_30(round), "-b"])
                    .arg(&setting.short);
                time(run.arg(format!("n{round}")))
            }),
            runtime("crun"),
            runtime("runc"),
            subject("bwrap", |_| {
                let mut bwrap = Command::new("bwrap");
                bwrap.args([
                    "--unshare-ipc",
                    "--unshare-pid",
                    "--unshare-net",
                    "--unshare-uts",
                    "--unshare-cgroup",
                ]);
                bwrap.arg("--ro-bind").arg(&setting.rootfs).arg("/");
                time(bwrap.args(["--proc", "/proc", "--dev", "/dev", "/bin/true"]))
            }),
            subject("unshare", |_| {
                let mut unshare = Command::new("unshare");
                unshare.args([
                    "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork",
                ]);
                unshare.arg("--root").arg(&setting.rootfs);
                time(unshare.args(["--mount-proc", "/bin/true"]))
            }),
        ],
    );
    Table {
        title: "A bundle that runs /bin/true",
        about: "`run` of one `runc spec` bundle with a busybox root; bwrap and unshare make the same namespaces, no cgroup, and \
                few or no mounts."
            .to_owned(),
        unit: "ms",
        reference: 2,
        rows,
    }
    .aim(0, true, 0.5)
}

/// Steps 1 to 6 of the seed.
fn pair(setting: &Setting, effort: &Effort) -> Table {
    let script = Path::new(HERE).join("benches/seed.sh");
    let ends = ["ns1=172.16.0.1/16", "ns2=172.16.0.2/16", "--"];
    let rows = interleaved(
        effort.rounds,
        vec![
            subject("tincan pair", |_| {
                time(Command::new(TINCAN).arg("pair").args(ends).args([
                    "ping",
                    "-c1",
                    "172.16.0.2",
                ]))
            }),
            subject("tincan pair `--rootfs`", |_| {
                let mut pair = Command::new(TINCAN);
                pair.args(["pair", "--rootfs"])
                    .arg(&setting.rootfs)
                    .args(ends);
                time(pair.args(["ping", "-c1", "172.16.0.2"]))
            }),
            subject("the script", |_| {
                let taken = time(&mut Command::new(&script));
                time(Command::new("ip").args(["netns", "delete", "ns1"]))?;
                time(Command::new("ip").args(["netns", "delete", "ns2"]))?;
                taken
            }),
            subject("the script, undone", |_| {
                time(Command::new(&script).arg("undo"))
            }),
        ],
    );
    Table {
        title: "Two wired containers and a ping",
        about: "`tincan pair` does and undoes it all; `benches/seed.sh` is the six steps with iproute2, without and with its \
                undoing."
            .to_owned(),
        unit: "ms",
        reference: 2,
        rows,
    }
    .aim(0, true, 0.1)
}

/// What it costs to wire one container.
fn wiring(effort: &Effort, added_by_net: Result<Vec<f64>, String>) -> Table {
    let config = json!({
        "cniVersion": "0.4.0", "name": "bench", "type": "ptp",
        "ipam": { "type": "host-local", "subnet": "172.20.0.0/16", "dataDir": format!("{}/cni", machine::WORK) },
    });
    fs::write("ptp.json", config.to_string()).expect("the work directory is writable");
    let mut rows = interleaved(
        effort.rounds,
        vec![subject("CNI ptp", |round| {
            cni_add_and_del("ptp", "ptp.json", round)
        })],
    );
    let added = added_by_net
        .as_ref()
        .ok()
        .and_then(|values| quantile(values, 0.5));
    rows.push(Row {
        what: "tincan `--net`".to_owned(),
        target: Some(("≤ 1 ms".to_owned(), added.is_some_and(|added| added <= 1.0))),
        values: added_by_net,
    });
    Table {
        title: "Wiring one container",
        about: "ADD and DEL of the CNI plugin ptp with host-local addresses, and what `--net` adds to the `run` above, its end \
                included."
            .to_owned(),
        unit: "ms",
        reference: 0,
        rows,
    }
}

/// The time that a CNI plugin takes for a namespace of its own, to and fro.
fn cni_add_and_del(plugin: &str, config: &str, round: usize) -> Result<f64, String> {
    let id = format!("cni{round}");
    let call = |verb: &str| {
        let mut call = Command::new(format!("/usr/lib/cni/{plugin}"));
        call.envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &id),
            ("CNI_IFNAME", "eth0"),
        ]);
        call.env("CNI_NETNS", format!("/run/netns/{id}"));
        time_with_stdin(call.env("CNI_PATH", "/usr/lib/cni"), config)
    };
    time(Command::new("ip").args(["netns", "add", &id]))?;
    let taken = call("ADD").and_then(|add| Ok(add + call("DEL")?));
    time(Command::new("ip").args(["netns", "delete", &id]))?;
    taken
}

/// The networks that are measured: with IPv4 alone, and with both.
const NETWORKS: [(&str, &str, &[&str]); 2] = [
    ("lan4", "IPv4", &["--subnet", "10.90.0.0/16"]),
    (
        "lan46",
        "both families",
        &["--subnet", "10.91.0.0/16", "--subnet", "fd91::/64"],
    ),
];

fn create_networks() -> Result<(), String> {
    for (name, _, subnets) in NETWORKS {
        time(
            Command::new(TINCAN)
                .args(["network", "create", name])
                .args(subnets),
        )?;
    }
    Ok(())
}

fn remove_networks() {
    for (name, ..) in NETWORKS {
        // Where it was not made, its rows have said so.
        let _ = time(Command::new(TINCAN).args(["network", "rm", name]));
    }
}

/// What it costs to be on a network of many, and to have ports published there.
fn network(setting: &Setting, effort: &Effort) -> Table {
    let made = create_networks();
    let run = |net: Option<&'static str>, ports: Vec<String>| {
        let made = made.clone();
        move |_| {
            made.clone()?;
            let mut run = Command::new(TINCAN);
            run.args(["run", "--rootfs"]).arg(&setting.rootfs);
            run.args(net.map(|net| ["--net", net]).into_iter().flatten());
            run.args(ports.iter().flat_map(|port| ["-p", port]));
            time(run.args(["--", "/bin/true"]))
        }
    };
    let (none, one) = (Vec::new(), vec!["8000:80".to_owned()]);
    let range = vec!["8000-8999".to_owned()];
    let each = (8000..9000).map(|port| format!("{port}:80")).collect();
    let config = json!({
        "cniVersion": "0.4.0", "name": "bench", "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": { "type": "host-local", "subnet": "172.21.0.0/16", "dataDir": format!("{}/cni", machine::WORK) },
    });
    fs::write("bridge.json", config.to_string()).expect("the work directory is writable");
    let cni = |round| cni_add_and_del("bridge", "bridge.json", round);
    let mut rows = interleaved(
        effort.rounds,
        vec![
            subject("without", run(None, none.clone())),
            subject("tincan `--net`, IPv4", run(Some("lan4"), none.clone())),
            subject("tincan `--net`, both families", run(Some("lan46"), none)),
            subject("… with `-p 8000:80`", run(Some("lan46"), one)),
            subject("… with `-p 8000-8999`", run(Some("lan46"), range)),
            subject(
                "… with 1,000 times `-p`, all to one port",
                run(Some("lan46"), each),
            ),
            subject("CNI bridge", cni),
        ],
    );
    let podman = Podman::make();
    let mut podmans = interleaved(
        effort.rounds.min(11),
        vec![
            subject("podman, without", |_| podman.run(setting, "none")),
            subject("podman's default network", |_| {
                podman.run(setting, "podman")
            }),
        ],
    );
    remove_networks();
    for link in ["cni0", "podman0"] {
        let _ = time(Command::new("ip").args(["link", "delete", link]));
    }
    // What each adds to a run without.
    let beyond = |row: &mut Row, without: &Row| {
        let both = row
            .values
            .clone()
            .and_then(|with| Ok((with, without.values.clone()?)));
        row.values = both.map(|(with, without)| {
            let pairs = with.iter().zip(without);
            pairs.map(|(with, without)| with - without).collect()
        });
    };
    let without = rows.remove(0);
    for (row, most) in rows[..3].iter_mut().zip([1.5, 1.5, 2.0]) {
        beyond(row, &without);
        let met = row.median().is_some_and(|added| added <= most);
        row.target = Some((format!("≤ {most} ms"), met));
    }
    beyond(&mut rows[3], &without);
    beyond(&mut rows[4], &without);
    let one = rows[2].median();
    let met = rows[3]
        .median()
        .zip(one)
        .is_some_and(|(all, one)| all <= one + 2.0);
    rows[3].target = Some(("≤ 2 ms more than one".to_owned(), met));
    let without = podmans.remove(0);
    beyond(&mut podmans[0], &without);
    rows.append(&mut podmans);
    Table {
        title: "A place on a network of many",
        about: "What `--net NETWORK` adds to `run --rootfs`, its end included; ADD and DEL of the CNI plugin bridge with host-local \
                addresses, which makes no rules here; what its default network, by netavark, adds to podman's `run --rm`."
            .to_owned(),
        unit: "ms",
        reference: 5,
        rows,
    }
}

/// podman with crun, its files in a directory of the benchmark's, and limits that this machine allows.
struct Podman {
    settings: PathBuf,
}

impl Podman {
    fn make() -> Self {
        let settings = Path::new(machine::WORK).join("containers.conf");
        let text = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nlog_driver = \"none\"\n\
                    [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"crun\"\n\
                    [network]\nnetwork_backend = \"netavark\"\n";
        fs::write(&settings, text).expect("the work directory is writable");
        Podman { settings }
    }

    fn run(&self, setting: &Setting, network: &str) -> Result<f64, String> {
        let mut run = Command::new("podman");
        let place = |name: &str| format!("{}/podman/{name}", machine::WORK);
        run.env("CONTAINERS_CONF", &self.settings).args([
            "--root",
            &place("root"),
            "--runroot",
            &place("run"),
            "--tmpdir",
            &place("tmp"),
            "--storage-driver",
            "vfs",
            "--network-config-dir",
            &place("networks"),
            "run",
            "--rm",
            "--cgroups",
            "disabled",
            "--network",
            network,
            "--rootfs",
        ]);
        time(run.arg(&setting.rootfs).arg("/bin/true"))
    }
}

/// Many containers on one network.
fn crowds(setting: &Setting, effort: &Effort) -> Vec<Table> {
    let many = effort.containers / 2;
    let made = create_networks();
    let links_before = links();
    let mut tables = Vec::new();
    for ((net, _, _), (title, most)) in NETWORKS.iter().zip([
        ("Many containers on one network, IPv4: the cost of one", 1.5),
        (
            "Many containers on one network, both families: the cost of one",
            2.0,
        ),
    ]) {
        let started: Result<Vec<f64>, String> = made.clone().and_then(|()| {
            let start = |n| {
                let mut run = Command::new(TINCAN);
                run.args([
                    "run",
                    "-d",
                    "--name",
                    &format!("n{n}"),
                    "--net",
                    net,
                    "--rootfs",
                ]);
                time(run.arg(&setting.rootfs).args(["--", "sleep", "100000"]))
            };
            (0..many).map(start).collect()
        });
        let stopped: Result<Vec<f64>, String> = (0..many)
            .map(|n| delete(TINCAN, &format!("n{n}")))
            .collect();
        settle_links(links_before);
        let start_together = || {
            made.clone()?;
            together(many, |n| {
                let mut run = Command::new(TINCAN);
                let name = format!("n{n}");
                run.args(["run", "-d", "--name", &name, "--net", net, "--rootfs"]);
                run.arg(&setting.rootfs).args(["--", "sleep", "100000"]);
                run
            })
        };
        let stop_together = || {
            let stopped = together(many, |n| {
                let mut delete = Command::new(TINCAN);
                delete.args(["delete", "-f", &format!("n{n}")]);
                delete
            });
            settle_links(links_before);
            stopped
        };
        let bare_crowd = |nothing| {
            let crowd = bare_crowd(setting, net, many, nothing);
            settle_links(links_before);
            crowd.map_or_else(|why| [Err(why.clone()), Err(why)], |it| it.map(Ok))
        };
        let nothing = setting.rootfs.join("bin/true");
        let mut crowds: [Result<Vec<f64>, String>; 6] = [const { Ok(Vec::new()) }; 6];
        for _ in 0..effort.crowds {
            let ours = [start_together(), stop_together()];
            let [starts, stops] = bare_crowd(None);
            let [starts_at_least, stops_at_least] = bare_crowd(Some(&nothing));
            let bare = [starts, starts_at_least, stops, stops_at_least];
            let taken = ours.into_iter().chain(bare);
            for (all, one) in crowds.iter_mut().zip(taken) {
                match (&mut *all, one) {
                    (Ok(all), Ok(one)) => all.push(one),
                    (all @ Ok(_), Err(why)) => *all = Err(why),
                    (Err(_), _) => {}
                }
            }
        }
        let row = |what: &str, values: Result<Vec<f64>, String>| Row {
            what: what.to_owned(),
            values,
            target: None,
        };
        let part = |from: usize, to: usize| started.clone().map(|taken| taken[from..to].to_vec());
        let sum = |taken: &Result<Vec<f64>, String>| taken.clone().map(|it| vec![it.iter().sum()]);
        let mut rows = vec![
            row("starting the 10th", part(5, 15)),
            row("starting the last", part(many - 15, many)),
            row("all started, one after another", sum(&started)),
            row("all stopped, one after another", sum(&stopped)),
        ];
        let what = [
            "all started, as many at a time as there are processors",
            "all stopped, as many at a time as there are processors",
            "the bare system calls of all starts, as many at a time",
            "… and for each a static program that does nothing",
            "the bare system calls of all stops, as many at a time",
            "… and for each a static program that does nothing",
        ];
        rows.extend(
            what.into_iter()
                .zip(crowds)
                .map(|(what, all)| row(what, all)),
        );
        for (row, most) in rows[4..].iter_mut().zip([1500.0, 1000.0]) {
            let met = row.median().is_some_and(|taken| taken <= most);
            row.target = Some((format!("≤ {most} ms"), met));
        }
        let table = Table {
            title,
            about: format!(
                "`run -d --net` and `delete -f` of {many} containers; and of as many nothing but what they ask of the kernel, namespaces, \
                 mounts and wires, by one program, without cgroups, limits, state and names (benches/bare.rs); and that with a program run for \
                 each, as a command that makes a container is at least."
            ),
            unit: "ms",
            reference: 0,
            rows,
        };
        tables.push(table.aim(1, true, most));
    }
    remove_networks();
    tables
}

/// The same crowd by bare system calls, and for each a program that does nothing, if any: how long all starts take, and all stops, in
/// milliseconds.
fn bare_crowd(
    setting: &Setting,
    network: &str,
    count: usize,
    nothing: Option<&Path>,
) -> Result<[f64; 2], String> {
    let said = |error: std::io::Error| format!("bare system calls: {error}");
    let bridge = fs::read_to_string(format!("/sys/class/net/{network}/ifindex")).map_err(said)?;
    let over = Path::new(machine::WORK).join("bare");
    fs::create_dir_all(&over).map_err(said)?;
    let bare = bare::Bare {
        rootfs: setting.rootfs.clone(),
        over,
        bridge: bridge.trim().parse().expect("a link's number"),
        both: network == NETWORKS[1].0,
    };
    let do_nothing = || match nothing.map(|program| Command::new(program).status()) {
        None => Ok(()),
        Some(Ok(status)) if status.success() => Ok(()),
        Some(other) => Err(format!("{nothing:?}: {other:?}")),
    };
    let up = Mutex::new(Vec::new());
    let started = all_at_once(count, |n| {
        let n = u16::try_from(n + 2).expect("not that many");
        let one = bare.start(n).map_err(said)?;
        up.lock().expect("nobody panics").push(one);
        do_nothing()
    });
    let up = up.into_inner().expect("nobody panics");
    let stopped = all_at_once(up.len(), |n| {
        bare::stop(up[n]).map_err(said)?;
        do_nothing()
    });
    Ok([started?, stopped?])
}

/// Waits until the kernel has freed what was deleted, which it does behind; a minute at most.
fn settle_links(links_before: usize) {
    let _ = (0..2).any(|_| machine::settles(|| links() == links_before));
}

/// How long so many commands take, in milliseconds, when as many run at a time as there are processors.
fn together(count: usize, command: impl Fn(usize) -> Command + Sync) -> Result<f64, String> {
    all_at_once(count, |n| {
        let mut command = command(n);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{command:?}: {status}")),
        }
    })
}

/// The same of any deeds.
fn all_at_once(
    count: usize,
    deed: impl Fn(usize) -> Result<(), String> + Sync,
) -> Result<f64, String> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return Ok(());
            }
            deed(n)?;
        }
    };
    let since = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let done = workers
            .into_iter()
            .map(|it| it.join().expect("a worker does not panic"));
        done.collect::<Result<Vec<()>, String>>()
    })?;
    Ok(since.elapsed().as_secs_f64() * 1000.0)
}

/// Starts the long workload under a runtime, in the background.
fn start_long(program: &str, setting: &Setting) -> Result<(), String> {
    time(
        Command::new(program)
            .args(["run", "-d", "-b"])
            .arg(&setting.long)
            .arg("long"),
    )
    .map(drop)
}

fn delete(program: &str, id: &str) -> Result<f64, String> {
    time(Command::new(program).args(["delete", "-f", id]))
}

/// Another process in a running container.
fn exec(setting: &Setting, effort: &Effort) -> Table {
    let runtimes = [TINCAN, "crun", "runc"];
    let mut started = runtimes.map(|program| start_long(program, setting));
    let subjects = runtimes.iter().zip(&mut started).map(|(program, started)| {
        subject(program_name(program), move |_| {
            started.clone()?;
            time(Command::new(program).args(["exec", "long", "/bin/true"]))
        })
    });
    let rows = interleaved(effort.rounds, subjects.collect());
    for program in runtimes {
        // Where it did not start, its row has already said so.
        let _ = delete(program, "long");
    }
    Table {
        title: "exec of /bin/true",
        about: "`exec` in a running container of the bundle.".to_owned(),
        unit: "ms",
        reference: 1,
        rows,
    }
}

/// The three calls of a container manager.
fn lifecycle(setting: &Setting, effort: &Effort) -> [Table; 2] {
    let tables = [
        (
            "create, start and delete",
            "The three calls of a container manager, together, on the bundle with /bin/true.",
            &setting.short,
        ),
        (
            "create, start and delete, with podman's seccomp profile",
            "The same with what podman's default profile has for a container without further rights. tincan has compiled it once before.",
            &setting.filtered,
        ),
    ];
    tables.map(|(title, about, bundle)| {
        let subjects = [TINCAN, "crun", "runc"].map(|program| {
            subject(program_name(program), move |round| {
                let id = format!("l{round}");
                let mut create = Command::new(program);
                let create = time(create.args(["create", "-b"]).arg(bundle).arg(&id))?;
                let start = time(Command::new(program).args(["start", &id]));
                let delete = delete(program, &id);
                Ok(create + start? + delete?)
            })
        });
        Table {
            title,
            about: about.to_owned(),
            unit: "ms",
            reference: 1,
            rows: interleaved(effort.rounds, subjects.into()),
        }
        .aim(0, true, 0.6)
    })
}

/// The rules of podman's default profile that need no capability, nor another architecture, as an engine writes them into a bundle.
fn podmans_profile() -> Value {
    const FILE: &str = "/usr/share/containers/seccomp.json";
    let text = fs::read_to_string(FILE).expect("podman has brought it");
    let profile: Value = serde_json::from_str(&text).expect("podman's profile is JSON");
    let asks = |rule: &Value, list: &str| {
        let lists = rule[list].as_object();
        lists.is_some_and(|lists| {
            lists
                .values()
                .any(|it| !it.as_array().is_none_or(Vec::is_empty))
        })
    };
    let rules = profile["syscalls"].as_array().expect("it has rules").iter();
    let rules = rules.filter(|rule| !asks(rule, "includes"));
    let rules = rules.map(|rule| {
        let mut kept = json!({"names": rule["names"], "action": rule["action"]});
        for key in ["args", "errnoRet"] {
            if rule.get(key).is_some_and(|value| !value.is_null()) {
                kept[key] = rule[key].clone();
            }
        }
        kept
    });
    json!({
        "defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules.collect::<Vec<_>>(),
    })
}

/// The runtime's own memory.
fn memory(setting: &Setting, effort: &Effort) -> Table {
    let subjects = [TINCAN, "crun", "runc"].map(|program| {
        subject(program_name(program), move |round| {
            peak(
                Command::new(program)
                    .args(["run", "-b"])
                    .arg(&setting.brief)
                    .arg(format!("m{round}")),
            )
        })
    });
    Table {
        title: "Peak memory",
        about: "The most that the runtime's own process ever had in memory (VmHWM of proc_pid_status(5), read until its end) \
                during `run` of the bundle; its children are not counted."
            .to_owned(),
        unit: "kB",
        reference: 1,
        rows: interleaved(effort.rounds.min(11), subjects.into()),
    }
    .aim(0, true, 1.0)
}

/// What a network costs in memory: of the command that starts a container there, and of what goes on running.
fn network_memory(setting: &Setting, effort: &Effort) -> [Table; 2] {
    const WITH_DNS: &str = "lan-dns";
    let before = processes();
    let made = create_networks();
    let run = |net: Option<&'static str>| {
        let made = made.clone();
        move |_| {
            made.clone()?;
            let mut run = Command::new(TINCAN);
            run.args(["run", "--rootfs"]).arg(&setting.rootfs);
            run.args(net.map(|net| ["--net", net]).into_iter().flatten());
            peak(run.args(["--", "/bin/true"]))
        }
    };
    let peaks = interleaved(
        effort.rounds.min(11),
        vec![
            subject("`run`", run(None)),
            subject("`run --net`, IPv4", run(Some("lan4"))),
            subject("`run --net`, both families", run(Some("lan46"))),
        ],
    );
    let resident = |net: &str| {
        made.clone()?;
        let mut run = Command::new(TINCAN);
        run.args(["run", "-d", "--name", "kept", "--net", net, "--rootfs"]);
        time(run.arg(&setting.rootfs).args(["--", "sleep", "100000"]))?;
        let state = Command::new(TINCAN).args(["state", "kept"]).output();
        let state = state.map_err(|error| error.to_string())?.stdout;
        let state: Value = serde_json::from_slice(&state).map_err(|error| error.to_string())?;
        let is_more = |pid: &u64| !before.contains(pid) && state["pid"].as_u64() != Some(*pid);
        let more: Vec<u64> = processes().into_iter().filter(is_more).collect();
        // An empty sum of floats would be -0.
        let memory = more
            .iter()
            .map(|pid| resident_memory(*pid))
            .fold(0.0, |sum, it| sum + it);
        delete(TINCAN, "kept")?;
        Ok((more.len(), memory))
    };
    let row = |what: &str, net: &str| {
        let resident: Result<(usize, f64), String> = resident(net);
        Row {
            what: match &resident {
                Ok((count, _)) => format!("{what} (processes: {count})"),
                Err(_) => what.to_owned(),
            },
            values: resident.map(|(_, memory)| vec![memory]),
            target: None,
        }
    };
    let without = row("a network with a container", "lan46");
    let create = [
        "network",
        "create",
        WITH_DNS,
        "--subnet",
        "10.92.0.0/16",
        "--dns",
    ];
    // Where it is not made, its row says so.
    let _ = time(Command::new(TINCAN).args(create));
    let rows = vec![without, row("… that answers DNS", WITH_DNS)];
    // Where it was not made, its rows have said so.
    let _ = time(Command::new(TINCAN).args(["network", "rm", WITH_DNS]));
    remove_networks();
    [
        Table {
            title: "Peak memory on a network",
            about: "The most that tincan's own process ever had in memory, as above, of `run --rootfs`.".to_owned(),
            unit: "kB",
            reference: 0,
            rows: peaks,
        },
        Table {
            title: "What a network keeps running",
            about: "Processes that are there beside the container's own while it runs, and their memory (VmRSS of proc_pid_status(5))."
                .to_owned(),
            unit: "kB",
            reference: 1,
            rows,
        },
    ]
}

/// The processes of this machine, by number.
fn processes() -> Vec<u64> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// How much of a process is in memory, in kB; 0 of one that has ended.
fn resident_memory(pid: u64) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|kb| kb.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or_default()
}

/// A command of the machine's user who is not root.
fn of_user(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .uid(machine::USER)
        .gid(machine::USER)
        .env("XDG_RUNTIME_DIR", machine::RUNTIME);
    command
}

/// `/bin/true` of a user who is not root, and the same with programs that make a user namespace and nothing that stays.
fn rootless(setting: &Setting, effort: &Effort) -> (Table, Table) {
    let tincan = |options: &[&str], command: &[&str]| {
        let mut run = of_user(machine::TINCAN);
        run.args(["run", "--rootfs"]).arg(&setting.rootfs);
        run.args(options).arg("--").args(command);
        run
    };
    let bwrap = |command: &[&str]| {
        let mut bwrap = of_user("bwrap");
        bwrap.args(["--unshare-all", "--ro-bind"]);
        bwrap.arg(&setting.rootfs).arg("/");
        bwrap
            .args(["--proc", "/proc", "--dev", "/dev"])
            .args(command);
        bwrap
    };
    let unshare = |command: &[&str]| {
        let mut unshare = of_user("unshare");
        unshare.args([
            "-Ur", "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork",
        ]);
        unshare.arg("--root").arg(&setting.rootfs);
        unshare.arg("--mount-proc").args(command);
        unshare
    };
    let quick = ["/bin/true"];
    let stays = tincan(&["--name", "stays", "-d"], &["sleep", "100000"]);
    let begin = std::cell::RefCell::new(stays);
    let end = || time(of_user(machine::TINCAN).args(["delete", "-f", "stays"]));
    let rows = interleaved(
        effort.rounds,
        vec![
            subject("tincan, alone", |_| time(&mut tincan(&[], &quick))),
            subject("tincan, beside another container", |_| {
                time(&mut begin.borrow_mut())?;
                let taken = time(&mut tincan(&[], &quick));
                end()?;
                taken
            }),
            subject("tincan `--net`, beside another container", |round| {
                time(&mut begin.borrow_mut())?;
                let taken = time(&mut tincan(&["--net", &slash_30(round)], &quick));
                end()?;
                taken
            }),
            subject("bwrap", |_| time(&mut bwrap(&quick))),
            subject("unshare -Ur", |_| time(&mut unshare(&quick))),
        ],
    );
    let cost = Table {
        title: "Without root: /bin/true in a root file system",
        about: "A user's `run --rootfs`. Alone, tincan also makes and ends the namespaces that are the host of the user's \
                containers, with ids by newuidmap and newgidmap; bwrap and unshare map one id, and make no host for wires."
            .to_owned(),
        unit: "ms",
        reference: 3,
        rows,
    };
    let brief = ["/bin/sleep", "0.3"];
    let rows = interleaved(
        effort.rounds.min(11),
        vec![
            subject("tincan", |_| peak(&mut tincan(&[], &brief))),
            subject("bwrap", |_| peak(&mut bwrap(&brief))),
            subject("unshare -Ur", |_| peak(&mut unshare(&brief))),
        ],
    );
    let memory = Table {
        title: "Without root: peak memory",
        about: "As above, of a user's `run`.".to_owned(),
        unit: "kB",
        reference: 1,
        rows,
    };
    (cost, memory)
}

/// Many containers with a wire each.
fn scale(setting: &Setting, effort: &Effort) -> (Table, Table) {
    let links_before = links();
    let mut totals = Vec::new();
    let mut starts = Err("not measured".to_owned());
    let mut stops = starts.clone();
    for many in [10, 100, 1000]
        .into_iter()
        .filter(|many| *many <= effort.containers)
    {
        let mut failed = None;
        let mut each =
            |act: &mut dyn FnMut(usize) -> Result<f64, String>| -> Result<Vec<f64>, String> {
                let taken: Result<Vec<f64>, String> = (0..many).map(act).collect();
                failed = failed.take().or(taken.clone().err());
                taken
            };
        starts = each(&mut |n| {
            let mut run = Command::new(TINCAN);
            run.args([
                "run",
                "-d",
                "--name",
                &format!("c{n}"),
                "--net",
                &slash_30(n),
                "--rootfs",
            ]);
            time(run.arg(&setting.rootfs).args(["--", "sleep", "100000"]))
        });
        stops = each(&mut |n| delete(TINCAN, &format!("c{n}")));
        for (what, taken) in [("started", &starts), ("stopped", &stops)] {
            totals.push(Row {
                what: format!("{many} {what}"),
                values: taken.clone().map(|taken| vec![taken.iter().sum()]),
                target: None,
            });
        }
        if failed.is_some() {
            break;
        }
        // The next ones are not to wait for the kernel that still removes these.
        let _ = (0..12).any(|_| machine::settles(|| links() == links_before));
    }
    let window = |what: &str, values: &Result<Vec<f64>, String>, around: usize| Row {
        what: format!("{what} the {around}th"),
        values: values.clone().map(|values| {
            let half = (around / 20).clamp(3, 25);
            let end = (around + half).min(values.len());
            values[around.saturating_sub(half).min(end)..end].to_vec()
        }),
        target: None,
    };
    let at = [10, 100, 1000]
        .into_iter()
        .filter(|at| *at <= effort.containers);
    let mut rows: Vec<Row> = at
        .clone()
        .map(|at| window("starting", &starts, at))
        .collect();
    let last_start = rows.len() - 1;
    rows.extend(at.map(|at| window("stopping", &stops, at)));
    let cost = Table {
        title: "Many point-to-point containers: the cost of one",
        about: format!(
            "`run -d --net` and `delete -f`, {} containers one after another; medians of those around the n-th.",
            effort.containers
        ),
        unit: "ms",
        reference: 0,
        rows,
    }
    .aim(last_start, true, 1.3);
    let totals = Table {
        title: "Many point-to-point containers: the whole",
        about: "The sum of all calls, one run each.".to_owned(),
        unit: "ms",
        reference: 0,
        rows: totals,
    };
    (cost, totals)
}

/// How fast the wire itself is.
fn throughput(effort: &Effort) -> Table {
    let hand = Hand::wire();
    let ours = time(Command::new(TINCAN).args([
        "run",
        "-d",
        "--name",
        "iperf",
        "--net",
        "10.200.0.1/30,peer=10.200.0.2/30",
        "--",
        "iperf3",
        "-s",
    ]));
    let users = time(of_user(machine::TINCAN).args([
        "run",
        "-d",
        "--name",
        "iperf",
        "--net",
        "10.202.0.1/30,peer=10.202.0.2/30",
        "--",
        "iperf3",
        "-s",
    ]));
    let rows = interleaved(
        effort.iperf_rounds,
        vec![
            subject("veth by tincan", |_| {
                ours.clone()?;
                iperf(Command::new("iperf3"), "10.200.0.1", effort.iperf_seconds)
            }),
            subject("veth by ip", |_| {
                hand.as_ref().map_err(String::clone)?;
                iperf(Command::new("iperf3"), "10.201.0.1", effort.iperf_seconds)
            }),
            subject("veth by a user's tincan", |_| {
                users.clone()?;
                let mut client = of_user(machine::TINCAN);
                client.args(["unshare", "--", "iperf3"]);
                iperf(client, "10.202.0.1", effort.iperf_seconds)
            }),
        ],
    );
    if ours.is_ok() {
        let _ = delete(TINCAN, "iperf");
    }
    if users.is_ok() {
        let _ = time(of_user(machine::TINCAN).args(["delete", "-f", "iperf"]));
    }
    drop(hand);
    Table {
        title: "Throughput",
        about: "iperf3, TCP, from the host into a container over the host's files, and into a namespace wired by hand; and \
                from the host of a user's containers into one of them."
            .to_owned(),
        unit: "Gbit/s",
        reference: 1,
        rows,
    }
    .aim(0, false, 0.98)
    .aim(2, false, 0.95)
}

/// How fast a network's bridge is, and the way through a published port.
fn network_throughput(effort: &Effort) -> Table {
    let ours = create_networks().and_then(|()| {
        let server = [
            "run",
            "-d",
            "--name",
            "server",
            "--net",
            "lan46,10.91.0.7",
            "-p",
            "5301:5201",
        ];
        time(
            Command::new(TINCAN)
                .args(server)
                .args(["--", "iperf3", "-s"]),
        )?;
        let client = [
            "run", "-d", "--name", "client", "--net", "lan46", "--", "sleep", "100000",
        ];
        time(Command::new(TINCAN).args(client))
    });
    let hand = Hand::bridge();
    let from = |name: &str| {
        let mut client = Command::new(TINCAN);
        client.args(["exec", name, "iperf3"]);
        client
    };
    let by_hand = || {
        let mut client = Command::new("nsenter");
        client.args(["--net=/run/netns/near", "iperf3"]);
        client
    };
    let seconds = effort.iperf_seconds;
    let mut rows = interleaved(
        effort.iperf_rounds,
        vec![
            subject("container to container", |_| {
                ours.clone()?;
                iperf(from("client"), "10.91.0.7", seconds)
            }),
            subject("… by IPv6", |_| {
                ours.clone()?;
                iperf(from("client"), "fd91::2", seconds)
            }),
            subject("container to a published port", |_| {
                ours.clone()?;
                let mut client = from("client");
                client.args(["-p", "5301"]);
                iperf(client, "10.91.0.1", seconds)
            }),
            subject("a bridge by ip", |_| {
                hand.as_ref().map_err(String::clone)?;
                iperf(by_hand(), "10.201.0.1", seconds)
            }),
            subject("… to a port that nft leads to it", |_| {
                hand.as_ref().map_err(String::clone)?;
                let mut client = by_hand();
                client.args(["-p", "5301"]);
                iperf(client, "10.201.0.254", seconds)
            }),
        ],
    );
    let published = rows[2].median().zip(rows[4].median());
    let ratio = published.map(|(ours, by_hand)| ours / by_hand);
    rows[2].target = Some((
        format!(
            "≥ 0.95 × the port by nft ({})",
            ratio.map_or("?".to_owned(), |it| format!("{it:.2}"))
        ),
        ratio.is_some_and(|it| it >= 0.95),
    ));
    drop(hand);
    for name in ["client", "server"] {
        // Where it was not made, its rows have said so.
        let _ = delete(TINCAN, name);
    }
    remove_networks();
    Table {
        title: "Throughput of a network",
        about: "iperf3, TCP, from one container to another over the host's files, at its address and by a port that is published for it \
                at the bridge's; and between two namespaces on a bridge made by hand, without rules, and with the two that lead a port."
            .to_owned(),
        unit: "Gbit/s",
        reference: 3,
        rows,
    }
    .aim(0, false, 0.95)
}

/// A namespace wired with `ip`, and an iperf3 server in it; ends with this value.
struct Hand {
    server: Child,
}

impl Hand {
    fn wire() -> Result<Self, String> {
        Self::make(&[
            "netns add hand",
            "link add hand0 type veth peer name eth0 netns hand",
            "address add 10.201.0.2/30 dev hand0",
            "link set hand0 up",
            "-n hand address add 10.201.0.1/30 dev eth0",
            "-n hand link set eth0 up",
            "-n hand link set lo up",
        ])
    }

    /// The same on a bridge, with another namespace `near`.
    fn bridge() -> Result<Self, String> {
        let hand = Self::make(&[
            "netns add hand",
            "netns add near",
            "link add hands type bridge",
            "link set hands up",
            "link add hand0 type veth peer name eth0 netns hand",
            "link add near0 type veth peer name eth0 netns near",
            "link set hand0 master hands up",
            "link set near0 master hands up",
            "-n hand address add 10.201.0.1/24 dev eth0",
            "-n near address add 10.201.0.2/24 dev eth0",
            "-n hand link set eth0 up",
            "-n near link set eth0 up",
            "address add 10.201.0.254/24 dev hands",
        ])?;
        // The least by which a port of the host's is one of a namespace's, also for others on the bridge.
        let rules = "add table ip hands
            add chain ip hands in { type nat hook prerouting priority dstnat; }
            add chain ip hands out { type nat hook postrouting priority srcnat; }
            add rule ip hands in ip daddr 10.201.0.254 tcp dport 5301 dnat to 10.201.0.1:5201
            add rule ip hands out oifname hands ct status dnat masquerade";
        fs::write("hands.nft", rules).map_err(|error| error.to_string())?;
        time(Command::new("nft").args(["-f", "hands.nft"]))?;
        // tincan has turned it on already for its own.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(|error| error.to_string())?;
        Ok(hand)
    }

    fn make(lines: &[&str]) -> Result<Self, String> {
        for line in lines {
            time(Command::new("ip").args(line.split(' ')))?;
        }
        let mut server = Command::new("nsenter");
        server.args(["--net=/run/netns/hand", "iperf3", "-s"]);
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        server
            .map(|server| Hand { server })
            .map_err(|error| format!("nsenter: {error}"))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // The machine and all its processes end after this anyway.
        let _ = self.server.kill();
        let _ = self.server.wait();
        for line in [
            // With its namespace a link goes when the kernel finds the time, and the next of its name is refused until then.
            "link delete hand0",
            "link delete near0",
            "netns delete hand",
            "netns delete near",
            "link delete hands",
        ] {
            // Not all are there every time.
            let _ = time(Command::new("ip").args(line.split(' ')));
        }
        let _ = time(Command::new("nft").args(["delete", "table", "ip", "hands"]));
    }
}

/// What reaches the server at this address, in Gbit/s.
fn iperf(mut client: Command, server: &str, seconds: u32) -> Result<f64, String> {
    let mut text = String::new();
    // The server may be on its way still.
    client.args(["-J", "-t", &seconds.to_string(), "-c", server]);
    let connected = machine::settles(|| {
        let Ok(output) = client.output() else {
            return false;
        };
        text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    let report: Value = serde_json::from_str(&text).map_err(|error| format!("iperf3: {error}"))?;
    match report["end"]["sum_received"]["bits_per_second"].as_f64() {
        Some(bits) if connected => Ok(bits / 1e9),
        _ => Err(format!(
            "iperf3: {}",
            report["error"].as_str().unwrap_or("no result")
        )),
    }
}

/// The n-th of the /30 prefixes from 10.0.0.0 on: the container's address in it.
fn slash_30(n: usize) -> String {
    let n = n * 4;
    format!("10.{}.{}.{}/30", n >> 16 & 255, n >> 8 & 255, (n & 255) + 1)
}

/// How many interfaces there are.
fn links() -> usize {
    fs::read_dir("/sys/class/net").map_or(0, Iterator::count)
}

fn program_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The time in milliseconds that a command takes; it must succeed.
fn time(command: &mut Command) -> Result<f64, String> {
    time_with_stdin(command, "/dev/null")
}

fn time_with_stdin(command: &mut Command, stdin: &str) -> Result<f64, String> {
    let name = program_name(&command.get_program().to_string_lossy()).to_owned();
    let fail = |why: &dyn std::fmt::Display| format!("{name}: {why}");
    // Files, not pipes: a container in the background keeps its standard streams.
    command.stdin(File::open(stdin).map_err(|error| fail(&error))?);
    command.stdout(File::create("stdout").map_err(|error| fail(&error))?);
    command.stderr(File::create("stderr").map_err(|error| fail(&error))?);
    let since = Instant::now();
    let status = command.status().map_err(|error| fail(&error))?;
    let taken = since.elapsed();
    if !status.success() {
        let said = [fs::read_to_string("stderr"), fs::read_to_string("stdout")];
        let said = said
            .into_iter()
            .flatten()
            .find(|said| !said.trim().is_empty());
        return Err(format!(
            "{name}: {status}: {}",
            said.unwrap_or_default().trim()
        ));
    }
    Ok(taken.as_secs_f64() * 1000.0)
}

/// The most memory, in kB, that a command's own process ever had.
fn peak(command: &mut Command) -> Result<f64, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = None;
    let exit = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let now = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        // It only grows, so the last one seen is the peak.
        peak = now
            .and_then(|kb| kb.trim().strip_suffix(" kB")?.parse().ok())
            .or(peak);
        match child.try_wait() {
            Ok(Some(exit)) => break exit,
            Ok(None) => std::thread::sleep(Duration::from_micros(500)),
            Err(error) => return Err(error.to_string()),
        }
    };
    match peak {
        Some(peak) if exit.success() => Ok(peak),
        _ => Err(format!("{exit}")),
    }
}

/// Runs a command that nothing works without.
fn must(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status();
    assert!(
        status.as_ref().is_ok_and(|status| status.success()),
        "{command:?}: {status:?}"
    );
}

/// The first line that a command prints, or that it is not there.
fn first_line(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text
        .ok()
        .and_then(|text| Some(text.lines().next()?.trim().to_owned()));
    line.unwrap_or_else(|| format!("{program}: not installed"))
}

/// The machine and the versions that the numbers are of.
fn heading(effort: &Effort) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let versions = [
        first_line(TINCAN, "--version"),
        first_line("crun", "--version"),
        first_line("runc", "--version"),
        first_line("bwrap", "--version"),
        first_line("unshare", "--version"),
        first_line("ip", "-V"),
        first_line("iperf3", "--version"),
    ];
    format!(
        "# Results\nWritten by `make bench`: all subjects of a table interleaved in one run, medians of {} rounds, on a disposable \
         machine (namespaces) on this one. Absolute figures are this machine's, ratios carry over.\n\n\
         Kernel {}, {} × {}, {} MB.\n{}.\n",
        effort.rounds,
        first_line("uname", "-r"),
        cpus,
        model.map_or(std::env::consts::ARCH, |(_, model)| model.trim()),
        memory.unwrap_or(0) / 1024,
        versions.join(", "),
    )
}
