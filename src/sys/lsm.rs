//! Linux security modules (Documentation/admin-guide/LSM).

use std::fs;

/// Whether the kernel runs with AppArmor: it is built in, and no other module was chosen at boot in its place.
pub fn apparmor_is_on() -> bool {
    // The kernel writes a boolean parameter as Y or N (`param_get_bool`, kernel/params.c); every user may read this one.
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y"))
}
