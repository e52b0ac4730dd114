//! Several `--net` values of one command, and what tincan chooses beside what they say.

use super::host::{Case, Host, tests};

pub fn tests() -> Vec<Case> {
    tests![
        what_one_value_asks_for_is_not_chosen_for_another,
        two_wires_into_one_container_have_two_names_there,
    ]
}

fn what_one_value_asks_for_is_not_chosen_for_another(host: &Host) {
    let both = ["--net", "10.1.0.1/24", "--net", "10.1.0.2/24,peer=10.1.0.9"];
    let run = [&["run"][..], &both, &["--", "ip", "-br", "-4", "addr"]].concat();
    let inside = host.tincan(run).ok();
    for word in ["10.1.0.1/24", "10.1.0.2/24"] {
        assert!(inside.contains(word), "{inside}");
    }
    let plan = host
        .tincan([
            "run",
            "--dry-run",
            "--net",
            "10.1.0.1/24",
            "--net",
            "10.1.0.3/24",
            "--",
            "true",
        ])
        .ok();
    for words in ["10.1.0.2 peer 10.1.0.1/", "10.1.0.4 peer 10.1.0.3/"] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
}

fn two_wires_into_one_container_have_two_names_there(host: &Host) {
    host.tincan(["run", "-d", "--name", "ns1", "--", "sleep", "1000"])
        .ok();
    let run = [
        "run",
        "--net",
        "10.1.0.1/24,to=ns1,peer=10.1.0.2",
        "--net",
        "10.2.0.1/24,to=ns1,peer=10.2.0.2",
    ];
    let there = ["--", "sh", "-c", "ping -c1 10.1.0.2 && ping -c1 10.2.0.2"];
    let said = host.tincan([&run[..], &there].concat()).ok();
    assert_eq!(said.matches(" 0% packet loss").count(), 2, "{said}");
    host.tincan(["delete", "--force", "ns1"]).ok();
}
