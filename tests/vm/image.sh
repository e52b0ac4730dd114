#!/bin/sh
# Makes what a virtual machine boots from, once: a Debian root file system with systemd and the modules of the kernels, as a disk
# image, and each kernel with an initramfs that finds the disk.
#
#     image.sh DIR PACKAGES SUITE...
#
# DIR gets root.ext4, and for each SUITE (bookworm, bookworm-backports: where Debian has its kernel) SUITE.vmlinuz, SUITE.initrd
# and SUITE.release. What is there already and was made by this script as it is now stays.
set -eu
packages=$2
mkdir -p "$1"
# Absolute, since apt takes other paths as relative to its own directories.
dir=$(cd "$1" && pwd)
shift 2
mirror=${MIRROR:-http://deb.debian.org/debian}
recipe=$(cat "$0"; echo "$packages $*")
if [ -f "$dir/recipe" ] && [ "$(cat "$dir/recipe")" = "$recipe" ]; then
    exit 0
fi
rm -rf "$dir"
mkdir -p "$dir"
work=$dir/work
root=$work/root

echo "== Debian, with $packages"
mkdir -p "$work"
debootstrap --variant=minbase --include="$(echo "$packages" | tr ' ' ,)" bookworm "$root" "$mirror" >"$work/debootstrap.log" 2>&1 || {
    tail -20 "$work/debootstrap.log" >&2
    exit 1
}
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man \
    "$root"/usr/share/locale "$root"/usr/share/info

# Nobody logs in; nothing runs that makes noise or takes time.
for unit in getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    fstrim.timer e2scrub_all.timer systemd-timesyncd.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
cat >"$root/etc/systemd/system/tests.service" <<'UNIT'
[Unit]
Description=What the second disk brings
After=multi-user.target dbus.service

[Service]
Type=simple
ExecStart=/bin/sh -c 'tar -xf /dev/vdb -C / && exec /tests'
StandardOutput=journal+console
ExecStopPost=/bin/systemctl poweroff --force
Delegate=yes

[Install]
WantedBy=default.target
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s /etc/systemd/system/tests.service "$root/etc/systemd/system/multi-user.target.wants/tests.service"
echo vm >"$root/etc/hostname"

# The kernels come by the machine's own apt, which checks their signatures, from lists of our own.
apt=$work/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
for suite; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$apt/sources.list"
ours="-o Dir::Etc::SourceList=$apt/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$apt/lists
    -o Dir::Cache=$apt/cache -o APT::Sandbox::User=root -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"
# shellcheck disable=SC2086 # the options are words
apt-get $ours -qq update </dev/null
for suite; do
    of_suite="$ours -o APT::Default-Release=$suite"
    # shellcheck disable=SC2086
    package=$(apt-cache $of_suite depends linux-image-cloud-amd64 | sed -n 's/ *Depends: //p' | head -n1)
    echo "== $suite: $package"
    mkdir "$work/$suite"
    # shellcheck disable=SC2086
    (cd "$work/$suite" && apt-get $of_suite -qq download "$package" </dev/null && dpkg-deb -x ./*.deb .)
    release=${package#linux-image-}
    echo "$release" >"$dir/$suite.release"
    cp "$work/$suite/boot/vmlinuz-$release" "$dir/$suite.vmlinuz"
    mkdir -p "$root/lib/modules"
    cp -a "$work/$suite/lib/modules/$release" "$root/lib/modules/"
    depmod -b "$root" "$release"

    # The initramfs loads the disk's driver, unless it is built in, and goes over to the disk.
    early=$work/$suite.initrd
    mkdir -p "$early/bin" "$early/proc" "$early/dev" "$early/root"
    cp /bin/busybox "$early/bin/"
    # modprobe(8) tells which files, in the order in which they are to be loaded.
    for module in virtio_pci virtio_blk; do
        modprobe -d "$root" -S "$release" --show-depends "$module"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$work/$suite.modules"
    number=10
    while read -r module; do
        cp "$module" "$early/$number.${module##*/}"
        number=$((number + 1))
    done <"$work/$suite.modules"
    cat >"$early/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /[0-9]*; do
    case $module in
    *.xz) /bin/busybox xzcat "$module" >/loaded.ko && /bin/busybox insmod /loaded.ko ;;
    *) /bin/busybox insmod "$module" ;;
    esac
done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
INIT
    chmod 755 "$early/init"
    (cd "$early" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/$suite.initrd"
done

echo "== the disk"
size=$(du -sm "$root" | cut -f1)
mkfs.ext4 -q -F -O ^has_journal -d "$root" "$dir/root.ext4" "$((size + 600))M"
rm -rf "$work"
echo "$recipe" >"$dir/recipe"
