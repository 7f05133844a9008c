/**
 * Control groups of version 2, made as Slurm makes them: which runs share a scope, and what a limit of memory means to the image server and to a staged copy.
 * As the only hierarchy on a real Linux 6.1 (user-mode Linux), and here, beside those of version 1, where they are mounted so.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { onLinux61, whyNotLinux61 } from '../helpers/linux-6.1.ts';
import { makeBusyboxImage, run, scratch, tsrunPath } from '../helpers/product.ts';
import { runtimeIn, until } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { isRoot, testUser } from '../helpers/user.ts';

const test = suite('scope and control groups, version 2');
const place = scratch('cgroups');
/** 24 MB of small files, whose blocks the image server keeps as far as it may: it cannot know that all of one has been read. */
const image = makeBusyboxImage(place, (tree) => {
  for (let i = 0; i < 800; i++) writeFileSync(join(tree, `srv/${i}`), randomBytes(30_000));
});

const SCOPE = 'system.slice/slurmstepd.scope';
/** Two tasks of a step, another step of the job, and another job; as Slurm 22.05 and later name them. */
const GROUPS = ['job_1/step_0/user/task_0', 'job_1/step_0/user/task_1', 'job_1/step_1/user/task_0', 'job_11/step_0/user/task_0'].map(
  (name) => `${SCOPE}/${name}`,
);

const assertScopes = (namespaces: readonly string[]): void => {
  const [task, sameStep, otherStep, otherJob] = namespaces;
  assert.is(namespaces.length, GROUPS.length);
  assert.is(sameStep, task, 'tasks of a step share a scope');
  assert.is(new Set([task, otherStep, otherJob]).size, 3, 'steps and jobs do not');
};

test('as the only hierarchy (Linux 6.1): tasks of a step share a scope, and the limits of groups above count', () => {
  const reason = whyNotLinux61();
  if (reason !== undefined) return skip(reason);
  const told = onLinux61(
    place,
    image,
    `mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /dev/shm && mount -t tmpfs -o mode=1777 none /dev/shm
cd /sys/fs/cgroup
for group in ${GROUPS.join(' ')} ${SCOPE}/job_2/step_0/task_0 ${SCOPE}/job_3/step_0/task_0; do mkdir -p $group; done
for group in . system.slice ${SCOPE}; do echo +memory > $group/cgroup.subtree_control; done
echo $((500 << 20)) > ${SCOPE}/job_2/memory.max
echo $((40 << 20)) > ${SCOPE}/job_3/memory.max
cd /tmp
within() { (echo $(sh -c 'echo $PPID') > /sys/fs/cgroup/$1/cgroup.procs; shift; user "$@"); }
for group in ${GROUPS.join(' ')}; do within $group TSRUN_LINGER=20 tsrun exec image.sif readlink /proc/self/ns/user; done
echo == a cache
for group in ${GROUPS[0]} ${SCOPE}/job_2/step_0/task_0; do
  rm -r tsrun-1000
  within $group TSRUN_LINGER=20 tsrun exec image.sif sh -c 'cat /srv/* > /dev/null'
  user tsrun @server-statistics /tmp/tsrun-1000
done
echo == a copy in memory
within ${SCOPE}/job_2/step_0/task_0 tsrun exec --stage=memory /mnt/place/copy.sif cat /opt/tool/data.txt; rm -r /dev/shm/*
within ${SCOPE}/job_3/step_0/task_0 tsrun exec --stage=memory /mnt/place/copy.sif cat /opt/tool/data.txt; echo status $?`,
  );
  const [scopes = '', caches = '', copies = ''] = told.split(/== .*\n/);
  assertScopes(scopes.trim().split('\n'));
  const sizes = caches
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).images[0].cache as number);
  assert.is(sizes.length, 2, told);
  const [unlimited = 0, limited = 0] = sizes;
  // A fiftieth: of the machine's 768 MB, less what the kernel took; of the job's 500 MB. A block more or less.
  assert.ok(unlimited > 12 << 20 && unlimited <= 17 << 20, `${unlimited}`);
  assert.ok(limited > 9 << 20 && limited <= 10 << 20, `${limited}`);
  assert.match(
    copies,
    /^from the image\n.*it has 2\d MB, and half of the memory that is free for this job is \d\d MB \(E_STAGE\)\n.*\nstatus 125\n$/,
    told,
  );
});

test('beside version 1: the same', async () => {
  const top = '/sys/fs/cgroup/unified';
  if (!isRoot() || !existsSync(`${top}/cgroup.procs`)) return skip('needs root and control groups of both versions');
  const user = testUser();
  const mine = join(top, `tsrun-test-${process.pid}`);
  for (const group of GROUPS) mkdirSync(join(mine, group), { recursive: true });
  const script = 'echo $$ > $0/cgroup.procs; exec setpriv "$@"';
  const words = [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', tsrunPath, 'exec', image, 'readlink', '/proc/self/ns/user'];
  const env = { XDG_RUNTIME_DIR: runtimeIn(place, 'hybrid'), TSRUN_LINGER: '20' };
  try {
    assertScopes(GROUPS.map((group) => run('sh', ['-c', script, join(mine, group), ...words], { as: 'root', env }).stdout));
  } finally {
    writeFileSync(join(mine, 'cgroup.kill'), '1'); // the servers
    await until(() => run('find', [mine, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', '+'], { as: 'root' }).status === 0);
  }
});

test.run();
