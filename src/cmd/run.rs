use std::process::ExitCode;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use crate::engine::hold::Engine;
use crate::engine::supervise::{supervise, Session};
use crate::engine::undo;
use crate::plan::step::*;
use crate::plan::topology::*;
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, action = clap::ArgAction::Append)]
    net: Vec<String>,
    #[arg(last = true)]
    command: Vec<String>,
}
pub fn run(args: Args, engine: &Engine) -> anyhow::Result<ExitCode> {
    use NamespaceKind::{Cgroup, Ipc, Uts, Network, Pid}; const M: NamespaceKind = NamespaceKind::Mount;
    let fs = |t: &str, d: &str| Step::Mount(crate::plan::step::Mount { destination: d.into(), what: MountWhat::Filesystem { fstype: t.into(), source: t.into(), options: vec![], copy_up: false }, attrs: MountAttrs::default(), propagation: vec![] });
    let node = Node {
        name: "ns1".parse()?,
        identity: Identity { origin: Origin::Command, bundle: "/".into(), rootfs: "/".into(), annotations: BTreeMap::new() },
        namespaces: [Cgroup, Ipc, Uts, Network, Pid, M].into_iter().map(|k| (k, NamespaceSource::New)).collect(),
        id_maps: None, time_offsets: vec![], cgroup: None,
        steps: vec![
            Step::Unshare(Cgroup),
            Step::RootPropagation(Propagation { kind: PropagationKind::Slave, recursive: true }),
            Step::Root(Root::Host),
            fs("proc", "/proc"),
            fs("sysfs", "/sys"),
            Step::Gate(Gate::Wired),
            Step::Exec(crate::plan::step::Command { args: args.command, env: std::env::vars().map(|(k,v)| format!("{k}={v}")).collect() }),
        ],
        hooks: RuntimeHooks::default(), netns_name: None, loopback: true, die_with_parent: true,
    };
    let mut t = Topology { nodes: vec![node], wires: vec![] };
    if let Some(n) = args.net.first() {
        let a: crate::plan::name::IfAddr = n.parse()?;
        let peer = a.others().next().unwrap();
        t.wires.push(Wire { ends: [
            End { at: Place::Host, name: "veth-ns1".parse()?, mac: None, mtu: None, addrs: vec![EndAddr { addr: crate::plan::name::IfAddr { ip: peer, prefix: 32 }, peer: Some(a.ip), automatic: true }], routes: vec![], alias: Some("tincan:ns1/eth0".into()) },
            End { at: Place::Node(0), name: "eth0".parse()?, mac: None, mtu: None, addrs: vec![EndAddr { addr: a, peer: None, automatic: false }], routes: vec![], alias: None },
        ]});
    }
    let mut up = engine.raise(&t)?;
    let up = up.pop().unwrap();
    let ended = supervise(up.pidfd.as_fd(), Session::Callers, up.console)?;
    undo::undo(engine, &up.state)?;
    Ok(ExitCode::from(ended.shell_code()))
}
