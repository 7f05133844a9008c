// time limit: 300 s
/** What steps of `tsrun build` may do, what becomes of them when the build dies, and what is believed of earlier builds. As an ordinary user. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { environmentOf, makeBusyboxTree, type Ran, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('steps of a build');
const place = scratch('steps');
const user = testUser();

const own = (path: string): void => {
  spawnSync('chown', ['-hR', `${user.uid}:${user.gid}`, path]);
};

const base = join(place, 'base');
mkdirSync(base);
makeBusyboxTree(base);
mkdirSync(join(base, 'etc'), { recursive: true });
writeFileSync(join(base, 'etc/passwd'), 'root::0:0:root:/:/bin/sh\napp::9:9:app:/:/bin/sh\n');
writeFileSync(join(base, 'etc/group'), 'root:x:0:\napp:x:9:\n');
own(base);

let count = 0;
/** A context with these files; returns its path. */
const context = (files: Readonly<Record<string, string>>): string => {
  const directory = join(place, `context-${++count}`);
  for (const [name, content] of Object.entries(files)) {
    const path = join(directory, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
  own(directory);
  return directory;
};

const space = join(place, 'space');
const env = { TSRUN_STORE: join(place, 'store'), TSRUN_TMPDIR: space, TSRUN_BUILD_IDS: 'single' };
const RANGES = { TSRUN_BUILD_IDS: 'ranges' };
const build = (directory: string, out: string, args: readonly string[] = [], more: Readonly<Record<string, string>> = {}): Ran =>
  tsrun(['build', '--force', ...args, join(place, out), directory], { env: { ...env, ...more }, cwd: directory });

const ok = (ran: Ran): Ran => {
  if (ran.status !== 0) throw new Error(`status ${ran.status} ${ran.signal ?? ''}\n${ran.stdout}${ran.stderr}`);
  return ran;
};

const inside = (out: string, ...command: readonly string[]): string =>
  tsrunOk(['exec', '--containall', '--pwd', '/', join(place, out), ...command], { env });

test('a result that may not have reached the disk before the machine was started anew is made again', () => {
  const own = { TSRUN_TMPDIR: join(place, 'boots') };
  const directory = context({ Dockerfile: `FROM ${base}\nRUN echo one > /one\nRUN echo two > /two\n` });
  ok(build(directory, 'boot.sif', [], own));
  const made = join(place, 'boots/build/single/made');
  const each = (change: (path: string) => void): void => {
    for (const name of readdirSync(made)) change(join(made, name));
  };
  each((path) => assert.ok(existsSync(join(path, 'synced')), path));
  each((path) => {
    const entry = JSON.parse(readFileSync(join(path, 'entry.json'), 'utf8'));
    assert.is(entry.boot, readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    writeFileSync(join(path, 'entry.json'), JSON.stringify({ ...entry, boot: 'another' }));
  });
  assert.match(ok(build(directory, 'boot.sif', [], own)).stderr, /2 steps \(2 cached\)/);
  each((path) => rmSync(join(path, 'synced')));
  assert.match(ok(build(directory, 'boot.sif', [], own)).stderr, /2 steps \(0 cached\)/);
  assert.match(ok(build(directory, 'boot.sif', [], own)).stderr, /2 steps \(2 cached\)/);
});

test('the steps before one that failed are synced too', () => {
  const own = { TSRUN_TMPDIR: join(place, 'failed') };
  assert.is(build(context({ Dockerfile: `FROM ${base}\nRUN echo one > /one\nRUN false\n` }), 'failed.sif', [], own).status, 125);
  const made = join(place, 'failed/build/single/made');
  assert.is(readdirSync(made).length, 1);
  for (const name of readdirSync(made)) assert.ok(existsSync(join(made, name, 'synced')));
});

const SU = `FROM ${base}
RUN mkdir -m 1777 /open && rm -f /bin/su && cp /bin/busybox /bin/su && chmod 4755 /bin/su
USER app
RUN id -u > /open/before  && /bin/su root -c 'id -u > /after; chown 3:4 /after'
`;

test('with the ids of /etc/subuid a user of a step becomes root of the step by su', () => {
  ok(build(context({ Dockerfile: SU }), 'su.sif', [], RANGES));
  assert.is(inside('su.sif', 'cat', '/open/before', '/after'), '9\n0\n');
  assert.match(tsrunOk(['image', 'ls', join(place, 'su.sif'), '/after'], { env }), /\s3\s+4\s/);
});

test('with one id a USER, and a step that fails, name /etc/subuid', () => {
  const ran = build(context({ Dockerfile: `FROM ${base}\nUSER app\nRUN test $(id -u) = 9\n` }), 'one.sif');
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /Dockerfile:3: there is one id only, .*\/etc\/subuid/);
  assert.match(ran.stderr, /hint: .*su, initdb.* \/etc\/subuid/);
});

for (const [name, more] of [
  ['one id', {}],
  ['many ids', RANGES],
] as const) {
  test(`${name}: a step may change all of /etc, also what it has of the host; the image and the host see nothing of that`, () => {
    const before = readFileSync('/etc/hosts', 'utf8');
    const recipe = `FROM ${base}
RUN test -s /etc/hosts && chown -R 5:6 /etc && chmod 640 /etc/hosts && echo 127.0.0.9 stranger >> /etc/hosts
RUN ! grep stranger /etc/hosts && test -w /etc/hosts
`;
    ok(build(context({ Dockerfile: recipe }), 'etc.sif', [], more));
    assert.match(tsrunOk(['image', 'ls', join(place, 'etc.sif'), '/etc'], { env }), /\s5\s+6\s.*\/etc\/passwd/);
    assert.not.match(tsrunOk(['image', 'ls', join(place, 'etc.sif'), '/etc'], { env }), /hosts/);
    assert.is(readFileSync('/etc/hosts', 'utf8'), before);
  });
}

/** Ends once the build says `word` on a line of its own. */
const until = async (child: ReturnType<typeof spawn>, word: string): Promise<void> => {
  let said = '';
  for await (const text of child.stderr ?? []) {
    said += text;
    if (said.split('\n').includes(`  ${word}`)) return;
  }
  throw new Error(said);
};

const processesOf = (word: string): string => spawnSync('pgrep', ['-af', word], { encoding: 'utf8' }).stdout;

for (const [name, who, more] of [
  ['root', '', {}],
  ['root', '', RANGES],
  ['another user', 'USER app\n', RANGES],
] as const) {
  test(`a build that is killed takes the processes of its step along: ${name}, ${more === RANGES ? 'many ids' : 'one id'}`, async () => {
    const directory = context({ Dockerfile: `FROM ${base}\n${who}RUN (setsid sleep 98764 &); echo is running; sleep 98764\n` });
    const child = spawn(tsrunPath, ['build', '--force', '--verbose', join(place, 'killed.sif'), directory], {
      cwd: directory,
      env: environmentOf({ env: { ...env, ...more } }),
      stdio: ['ignore', 'ignore', 'pipe'],
      uid: user.uid,
      gid: user.gid,
    });
    const ended = once(child, 'exit');
    await until(child, 'is running');
    assert.is.not(processesOf('sleep 98764'), '');
    child.kill('SIGKILL');
    await ended;
    // What the kernel sends needs a moment.
    const late = Date.now() + 10_000;
    while (processesOf('sleep 98764') !== '' && Date.now() < late);
    assert.is(processesOf('sleep 98764'), '');
    writeFileSync(join(directory, 'Dockerfile'), `FROM ${base}\nRUN true\n`);
    ok(build(directory, 'killed.sif', [], more));
    const ids = more === RANGES ? 'ranges' : 'single';
    assert.equal(readdirSync(join(space, 'build', ids, 'begun')), []);
  });
}

for (const [name, more] of [
  ['single', {}],
  ['ranges', RANGES],
] as const) {
  test(`${name} ids: what builds keep is listed by its size, and cleaned with all that belongs to other ids`, () => {
    const own = { TSRUN_TMPDIR: join(place, `kept-${name}`), TSRUN_STORE: join(place, `kept-store-${name}`), ...more };
    const recipe = `FROM ${base}
RUN --mount=type=cache,target=/kept echo mounted > /kept/file
RUN mkdir -m 700 /closed && dd if=/dev/zero of=/closed/file bs=1M count=2 && chown -R 9:9 /closed
`;
    const directory = context({ Dockerfile: recipe });
    ok(build(directory, 'kept.sif', [], own));
    const items = JSON.parse(tsrunOk(['cache', 'list', '--json'], { env: { ...env, ...own } })).items as readonly {
      readonly kind: string;
      readonly path: string;
      readonly size: number;
    }[];
    assert.is(items.filter(({ kind }) => kind === 'layer').length, 2);
    if (name === 'single') assert.ok(items.some(({ kind, size }) => kind === 'layer' && size === 2 << 20));
    assert.equal(
      items.filter(({ kind }) => kind === 'mount').map(({ size }) => size),
      ['mounted\n'.length],
    );
    tsrunOk(['cache', 'clean', '--days', '1'], { env: { ...env, ...own } });
    assert.match(ok(build(directory, 'kept.sif', [], own)).stderr, /2 steps \(2 cached\)/);
    tsrunOk(['cache', 'clean', '--all'], { env: { ...env, ...own } });
    const root = join(place, `kept-${name}`, 'build', name);
    for (const folder of ['made', 'layers', 'mounts']) assert.equal(readdirSync(join(root, folder)), [], folder);
    assert.match(ok(build(directory, 'kept.sif', [], own)).stderr, /2 steps \(0 cached\)/);
  });
}

test('what a build may stand on is not cleaned while it runs', async () => {
  const own = { TSRUN_TMPDIR: join(place, 'busy') };
  const directory = context({ Dockerfile: `FROM ${base}\nRUN touch /first\nRUN echo is running; sleep 98763\n` });
  const child = spawn(tsrunPath, ['build', '--force', '--verbose', join(place, 'busy.sif'), directory], {
    cwd: directory,
    env: environmentOf({ env: { ...env, ...own } }),
    stdio: ['ignore', 'ignore', 'pipe'],
    uid: user.uid,
    gid: user.gid,
  });
  const ended = once(child, 'exit');
  await until(child, 'is running');
  const cleaned = tsrun(['cache', 'clean', '--all'], { env: { ...env, ...own } });
  child.kill('SIGTERM');
  await ended;
  assert.match(cleaned.stderr, /a build works in .*busy\/build\/single: what is kept there stays/);
  assert.is(readdirSync(join(place, 'busy/build/single/made')).length, 1);
});

/** Builds at once, of recipes that differ in a word. */
const together = (
  line: (word: string) => string,
  own: Readonly<Record<string, string>>,
): Promise<readonly (readonly [number | null, string])[]> =>
  Promise.all(
    ['a', 'b'].map(
      (word) =>
        new Promise<readonly [number | null, string]>((resolve, reject) => {
          const directory = context({ Dockerfile: `FROM ${base}\n${line(word)}\n` });
          const child = spawn(tsrunPath, ['build', '--force', join(place, `together-${word}.sif`), directory], {
            cwd: directory,
            env: environmentOf({ env: { ...env, ...own } }),
            stdio: ['ignore', 'ignore', 'pipe'],
            uid: user.uid,
            gid: user.gid,
          });
          let stderr = '';
          child.stderr.on('data', (text: Buffer) => {
            stderr += text;
          });
          child.on('error', reject);
          child.on('close', (status) => resolve([status, stderr]));
        }),
    ),
  );

const ALONE = (sharing: string) => (word: string) =>
  `RUN --mount=type=cache,target=/c,id=one,mode=0750,sharing=${sharing} ls -ld /c | grep '^drwxr-x---' && test ! -e /c/busy && touch /c/busy && sleep 2 && rm /c/busy && echo ${word} >> /c/words`;

test('a cache that is locked has one step at a time, a private one is one of several, and a new one has the mode of the recipe', async () => {
  for (const [sharing, names] of [
    ['locked', ['6f6e65']],
    ['private', ['6f6e65', '6f6e65-1']],
  ] as const) {
    const own = { TSRUN_TMPDIR: join(place, `sharing-${sharing}`) };
    for (const [status, stderr] of await together(ALONE(sharing), own)) assert.is(status, 0, stderr);
    const mounts = join(place, `sharing-${sharing}`, 'build/single/mounts');
    assert.equal(readdirSync(mounts).sort(), names);
    const words = names.map((name) => readFileSync(join(mounts, name, 'words'), 'utf8')).join('');
    assert.equal(words.trim().split('\n').sort(), ['a', 'b']);
    assert.equal(readdirSync(join(place, `sharing-${sharing}`, 'build/single/keys')), []);
  }
});

/** Types the input once the program has written `prompt`. Returns all that stood on the terminal. Arguments: prompt, input, command. */
const PTY = `
import os, pty, sys
prompt, typed, command = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
said, sent = b'', False
while True:
    try:
        part = os.read(fd, 65536)
    except OSError:
        break
    if not part:
        break
    said += part
    if not sent and prompt in said:
        os.write(fd, typed)
        sent = True
os.write(1, said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

for (const term of ['dumb', 'xterm']) {
  test(`${term}: --debug-shell is a shell on the terminal, in the state in which the step failed`, () => {
    const directory = context({ Dockerfile: `FROM ${base}\nENV WORD=given\nWORKDIR /deep\nRUN echo state > left; exit 3\n` });
    const words = [tsrunPath, 'build', '--force', '--debug-shell', join(place, 'shell.sif'), directory];
    const typed = 'echo "<$(cat left) $WORD $(pwd) $(tty) $(id -u)>"; exit 0\n';
    const ran = spawnSync('python3', ['-c', PTY, 'tsrun build> ', typed, ...words], {
      cwd: directory,
      env: environmentOf({ env: { ...env, TERM: term } }),
      encoding: 'utf8',
      timeout: 60_000,
      uid: user.uid,
      gid: user.gid,
    });
    assert.match(ran.stdout, /<state given \/deep (?:\/dev\/\S+|not a tty) 0>/, ran.stderr);
    assert.match(ran.stdout, /the step failed: RUN echo state.*its exit status is 3 \(E_STEP\)/);
    assert.is(ran.status, 125);
    assert.not.ok(existsSync(join(place, 'shell.sif')));
    assert.equal(readdirSync(join(space, 'build/single/begun')), []);
  });
}

test.run();
