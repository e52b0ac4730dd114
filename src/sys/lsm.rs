//! Linux security modules (Documentation/admin-guide/LSM).

use std::fs;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

/// Whether the kernel runs with AppArmor: it is built in, and no other module was chosen at boot in its place.
pub fn apparmor_is_on() -> bool {
    // The kernel writes a boolean parameter as Y or N (`param_get_bool`, kernel/params.c); every user may read this one.
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y"))
}

/// Whether the kernel runs with SELinux, and the calling process may deal with it: its file system is there and can be written to, which
/// is kept from a container, and a policy is loaded.
pub fn selinux_is_on() -> bool {
    let at = Path::new("/sys/fs/selinux");
    let is_kept_away =
        || rustix::fs::statvfs(at).is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY));
    // Before a policy is there everybody is `kernel` (security/selinux/ss/services.c, `security_sid_to_context_core`).
    let has_policy = || {
        let label = fs::read_to_string("/proc/self/attr/current");
        label.is_ok_and(|label| label.trim_end_matches(['\0', '\n']) != "kernel")
    };
    fs::exists(at.join("enforce")).unwrap_or(false) && !is_kept_away() && has_policy()
}

/// The AppArmor profile that confines the calling process, without its mode; none where nothing does.
pub fn apparmor_profile() -> Option<String> {
    // `NAME (MODE)`, or `unconfined` (`aa_getprocattr`, security/apparmor/procattr.c).
    let label = fs::read_to_string("/proc/self/attr/apparmor/current").ok()?;
    let (profile, _) = label.trim_end().rsplit_once(" (")?;
    Some(profile.to_owned())
}
