#!/bin/sh
# Makes DEST a root file system of 2 MB with a shell and 270 small tools, from Debian's busybox-static.
set -eu
dest=${1:?usage: make.sh DEST}

busybox=$(command -v busybox) || { echo "make.sh: no busybox here; apt-get install busybox-static" >&2; exit 1; }
if cmp -s "$busybox" "$dest/bin/busybox"; then
    exit 0
fi

# Beside DEST first, so that an interrupted run leaves no half of a root file system behind.
rm -rf "$dest.new"
mkdir -p "$dest.new"
cd "$dest.new"
mkdir bin dev etc proc root run sys tmp usr var
chmod 755 .
chmod 1777 tmp
chmod 700 root
ln -s bin sbin
ln -s ../bin usr/bin
ln -s ../bin usr/sbin
ln -s ../run var/run
cp "$busybox" bin/busybox
# Hard links to the program that is run: the applets' names.
bin/busybox --install "$PWD/bin"
cat > etc/passwd <<'END'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
END
cat > etc/group <<'END'
root:x:0:
nogroup:x:65534:
END
cat > etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
END
cd - >/dev/null
rm -rf "$dest"
mv "$dest.new" "$dest"
