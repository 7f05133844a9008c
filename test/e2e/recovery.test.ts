/**
 * The process that serves an image dies, is stopped or runs out of memory while 64 ranks read: every rank ends with right data. (Requests and storage that
 * hang, a request that kills, and the end of all successors: test/native/server_recovery_test.c.)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { field, textOf, ticksOf } from '../helpers/processes.ts';
import { environmentOf, makeBusyboxImage, scratch, tsrunPath } from '../helpers/product.ts';
import { processesOf, runtimeIn, servingOf, until } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('recovery');
const place = scratch('recovery');
const user = testUser();
const isRoot = process.getuid?.() === 0;
const RANKS = 64;
/** A rank reads its files in parts, each when it is told to or when nobody is there any more to tell it. */
const PART_NUMBERS = [0, 1, 2, 3, 4] as const;
const FILES = 320;

/** Every file's content is its own path, so wrong data shows. */
const image = makeBusyboxImage(place, (tree) => {
  for (let rank = 0; rank < RANKS; rank++) {
    for (let file = 0; file < FILES; file++) {
      const directory = `/data/${rank}/${file % PART_NUMBERS.length}`;
      mkdirSync(join(tree, directory), { recursive: true });
      writeFileSync(join(tree, directory, String(file)), `${directory}/${file}\n${String(file).repeat(3000)}\n`);
    }
  }
});

const ALL_READ = ['ready', ...PART_NUMBERS.map((part) => `read ${part}`), ''].join('\n');

type Rank = { readonly child: ChildProcess; readonly text: () => string; readonly end: Promise<number | null> };
type Ranks = { readonly all: readonly Rank[]; readonly server: number; readonly serving: () => number | undefined };

const startRank = (runtime: string, rank: number): Rank => {
  const look = '[ "$x" = "$f" ] || echo "wrong $f: $x"; [ ! -e /none$f ] || echo "there is /none$f"';
  const read = `for f in /data/${rank}/$part/*; do read -r x < $f; ${look}; done`;
  const child = spawn(
    tsrunPath,
    ['exec', image, 'sh', '-c', `echo ready; for part in ${PART_NUMBERS.join(' ')}; do read go; ${read}; echo read $part; done`],
    {
      env: environmentOf({ env: { XDG_RUNTIME_DIR: runtime } }),
      uid: user.uid,
      gid: user.gid,
      cwd: '/tmp',
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (text += chunk));
  return { child, text: () => text, end: new Promise((resolve) => child.on('close', resolve)) };
};

/** They wait for a line before they read. */
const startRanks = async (name: string): Promise<Ranks> => {
  const runtime = runtimeIn(place, name);
  const all = Array.from({ length: RANKS }, (_, rank) => startRank(runtime, rank));
  await until(() => all.every((rank) => rank.text() === 'ready\n'), 'all ranks run');
  const { server } = processesOf(all[0]?.child.pid ?? 0);
  return { all, server, serving: () => servingOf(server) };
};

const go = (ranks: Ranks): void => {
  for (const rank of ranks.all) rank.child.stdin?.end('\n');
};

const allRight = async (ranks: Ranks): Promise<void> => {
  for (const rank of ranks.all) assert.equal([await rank.end, rank.text()], [0, ALL_READ]);
  await until(() => (field(ranks.server, 'State') ?? 'Z').startsWith('Z'), 'the server has ended');
};

const anotherServes = (ranks: Ranks, before: number): boolean => {
  const now = ranks.serving();
  return now !== undefined && now !== before;
};

const SIGNALS = ['SIGKILL', 'SIGSEGV', 'SIGKILL', 'SIGABRT', 'SIGKILL'] as const;

test('killed again and again, by signals that a user, a fault and a watchdog send', async () => {
  if (!isRoot) return skip('needs root to find the process');
  const ranks = await startRanks('killed');
  let killed = 0;
  for (const [part, signal] of SIGNALS.entries()) {
    await until(() => anotherServes(ranks, killed), 'another process serves');
    killed = ranks.serving() ?? Number.NaN;
    const before = ticksOf(killed);
    for (const rank of ranks.all) rank.child.stdin?.write('\n');
    const haveRead = (): boolean => ranks.all.every((rank) => rank.text().endsWith(`read ${part}\n`));
    // In the midst of it; where they have all been faster than we, the next part needs another process.
    await until(() => ticksOf(killed) > before || haveRead(), 'it works');
    process.kill(killed, signal);
    await until(haveRead, 'all have read the part');
  }
  await allRight(ranks);
});

test('stopped by a signal, it is told to go on', async () => {
  if (!isRoot) return skip('needs root to find the process');
  const ranks = await startRanks('stopped');
  const pid = ranks.serving() ?? 0;
  const before = ticksOf(pid);
  go(ranks);
  // In the midst of it, with more readers than workers: it has requests in hand.
  await until(() => ticksOf(pid) >= before + 5, 'it works');
  process.kill(pid, 'SIGSTOP');
  await until(() => !textOf(`/proc/${pid}/stat`).includes(') T '), 'it is no longer stopped');
  assert.is(ranks.serving(), pid);
  await allRight(ranks);
});

test('stopped with its supervisor, it goes on when a run comes: that waits a second, not for ever', async () => {
  if (!isRoot) return skip('needs root to find the processes');
  const ranks = await startRanks('all-stopped');
  const serving = ranks.serving() ?? 0;
  for (const pid of [ranks.server, serving]) process.kill(pid, 'SIGSTOP');
  go(ranks);
  const late = startRank(join(place, 'all-stopped'), 0);
  late.child.stdin?.end('\n');
  assert.equal([await late.end, late.text()], [0, ALL_READ]);
  await allRight(ranks);
});

test('killed for lack of memory in its control group', async () => {
  if (!isRoot || !existsSync('/sys/fs/cgroup/memory/tasks'))
    return skip('needs root and the memory controller of control groups, version 1');
  const ranks = await startRanks('memory');
  const group = `/sys/fs/cgroup/memory/tsrun-test-${process.pid}`;
  mkdirSync(group);
  try {
    writeFileSync(join(group, 'memory.limit_in_bytes'), String(256 * 1024));
    const pid = ranks.serving() ?? 0;
    writeFileSync(join(group, 'cgroup.procs'), String(pid));
    go(ranks);
    await until(() => anotherServes(ranks, pid), 'another process serves');
    assert.match(textOf(join(group, 'memory.oom_control')), /^oom_kill [1-9]/m);
    await allRight(ranks);
  } finally {
    rmdirSync(group);
  }
});

test.run();
