// time limit: 900 s
/** What steps of `tsrun build` may do, what becomes of them when the build dies, and what is believed of earlier builds. As an ordinary user. */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { ok, onTerminal, RANGES, recipesIn } from '../helpers/recipes.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('steps of a build');
const { user, place, space, base, env, context, build, buildPlain, start, inside } = recipesIn('steps', (tree) => {
  writeFileSync(join(tree, 'etc/passwd'), 'root::0:0:root:/:/bin/sh\napp::9:9:app:/:/bin/sh\n');
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\napp:x:9:\n');
});

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

test('the compressed blocks of images built before serve the next one, whose bytes do not depend on them', () => {
  const own = { TSRUN_TMPDIR: join(place, 'blocks') };
  const recipe = (word: string) => ({ Dockerfile: `FROM ${base}\nRUN seq 300000 > /large\nRUN echo ${word} > /word\n` });
  const image = join(place, 'blocks.sif');
  ok(build(context(recipe('one')), 'blocks.sif', [], own));
  const lists = join(place, 'blocks/build/single/blocks');
  assert.is(readdirSync(lists).length, 1);
  const second = context(recipe('two'));
  ok(build(second, 'blocks.sif', [], own));
  const withBlocks = readFileSync(image);
  const listed = JSON.parse(tsrunOk(['cache', 'list', '--json'], { env: { ...env, ...own } })).items as readonly {
    readonly kind: string;
  }[];
  assert.is(listed.filter(({ kind }) => kind === 'blocks').length, 1);
  tsrunOk(['cache', 'clean', '--all'], { env: { ...env, ...own } });
  assert.equal(readdirSync(lists), []);
  ok(build(second, 'blocks.sif', [], own));
  assert.ok(readFileSync(image).equals(withBlocks));
  // Nothing of them is used when the build is to be new; one that is damaged does no harm.
  const [list = ''] = readdirSync(lists);
  writeFileSync(join(lists, list), readFileSync(join(lists, list)).fill(7, 0, 100));
  for (const args of [[], ['--no-cache']]) {
    ok(build(second, 'blocks.sif', args, own));
    assert.ok(readFileSync(image).equals(withBlocks));
  }
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

/** Runs a command with a descriptor that is open far above the others. */
const HIGH = 'import os, sys; os.dup2(0, 251); os.set_inheritable(251, True); os.execv(sys.argv[1], sys.argv[1:])';

const SAYING = `FROM base
RUN echo one > /dev/stdout && echo two | tee /dev/stderr && ln -s /dev/stderr /log && echo three >> /log
USER app
RUN echo four > /dev/stderr; echo five > /dev/stdout; ls /proc/self/fd | tr '\\n' ' '; echo; false
`;

for (const [name, more] of [
  ['one id', {}],
  ['many ids', RANGES],
] as const) {
  test(`${name}: a step writes to its outputs by name, whoever it has become, and has no other descriptor of the build`, () => {
    const directory = context({ Dockerfile: SAYING.replace('base', base) });
    const words = ['build', '--force', join(place, 'saying.sif'), directory];
    // Descriptors of the caller: in a shell, and so that Node takes no notice of them.
    const command = ['sh', '-c', 'exec 7< /dev/null; exec "$@"', 'sh', 'python3', '-c', HIGH, tsrunPath, ...words];
    const ran = run(command[0] as string, command.slice(1), { env: { ...env, ...more }, cwd: directory });
    assert.is(ran.status, 125);
    for (const said of ['four', 'five', '0 1 2 3']) assert.match(ran.stderr, new RegExp(`\\n {2}${said} ?\\n`), ran.stderr);
  });
}

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
const until = async (child: ChildProcess, word: string): Promise<void> => {
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
    const child = start(directory, 'killed.sif', ['--verbose'], more);
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
  const child = start(directory, 'busy.sif', ['--verbose'], own);
  const ended = once(child, 'exit');
  await until(child, 'is running');
  const cleaned = tsrun(['cache', 'clean', '--all'], { env: { ...env, ...own } });
  child.kill('SIGTERM');
  await ended;
  assert.match(cleaned.stderr, /a build works in .*busy\/build\/single, .*what is kept there stays/);
  assert.is(readdirSync(join(place, 'busy/build/single/made')).length, 1);
});

for (const [name, more] of [
  ['one id', {}],
  ['many ids', RANGES],
] as const) {
  test(`${name}: of a secret nothing stays on the host when the build is killed`, async () => {
    const mount = 'RUN --mount=type=secret,id=word,target=/etc/word';
    const recipe = `FROM ${base}\n${mount} grep -q very-silent /etc/word && echo is running && sleep 98762\n`;
    const directory = context({ Dockerfile: recipe, secret: 'very-silent' });
    const own = { ...more, TSRUN_TMPDIR: join(place, `secret-${more === RANGES}`) };
    const child = start(directory, 'secret-killed.sif', ['--verbose', '--secret', 'id=word,src=secret'], own);
    const ended = once(child, 'exit');
    await until(child, 'is running');
    const held = spawnSync('grep', ['-rls', 'very-silent', '/dev/shm', own.TSRUN_TMPDIR], { encoding: 'utf8' }).stdout;
    child.kill('SIGKILL');
    await ended;
    assert.is(held, '');
  });
}

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
          const child = start(directory, `together-${word}.sif`, [], own);
          let stderr = '';
          child.stderr?.on('data', (text: Buffer) => {
            stderr += text;
          });
          child.on('error', reject);
          child.on('close', (status) => resolve([status, stderr]));
        }),
    ),
  );

/** Alone in its cache for as long as `meanwhile` takes. */
const ALONE = (sharing: string, meanwhile: (word: string) => string) => (word: string) =>
  `RUN --mount=type=cache,target=/c,id=one,mode=0750,sharing=${sharing} --mount=type=cache,target=/both,id=both ls -ld /c | grep '^drwxr-x---' && test ! -e /c/busy && touch /c/busy && ${meanwhile(word)} && rm /c/busy && echo ${word} >> /c/words`;

test('a cache that is locked has one step at a time, a private one is one of several, and a new one has the mode of the recipe', async () => {
  const metTheOther = (word: string): string => `touch /both/${word} && until [ -e /both/a -a -e /both/b ]; do sleep 0.1; done`;
  for (const [sharing, meanwhile, names] of [
    ['locked', () => 'sleep 2', ['6f6e65']],
    ['private', metTheOther, ['6f6e65', '6f6e65-1']],
  ] as const) {
    const own = { TSRUN_TMPDIR: join(place, `sharing-${sharing}`) };
    for (const [status, stderr] of await together(ALONE(sharing, meanwhile), own)) assert.is(status, 0, stderr);
    const mounts = join(place, `sharing-${sharing}`, 'build/single/mounts');
    assert.equal(readdirSync(mounts).sort(), ['626f7468', ...names]);
    const words = names.map((name) => readFileSync(join(mounts, name, 'words'), 'utf8')).join('');
    assert.equal(words.trim().split('\n').sort(), ['a', 'b']);
    assert.equal(readdirSync(join(place, `sharing-${sharing}`, 'build/single/keys')), []);
  }
});

const OWNED = `FROM ${base}
USER app
RUN --mount=type=cache,target=/kept,uid=9,gid=8,mode=0700 \
    --mount=type=secret,id=word,uid=9,gid=8,mode=0400 \
    --mount=type=secret,id=word,target=/etc/word,uid=9,gid=8,mode=0400 \\
    grep -q silence /run/secrets/word /etc/word && touch /kept/mine && stat -c '%u %g %a' /run/secrets/word /etc/word /kept
RUN --mount=type=cache,target=/kept,uid=9,gid=8,mode=0700 test -e /kept/mine && test ! -e /run/secrets/word
`;

for (const [name, more, owners] of [
  ['one id', {}, '0 0'],
  ['many ids', RANGES, '9 8'],
] as const) {
  test(`${name}: secrets and new caches are for the user that the recipe names`, () => {
    const directory = context({ Dockerfile: OWNED, secret: 'silence' });
    const args = ['--verbose', '--secret', 'id=word,src=secret'];
    const ran = ok(build(directory, 'owned.sif', args, { ...more, TSRUN_TMPDIR: join(place, `owned-${name}`) }));
    const seen = ran.stderr.split('\n').filter((line) => /^ {2}\d+ \d+ \d+$/.test(line));
    assert.equal(seen, [`  ${owners} 400`, `  ${owners} 400`, `  ${owners} 700`]);
  });
}

for (const term of ['dumb', 'xterm']) {
  test(`${term}: --debug-shell is a shell on the terminal, in the state in which the step failed; who waits for it has the terminal then`, () => {
    const directory = context({ Dockerfile: `FROM ${base}\nENV WORD=given\nWORKDIR /deep\nRUN echo state > left; exit 3\n` });
    const words = onTerminal('tsrun build> ', 'echo "<$(cat left) $WORD $(pwd) $(tty) $(id -u)>"; exit 0\nafter\n', [
      ...['sh', '-c', '"$@"; status=$?; read answer; echo "read <$answer>"; exit $status', 'sh'],
      ...[tsrunPath, 'build', '--force', '--debug-shell', join(place, 'shell.sif'), directory],
    ]);
    const ran = run(words[0] ?? '', words.slice(1), { env: { ...env, TERM: term }, cwd: directory });
    assert.match(ran.stdout, /<state given \/deep (?:\/dev\/\S+|not a tty) 0>/, ran.stderr);
    assert.match(ran.stdout, /the step failed: RUN echo state.*its exit status is 3 \(E_STEP\)/);
    assert.match(ran.stdout, /read <after>/);
    assert.is(ran.status, 125);
    assert.not.ok(existsSync(join(place, 'shell.sif')));
    assert.equal(readdirSync(join(space, 'build/single/begun')), []);
  });
}

test('a debug shell that gives back the terminal to whoever had it sees who that was', () => {
  if (!existsSync('/bin/dash')) return skip('there is no dash, which says so where it does not');
  const directory = context({ Dockerfile: `FROM ${base}\nCOPY dash /\nRUN ln -sf dash /bin/sh\nRUN exit 3\n` });
  const libraries = run('ldd', ['/bin/dash']).stdout.match(/\/\S+/g) ?? [];
  for (const path of ['/bin/dash', ...libraries]) {
    mkdirSync(dirname(join(directory, 'dash', path)), { recursive: true });
    copyFileSync(path, join(directory, 'dash', path));
  }
  run('chown', ['-R', user.name, directory], { as: 'root' });
  const words = onTerminal('tsrun build> ', 'echo "<$0>"; exit 0\n', [
    tsrunPath,
    ...['build', '--force', '--debug-shell', join(place, 'dash.sif'), directory],
  ]);
  const ran = run(words[0] ?? '', words.slice(1), { env, cwd: directory });
  assert.match(ran.stdout, /<\S*sh>/, ran.stderr);
  assert.not.match(ran.stdout, /process group/);
  assert.is(ran.status, 125);
});

const MANY = `FROM ${base} AS first
RUN mkdir -m 0700 /made && echo one > /made/file && chown -R 9:9 /made && ln /made/file /made/linked && ln -s file /made/link && chown -h 3:4 /made/link
COPY --chown=7:8 word /copied/word
RUN rm -r /usr/share && echo two > /made/two && touch -d @1000 /made/old

FROM first AS second
RUN test ! -e /usr/share && mkdir /made/more

FROM ${base}
WORKDIR /work
RUN mkdir -m 1777 /open
COPY --chown=9:9 --from=first /made /from
COPY --from=second / /all/
USER app
RUN --mount=type=cache,target=/kept/deep --mount=type=tmpfs,target=/var/tmp-here touch /open/mine /var/tmp-here/x && test -d /kept/deep
USER root
RUN rm -f /etc/resolv.conf 2>/dev/null; mkdir -p /kept/own && chown 5:6 /kept/own && ln -s own /kept/link && chown -h 3:4 /kept/link && test -s /etc/hosts && grep -q proc /proc/mounts
`;

for (const [name, more] of [
  ['one id', {}],
  ['many ids', RANGES],
] as const) {
  test(`${name}: where the kernel makes no overlay, stages are built in place, said once, with the same image`, () => {
    const directory = context({ Dockerfile: MANY, word: 'word\n' });
    const id = name.replace(' ', '-');
    ok(build(directory, `layers-${id}.sif`, [], more));
    const ran = ok(buildPlain(id, directory, `plain-${id}.sif`, [], more));
    assert.is(ran.stderr.match(/the next build begins with the first step again/g)?.length, 1, ran.stderr);
    const diff = tsrun(['image', 'diff', join(place, `layers-${id}.sif`), join(place, `plain-${id}.sif`)], { env });
    assert.is(diff.status, 0, diff.stdout + diff.stderr);
    assert.match(inside(`plain-${id}.sif`, 'cat', '/from/linked', '/from/two', '/all/copied/word'), /^one\ntwo\nword\n$/);
    const listed = tsrunOk(['image', 'ls', join(place, `plain-${id}.sif`), '/from'], { env });
    assert.match(listed, /\s9\s+9\s.*\/from\/file/);
    assert.not.match(tsrunOk(['image', 'ls', join(place, `plain-${id}.sif`), '/kept'], { env }), /deep/);
    // Of the workplaces nothing is left.
    for (const kind of ['single', 'ranges']) {
      const begun = join(place, `under-${id}/d/build/${kind}/begun`);
      if (existsSync(begun)) assert.equal(readdirSync(begun), []);
    }
  });
}

test('where the kernel makes no overlay, a step that fails leaves nothing; and there as anywhere, a secret does not come to the image', () => {
  const failed = buildPlain('failed', context({ Dockerfile: `FROM ${base}\nRUN mkdir -m 0 /closed && false\n` }), 'no.sif');
  assert.is(failed.status, 125);
  assert.match(failed.stderr, /the step failed: RUN mkdir/, failed.stderr);
  assert.equal(readdirSync(join(place, 'under-failed/d/build/single/begun')), []);
  const recipe = (target: string) =>
    `FROM ${base}\nRUN --mount=type=secret,id=word,target=${target} grep -q silence ${target} && (chown -R 3:4 /root 2>/dev/null || true)\n`;
  const given = ['--secret', 'id=word,src=secret'];
  for (const target of ['/run/secrets/word', '/root/word']) {
    for (const ranges of [{}, RANGES]) {
      const directory = context({ Dockerfile: recipe(target), secret: 'silence' });
      ok(build(directory, 'secret.sif', given, ranges));
      assert.not.match(tsrunOk(['image', 'ls', join(place, 'secret.sif'), '/root'], { env }), /word/);
      ok(buildPlain('secret', directory, 'secret.sif', given, ranges));
      assert.not.match(tsrunOk(['image', 'ls', join(place, 'secret.sif'), '/root'], { env }), /word/);
    }
  }
});

test.run();
