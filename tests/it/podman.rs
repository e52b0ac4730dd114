//! A caller that is not ours: podman, with tincan as its runtime and as the plugin of its networks. It keeps all that it has in the test's
//! own directory.

use std::fs;

use super::host::{Case, Host, tests};
use super::network::remove;
use super::plugins::{configure, lan0};

pub fn tests() -> Vec<Case> {
    tests![
        podman_gives_a_container_links_by_annotation needs [Root, Nftables, Podman],
        podman_puts_containers_on_networks needs [Root, Nftables, Podman],
    ]
}

/// Runs lines of shell where podman has files of its own, with the image `busybox`.
fn with_podman(host: &Host, lines: &str) -> String {
    configure(host, &[lan0()], &[]);
    let dir = host.dir().display();
    let files = [
        // The limits are those that a root without CAP_SYS_RESOURCE may set.
        (
            "containers.conf",
            format!(
                "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                 [engine]\nruntime = \"tincan\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
                 tmp_dir = \"{dir}/tmp\"\n[engine.runtimes]\ntincan = [\"{}\"]\n\
                 [network]\nnetwork_backend = \"cni\"\nnetwork_config_dir = \"{dir}/conf\"\n\
                 cni_plugin_dirs = [\"{dir}/bin\", \"/usr/lib/cni\"]\n",
                Host::TINCAN
            ),
        ),
        (
            "storage.conf",
            format!(
                "[storage]\ndriver = \"vfs\"\nrunroot = \"{dir}/run\"\ngraphroot = \"{dir}/graph\"\n"
            ),
        ),
    ];
    for (name, text) in files {
        fs::write(host.dir().join(name), text).unwrap();
    }
    let rootfs = host.busybox_rootfs();
    let script = format!(
        "for place in /var/lib /dev/shm /var/tmp; do mount -t tmpfs tmpfs $place; done
        export CONTAINERS_CONF={dir}/containers.conf CONTAINERS_STORAGE_CONF={dir}/storage.conf
        tar -C {} -c . | podman import - busybox >/dev/null 2>&1
        {lines}
        podman rm -fa -t0 >/dev/null
        # podman's monitors are in theirs for a moment longer.
        of_podman='find /sys/fs/cgroup -depth -type d -path */libpod_parent*'
        set -f
        while [ -n \"$($of_podman)\" ]; do $of_podman -exec rmdir {{}} + 2>/dev/null || :; done",
        rootfs.display()
    );
    let said = host.command("unshare", ["-m", "sh", "-euc", &script]);
    said.any_stderr().ok()
}

fn podman_gives_a_container_links_by_annotation(host: &Host) {
    // Debian's plugins, which make podman's own network, leave that and their bridge.
    let forwarding = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(|name| {
        let path = format!("/proc/sys/net/{name}");
        let before = host.sh(&format!("cat {path}"));
        (path, before)
    });
    let said = with_podman(
        host,
        "for network in none podman; do
            podman run --rm --network $network --annotation io.tincan.net.0=172.16.0.1/16 busybox \
                sh -c 'ip -o -4 address; ping -q -c1 -W5 172.16.0.2'
        done
        ip link del cni-podman0",
    );
    for (path, before) in forwarding {
        host.sh(&format!("echo {} >{path}", before.trim()));
    }
    // Where it has nothing, and beside what podman gives it.
    for text in ["eth0    inet 172.16.0.1/16", "eth1    inet 172.16.0.1/16"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(said.matches("1 packets received").count(), 2, "{said}");
}

fn podman_puts_containers_on_networks(host: &Host) {
    let said = with_podman(
        host,
        &format!(
            "podman run -d --name web --network lan0 -p 8080:80 busybox \
                sh -c 'mkdir -p /tmp; echo hello from web >/tmp/index.html; httpd -f -p 80 -h /tmp' >/dev/null
            podman run --rm --network lan0 busybox sh -c 'until wget -qO- http://10.9.0.2/; do :; done; \
                ping -q -c1 -W5 fd09::2'
            printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 busybox nc 127.0.0.1 8080
            {} network list; {0} gc",
            Host::TINCAN
        ),
    );
    assert_eq!(said.matches("hello from web").count(), 2, "{said}");
    assert_eq!(said.matches("1 packets received").count(), 1, "{said}");
    assert!(said.contains("@eth0"), "{said}");
    assert!(!said.contains("attachment"), "{said}");
    remove(host, "lan0");
}
