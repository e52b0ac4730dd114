//! `make order`: writes link/order, the functions that a program goes through which makes, uses and ends containers, those first
//! that most of its commands take. A breakpoint on each function tells, once, that it was there; the children are watched as well.

#[path = "../tests/it/machine.rs"]
#[allow(dead_code, reason = "the tests wait for more")]
mod machine;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

const TINCAN: &str = env!("CARGO_BIN_EXE_tincan");
const HERE: &str = env!("CARGO_MANIFEST_DIR");

const LIMIT: Duration = Duration::from_secs(600);

/// `int3`: what a debugger puts in the place of an instruction's first byte.
const BREAKPOINT: u8 = 0xcc;

fn main() -> ExitCode {
    if let Some((stage, job)) = machine::stage() {
        return machine::go_on(&stage, &job, machine::Kind::Alone, write_order);
    }
    machine::remove_abandoned_cgroups();
    match machine::run("order", LIMIT, true) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The commands whose functions are to be beside one another, those of the first line first among equals.
const COMMANDS: [&[&str]; 16] = [
    &["run", "-b", "short", "c1"],
    &["create", "-b", "long", "c2"],
    &["start", "c2"],
    &["state", "c2"],
    &["exec", "c2", "/bin/true"],
    &["kill", "c2", "KILL"],
    &["delete", "--force", "c2"],
    &["run", "--rootfs", "busybox", "--", "true"],
    &[
        "run",
        "--net",
        "172.16.0.1/16",
        "--rootfs",
        "busybox",
        "--",
        "true",
    ],
    &[
        "network",
        "create",
        "lan0",
        "--subnet",
        "10.9.0.0/24",
        "--subnet",
        "fd09::/64",
    ],
    &[
        "run", "-d", "--name", "c3", "--net", "lan0", "--rootfs", "busybox", "--", "sleep",
        "100000",
    ],
    &[
        "run", "-d", "--name", "c4", "--net", "lan0", "-p", "8080:80", "--rootfs", "busybox", "--",
        "sleep", "100000",
    ],
    &["list"],
    &["delete", "--force", "c3"],
    &["delete", "--force", "c4"],
    &["network", "rm", "lan0"],
];

fn write_order() {
    let work = Path::new(machine::WORK);
    let rootfs = work.join("busybox");
    let made = Command::new(Path::new(HERE).join("rootfs-examples/busybox/make.sh"))
        .arg(&rootfs)
        .status();
    assert!(made.is_ok_and(|made| made.success()), "a busybox root");
    bundle(&work.join("short"), json!(["/bin/true"]));
    bundle(&work.join("long"), json!(["/bin/sleep", "100000"]));

    let mut tracer = Tracer::new();
    let mut taken_by = HashMap::<u64, usize>::new();
    let mut first = HashMap::<u64, usize>::new();
    for (n, arguments) in COMMANDS.iter().enumerate() {
        for function in tracer.run(work, arguments) {
            *taken_by.entry(function).or_default() += 1;
            first.entry(function).or_insert(n);
        }
    }
    let mut functions: Vec<u64> = taken_by.keys().copied().collect();
    functions.sort_by_key(|function| {
        (
            COMMANDS.len() - taken_by[function],
            first[function],
            *function,
        )
    });
    let mut known = HashSet::new();
    let mut order = String::new();
    for name in functions
        .iter()
        .flat_map(|function| &tracer.names[function])
    {
        if known.insert(name) {
            order += name;
            order.push('\n');
        }
    }
    println!("{} functions of {}", known.len(), tracer.names.len());
    fs::write(Path::new(HERE).join("link/order"), order).expect("link/order is writable");
}

fn bundle(dir: &Path, args: Value) {
    fs::create_dir(dir).expect("the work directory is empty");
    let spec = Command::new(TINCAN).arg("spec").current_dir(dir).status();
    assert!(spec.is_ok_and(|spec| spec.success()), "tincan spec");
    let config = dir.join("config.json");
    let text = fs::read_to_string(&config).expect("tincan wrote it");
    let mut spec: Value = serde_json::from_str(&text).expect("tincan writes JSON");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = args;
    spec["root"]["path"] = json!("../busybox");
    fs::write(config, spec.to_string()).expect("the work directory is writable");
}

/// Sees which functions of tincan are taken.
struct Tracer {
    /// The plain names of what is at each address.
    names: BTreeMap<u64, BTreeSet<String>>,
    /// What of the program is in memory from the first of them to the last, without and with breakpoints.
    text: Vec<u8>,
    planted: Vec<u8>,
    traced: HashSet<Pid>,
}

impl Tracer {
    fn new() -> Self {
        let script = format!(
            "nm --defined-only --format=posix {TINCAN} | awk '$2 ~ /^[tTwW]$/ {{ print $1, $3 }}' >symbols
            awk -f {HERE}/link/plain.awk symbols | cut -d' ' -f1 | paste -d' ' symbols -"
        );
        let symbols = Command::new("sh")
            .args(["-euc", &script])
            .current_dir(machine::WORK)
            .stderr(Stdio::inherit())
            .output()
            .expect("sh, nm and awk are there");
        let symbols = String::from_utf8(symbols.stdout).expect("names are text");
        let mut names = BTreeMap::<u64, BTreeSet<String>>::new();
        for line in symbols.lines() {
            let [_, address, plain] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("not a symbol: {line}");
            };
            let address = u64::from_str_radix(address, 16).expect("nm writes hexadecimal numbers");
            names.entry(address).or_default().insert(plain.to_owned());
        }
        Self {
            names,
            text: Vec::new(),
            planted: Vec::new(),
            traced: HashSet::new(),
        }
    }

    /// Runs tincan, and gives the addresses of the functions that it took, in this process and in those it made.
    #[expect(
        clippy::zombie_processes,
        reason = "the loop waits for all that is traced"
    )]
    fn run(&mut self, dir: &Path, arguments: &[&str]) -> HashSet<u64> {
        let mut command = Command::new(TINCAN);
        command
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // SAFETY: one system call, between fork and exec.
        unsafe {
            command.pre_exec(|| ptrace::traceme().map_err(Into::into));
        }
        let child = command.spawn().expect("tincan starts");
        let main = Pid::from_raw(child.id().cast_signed());
        let mut taken = HashSet::new();
        loop {
            let status = waitpid(None, Some(WaitPidFlag::__WALL)).expect("tincan is waited for");
            match status {
                WaitStatus::Exited(pid, code) => {
                    self.traced.remove(&pid);
                    if pid == main {
                        assert_eq!(code, 0, "tincan {arguments:?}");
                        return taken;
                    }
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    self.traced.remove(&pid);
                    assert_ne!(pid, main, "tincan {arguments:?}: {signal}");
                }
                // The exec of the command itself, before anything is set.
                WaitStatus::Stopped(pid, Signal::SIGTRAP) if self.traced.insert(pid) => {
                    let options = Options::PTRACE_O_TRACECLONE
                        | Options::PTRACE_O_TRACEFORK
                        | Options::PTRACE_O_TRACEVFORK
                        | Options::PTRACE_O_TRACEEXEC
                        | Options::PTRACE_O_EXITKILL;
                    ptrace::setoptions(pid, options).expect("the process has stopped");
                    self.plant(pid);
                    go_on(pid, None);
                }
                WaitStatus::Stopped(pid, Signal::SIGTRAP) => {
                    let signal = match self.lift(pid) {
                        Some(function) => {
                            taken.insert(function);
                            None
                        }
                        None => Some(Signal::SIGTRAP),
                    };
                    go_on(pid, signal);
                }
                // How a new one begins.
                WaitStatus::Stopped(pid, Signal::SIGSTOP) if self.traced.insert(pid) => {
                    go_on(pid, None);
                }
                WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
                WaitStatus::PtraceEvent(pid, _, event)
                    if event == Event::PTRACE_EVENT_EXEC as i32 =>
                {
                    if is_tincan(pid) {
                        self.plant(pid);
                        go_on(pid, None);
                    } else {
                        self.traced.remove(&pid);
                        // One that was killed meanwhile is gone.
                        let _ = ptrace::detach(pid, None);
                    }
                }
                WaitStatus::PtraceEvent(pid, _, _) => go_on(pid, None),
                other => panic!("tincan {arguments:?}: {other:?}"),
            }
        }
    }

    /// Puts a breakpoint on every function of a process that has just become tincan.
    fn plant(&mut self, pid: Pid) {
        let memory = memory(pid);
        let first = *self.names.keys().next().expect("tincan has functions");
        if self.text.is_empty() {
            let last = *self.names.keys().last().expect("tincan has functions");
            self.text = vec![0; (last - first + 1) as usize];
            memory
                .read_exact_at(&mut self.text, first)
                .expect("its code is where its symbols say");
            self.planted.clone_from(&self.text);
            for address in self.names.keys() {
                self.planted[(address - first) as usize] = BREAKPOINT;
            }
        }
        memory
            .write_all_at(&self.planted, first)
            .expect("a tracer may write code");
    }

    /// Takes away the breakpoint that a process has come to, and lets it do what was there.
    fn lift(&self, pid: Pid) -> Option<u64> {
        let mut registers = ptrace::getregs(pid).expect("the process has stopped");
        let address = registers.rip - 1;
        self.names.get(&address)?;
        let first = *self.names.keys().next()?;
        let byte = self.text[(address - first) as usize];
        memory(pid)
            .write_all_at(&[byte], address)
            .expect("a tracer may write code");
        registers.rip = address;
        ptrace::setregs(pid, registers).expect("the process has stopped");
        Some(address)
    }
}

fn memory(pid: Pid) -> File {
    File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .expect("the process is traced")
}

fn is_tincan(pid: Pid) -> bool {
    let of = |path: &str| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    of(&format!("/proc/{pid}/exe")) == of(TINCAN)
}

/// One that was killed meanwhile is gone: its end is told next.
fn go_on(pid: Pid, signal: Option<Signal>) {
    let _ = ptrace::cont(pid, signal);
}
