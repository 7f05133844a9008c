/** A real Linux 6.1 beside the one that runs here: user-mode Linux (package user-mode-linux), a program that boots in a second on this machine's files. */
import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, tsrunPath } from './product.ts';

const KERNEL = '/usr/bin/linux.uml';

export const whyNotLinux61 = (): string | undefined =>
  process.getuid?.() === 0 && existsSync(KERNEL) ? undefined : 'needs root and user-mode Linux (package user-mode-linux)';

/**
 * Runs a shell script as the first process of that kernel and returns what it and its commands wrote. There is a /tmp of its own with the image in it
 * (/tmp/image.sif; also, outside of memory, /mnt/place/copy.sif), the current directory; `user COMMAND…` runs a command as user 1000 with `tsrun` in its PATH and no linger time.
 */
export const onLinux61 = (place: string, image: string, script: string): string => {
  const inside = join(place, 'inside.sh');
  const result = join(place, 'result');
  const copy = join(place, 'copy.sif');
  copyFileSync(image, copy);
  chmodSync(copy, 0o644);
  writeFileSync(
    inside,
    `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in fuse/fuse overlayfs/overlay; do busybox insmod /usr/lib/uml/modules/$(uname -r)/kernel/fs/$module.ko; done
[ -e /dev/fuse ] || mknod /dev/fuse c 10 229
chmod 666 /dev/fuse
exec > ${result} 2>&1
mount -t tmpfs none /mnt
mkdir /mnt/place && mount --bind ${place} /mnt/place
cp ${tsrunPath} /mnt/tsrun
mount -t tmpfs -o mode=1777 none /tmp
cp /mnt/place/copy.sif /tmp/image.sif
cd /tmp
user() {
  setpriv --reuid=1000 --regid=1000 --clear-groups env -i PATH=/mnt:$PATH HOME=/tmp TSRUN_LINGER=0 TSRUN_STORE=/tmp/store "$@"
}
${script}
sync
busybox poweroff -f
`,
    { mode: 0o755 },
  );
  const booted = run(KERNEL, ['mem=768M', 'rootfstype=hostfs', 'rootflags=/', 'rw', `init=${inside}`, 'con=null', 'con0=null', 'quiet'], {
    as: 'root',
    env: { PATH: process.env['PATH'] },
  });
  if (!existsSync(result)) throw new Error(booted.stdout + booted.stderr);
  return readFileSync(result, 'utf8');
};
