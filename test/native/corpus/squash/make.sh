#!/bin/sh
# Makes the images of this folder again (as root, for the device nodes): every compressor, every kind of inode, small blocks, sparse files, xattrs, a directory with an index.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$tree"
mkdir plain many deep deep/a deep/a/b
echo one >plain/one
seq 1 3000 >plain/numbers
head -c 20000 /dev/zero >plain/zeros
truncate -s 100000 plain/hole
echo end >>plain/hole
ln plain/one plain/hard
ln -s ../plain/one deep/a/link
ln -s /deep/a deep/a/b/up
ln -s loop loop
mkfifo fifo
mknod null c 1 3
mknod disk b 259 65537
for i in $(seq 1 400); do : >"many/a-name-of-some-length-$i"; done
setfattr -n user.origin -v somewhere plain/one 2>/dev/null || true
setfattr -n user.origin -v somewhere plain 2>/dev/null || true
setfattr -h -n trusted.mark -v 1 loop 2>/dev/null || true
for compressor in gzip zstd xz lz4; do
	mksquashfs . "$here/$compressor" -comp $compressor -b 4K -noappend -no-progress -quiet -nopad -all-root -mkfs-time 0 -all-time 0
done
mksquashfs . "$here/stored" -noI -noD -noF -noX -b 4K -noappend -no-progress -quiet -nopad -all-time 0
mksquashfs plain "$here/fragments" -comp zstd -always-use-fragments -noI -noappend -no-progress -quiet -nopad -all-time 0
