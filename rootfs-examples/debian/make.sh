#!/bin/sh
# Makes DEST a small Debian of the release that this machine runs, with ip and ping, by debootstrap.
# MIRROR, SUITE: the archive and the release, if not those of this machine's apt.
set -eu
dest=${1:?usage: make.sh DEST}

suite=${SUITE:-$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")}
# The archive that apt itself takes this release's main component from.
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk -v suite="$suite" '$2 == suite && $3 == "main" { print $1; exit }')}
[ -n "$mirror" ] || { echo "make.sh: apt knows no archive with $suite main; give one as MIRROR=" >&2; exit 1; }

if [ -x "$dest/bin/ping" ]; then
    exit 0
fi

# Beside DEST first, so that an interrupted run leaves no half of a root file system behind.
rm -rf "$dest.new"
mkdir -p "$dest.new"
debootstrap --variant=minbase --include=iproute2,iputils-ping "$suite" "$dest.new" "$mirror" </dev/null
# The downloaded archives have done their work.
rm -rf "$dest.new"/var/cache/apt/archives/*.deb "$dest.new"/var/lib/apt/lists/*
rm -rf "$dest"
mv "$dest.new" "$dest"
