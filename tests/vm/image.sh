#!/bin/sh
# Makes what a virtual machine boots from, once: the root file system of a Debian suite, with systemd and the suite's own kernel, as
# a disk image, and an initramfs that finds the disk.
#
#     image.sh DIR SUITE PACKAGES
#
# DIR gets SUITE.ext4, SUITE.vmlinuz, SUITE.initrd and SUITE.release. What is there already and was made by this script as it is
# now stays.
set -eu
suite=$2 packages=$3
mkdir -p "$1"
dir=$(cd "$1" && pwd)
mirror=${MIRROR:-http://deb.debian.org/debian}
recipe=$(cat "$0"; printf "%s" "$packages")
if [ -f "$dir/$suite.recipe" ] && [ "$(cat "$dir/$suite.recipe")" = "$recipe" ]; then
    exit 0
fi
work=$dir/$suite.work
root=$work/root
rm -rf "$dir/$suite".*
mkdir -p "$work"

echo "== Debian $suite, with $packages"
debootstrap --variant=minbase --include="$(echo "$packages" | tr ' ' ,)" "$suite" "$root" "$mirror" >"$work/log" 2>&1 || {
    tail -20 "$work/log" >&2
    exit 1
}
# Nobody logs in; nothing runs that makes noise or takes time.
for unit in getty@tty1.service serial-getty@ttyS0.service apparmor.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer fstrim.timer e2scrub_all.timer systemd-timesyncd.service systemd-networkd.service; do
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

# The kernel is taken out of its package, since to install it would make an initramfs of 30 MB. apt checks its signature.
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@" </dev/null; }
package=$(in_root apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: //p' | head -n1)
echo "== $suite: $package"
in_root sh -euc "cd /tmp; apt-get -qq download $package; dpkg-deb -x $package*.deb kernel" >>"$work/log" 2>&1
release=${package#linux-image-}
cp "$root/tmp/kernel/boot/vmlinuz-$release" "$dir/$suite.vmlinuz"
modules=usr/lib/modules
[ -d "$root/tmp/kernel/$modules" ] || modules=lib/modules
mkdir -p "$root/usr/lib/modules"
mv "$root/tmp/kernel/$modules/$release" "$root/usr/lib/modules/"
rm -rf "$root"/tmp/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man \
    "$root"/usr/share/locale "$root"/usr/share/info
[ -e "$root/lib/modules" ] || ln -s ../usr/lib/modules "$root/lib/modules"
depmod -b "$root" "$release"
echo "$release" >"$dir/$suite.release"

# The initramfs loads the disk's driver, unless it is built in, and goes over to the disk.
early=$work/early
mkdir -p "$early/bin" "$early/proc" "$early/dev" "$early/root"
cp /bin/busybox "$early/bin/"
# modprobe(8) tells which files, in the order in which they are to be loaded.
for module in virtio_pci virtio_blk ext4; do
    modprobe -d "$root" -S "$release" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$work/modules"
number=10
while read -r module; do
    case $module in
    *.xz) xz -dc "$module" >"$early/$number.ko" ;;
    *) cp "$module" "$early/$number.ko" ;;
    esac
    number=$((number + 1))
done <"$work/modules"
cat >"$early/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /[0-9]*; do
    /bin/busybox insmod "$module"
done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
INIT
chmod 755 "$early/init"
(cd "$early" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/$suite.initrd"

size=$(du -sm "$root" | cut -f1)
mkfs.ext4 -q -F -O ^has_journal -d "$root" "$dir/$suite.ext4" "$((size + 600))M"
rm -rf "$work"
printf "%s\n" "$recipe" >"$dir/$suite.recipe"
