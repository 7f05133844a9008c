// time limit: 900 s
/** Locks for real: an ordinary user builds from the machine's own Debian, keeps what was fetched, and builds again without any network. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseLock } from '../../src/lock/lock-file.ts';
import { debianBase } from '../helpers/debian-base.ts';
import { makeBusyboxTree, type Ran, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('locked builds');
const place = scratch('lock');
const base = join(place, 'base.tar');
const vendor = join(place, 'vendor');
const recipe = join(place, 'Dockerfile');
/** What one store has unpacked need not be unpacked again; where no result of an earlier build may help, another is used. */
const within = (store: string): Record<string, string> => ({
  TSRUN_STORE: join(place, store),
  TSRUN_TMPDIR: join(place, store),
  TSRUN_BUILD_IDS: 'single',
});
const build = (name: string, store: string, ...words: readonly string[]): Ran =>
  tsrun(['build', '-F', '--compress', 'lz4', ...words, join(place, `${name}.sif`), recipe], { cwd: place, env: within(store) });

/** Where it need not be a Debian: 2 MB are written sooner than 60. */
const small = join(place, 'small');
mkdirSync(small);
makeBusyboxTree(small);

const machineBase = debianBase();
if (machineBase !== undefined) cpSync(machineBase, base);
const INSTALL = 'apt-get install -y --no-install-recommends figlet';
const write = (text: string, from = `tar:${base}`): void => writeFileSync(recipe, `FROM ${from}\n${text}`);

test('--lock --vendor writes the lock and keeps base, archives and lists; the image has none of it', () => {
  if (machineBase === undefined) return skip('mmdebstrap is missing');
  write(`RUN apt-get update && ${INSTALL} && rm -rf /var/lib/apt/lists/*\n`);
  const built = build('first', 'store', '--lock', '--vendor', vendor);
  assert.is(built.status, 0, built.stderr);
  const text = readFileSync(join(place, 'tsrun.lock'), 'utf8');
  assert.is(readFileSync(join(vendor, 'tsrun.lock'), 'utf8'), text);
  const lock = parseLock(text, 'tsrun.lock');
  assert.equal(
    lock.bases.map(({ reference }) => reference),
    [`tar:${base}`],
  );
  const figlet = lock.packages.find(({ name }) => name === 'figlet');
  assert.match(figlet?.digest ?? '', /^sha256:/);
  assert.match(figlet?.files ?? '', /^sha256:/);
  const archives = readdirSync(join(vendor, 'apt/0/archives'));
  assert.ok(
    archives.some((name) => /^figlet_.*\.deb$/.test(name)),
    archives.join(' '),
  );
  assert.ok(readdirSync(join(vendor, 'apt/0/lists')).some((name) => name.includes('Packages')));
  const listed = tsrunOk(['image', 'ls', join(place, 'first.sif'), '/var/cache/apt', '/var/lib/apt']);
  assert.not.match(listed, /\.deb|Packages/);
  assert.not.match(tsrunOk(['image', 'ls', join(place, 'first.sif'), '/dev']), /tsrun/);
});

test('--locked --offline builds the same image from what was kept, when the base itself is gone', () => {
  if (machineBase === undefined) return skip('mmdebstrap is missing');
  renameSync(base, `${base}.away`);
  const built = build('offline', 'other-store', '--locked', '--offline', '--vendor', vendor);
  renameSync(`${base}.away`, base);
  assert.is(built.status, 0, built.stderr);
  const differs = tsrun(['image', 'diff', join(place, 'first.sif'), join(place, 'offline.sif')]);
  assert.is(differs.stdout, '');
  assert.is(tsrunOk(['exec', join(place, 'offline.sif'), 'figlet', '-v']).includes('FIGlet'), true);
});

test('offline a step cannot reach the network, and says so', () => {
  if (machineBase === undefined) return skip('mmdebstrap is missing');
  const other = join(place, 'other');
  mkdirSync(other);
  writeFileSync(
    join(other, 'Dockerfile'),
    `FROM tar:${base}\nRUN ls /sys/class/net && apt-get -o Dir::State::lists=/var/lib/apt/lists -eany update\n`,
  );
  const built = tsrun(['build', '--offline', join(place, 'none.sif'), other], { cwd: place, env: within('store') });
  assert.is(built.status, 125, built.stderr);
  assert.match(built.stderr, /^ {2}lo$/m);
  assert.match(built.stderr, /E_STEP/);
  assert.not.ok(existsSync(join(place, 'none.sif')));
});

/**
 * Sockets of network families that any process of the command opened. Not counted is the one by which the launcher starts the loopback device of a
 * step's own, empty network: a socket right after the unshare that made it, by the same process.
 */
const networkSockets = (command: readonly string[], name: string): readonly string[] => {
  const log = join(place, `${name}.strace`);
  const ran = run('strace', ['-f', '-qq', '--seccomp-bpf', '-o', log, '-e', 'trace=socket,execve,unshare', ...command], {
    cwd: place,
    env: within('store'),
  });
  const before = new Map<string, string>();
  const found: string[] = [];
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const [pid = ''] = line.split(' ', 1);
    const own = /unshare\([^)]*CLONE_NEWNET[^)]*\) += 0/.test(before.get(pid) ?? '');
    if (/socket\(AF_(?:INET6?|PACKET)/.test(line) && !own) found.push(line);
    before.set(pid, line);
  }
  assert.ok(
    [...before.values()].some((line) => line !== ''),
    ran.stderr,
  );
  return found;
};

test('a locked, offline build opens no socket to a network, which an ordinary one does', () => {
  if (machineBase === undefined) return skip('mmdebstrap is missing');
  if (run('strace', ['-V']).status !== 0) return skip('strace is missing');
  // Told to update, apt itself would look for its servers: in vain, from the step's empty network, but with a socket.
  write(`RUN ${INSTALL}\n`);
  const kept = build('kept', 'store', '--lock', '--vendor', vendor);
  assert.is(kept.status, 0, kept.stderr);
  const words = ['--no-cache', '--locked', '--offline', '--vendor', vendor];
  assert.equal(networkSockets([tsrunPath, 'build', '-F', ...words, join(place, 'traced.sif'), recipe], 'traced'), []);
  assert.ok(existsSync(join(place, 'traced.sif')));
  write('RUN ifconfig lo\n', small);
  assert.ok(networkSockets([tsrunPath, 'build', '-F', join(place, 'online.sif'), recipe], 'online').length > 0, 'the trace would show it');
});

test('--locked refuses another recipe', () => {
  if (machineBase === undefined) return skip('mmdebstrap is missing');
  write('RUN true\n', small);
  const built = build('changed', 'store', '--locked');
  assert.match(built.stderr, /the recipe is another one.*E_LOCK_CHANGED/s);
  assert.is(built.status, 125);
});

test('--check names what differs, and nothing else', () => {
  if (machineBase === undefined) return skip('mmdebstrap is missing');
  write(
    [
      'RUN echo same > /same && mkdir -p /d && useradd -m someone && date > /var/log/dpkg.log && cat /proc/sys/kernel/random/uuid > /etc/machine-id',
      'RUN date +%s.%N > /stamp && head -c 16 /dev/urandom > /random',
      '',
    ].join('\n'),
  );
  const differs = build('differs', 'store', '--check');
  assert.is(differs.status, 1, differs.stderr);
  assert.match(differs.stderr, /differ: in 2 names\n {2}\/random: content\n {2}\/stamp: content \(a time in seconds since 1970\)/);
  assert.ok(existsSync(join(place, 'differs.sif')));
});

test.run();
