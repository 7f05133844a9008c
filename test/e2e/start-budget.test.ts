/**
 * What a start may cost: calls on the file systems of home, image and current directory (on a cluster each can be a journey to a server), and system
 * calls altogether. Counted by strace, on a warm start: the scope has a server, and nothing has to be made.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runsInOwnMounts } from '../helpers/own-mounts.ts';
import { makeBusyboxImage, scratch, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { isRoot, testUser } from '../helpers/user.ts';

const test = suite('the cost of a start');

type RunThere = Awaited<ReturnType<typeof runsInOwnMounts>>;
const runThere = await runsInOwnMounts();
const place = scratch('budget');
const { home, uid, gid } = testUser();
const image = join(place, 'images/image.sif');
const tree = join(place, 'tree');

test.before(() => {
  mkdirSync(join(place, 'images'));
  const made = makeBusyboxImage(place);
  spawnSync('mv', [made, image]);
});

type Call = { readonly name: string; readonly text: string };

type Where = { readonly there?: RunThere; readonly its?: string; readonly cwd?: string };

/** The system calls of one start, up to the exec of the payload. The second of two, so that the scope's server is there. */
const callsOf = (words: readonly string[], { there = runThere, its = home, cwd = its }: Where = {}): readonly Call[] => {
  const trace = join(place, `trace-${words.length}`);
  rmSync(trace, { force: true });
  const options = { cwd, env: { HOME: its, TSRUN_LINGER: '30' } };
  const first = there(tsrunPath, words, options);
  assert.is(first.status, 0, first.stderr);
  const ran = there('strace', ['-y', '-s', '4096', '-o', trace, '--', tsrunPath, ...words], options);
  assert.is(ran.status, 0, ran.stderr);
  const lines = readFileSync(trace, 'latin1').split('\n');
  const end = lines.findIndex((line) => line.startsWith('execve("/bin/true"'));
  assert.ok(end > 0, 'the payload was not started');
  return lines.slice(1, end).flatMap((text) => {
    const name = /^(\w+)\(/.exec(text)?.[1];
    return name === undefined ? [] : [{ name, text }];
  });
};

/**
 * True when a call names something at or below `path`, or a descriptor of it. Closing one asks nobody, nor does handing it to the server; openat2 looks
 * into the new root, and move_mount names the place there. What a descriptor's path is, /proc tells.
 */
const isAbout = ({ name, text }: Call, path: string): boolean =>
  !['close', 'fcntl', 'sendmsg', 'getcwd', 'openat2', 'move_mount'].includes(name) &&
  !text.startsWith('readlink("/proc/') &&
  new RegExp(`[<"]${path}[/">]`).test(text.replace(/AT_FDCWD<[^>]*>, "\//, '"/'));

test('a warm start of a SIF asks few things of the file systems of home, image and current directory', () => {
  if (!existsSync('/usr/bin/strace')) return skip('strace is not installed');
  const calls = callsOf(['exec', image, '/bin/true']).filter((call) => isAbout(call, home) || isAbout(call, image));
  const shown = calls.map((call) => call.text).join('\n');
  assert.ok(calls.length <= 7, `${calls.length} calls:\n${shown}`);
  assert.ok(calls.filter((call) => isAbout(call, image)).length <= 3, shown);
  // The home, being the current directory too, has to be looked at and entered; the first run has mounted it.
  assert.equal(
    calls.filter((call) => isAbout(call, home) && !call.text.includes('.config')).map((call) => call.name),
    ['statx', 'chdir'],
    shown,
  );
});

test('where they are three places of another file system, the home adds one call, whatever number of parts its path has', async () => {
  if (!existsSync('/usr/bin/strace') || !isRoot()) return skip('needs strace, and root to mount');
  const [its, cwd, images] = ['/media/home/group/user', '/media/project/run/1', '/media/images'];
  const there = await runsInOwnMounts(
    `mount -t tmpfs -o mode=755 none /media; mkdir -p ${its} ${cwd} ${images}; cp ${image} ${images}; chown -R ${uid}:${gid} /media/*`,
  );
  const words = ['exec', `${images}/image.sif`, '/bin/true'];
  callsOf(words, { there, its, cwd });
  const calls = callsOf(words, { there, its, cwd }).filter((call) => isAbout(call, '/media/\\w+'));
  assert.equal(
    calls.map((call) => call.name).sort(),
    ['chdir', 'open', 'openat', 'openat', 'pread64', 'pread64', 'statx', 'statx'],
    calls.map((call) => call.text).join('\n'),
  );
});

test('mounts of the host that the run has nothing to do with add no call', async () => {
  if (!existsSync('/usr/bin/strace') || !isRoot()) return skip('needs strace, and root to mount');
  const there = await runsInOwnMounts(
    'mount -t tmpfs -o mode=755 none /media; for i in $(seq 300); do mkdir /media/$i; mount -t tmpfs none /media/$i; done',
  );
  const namesOf = (where: Where): readonly string[] => callsOf(['exec', image, '/bin/true'], where).map((call) => call.name);
  namesOf({ there });
  assert.equal(namesOf({ there }), namesOf({}));
});

test('it takes a bounded number of system calls, with mounts that it shares and with mounts of its own', () => {
  if (!existsSync('/usr/bin/strace')) return skip('strace is not installed');
  const shared = callsOf(['exec', image, '/bin/true']);
  const own = callsOf(['exec', '--writable-tmpfs', image, '/bin/true']);
  assert.ok(shared.length <= 100, `${shared.length} calls`);
  assert.ok(own.length > 150 && own.length <= 260, `${own.length} calls`);
});

test('a start from a directory looks at few files of it', () => {
  if (!existsSync('/usr/bin/strace')) return skip('strace is not installed');
  const calls = callsOf(['exec', tree, '/bin/true']).filter((call) => isAbout(call, tree));
  assert.ok(calls.length <= 90, `${calls.length} calls:\n${calls.map((call) => call.text).join('\n')}`);
});

test.run();
