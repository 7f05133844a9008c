// time limit: 900 s
/** Locks for real: an ordinary user builds from the machine's own Debian, keeps what was fetched, and builds again without any network. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseLock } from '../../src/lock/lock-file.ts';
import { debianBase } from '../helpers/debian-base.ts';
import { lockedBuilds } from '../helpers/locked-builds.ts';
import { makeBusyboxTree, run, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { pushImage, startRegistry } from '../helpers/registry.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('locked builds');
const { place, recipe, within, build } = lockedBuilds('lock');
const base = join(place, 'base.tar');
const vendor = join(place, 'vendor');

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
  // What nearly every recipe does afterwards is for the image, not for what is kept.
  write(`RUN apt-get update && ${INSTALL} && apt-get clean && rm -rf /var/lib/apt/lists/*\n`);
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

test('what another tool brought is named before an offline build begins', () => {
  const meta = '{"name":"samtools","version":"1.20","build":"h0"}';
  write(`RUN mkdir -p /opt/c/conda-meta && echo '${meta}' > /opt/c/conda-meta/samtools.json\n`, small);
  const half = build('half', 'store', '--lock', '--vendor', join(place, 'vendor-half'));
  assert.is(half.status, 0, half.stderr);
  assert.match(half.stderr, /could not be kept.*conda samtools 1\.20=h0 in \/opt\/c/);
  const refused = build('half-offline', 'store', '--locked', '--offline', '--vendor', join(place, 'vendor-half'));
  assert.match(refused.stderr, /^tsrun: cannot build from .*were not kept there:\n {2}conda samtools 1\.20=h0 in \/opt\/c\n \(E_VENDOR\)/);
  assert.is(refused.status, 125);
});

test('labels say what the image was built on and of which date, the same offline; those of the recipe win', async () => {
  const registry = await startRegistry();
  try {
    const tar = run('tar', ['-C', small, '-cf', join(place, 'small.tar'), '.']);
    assert.is(tar.status, 0, tar.stderr);
    const config = {
      created: '2024-05-06T07:08:09Z',
      config: { Labels: { 'org.opencontainers.image.base.name': 'what the base stands on' } },
    };
    const layers = [readFileSync(join(place, 'small.tar'))];
    const { manifest } = await pushImage(registry, { repository: 'team/base', tag: '1', layers, config });
    const from = `docker://${registry.host}/team/base:1`;
    write('LABEL org.opencontainers.image.title=mine\n', from.replace('docker://', ''));
    const kept = join(place, 'vendor-labels');
    const built = build('labels', 'store', '--lock', '--vendor', kept);
    assert.is(built.status, 0, built.stderr);
    const said = tsrunOk(['inspect', join(place, 'labels.sif')]);
    for (const line of [
      'base.name: localhost:[0-9]+/team/base:1',
      `base.digest: ${manifest.digest}`,
      'created: 1980-01-01T00:00:00Z',
      'title: mine',
    ])
      assert.match(said, new RegExp(`^org\\.opencontainers\\.image\\.${line}$`, 'm'));
    const offline = build('labels-offline', 'store', '--locked', '--offline', '--vendor', kept);
    assert.is(offline.status, 0, offline.stderr);
    assert.is(tsrunOk(['inspect', join(place, 'labels-offline.sif')]), said);
  } finally {
    await registry.stop();
  }
});

test('offline ADD asks nobody', () => {
  write('ADD http://127.0.0.1:9/data.csv /data.csv\n', small);
  const built = build('added', 'store', '--offline');
  assert.match(built.stderr, /Dockerfile:2: cannot add http:.*told to stay offline \(E_FETCH\)/);
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

test('an image, its lock and what is kept may lie beside the files that are copied: the same is built from them again', () => {
  const directory = join(place, 'all');
  mkdirSync(directory);
  writeFileSync(join(directory, 'Dockerfile'), `FROM ${small}\nCOPY . /all/\n`);
  run('chown', ['-R', testUser().name, directory], { as: 'root' });
  const here = { cwd: directory, env: within('store') };
  const made = tsrun(['build', '--check', '--lock', '--vendor', 'vendor', 'all.sif', '.'], here);
  assert.is(made.status, 0, made.stderr);
  assert.match(made.stderr, /^tsrun: two builds of .*all\.sif do not differ$/m);
  assert.is(tsrunOk(['exec', '--containall', join(directory, 'all.sif'), 'ls', '/all']), 'Dockerfile\n');
  const again = tsrun(['build', '--locked', '--offline', '--vendor', 'vendor', 'again.sif', '.'], here);
  assert.is(again.status, 0, again.stderr);
  // Other images that lie there are files like any other.
  assert.is(tsrunOk(['exec', '--containall', join(directory, 'again.sif'), 'ls', '/all']), 'Dockerfile\nall.sif\n');
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
  assert.match(
    differs.stderr,
    /differ: in 2 names\n {2}\/random: content\n {2}\/stamp: content \(a time in seconds since 1970\)/,
    differs.stderr,
  );
  assert.ok(existsSync(join(place, 'differs.sif')));
});

test.run();
