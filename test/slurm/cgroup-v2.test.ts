// time limit: 600 s
/** Steps of a Slurm whose control groups are of version 2, the only hierarchy there is, as on current distributions: on a real Linux 6.1 (user-mode Linux). */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { onLinux61 } from '../helpers/linux-6.1.ts';
import { makeBusyboxImage, scratch } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { prepare, whyNot } from './cluster.ts';

const test = suite('Slurm with control groups of version 2');
const reason = whyNot('cgroup-v2');

/** Behind `== NAME` stands what each part has printed. Nothing of it may take as long as the linger time. */
const SCRIPT = `
for module in lib/crc-ccitt net/ipv6/ipv6 net/llc/llc net/802/stp net/bridge/bridge drivers/net/veth; do busybox insmod /usr/lib/uml/modules/$(uname -r)/kernel/$module.ko; done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ln -sfn /proc/self/fd /dev/fd
mount -t tmpfs none /run; mkdir -p /dev/shm /dev/pts; mount -t tmpfs -o mode=1777 none /dev/shm; mount -t devpts none /dev/pts
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/system.slice
for group in . system.slice; do for controller in cpu memory pids; do echo +$controller > /sys/fs/cgroup/$group/cgroup.subtree_control; done; done
cp -a /mnt/place/cluster /mnt/cluster
shared=/mnt/cluster/shared
cp /tmp/image.sif $shared; chmod 1777 $shared; cd $shared
mkfifo /mnt/up
bash /mnt/cluster/cluster.sh /mnt/cluster node < /mnt/up > /mnt/said 2>&1 &
exec 3> /mnt/up
soon() { tries=0; until "$@"; do sleep 0.1; tries=$((tries+1)); [ $tries -lt 1000 ] || { echo "not soon: $*"; return 1; }; done; }
soon grep -q up /mnt/said || { tail -n 30 /mnt/said /mnt/cluster/log/*; sync; busybox poweroff -f; }
export SLURM_CONF=/mnt/cluster/slurm.conf
step() { user SLURM_CONF=$SLURM_CONF timeout 100 srun --quiet "$@" 2>&1; }
there_is() { ps -e -o comm= | grep -E 'tsrun|^sleep$'; find /sys/fs/cgroup -name 'job_*'; }
nothing_is_left() { [ -z "$(there_is)" ]; }
left() { soon nothing_is_left || there_is; } # srun may end before Slurm has tidied up
echo == a step
step -n2 env TSRUN_LINGER=300 tsrun exec image.sif sh -c 'echo $(readlink /proc/self/ns/user) $(cut -d/ -f5- /proc/self/cgroup); echo > here-$SLURM_PROCID; until [ -e seen ]; do sleep 0.1; done' &
step=$!
soon test -e here-0 -a -e here-1
for pid in $(pgrep '^tsrun-'); do echo $(cat /proc/$pid/comm) $(cut -d/ -f5- /proc/$pid/cgroup); done
touch seen
wait $step; echo status $?
echo == left of it
left
echo == a daemon
step -n1 env TSRUN_LINGER=300 tsrun exec image.sif sh -c 'setsid sleep 4711 & cat /opt/tool/data.txt'; echo status $?
left
echo == two jobs
step -n1 --job-name=one tsrun exec image.sif sh -c 'echo up > one; while :; do sleep 0.1; done' > /dev/null &
one=$!
step -n1 --job-name=two tsrun exec image.sif sh -c 'echo up > two; until [ -e go ]; do sleep 0.1; done; cat /opt/tool/data.txt' &
two=$!
soon test -e one -a -e two
user SLURM_CONF=$SLURM_CONF scancel --name=one; wait $one
touch go; wait $two; echo status $?
echo == out of memory
step -n2 --mem=60 --kill-on-bad-exit=0 --wait=0 tsrun exec image.sif sh -c '
  if [ $SLURM_PROCID = 0 ]; then x=0123456789; while :; do x=$x$x; done; fi
  until [ -e eaten ]; do cat /bin/busybox | wc -c; done | sort -u | wc -l; cat /opt/tool/data.txt' > /mnt/eaten &
step=$!
soon grep -qi 'oom\\|killed\\|out of memory' /mnt/eaten
touch eaten; wait $step; grep -v srun: /mnt/eaten
echo == left
left
`;

const partsOf = (told: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    told
      .split(/^== /m)
      .slice(1)
      .map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]),
  );

if (reason !== undefined) {
  test('steps share a server, and nothing is left of them', () => skip(reason));
} else {
  const place = scratch('slurm-v2');
  const image = makeBusyboxImage(place);
  const cluster = join(place, 'cluster');
  mkdirSync(cluster);
  prepare(cluster, '/mnt/cluster', 'lab', ['node'], { tracking: 'cgroup-v2' });
  // The checkout may lie below /tmp, which is another one there.
  copyFileSync(join(import.meta.dirname, 'cluster.sh'), join(cluster, 'cluster.sh'));
  const told = onLinux61(place, image, SCRIPT);
  const parts = partsOf(told);

  test('the tasks of a step share a user namespace and a server, which is in the step’s control group and ends with it', () => {
    const lines = parts['a step']?.trim().split('\n').sort() ?? [];
    const [namespace = 'none'] = /^user:\[\d+\]/.exec(lines.at(-1) ?? '') ?? [];
    // The process that fetches rests is there only when a block has been decoded for a small read, which the caches decide.
    const rests = lines.filter((line) => line.startsWith('tsrun-rests '));
    assert.ok(rests.length <= 1 && rests.every((line) => /^tsrun-rests step_0\/user\/task_\d$/.test(line)), told);
    assert.equal(
      lines.filter((line) => !rests.includes(line)).map((line) => line.replace(/^(tsrun-.*task_)\d$/, '$1N')),
      [
        'status 0',
        'tsrun-image step_0/user/task_N',
        'tsrun-server step_0/user/task_N',
        `${namespace} step_0/user/task_0`,
        `${namespace} step_0/user/task_1`,
      ],
      told,
    );
    assert.is(parts['left of it'], '');
  });

  test('a daemon that a payload leaves, and a server that would linger, hold up nobody and end with the step', () => {
    assert.is(parts['a daemon'], 'from the image\nstatus 0\n', told);
  });

  test('a second job reads on when the first is cancelled', () => {
    assert.is(parts['two jobs'], 'from the image\nstatus 0\n', told);
  });

  test('a task that takes more memory than its job has is killed alone', () => {
    assert.match(parts['out of memory'] ?? '', /oom[\s\S]*^1\nfrom the image\n$/m, told);
  });

  test('nothing is left: no process, no control group', () => {
    assert.is(parts['left'], '', told);
  });
}

test.run();
