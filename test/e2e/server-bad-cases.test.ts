/** What can go wrong around an image that is being served: the file changes, the machine is full, strangers and kills get in the way. */
import { spawn, spawnSync } from 'node:child_process';
import {
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isBefore } from '../helpers/kernels.ts';
import { allProcesses, field } from '../helpers/processes.ts';
import { environmentOf, makeBusyboxImage, type Ran, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { endOf, processesOf, runtimeIn, type Staying, startStaying, until } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';
import { helperProgram } from './launcher/helpers.ts';

const test = suite('image server, bad cases');
const place = scratch('bad');
const large = 'large file in the image, '.repeat(200_000);
const image = makeBusyboxImage(place, (tree) => writeFileSync(join(tree, 'srv/large'), large));
const user = testUser();
const isRoot = process.getuid?.() === 0;

const runtimeOf = (name: string): string => runtimeIn(place, name);
const staying = (name: string, from: string, script: string, before: readonly string[] = []): Promise<Staying> =>
  startStaying(runtimeOf(name), [from, 'sh', '-c', script], before);
const inRuntime = (name: string): { env: { XDG_RUNTIME_DIR: string } } => ({ env: { XDG_RUNTIME_DIR: runtimeOf(name) } });

/** The image as a file of its own, which the test may spoil. */
const copyOfImage = (name: string): string => {
  const copy = join(place, `${name}.sif`);
  copyFileSync(image, copy);
  if (isRoot) chownSync(copy, user.uid, user.gid);
  return copy;
};

const logOf = (name: string): string => {
  const directory = join(runtimeOf(name), 'tsrun');
  return readdirSync(directory)
    .filter((file) => file.endsWith('.log'))
    .map((file) => readFileSync(join(directory, file), 'utf8'))
    .join('');
};

/** Nothing of the scope is left: no server, no socket, no lock. A log may be: it is there to be read. */
const untilNothingIsLeft = (name: string): Promise<void> => {
  const directory = join(runtimeOf(name), 'tsrun');
  return until(() => !existsSync(directory) || readdirSync(directory).every((file) => file.endsWith('.log')));
};

const READ = ['cat', '/opt/tool/data.txt'];
const READ_LATER =
  'cat /opt/tool/data.txt; echo ready; read line; cat /srv/large | wc -c; cat /srv/large >/dev/null 2>&1; echo "status $?"';

test('an image that is truncated while it is served gives errors, not wrong bytes, and the log says why', async () => {
  const spoiled = copyOfImage('truncated');
  const reader = await staying('truncated', spoiled, READ_LATER);
  truncateSync(spoiled, 40_000);
  reader.stdin?.end('\n');
  await endOf(reader);
  assert.match(reader.text(), /status 1\n$/);
  assert.not.match(reader.text(), new RegExp(`^${large.length}$`, 'm'));
  // The reader has its error before the server has written down why.
  await until(() => /truncated while in use|changed in place/.test(logOf('truncated')));
  await untilNothingIsLeft('truncated');
});

test('an image that is written in place gives errors, never old and new mixed', async () => {
  const spoiled = copyOfImage('written');
  const reader = await staying('written', spoiled, READ_LATER);
  const bytes = readFileSync(spoiled);
  bytes.fill(0x5a, 30_000, bytes.length - 30_000);
  writeFileSync(spoiled, bytes);
  reader.stdin?.end('\n');
  await endOf(reader);
  assert.match(reader.text(), /status 1\n$/);
  await until(() => /changed in place/.test(logOf('written')));
  await untilNothingIsLeft('written');
});

test('a process that takes over after that begins with no other content', async () => {
  if (!isRoot) return skip('needs root to find the process');
  const spoiled = copyOfImage('taken-over');
  const reader = await staying('taken-over', spoiled, READ_LATER);
  const { serving } = processesOf(reader.pid ?? 0);
  utimesSync(spoiled, 1, 1);
  process.kill(serving, 'SIGKILL');
  reader.stdin?.end('\n');
  await endOf(reader);
  // Its shell may end by SIGBUS, being a file of the image itself.
  assert.not.match(reader.text(), /status 0/);
  await until(() => /changed in place/.test(logOf('taken-over')));
  await untilNothingIsLeft('taken-over');
});

test('an image that is replaced by rename is served to its end; the next run sees the new one', async () => {
  const replaced = copyOfImage('replaced');
  const reader = await staying('replaced', replaced, READ_LATER);
  const other = scratch('other');
  renameSync(
    makeBusyboxImage(other, (tree) => writeFileSync(join(tree, 'opt/tool/data.txt'), 'from the new image\n')),
    replaced,
  );
  assert.is(tsrunOk(['exec', replaced, 'cat', '/opt/tool/data.txt'], inRuntime('replaced')), 'from the new image\n');
  reader.stdin?.end('\n');
  assert.is(await endOf(reader), 0);
  assert.is(reader.text(), `from the image\nready\n${large.length}\nstatus 0\n`);
  await untilNothingIsLeft('replaced');
});

test('a store on a full disk is named, and nothing half-made is left in it', () => {
  if (!isRoot) return skip('needs root to make a small file system');
  const layout = join(place, 'full-layout.tar');
  const store = join(place, 'full-store');
  mkdirSync(store);
  assert.is(run('tar', ['-C', join(place, 'tree'), '-cf', layout, '.'], { as: 'root' }).status, 0);
  assert.is(
    run('mount', ['-t', 'tmpfs', '-o', `size=512k,mode=700,uid=${user.uid},gid=${user.gid}`, 'full', store], { as: 'root' }).status,
    0,
  );
  try {
    const ran = tsrun(['exec', `tar:${layout}`, 'true'], { env: { TSRUN_STORE: store } });
    assert.is(ran.status, 125, ran.stderr);
    assert.match(ran.stderr, /the file system or the quota is full/);
    assert.match(ran.stderr, /hint: /);
    const left = spawnSync('find', [store, '-type', 'f'], { encoding: 'utf8' }).stdout;
    assert.is(left, '');
  } finally {
    run('umount', [store], { as: 'root' });
  }
});

test('the 257th run of a scope is served like the first', async () => {
  const script = `
    mkfifo ${place}/gate; i=0
    while [ $i -lt 257 ]; do ${tsrunPath} exec ${image} sh -c 'echo joined; read go; cat /opt/tool/data.txt' <${place}/gate & i=$((i+1)); done
    exec 9>${place}/gate; echo started; read line; exec 9>&-; wait`;
  const child = spawn('/bin/sh', ['-c', script], {
    uid: user.uid,
    gid: user.gid,
    cwd: place,
    env: environmentOf(inRuntime('crowd')),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk) => (text += chunk));
  const count = (word: string): number => text.split(`${word}\n`).length - 1;
  await until(() => count('joined') === 257 || child.exitCode !== null);
  const directory = join(runtimeOf('crowd'), 'tsrun');
  assert.is(readdirSync(directory).filter((name) => name.endsWith('.sock')).length, 1);
  child.stdin.end('\n');
  await endOf(child);
  await until(() => count('from the image') === 257);
  await untilNothingIsLeft('crowd');
});

/** A supplementary group of nobody: whoever descends from a run has it to its end, the server and all of its helpers too. */
const GROUP_OF_THE_KILLED = 4247;

const haveGroup = (group: number): readonly number[] =>
  allProcesses().filter((pid) => (field(pid, 'Groups') ?? '').split(' ').includes(String(group)));

test('runs that are killed at any moment, a thousand times, leave nothing behind', async () => {
  const env = environmentOf(inRuntime('killed'));
  const words = [tsrunPath, 'exec', image, 'sh', '-c', 'cat /srv/large >/dev/null; read line'];
  const marked = isRoot ? ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, `--groups=${GROUP_OF_THE_KILLED}`, ...words] : words;
  const [program = '', ...args] = marked;
  const started: number[] = [];
  const killOne = async (round: number): Promise<void> => {
    const child = spawn(program, args, { cwd: '/tmp', env, stdio: ['pipe', 'ignore', 'ignore'] });
    started.push(child.pid ?? 0);
    const ended = new Promise((done) => child.on('exit', done));
    await new Promise((next) => setTimeout(next, ((round * 7919) % 1000) / 40));
    child.kill('SIGKILL');
    await ended;
  };
  const killEach8th = async (first: number): Promise<void> => {
    for (let round = first; round < 1000; round += 8) await killOne(round);
  };
  await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(killEach8th));
  const last = run(program, [...args.slice(0, -3), 'cat', '/opt/tool/data.txt'], {
    ...inRuntime('killed'),
    ...(isRoot ? { as: 'root' } : {}),
  });
  assert.equal([last.status, last.stdout], [0, 'from the image\n'], last.stderr);
  await untilNothingIsLeft('killed');
  // What the kernel still does for them (unmounting, reaping) may come after their last file has gone.
  if (isRoot) await until(() => haveGroup(GROUP_OF_THE_KILLED).length === 0, 'no process of theirs is left');
  assert.is(logOf('killed'), '');
  assert.equal(
    started.filter((pid) => field(pid, 'Name') === 'tsrun'),
    [],
  );
  assert.not.match(readFileSync('/proc/self/mountinfo', 'latin1'), new RegExp(place));
});

/** In the order in which it makes them. Older kernels do without some. */
const STARTING = [
  'socketpair',
  'sched_setaffinity',
  'fchdir',
  'unshare',
  'open_tree',
  'fsopen',
  'fsmount',
  'move_mount',
  'pivot_root',
  'signalfd4',
  'epoll_create1',
  'epoll_ctl',
  'bind',
  'listen',
] as const;

test('a server that is killed at any step of its start does no harm to the next one', async () => {
  for (const call of STARTING) {
    const options = inRuntime(`step-${call}`);
    // Also ends the run itself where that makes the call: then it is one more that dies at that step.
    const hit: Ran = run('timeout', ['60', helperProgram('deny'), 'KILL', call, '--', tsrunPath, 'exec', image, ...READ], options);
    assert.is.not(hit.status, 124, `${call}: it hangs`);
    assert.ok(hit.status !== 0 || (isBefore('5.2') && hit.stdout === 'from the image\n'), `${call}: ${JSON.stringify(hit)}`);
    assert.is(tsrunOk(['exec', image, ...READ], options), 'from the image\n', call);
    await untilNothingIsLeft(`step-${call}`);
  }
});

test('who traces a run and its children does not get the server', () => {
  if (spawnSync('strace', ['-V']).error !== undefined) return skip('strace is not installed');
  const written = join(place, 'traced');
  const words = ['60', 'strace', '-f', '-qq', '-o', written, '-e', 'trace=execve,epoll_wait', tsrunPath];
  const traced: Ran = run('timeout', [...words, 'exec', image, 'sh', '-c', 'cat /srv/large | wc -c'], inRuntime('tracing'));
  assert.equal([traced.stdout.trim(), traced.status], [String(large.length), 0], traced.stderr);
  assert.match(readFileSync(written, 'latin1'), /execve\("\/bin\/sh"/);
  assert.not.match(readFileSync(written, 'latin1'), /@server|epoll_wait/);
});

test('a socket that nobody listens to any more is replaced', async () => {
  if (!isRoot) return skip('needs root to find the process');
  const first = await staying('stale', image, 'echo ready; read line');
  const { server, serving } = processesOf(first.pid ?? 0);
  process.kill(server, 'SIGKILL');
  process.kill(serving, 'SIGKILL');
  await until(() => field(server, 'Name') === undefined && field(serving, 'Name') === undefined);
  const sockets = readdirSync(join(runtimeOf('stale'), 'tsrun')).filter((name) => name.endsWith('.sock'));
  assert.is(sockets.length, 1);
  first.kill('SIGKILL');
  assert.is(tsrunOk(['exec', image, 'cat', '/opt/tool/data.txt'], inRuntime('stale')), 'from the image\n');
  await untilNothingIsLeft('stale');
});

test('what killed servers of other scopes have left is removed by the next server, whatever its scope; what is in use is not', async () => {
  if (!isRoot) return skip('needs root to have other groups');
  const inGroups = (groups: string): readonly string[] => ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, groups];
  const directory = join(runtimeOf('jobs'), 'tsrun');
  const staysIn = (groups: string): Promise<Staying> =>
    staying('jobs', image, 'echo ready; read line; cat /opt/tool/data.txt', inGroups(groups));
  const killed = await staysIn('--groups=4242');
  const { server, serving } = processesOf(killed.pid ?? 0);
  for (const pid of [server, serving]) process.kill(pid, 'SIGKILL');
  await until(() => field(server, 'Name') === undefined && field(serving, 'Name') === undefined);
  killed.kill('SIGKILL');
  const left = readdirSync(directory);
  assert.is(left.length, 2);
  const others = { 'here.lock': 0, '1.2.3.9.log': 8, '1.2.3.9x.log': 8, '1.2.4.9.log': 6 }; // days old
  for (const [name, days] of Object.entries(others)) {
    writeFileSync(join(directory, name), '');
    utimesSync(join(directory, name), Date.now() / 1000 - days * 86_400, Date.now() / 1000 - days * 86_400);
  }
  const first = await staysIn('--groups=4243');
  const both = readdirSync(directory);
  const second = await staysIn('--groups=4244');
  assert.equal(
    left.filter((name) => both.includes(name)),
    [],
  );
  for (const each of [first, second]) {
    each.stdin?.end('\n');
    assert.is(await endOf(each), 0);
    assert.match(each.text(), /from the image\n$/);
  }
  await until(() => readdirSync(directory).every((name) => name in others));
  assert.equal(readdirSync(directory).sort(), ['1.2.3.9x.log', '1.2.4.9.log', 'here.lock']);
});

test('a stranger who was first in a shared /tmp is not trusted', () => {
  if (!isRoot) return skip('needs root for a /tmp of its own and another user');
  const stranger = 54_321;
  // The scratch directory lies below the /tmp that is covered, and the checkout may: image and program are seen at other places.
  const seen = (prepare: string): Ran => {
    const become = `setpriv --reuid ${user.uid} --regid ${user.gid} --init-groups`;
    const script = `mount --bind ${place} /mnt && mount --bind ${dirname(tsrunPath)} /media && mount -t tmpfs -o mode=1777 tmp /tmp && cd / && ${prepare} && exec ${become} "$@"`;
    const words = ['-m', 'sh', '-c', script, 'sh', '/media/tsrun', 'exec', '/mnt/image.sif', 'cat', '/opt/tool/data.txt'];
    return run('unshare', words, { as: 'root', cwd: '/', env: { XDG_RUNTIME_DIR: undefined, HOME: user.home, USER: user.name } });
  };
  assert.is(seen('true').stdout, 'from the image\n');
  const own = `/tmp/tsrun-${user.uid}`;
  for (const prepare of [
    `mkdir -m 700 ${own} && chown ${stranger} ${own}`,
    `mkdir -m 777 ${own} && chown ${user.uid} ${own}`,
    `mkdir -m 777 /tmp/trap && ln -s /tmp/trap ${own} && chown -h ${stranger} ${own}`,
  ]) {
    const ran = seen(prepare);
    assert.is(ran.status, 125, prepare);
    assert.match(ran.stderr, new RegExp(`tsrun-${user.uid}`));
    assert.match(ran.stderr, /hint: /);
  }
});

test('a daemon that a payload leaves behind keeps its files', async () => {
  const answer = join(place, 'daemon-answer');
  const gate = join(place, 'daemon-gate');
  assert.is(run('mkfifo', [gate]).status, 0);
  const script = `(read line <${gate}; cat /srv/large | wc -c) >${answer} 2>&1 & echo left`;
  assert.is(tsrunOk(['exec', '-B', place, image, 'sh', '-c', script], inRuntime('daemon')).trim(), 'left');
  // With a linger time of 0 the server has let go of its own reference: only the daemon's is left.
  assert.is(tsrunOk(['exec', image, 'cat', '/opt/tool/data.txt'], inRuntime('daemon')), 'from the image\n');
  writeFileSync(gate, '\n');
  await until(() => existsSync(answer) && readFileSync(answer, 'utf8') !== '');
  assert.is(readFileSync(answer, 'utf8').trim(), String(large.length));
  await untilNothingIsLeft('daemon');
});

test('supplementary groups and another primary group are those of the caller, each with a scope of its own', async () => {
  if (!isRoot) return skip('needs root to have other groups');
  const file = join(place, 'of-the-group');
  writeFileSync(file, 'for the group\n', { mode: 0o640 });
  chownSync(file, 0, 4242);
  const ids = (...groups: string[]): string[] => ['setpriv', '--reuid', String(user.uid), ...groups];
  const script = `cat ${file}; id -u; id -g; echo ready; read line`;
  const member = await staying('groups', image, script, ids('--regid', String(user.gid), '--groups', '4242'));
  assert.is(member.text(), `for the group\n${user.uid}\n${user.gid}\nready\n`);
  // As newgrp does.
  const changed = await staying('groups', image, script, ids('--regid', '4242', '--clear-groups'));
  assert.is(changed.text(), `for the group\n${user.uid}\n4242\nready\n`);
  const plain = await staying('groups', image, 'echo ready; read line');
  const servers = [member, changed, plain].map((each) => processesOf(each.pid ?? 0).server);
  assert.is(new Set(servers).size, 3);
  for (const each of [member, changed, plain]) {
    each.stdin?.end('\n');
    assert.is(await endOf(each), 0);
  }
  await untilNothingIsLeft('groups');
});

test('a debugger on the host sees the payload and its files', async () => {
  if (spawnSync('gdb', ['--version']).error !== undefined) return skip('gdb is not installed');
  const payload = await staying('debugged', image, 'echo ready; read line');
  const pid = payload.pid ?? 0;
  assert.is(run('cat', [`/proc/${pid}/root/opt/tool/data.txt`]).stdout, 'from the image\n');
  // Without the sysroot gdb enters the payload's mount namespace, which nobody on the host may.
  const root = `set sysroot /proc/${pid}/root`;
  const gdb = run('gdb', ['-nx', '-batch', '-iex', root, '-p', String(pid), '-ex', 'info proc exe', '-ex', 'print $pc', '-ex', 'detach']);
  assert.match(gdb.stdout, /exe = '\/bin\/busybox'/);
  assert.match(gdb.stdout, /\$1 = /);
  assert.not.match(gdb.stderr, /No such file|could not open|not permitted/);
  payload.stdin?.end('\n');
  assert.is(await endOf(payload), 0);
  await untilNothingIsLeft('debugged');
  rmSync(join(place, 'gate'), { force: true });
});

test.run();
