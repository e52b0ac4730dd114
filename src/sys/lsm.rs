//! Linux security modules (Documentation/admin-guide/LSM).

use std::fs;

/// Whether the kernel runs with AppArmor: it is built in, and no other module was chosen at boot in its place.
pub fn apparmor_is_on() -> bool {
    // The kernel writes a boolean parameter as Y or N (`param_get_bool`, kernel/params.c); every user may read this one.
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y"))
}

/// The AppArmor profile that confines the calling process, without its mode; none where nothing does.
pub fn apparmor_profile() -> Option<String> {
    // `NAME (MODE)`, or `unconfined` (`aa_getprocattr`, security/apparmor/procattr.c).
    let label = fs::read_to_string("/proc/self/attr/apparmor/current").ok()?;
    let (profile, _) = label.trim_end().rsplit_once(" (")?;
    Some(profile.to_owned())
}
