#!/bin/sh
# Makes DEST a root file system with one static program, /hello, and the directories that a runtime mounts on.
set -eu
dest=${1:?usage: make.sh DEST}
here=$(dirname "$0")

mkdir -p "$dest/dev" "$dest/proc" "$dest/sys"
${CC:-cc} -static -Os -s -o "$dest/hello.new" "$here/hello.c"
mv "$dest/hello.new" "$dest/hello"
