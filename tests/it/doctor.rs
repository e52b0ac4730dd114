//! `tincan doctor`.

use serde_json::Value;

use super::feature::Need;
use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        what_is_there_is_what_ip_and_tc_can_do,
        a_program_that_is_not_installed_is_named_with_its_package,
    ]
}

fn findings(host: &Host) -> Vec<Value> {
    let said = host.tincan(["doctor", "--format", "json"]).ok();
    serde_json::from_str(&said).expect("a list")
}

fn is_there(findings: &[Value], area: &str, what: &str) -> bool {
    let one = |it: &&Value| it["area"] == area && it["what"] == what;
    let found = findings.iter().find(one);
    found.unwrap_or_else(|| panic!("{area} {what} is not looked for"))["there"] == true
}

fn what_is_there_is_what_ip_and_tc_can_do(host: &Host) {
    let findings = findings(host);
    for (need, area, what) in [
        (Need::Ipvlan, "link", "ipvlan"),
        (Need::Vlan, "link", "vlan"),
        (Need::Wireguard, "link", "wireguard"),
        (Need::Dummy, "link", "dummy"),
        (Need::Netem, "qdisc", "netem"),
        (Need::Nftables, "firewall", "nftables"),
        (Need::Psi, "cgroup", "pressure"),
    ] {
        let missing = need.missing();
        assert_eq!(
            is_there(&findings, area, what),
            missing.is_none(),
            "{what}: {missing:?}"
        );
    }
    let apparmor = is_there(&findings, "security", "AppArmor");
    assert_eq!(apparmor, Need::NoAppArmor.missing().is_some());
    for kind in ["veth", "bridge"] {
        assert!(is_there(&findings, "link", kind), "{kind}");
    }
    // An ip that is older than the kernel does not know netkit.
    if Need::Netkit.missing().is_none() {
        assert!(is_there(&findings, "link", "netkit"));
    }
}

fn a_program_that_is_not_installed_is_named_with_its_package(host: &Host) {
    let tools = |path: &str| {
        let said = host
            .tincan(["doctor"])
            .env("PATH", path)
            .any_stderr()
            .assert();
        String::from_utf8_lossy(&said.get_output().stdout).into_owned()
    };
    host.sh("mkdir bin; for tool in newuidmap newgidmap; do printf '#!/bin/sh\\nexec '$(command -v $tool)' \"$@\"' >bin/$tool; chmod 755 bin/$tool; done");
    let said = tools(&format!("{}/bin", host.dir().display()));
    let line = |tool: &str| {
        let mut lines = said.lines().filter(|line| line.contains(tool));
        lines.next().unwrap_or_default().to_owned()
    };
    let words = |tool: &str| {
        line(tool)
            .split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(words("newuidmap"), "tool newuidmap yes");
    assert_eq!(words("pasta"), "tool pasta no");
    assert!(line("pasta").contains("package passt"), "{said}");
}
