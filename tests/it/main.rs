//! The integration tests: the real program on the real kernel, each test on a disposable host of its own (`host.rs`).

mod annotations;
mod attack;
mod bad_input;
mod bundle;
mod checkpoint;
mod churn;
mod clean;
mod cni;
mod connect;
mod device;
mod dns;
mod doctor;
mod dry_run;
mod events;
#[cfg(feature = "faults")]
mod faults;
mod feature;
mod host;
mod idmap;
mod interface;
mod kernel;
mod link;
mod machine;
mod many;
mod mount;
mod names;
mod namespaces;
mod net;
mod network;
mod oci;
mod pair;
mod pause;
mod plugins;
mod podman;
mod publish;
mod resctrl;
mod rootless;
mod run;
mod scheduling;
mod seccomp;
mod signals;
mod systemd;
mod terminal;
mod update;

fn main() -> std::process::ExitCode {
    let cases = [
        clean::tests(),
        run::tests(),
        pair::tests(),
        oci::tests(),
        bundle::tests(),
        names::tests(),
        connect::tests(),
        annotations::tests(),
        cni::tests(),
        plugins::tests(),
        podman::tests(),
        checkpoint::tests(),
        churn::tests(),
        dns::tests(),
        namespaces::tests(),
        terminal::tests(),
        attack::tests(),
        pause::tests(),
        scheduling::tests(),
        update::tests(),
        seccomp::tests(),
        net::tests(),
        idmap::tests(),
        mount::tests(),
        interface::tests(),
        link::tests(),
        device::tests(),
        network::tests(),
        publish::tests(),
        resctrl::tests(),
        doctor::tests(),
        dry_run::tests(),
        events::tests(),
        signals::tests(),
        systemd::tests(),
        bad_input::tests(),
        many::tests(),
        rootless::tests(),
        kernel::tests(),
    ];
    #[cfg(feature = "faults")]
    let cases = [cases.concat(), faults::tests()];
    host::main(cases.concat())
}
