//! What this runtime does of the specification (features.md, features-linux.md), by the tables that bundles are read with: a caller asks
//! before it asks for it.

use oci_spec::runtime::{
    Arch, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, MemoryPolicyFlagType,
    MemoryPolicyModeType,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::annotation;
use super::super::systemd;
use super::super::topology::NamespaceKind;
use super::template::OCI_VERSION;
use super::{check, mounts};

/// The features, as JSON. They are those of the program: the kernel may have fewer.
pub fn features() -> Value {
    let mut capabilities: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    capabilities.sort();
    let mut namespaces = NamespaceKind::ALL.map(|kind| kind.to_string());
    namespaces.sort();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": check::HOOKS,
        "mountOptions": mounts::option_words(),
        "linux": {
            "namespaces": namespaces,
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": read_as::<LinuxSeccompAction>("SCMP_ACT_", &ACTIONS),
                "operators": read_as::<LinuxSeccompOperator>("SCMP_CMP_", &OPERATORS),
                "archs": read_as::<Arch>("SCMP_ARCH_", &ARCHITECTURES),
                "knownFlags": read_as::<LinuxSeccompFilterFlag>("SECCOMP_FILTER_FLAG_", &FLAGS),
                "supportedFlags": read_as::<LinuxSeccompFilterFlag>("SECCOMP_FILTER_FLAG_", &FLAGS),
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
            "memoryPolicy": {
                "modes": read_as::<MemoryPolicyModeType>("MPOL_", &POLICIES),
                "flags": read_as::<MemoryPolicyFlagType>("MPOL_F_", &POLICY_FLAGS),
            },
        },
        // By the name that callers of runc know.
        "annotations": {"org.opencontainers.runc.checkpoint.enabled": "true"},
        // What ends with a dot begins what it means.
        "potentiallyUnsafeConfigAnnotations": [annotation::NET, annotation::PUBLISH, systemd::PROPERTY],
    })
}

/// The words of seccomp profiles in the specification (config-linux.md, Seccomp), without what those of a kind begin with.
const ACTIONS: [&str; 9] = [
    "ALLOW",
    "ERRNO",
    "KILL",
    "KILL_PROCESS",
    "KILL_THREAD",
    "LOG",
    "NOTIFY",
    "TRACE",
    "TRAP",
];
const OPERATORS: [&str; 7] = ["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"];
const ARCHITECTURES: [&str; 23] = [
    "AARCH64",
    "ARM",
    "LOONGARCH64",
    "M68K",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PARISC",
    "PARISC64",
    "PPC",
    "PPC64",
    "PPC64LE",
    "RISCV64",
    "S390",
    "S390X",
    "SH",
    "SHEB",
    "X32",
    "X86",
    "X86_64",
];
const FLAGS: [&str; 4] = ["LOG", "SPEC_ALLOW", "TSYNC", "WAIT_KILLABLE_RECV"];

/// Those of memory policies (config-linux.md, Memory policy).
const POLICIES: [&str; 7] = [
    "BIND",
    "DEFAULT",
    "INTERLEAVE",
    "LOCAL",
    "PREFERRED",
    "PREFERRED_MANY",
    "WEIGHTED_INTERLEAVE",
];
const POLICY_FLAGS: [&str; 3] = ["NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES"];

/// Those of the words that a profile is read with.
fn read_as<T: DeserializeOwned>(prefix: &str, words: &[&str]) -> Vec<String> {
    let words = words.iter().map(|word| format!("{prefix}{word}"));
    let is_read = |word: &String| serde_json::from_value::<T>(json!(word)).is_ok();
    words.filter(is_read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_done_is_read() {
        let features = features();
        let words = |pointer: &str| {
            let list = features.pointer(pointer).unwrap().as_array().unwrap();
            let words = list.iter().map(|it| it.as_str().unwrap().to_owned());
            words.collect::<Vec<_>>()
        };
        for pointer in [
            "/hooks",
            "/mountOptions",
            "/linux/namespaces",
            "/linux/capabilities",
        ] {
            let mut sorted = words(pointer);
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), words(pointer).len(), "{pointer}");
        }
        for capability in words("/linux/capabilities") {
            assert!(
                super::super::capability(&capability).is_some(),
                "{capability}"
            );
        }
        for word in [
            "ro",
            "rro",
            "rbind",
            "rprivate",
            "noatime",
            "rnoatime",
            "tmpcopyup",
            "sync",
            "iversion",
            "idmap",
            "ridmap",
        ] {
            assert!(words("/mountOptions").contains(&word.to_owned()), "{word}");
        }
        assert_eq!(words("/linux/memoryPolicy/modes").len(), POLICIES.len());
        assert_eq!(words("/linux/memoryPolicy/flags").len(), POLICY_FLAGS.len());
        for pointer in ["actions", "operators", "archs", "knownFlags"] {
            assert!(
                words(&format!("/linux/seccomp/{pointer}")).len() > 3,
                "{pointer}"
            );
        }
    }
}
