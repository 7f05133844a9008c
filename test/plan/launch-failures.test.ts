/** What the user reads when the launcher could not carry out an op. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { explainFailure, parseFailure } from '../../src/plan/failure.ts';
import type { Op } from '../../src/plan/ops.ts';
import { failure, plan, start } from '../../src/run/start.ts';
import { machine } from '../helpers/machine.ts';
import { worldOf } from '../helpers/planning.ts';

const test = suite('failures of the launcher');

const PLAN: Op[] = [
  { op: 'bind', source: '/data', target: '/mnt', flags: [], why: '-B' },
  { op: 'chdir', path: '/w', why: 'the current directory' },
  { op: 'bind_cwd', target: '/w', flags: [], why: 'the current directory' },
  { op: 'image_mount', handle: 0, path: '/x.sif', offset: 0, size: 1, why: '' },
  { op: 'bind', source: '/more', target: '/mnt/a/b', flags: [], why: '-B' },
];
const told = (index: number, op: string, errno: number, step: string, detail: string, files: Record<string, string> = {}) =>
  explainFailure(machine({ files }), { ops: PLAN }, parseFailure(`${index}\0${op}\0${errno}\0${step}\0${detail}\0`));

const BUILD: Op[] = [
  { op: 'userns_ranges', newuidmap: '/usr/bin/newuidmap', newgidmap: '/usr/bin/newgidmap', uidMap: '0 1 1', gidMap: '0 1 1', why: '' },
  { op: 'upper', directory: '/u', work: '/w', why: '' },
];

test('a failing build step: ranges and overlay are named', () => {
  const of = (text: string) => explainFailure(machine({}), { ops: BUILD }, parseFailure(text));
  const ranges = of('0\0userns_ranges\x001\0enter a user namespace\0/usr/bin/newuidmap cannot write the uid_map "0 1 1": not allowed\0');
  assert.is(ranges.code, 'E_SUBUID');
  assert.match(ranges.message, /newuidmap cannot write the uid_map "0 1 1": not allowed/);
  const overlay = of('2\0root\x0022\0make the root\0an overlay that keeps what is written in /u\0');
  assert.is(overlay.code, 'E_OVERLAY');
  assert.match(overlay.message, /written in \/u: /);
  assert.is(of('2\0unshare\x002\0merge the layers\0/u\0').code, 'E_OVERLAY');
});

const FAILURES: readonly [string, Parameters<typeof told>, string, RegExp, number][] = [
  [
    'a source that vanished',
    [0, 'bind', 2, 'find the source', '/data'],
    'E_BIND_SOURCE',
    /cannot mount \/data on \/mnt: source does not exist/,
    125,
  ],
  ['a source out of reach', [0, 'bind', 13, 'find the source', '/data'], 'E_BIND_SOURCE', /may not reach/, 125],
  [
    'a target below another mount',
    [0, 'bind', 2, 'open the target', '/mnt'],
    'E_BIND_TARGET',
    /cannot mount \/data on \/mnt: the target is missing/,
    125,
  ],
  [
    'a target that a bind lacks',
    [4, 'bind', 2, 'open the target', '/mnt/a/b'],
    'E_BIND_TARGET',
    /\/data is shown at \/mnt, and has no a\/b/,
    125,
  ],
  [
    'a directory on a file',
    [0, 'bind', 20, 'prepare the target', '/mnt is not a directory, what is to be mounted on it is one'],
    'E_BIND_TARGET',
    /the target is a file, the source a directory/,
    125,
  ],
  ['a file in the way', [0, 'bind', 20, 'prepare the target', '/mnt/x (at /mnt)'], 'E_BIND_TARGET', /a part of the target is a file/, 125],
  [
    'a current directory that the image has too',
    [2, 'bind_cwd', 17, 'prepare the target', '/w'],
    'E_CWD',
    /cannot start in \/w: the image has its own/,
    125,
  ],
  ['a closed current directory', [2, 'bind_cwd', 13, 'find the source', 'the working directory'], 'E_CWD', /you may not look into it/, 125],
  ['an option behind the image', [0, 'exec', 2, 'run the program', '--pwd: there is no such file'], 'E_NOT_FOUND', /cannot run --pwd/, 127],
  [
    'a file on a directory',
    [0, 'bind', 21, 'prepare the target', '/mnt is a directory'],
    'E_BIND_TARGET',
    /the target is a directory/,
    125,
  ],
  ['a read-only parent', [0, 'bind', 30, 'prepare the target', '/mnt'], 'E_BIND_TARGET', /read-only/, 125],
  [
    'a directory to start in that is not there',
    [1, 'chdir', 2, 'enter the directory', '/w'],
    'E_CWD',
    /cannot start in \/w: there is no such directory/,
    125,
  ],
  ['a current directory that vanished', [2, 'bind_cwd', 2, 'find the source', '.'], 'E_CWD', /does not exist any more/, 125],
  [
    'a command that is not there',
    [9, 'exec', 2, 'run the program', 'foo: it is in no directory of PATH (/bin)'],
    'E_NOT_FOUND',
    /cannot run foo: it is in no directory of PATH/,
    127,
  ],
  [
    'a command that may not be executed',
    [9, 'exec', 13, 'run the program', '/x: it is not executable'],
    'E_NOT_EXECUTABLE',
    /cannot run \/x: it is not executable/,
    126,
  ],
  [
    'a program for another machine',
    [9, 'exec', 8, 'run the program', '/x: it is a program for aarch64, this machine is x86_64'],
    'E_NOT_EXECUTABLE',
    /aarch64/,
    126,
  ],
  [
    'too many arguments',
    [9, 'exec', 7, 'run the program', '/x: its arguments and environment are longer than the kernel takes'],
    'E_LAUNCH',
    /longer than the kernel takes/,
    125,
  ],
  ['a full disk', [3, 'image_extracted', 28, 'extract the image', '/tmp/x'], 'E_NO_SPACE', /no space left/, 125],
  ['a used-up quota', [3, 'image_extracted', 122, 'extract the image', '/tmp/x'], 'E_NO_SPACE', /quota/, 125],
  ['no memory', [3, 'image_mount', 12, 'read the image', 'x'], 'E_NO_MEMORY', /out of memory/, 125],
  ['FUSE that does not work', [3, 'image_mount', 19, 'use FUSE', '/dev/fuse'], 'E_FUSE', /cannot mount \/x\.sif/, 125],
  [
    'an image that is damaged',
    [3, 'image_mount', 22, 'read the image', 'superblock: bad block size'],
    'E_IMAGE_READ',
    /superblock: bad block size/,
    125,
  ],
  [
    'an image server that may not make a user namespace',
    [3, 'image_mount', 1, 'create a user namespace', 'unshare'],
    'E_USERNS',
    /cannot create a user namespace: the kernel refuses it/,
    125,
  ],
  [
    'a server that ended',
    [3, 'image_mount', 5, 'reach the image server', 'it died while starting'],
    'E_SERVER',
    /it died while starting/,
    125,
  ],
  [
    'a server that hung up',
    [3, 'image_mount', 104, 'reach the image server', 'it ended each time when it was asked'],
    'E_SERVER',
    /it ended each time when it was asked: the connection was cut/,
    125,
  ],
  [
    'a runtime directory of somebody else',
    [3, 'scope', 1, 'use the runtime directory', '/tmp/tsrun-1 belongs to user 0'],
    'E_RUNTIME_DIR',
    /belongs to user 0/,
    125,
  ],
  [
    'a damaged image, met wherever it is',
    [9, 'file', 117, 'make', '/etc/passwd: /etc'],
    'E_IMAGE_READ',
    /cannot read the image \/x\.sif: its data is damaged/,
    125,
  ],
  ['a bind source whose storage fails', [0, 'bind', 5, 'find the source', '/data'], 'E_BIND_SOURCE', /\/data/, 125],
  ['a hidden /proc', [9, 'proc', 1, 'mount', 'proc on /proc'], 'E_MOUNT', /\/proc around is hidden/, 125],
  ['an old kernel', [9, 'root', 22, 'make the root', 'overlay'], 'E_MOUNT', /overlay/, 125],
  ['something unforeseen', [9, 'mqueue', 99, 'mount', 'mqueue'], 'E_LAUNCH', /cannot mount: mqueue: error 99/, 125],
];
for (const [what, failed, code, text, status] of FAILURES) {
  test(`failure: ${what}`, () => {
    const error = told(...failed);
    assert.is(error.code, code);
    assert.match(error.message, text);
    assert.is(error.exitCode, status);
  });
}

test('failure: user namespaces that are switched off name the switch and the command', () => {
  const error = told(9, 'userns', 1, 'enter a user namespace', 'make one', { '/proc/sys/kernel/unprivileged_userns_clone': '0\n' });
  assert.is(error.code, 'E_USERNS');
  assert.match(error.hint ?? '', /an administrator has to run: .*unprivileged_userns_clone=1/);
  assert.is(told(9, 'unshare', 28, 'make namespaces', 'unshare').code, 'E_USERNS');
  assert.match(told(9, 'scope', 1, 'create a user namespace', 'unshare').why, /the kernel refuses/);
});

test('failure: the words come from the plan that was made in the same process', () => {
  const host = worldOf('exec -B /data:/mnt /images/x.sqfs p', { files: { '/data/x': '' } });
  assert.is(start(host, '').flat()[0], 'plan');
  const planOps = plan(host, '');
  const index = planOps.kind === 'plan' ? planOps.plan.ops.findIndex((op) => op.op === 'bind' && op.target === '/mnt') : -1;
  const [kind, text, status] = failure(host, `${index}\0bind\x002\0find the source\0/data\0`).flat();
  assert.equal([kind, status], ['fail', 125]);
  assert.match(String(text), /cannot mount \/data on \/mnt: source does not exist \(E_BIND_SOURCE\)\nhint: .*-B/);
});

test.run();
