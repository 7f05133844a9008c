/** `--stage`: one copy of an image for all runs of a user on a node, complete or not there. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { environmentOf, makeBusyboxImage, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { isRoot, testUser } from '../helpers/user.ts';

const test = suite('stage');
const place = scratch('stage');
const image = makeBusyboxImage(place);
const size = statSync(image).size;
const user = testUser();

const mounted: string[] = [];
process.on('exit', () => {
  for (const directory of mounted) spawnSync('umount', [directory]);
});

/** Also when this process is killed: that closes the pipe. */
const unmountedInTheEnd = (directory: string): void => {
  mounted.push(directory);
  spawn('sh', ['-c', 'cat > /dev/null; umount "$1"', 'sh', directory], { stdio: ['pipe', 'ignore', 'ignore'], detached: true }).unref();
};

/** A file system of its own, as node-local storage is. Undefined without root. */
const otherFileSystem = (name: string, bytes: number): string | undefined => {
  if (!isRoot()) return undefined;
  const directory = join(place, name);
  mkdirSync(directory);
  const options = `size=${Math.floor(bytes)},mode=700,uid=${user.uid},gid=${user.gid}`;
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', directory]).status !== 0) return undefined;
  unmountedInTheEnd(directory);
  return directory;
};

const copiesIn = (local: string): string[] => readdirSync(join(local, 'staged')).filter((name) => !name.endsWith('.lock'));
const NEEDS_ROOT = 'a tmpfs has to be mounted, which needs root';

const start = (local: string, words: readonly string[]) =>
  spawn(tsrunPath, ['exec', '--stage', ...words], {
    env: environmentOf({ env: { TSRUN_LOCAL: local } }),
    uid: user.uid,
    gid: user.gid,
    cwd: '/tmp',
    stdio: ['ignore', 'pipe', 'pipe'],
  });

/** Status and everything it said. */
const endOf = async (child: ReturnType<typeof start>): Promise<string> => {
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  child.stderr.on('data', (chunk) => {
    text += chunk;
  });
  const how = await new Promise((resolve) => child.on('close', (status, signal) => resolve(signal ?? status)));
  return `${how} ${text}`;
};

test('sixteen runs at once make one copy: there is no room for a second one', async () => {
  const local = otherFileSystem('many', size + size / 2);
  if (local === undefined) return skip(NEEDS_ROOT);
  const ended = await Promise.all(Array.from({ length: 16 }, () => endOf(start(local, [image, 'cat', '/opt/tool/data.txt']))));
  assert.equal(ended, Array(16).fill('0 from the image\n'));
  const [name = '', ...more] = copiesIn(local);
  assert.equal(more, []);
  assert.ok(readFileSync(join(local, 'staged', name)).equals(readFileSync(image)));
  assert.is(statSync(join(local, 'staged', name)).mode & 0o777, 0o400);
  const { ino } = statSync(join(local, 'staged', name));
  assert.is(tsrunOk(['exec', '--stage', image, 'cat', '/opt/tool/data.txt'], { env: { TSRUN_LOCAL: local } }), 'from the image\n');
  assert.is(statSync(join(local, 'staged', name)).ino, ino, 'a later run uses it');
});

test('the copy is what is read: the image may go away meanwhile', () => {
  const local = otherFileSystem('used', 2 * size);
  if (local === undefined) return skip(NEEDS_ROOT);
  const own = join(place, 'own.sif');
  run('/bin/cp', [image, own]);
  const script = `truncate -s 0 ${own}; cat /opt/tool/data.txt; ls /usr`;
  const ran = tsrun(['exec', '--stage', '--bind', place, own, 'sh', '-c', script], { env: { TSRUN_LOCAL: local } });
  assert.is(ran.status, 0, ran.stderr);
  assert.match(ran.stdout, /^from the image\n/);
});

test('a changed image is copied again, and the copy of its old state goes', () => {
  const local = otherFileSystem('changed', 2.5 * size);
  if (local === undefined) return skip(NEEDS_ROOT);
  const own = join(place, 'changing.sif');
  const env = { TSRUN_LOCAL: local };
  run('/bin/cp', [image, own]);
  tsrunOk(['exec', '--stage', own, 'true'], { env });
  const before = copiesIn(local);
  utimesSync(own, 1_700_000_000, 1_700_000_000);
  tsrunOk(['exec', '--stage', own, 'true'], { env });
  const after = copiesIn(local);
  assert.is(after.length, 1);
  assert.is.not(after[0], before[0]);
});

test('a copy that nobody has used for long goes when another one is made; one that is used stays', () => {
  const local = otherFileSystem('unused', 4 * size);
  if (local === undefined) return skip(NEEDS_ROOT);
  const env = { TSRUN_LOCAL: local };
  const images = ['one', 'two', 'three'].map((name) => join(place, `${name}.sif`));
  for (const each of images) run('/bin/cp', [image, each]);
  tsrunOk(['exec', '--stage', images[0] as string, 'true'], { env });
  const [first = ''] = copiesIn(local);
  tsrunOk(['exec', '--stage', images[1] as string, 'true'], { env });
  const old = new Date(Date.now() - 8 * 86_400_000);
  for (const name of copiesIn(local)) utimesSync(join(local, 'staged', name), old, old);
  tsrunOk(['exec', '--stage', images[0] as string, 'true'], { env }); // used: its time is now
  tsrunOk(['exec', '--stage', images[2] as string, 'true'], { env });
  const left = copiesIn(local);
  assert.is(left.length, 2);
  assert.ok(left.includes(first));
});

test('where it does not fit, that is said before anything is written', () => {
  const local = otherFileSystem('full', size - 65_536);
  if (local === undefined) return skip(NEEDS_ROOT);
  const ran = tsrun(['exec', '--stage', image, 'true'], { env: { TSRUN_LOCAL: local } });
  assert.is(ran.status, 125);
  assert.match(
    ran.stderr,
    /cannot copy .*image\.sif to this node: it has \d+ MB, and .*full\/staged\/ has \d+ MB left \(E_STAGE\)\nhint: make room/,
  );
  assert.equal(copiesIn(local), []);
});

test('killed in the middle of a copy: the next one begins anew, and nothing is left', async () => {
  const long = join(place, 'long.sqfs');
  const id = /^(\d+) .*\|FS /m.exec(tsrunOk(['image', 'objects', image]))?.[1] ?? '';
  writeFileSync(long, Buffer.from(tsrunOk(['image', 'dump', id, image]), 'latin1'));
  spawnSync('truncate', ['-s', '+400M', long]);
  const local = otherFileSystem('killed', statSync(long).size + size);
  if (local === undefined) return skip(NEEDS_ROOT);
  const env = { TSRUN_LOCAL: local };
  tsrunOk(['exec', long, 'true'], { env }); // its facts are found out beforehand
  const child = start(local, [long, 'true']);
  const ended = endOf(child);
  const partial = (): boolean => existsSync(join(local, 'staged')) && copiesIn(local).some((name) => name.endsWith('.partial'));
  for (const end = Date.now() + 20_000; !partial() && Date.now() < end; ) await new Promise((resolve) => setImmediate(resolve));
  child.kill('SIGKILL');
  assert.match(await ended, /^SIGKILL /);
  assert.ok(partial(), 'it was killed while it copied');
  assert.is(tsrunOk(['exec', '--stage', long, 'cat', '/opt/tool/data.txt'], { env }), 'from the image\n');
  assert.is(copiesIn(local).length, 1);
  assert.not.ok(partial());
});

test('in memory; not without memory for it', () => {
  const groups = '/sys/fs/cgroup/memory';
  tsrunOk(['exec', '--stage=memory', image, 'true']);
  const directory = `/dev/shm/tsrun-${user.uid}/staged`;
  assert.ok(readdirSync(directory).some((name) => name.includes(`-${statSync(image).ino}-`)));
  assert.is(statSync(directory).mode & 0o777, 0o700);
  run('/bin/rm', ['-r', `/dev/shm/tsrun-${user.uid}`]);

  const group = `${groups}/tsrun-stage-test-${process.pid}`;
  if (!isRoot() || !existsSync(`${groups}/memory.limit_in_bytes`)) return skip('a memory cgroup (version 1) has to be made');
  mkdirSync(group);
  try {
    const large = join(place, 'large.sqfs');
    const id = /^(\d+) .*\|FS /m.exec(tsrunOk(['image', 'objects', image]))?.[1] ?? '';
    writeFileSync(large, Buffer.from(tsrunOk(['image', 'dump', id, image]), 'latin1'));
    spawnSync('truncate', ['-s', '+100M', large]);
    tsrunOk(['exec', large, 'true']);
    writeFileSync(`${group}/memory.limit_in_bytes`, String(128 << 20));
    const script = `echo $$ > ${group}/tasks; exec setpriv --reuid ${user.uid} --regid ${user.gid} --init-groups --reset-env env TSRUN_LINGER=0 ${tsrunPath} exec --stage=memory "$@"`;
    const within = (path: string) => run('/bin/sh', ['-c', script, 'sh', path, 'true'], { as: 'root' });
    const refused = within(large);
    assert.is(refused.status, 125);
    assert.match(refused.stderr, /it has 10\d MB, and half of the memory that is free for this job is \d\d MB \(E_STAGE\)/);
    assert.is(within(image).status, 0, 'a small one fits');
    // The group's last processes leave with the server.
    for (const end = Date.now() + 20_000; readFileSync(`${group}/tasks`, 'utf8') !== '' && Date.now() < end; ) spawnSync('true');
  } finally {
    spawnSync('rmdir', [group]);
    run('/bin/rm', ['-rf', `/dev/shm/tsrun-${user.uid}`]);
  }
});

test("somebody else's directory is not used", () => {
  if (!isRoot()) return skip('a file of another user is needed');
  const local = join(place, 'foreign');
  mkdirSync(join(local, 'staged'), { recursive: true, mode: 0o777 });
  spawnSync('chmod', ['777', join(local, 'staged')]);
  const ran = tsrun(['exec', '--stage', image, 'true'], { env: { TSRUN_LOCAL: local } });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /cannot copy .* to this node: .*staged can be written by others.*E_STAGE/);
});

test('an image that lies in that file system is used as it is', () => {
  const local = join(place, 'same');
  assert.is(tsrunOk(['exec', '--stage', image, 'cat', '/opt/tool/data.txt'], { env: { TSRUN_LOCAL: local } }), 'from the image\n');
  assert.equal(copiesIn(local), []);
});

test('the cache verbs show and remove copies', () => {
  const local = otherFileSystem('cache', 2 * size);
  if (local === undefined) return skip(NEEDS_ROOT);
  const env = { TSRUN_LOCAL: local, TSRUN_STORE: join(place, 'store') };
  tsrunOk(['exec', '--stage', image, 'true'], { env });
  const [name = ''] = copiesIn(local);
  assert.ok(tsrunOk(['cache', 'list'], { env }).includes(`${local}/staged/${name}`));
  tsrunOk(['cache', 'clean', '--days', '1'], { env });
  assert.equal(copiesIn(local), [name]);
  tsrunOk(['cache', 'clean', '--all'], { env });
  assert.equal(copiesIn(local), []);
});

test.run();
