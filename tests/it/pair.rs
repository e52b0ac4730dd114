//! `tincan pair`: two containers and one wire, with nothing on the host.

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        the_exit_code_is_the_commands,
        the_wire_has_both_ends_and_the_host_none,
        the_second_end_is_up_and_has_its_address,
        without_a_command_both_stay,
        a_running_container_is_wired_as_it_is,
    ]
}

const A: &str = "a=172.16.0.1/16";
const B: &str = "b=172.16.0.2/16";

fn the_exit_code_is_the_commands(host: &Host) {
    host.tincan(["pair", A, B, "--", "sh", "-c", "exit 7"])
        .fails(7);
    host.tincan(["pair", A, B, "--", "no-such-program"])
        .fails(127);
}

fn the_wire_has_both_ends_and_the_host_none(host: &Host) {
    let before = host.sh("ip -o link");
    let said = host
        .tincan([
            "pair",
            A,
            B,
            "--",
            "sh",
            "-c",
            "ping -c1 -W2 172.16.0.2; ip -o -4 address",
        ])
        .ok();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert!(said.contains("eth0    inet 172.16.0.1/16"), "{said}");
    assert_eq!(host.sh("ip -o link"), before);
}

fn the_second_end_is_up_and_has_its_address(host: &Host) {
    host.tincan([
        "pair",
        A,
        "b=172.16.0.2/16,mtu=1400,mac=02:00:00:00:00:02,name=left",
    ])
    .ok();
    let said = host
        .tincan(["exec", "b", "ip", "address", "show", "left"])
        .ok();
    for part in ["mtu 1400", "02:00:00:00:00:02", "172.16.0.2/16", "state UP"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    host.tincan(["delete", "-f", "a"]).ok();
    host.tincan(["delete", "-f", "b"]).ok();
}

fn without_a_command_both_stay(host: &Host) {
    let before = host.sh("ip -o link");
    host.tincan(["pair", A, B]).ok();
    assert_eq!(host.sh("ip -o link"), before);
    host.tincan(["exec", "a", "ping", "-c1", "-W2", "172.16.0.2"])
        .ok();
    let table = host.tincan(["list"]).ok();
    let row = table.lines().find(|line| line.starts_with("a ")).unwrap();
    for part in ["running", "eth0 172.16.0.1/16", "eth0 b:eth0"] {
        assert!(row.contains(part), "no {part} in {table}");
    }
    let json = host.tincan(["list", "--format", "json"]).ok();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["id"], "a");
    assert_eq!(rows[0]["peers"][0], "eth0 b:eth0");
    assert_eq!(rows[1]["id"], "b");
    assert_eq!(rows[1]["addresses"][0], "eth0 172.16.0.2/16");
    assert_eq!(rows[1]["peers"][0], "eth0 a:eth0");
    let said = host.tincan(["delete", "a"]).fails(125);
    assert!(said.contains("running"), "{said}");
    host.tincan(["delete", "-f", "a"]).ok();
    host.tincan(["delete", "-f", "b"]).ok();
    assert_eq!(host.tincan(["list", "-q"]).ok(), "");
}

fn a_running_container_is_wired_as_it_is(host: &Host) {
    host.tincan(["run", "-d", "--name", "b", "--", "sleep", "1000"])
        .ok();
    host.tincan(["pair", A, B, "--", "ping", "-c1", "-W2", "172.16.0.2"])
        .ok();
    // The wire went with the container at its other end, and the one that was there before stays.
    assert_eq!(host.tincan(["list", "-q"]).ok(), "b\n");
    host.tincan(["delete", "-f", "b"]).ok();
}
