/** `tsrun build OUT RECIPE` as an ordinary user: steps, copies, stages, cache, failures. With one id, and with those of /etc/subuid. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loginEnvironment, run, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { ok, recipesIn } from '../helpers/recipes.ts';

const test = suite('recipes are built');
const { user, place, space, base, env, own, context, build, inside, listing, assertClean } = recipesIn('recipes', (tree) => {
  symlinkSync('../../../../../../../../../../etc', join(tree, 'outside'));
});

const FULL = `FROM ${base} AS maker
ENV GREETING=hello
RUN echo "$GREETING" > /made; chown 5:6 /made; chmod 4751 /made; mkdir -m 0 /closed; ln -s made /link; chown -h 7:8 /link
RUN chmod 700 /closed && touch /closed/in && chmod 0 /closed && mkdir -p /out/sub && echo art > /out/sub/file

FROM ${base} AS unused
RUN false

FROM ${base}
WORKDIR /job/deep
COPY --chown=3:4 --chmod=640 a.txt dir/ ./data/
COPY --from=maker /out /made /copied/
COPY a.txt /outside/from-the-recipe
COPY <<EOF /inline
written $WORD in the recipe
EOF
ARG WORD=here
RUN echo "$WORD" > word && rm -rf /opt && mkdir /opt && id -u > uid && test -z "$SECRET_OF_THE_HOST"
ENV PATH=/job/bin:$PATH
LABEL maker="some body"
USER 9:9
ENTRYPOINT ["/bin/echo"]
CMD ["word:", "default"]
`;

test('RUN, COPY, WORKDIR, ENV and the rest do what they do in Docker, and owners are those the steps saw', () => {
  const directory = context({ Dockerfile: FULL, 'a.txt': 'A\n', 'dir/b': 'B\n', 'dir/in/c': 'C\n' });
  const ran = ok(build(directory, 'full.sif', [], { SECRET_OF_THE_HOST: 'x' }));
  assert.not.match(ran.stderr, /RUN false/);
  assert.equal(listing('full.sif', '/job'), [
    'drwxr-xr-x 0:0 /job',
    'drwxr-xr-x 0:0 /job/deep',
    'drwxr-xr-x 3:4 /job/deep/data',
    '-rw-r----- 3:4 /job/deep/data/a.txt',
    '-rw-r----- 3:4 /job/deep/data/b',
    'drw-r----- 3:4 /job/deep/data/in',
    '-rw-r----- 3:4 /job/deep/data/in/c',
    '-rw-r--r-- 0:0 /job/deep/uid',
    '-rw-r--r-- 0:0 /job/deep/word',
  ]);
  assert.is(inside('full.sif', 'cat', '/job/deep/word', '/job/deep/uid', '/inline'), 'here\n0\nwritten  in the recipe\n');
  assert.is(inside('full.sif', 'cat', '/copied/sub/file', '/copied/made'), 'art\nhello\n');
  assert.equal(listing('full.sif', '/opt'), ['drwxr-xr-x 0:0 /opt']);
  // Zip archives, and so Python's wheels, know no time before 1980.
  assert.match(tsrunOk(['image', 'ls', join(place, 'full.sif'), '/inline'], { env }), /1980-01-01T00:00:00Z \/inline/);
  // The link of the image leads to its own /etc.
  assert.is(inside('full.sif', 'cat', '/etc/from-the-recipe'), 'A\n');
  assert.not.ok(existsSync('/etc/from-the-recipe'));
  assert.is(tsrunOk(['run', join(place, 'full.sif')], { env }), 'word: default\n');
  assert.match(tsrunOk(['inspect', join(place, 'full.sif')], { env }), /maker: some body/);
  assertClean('full.sif');
});

test('as in Docker: WORKDIR is made for the user, a pattern may stand for nothing, and --parents counts from a "/./" on', () => {
  const steps = [
    'WORKDIR /before',
    'USER 9:8',
    'WORKDIR /own/deep',
    'COPY a.txt lock* ./',
    'COPY --parents dir/./in/c dir/b /par/',
    'COPY --from=0 /n[o] ./',
  ];
  const directory = context({
    Dockerfile: `FROM ${base}\nFROM ${base}\n${steps.join('\n')}\n`,
    'a.txt': 'A\n',
    'dir/b': '',
    'dir/in/c': '',
  });
  const ran = ok(build(directory, 'as-docker.sif'));
  for (const pattern of ['6: nothing matches lock\\*', '8: nothing matches /n\\[o\\]'])
    assert.match(ran.stderr, new RegExp(`^tsrun: .*Dockerfile:${pattern}, so nothing is copied for it$`, 'm'));
  assert.equal(listing('as-docker.sif', '/own'), ['drwxr-xr-x 9:8 /own', 'drwxr-xr-x 9:8 /own/deep', '-rw-r--r-- 0:0 /own/deep/a.txt']);
  assert.equal(listing('as-docker.sif', '/before'), ['drwxr-xr-x 0:0 /before']);
  assert.is(inside('as-docker.sif', 'find', '/par', '-type', 'f'), '/par/dir/b\n/par/in/c\n');
});

test('owners, set-id bits and modes that keep everybody out reach the image', () => {
  ok(build(context({ Dockerfile: FULL, 'a.txt': '', 'dir/b': '' }), 'maker.sif', ['--target', 'maker']));
  assert.equal(listing('maker.sif', '/closed'), ['d--------- 0:0 /closed', '-rw-r--r-- 0:0 /closed/in']);
  assert.equal(listing('maker.sif', '/made'), ['-rwsr-x--x 5:6 /made']);
  assert.match(listing('maker.sif', '/link')[0] ?? '', /^lrwxrwxrwx 7:8 \/link/);
});

test('one id and the ids of /etc/subuid give the same image', () => {
  if (!readFileSync('/etc/subuid', 'utf8').includes(`${user.name}:`)) throw new Error(`no line for ${user.name} in /etc/subuid`);
  const directory = context({
    Dockerfile: `${FULL}USER root\nRUN env | sort > /variables && cat "$APT_CONFIG" > /apt.conf\n`,
    'a.txt': 'A\n',
    'dir/b': 'B\n',
    'dir/in/c': 'C\n',
  });
  ok(build(directory, 'one.sif'));
  ok(build(directory, 'many.sif', [], { TSRUN_BUILD_IDS: 'ranges' }));
  assert.is(tsrunOk(['image', 'diff', join(place, 'one.sif'), join(place, 'many.sif')], { env }), '');
  assertClean('many.sif');
});

const THREE = (last: string): string => `FROM ${base}
RUN echo one > /one
RUN date +%s%N > /stamp
RUN ${last}
`;

test('a second build takes every step from the cache and gives the same bytes; a changed step keeps those before it', () => {
  const directory = context({ Dockerfile: THREE('echo three > /three') });
  assert.match(ok(build(directory, 'first.sif')).stderr, /3 steps \(0 cached\)/);
  assert.match(ok(build(directory, 'second.sif')).stderr, /3 steps \(3 cached\)/);
  assert.ok(readFileSync(join(place, 'first.sif')).equals(readFileSync(join(place, 'second.sif'))));
  const changed = context({ Dockerfile: THREE('echo four > /three') });
  assert.match(ok(build(changed, 'changed.sif')).stderr, /3 steps \(2 cached\)/);
  assert.is(inside('changed.sif', 'cat', '/three'), 'four\n');
  assert.is(inside('changed.sif', 'cat', '/stamp'), inside('first.sif', 'cat', '/stamp'));
});

test('--no-cache does every step again, and what stands on a step made anew is made anew', () => {
  const directory = context({ Dockerfile: THREE('cat /stamp > /copy') });
  ok(build(directory, 'cached.sif'));
  assert.match(ok(build(directory, 'anew.sif', ['--no-cache'])).stderr, /3 steps \(0 cached\)/);
  assert.is.not(inside('anew.sif', 'cat', '/copy'), inside('cached.sif', 'cat', '/copy'));
  assert.match(ok(build(directory, 'after.sif')).stderr, /3 steps \(3 cached\)/);
  assert.is(inside('after.sif', 'cat', '/copy'), inside('anew.sif', 'cat', '/copy'));
});

test('content, mode and name of copied files decide whether a copy is taken from the cache; times do not', () => {
  const directory = context({ Dockerfile: `FROM ${base}\nCOPY a.txt /a\n`, 'a.txt': 'A\n' });
  ok(build(directory, 'copy.sif'));
  spawnSync('touch', ['-d', '2001-01-01', join(directory, 'a.txt')]);
  assert.match(ok(build(directory, 'copy.sif')).stderr, /1 step \(1 cached\)/);
  chmodSync(join(directory, 'a.txt'), 0o600);
  assert.match(ok(build(directory, 'copy.sif')).stderr, /1 step \(0 cached\)/);
  writeFileSync(join(directory, 'a.txt'), 'B\n');
  assert.match(ok(build(directory, 'copy.sif')).stderr, /1 step \(0 cached\)/);
  assert.is(inside('copy.sif', 'cat', '/a'), 'B\n');
});

test('a failing step tells its last lines, place, and status; nothing is left, and the steps before it are kept', () => {
  const directory = context({
    Dockerfile: `FROM ${base}\nRUN echo kept > /kept\nRUN echo some output; mkdir -m 0 /closed; echo words >&2; exit 7\n`,
  });
  const ran = build(directory, 'failing.sif');
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /some output\n/);
  assert.match(ran.stderr, /words\n/);
  assert.match(ran.stderr, /Dockerfile:3: the step failed: RUN echo some output.*: its exit status is 7 \(E_STEP\)\nhint: .*--debug-shell/);
  assert.not.ok(existsSync(join(place, 'failing.sif')));
  assertClean('failing.sif');
  assert.match(build(directory, 'failing.sif').stderr, /RUN echo kept > \/kept: cached/);
});

test('what a recipe gets wrong is named with its place', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['RUN --mount=type=bind,source=no*,target=/x true', /Dockerfile:2: cannot mount "no\*": there is no such file.*E_COPY_SOURCE/],
    ['COPY missing /x', /Dockerfile:2: cannot copy "missing": there is no such file.*E_COPY_SOURCE/],
    ['COPY ../../etc/passwd /x', /cannot copy "\.\.\/\.\.\/etc\/passwd": there is no such file/],
    ['COPY a.txt b.txt /one', /E_RECIPE|several files are copied, and it is no directory/],
    ['COPY --chown=nosuch a.txt /x', /cannot use "nosuch": the image has no user "nosuch" in \/etc\/passwd \(E_ACCOUNT\)/],
    ['COPY ignored /x', /it is left out by \.dockerignore/],
    ['COPY --chmod=rwx a.txt /x', /E_MODE/],
    ['RUN --mount=type=secret,id=token,required=true true', /the secret "token".*E_SECRET/],
    ['RUN nosuchprogram', /nosuchprogram: not found[\s\S]*exit status is 127/],
    ['ADD http://127.0.0.1:9/file /x', /127\.0\.0\.1/],
  ];
  for (const [line, expected] of cases) {
    const files = { Dockerfile: `FROM ${base}\n${line}\n`, '.dockerignore': 'ignored\n', ignored: '', 'a.txt': '', 'b.txt': '' };
    const ran = build(context(files), 'wrong.sif');
    assert.is(ran.status, 125, line);
    assert.match(ran.stderr, expected);
    assert.not.ok(existsSync(join(place, 'wrong.sif')));
  }
  assertClean('wrong.sif');
});

test('a secret can be read by its step and is nowhere in the image or the cache', () => {
  const directory = context({
    Dockerfile: `FROM ${base}\nRUN --mount=type=secret,id=token test "$(cat /run/secrets/token)" = very-secret-word && touch /seen\n`,
    token: 'very-secret-word',
  });
  // The recipe itself is kept in the image, so the word must not stand there.
  const recipe = join(directory, 'Dockerfile');
  writeFileSync(recipe, readFileSync(recipe, 'utf8').replace('= very-secret-word', '!= ""'));
  ok(build(directory, 'secret.sif', ['--secret', `id=token,src=${join(directory, 'token')}`]));
  assert.match(listing('secret.sif', '/seen')[0] ?? '', /\/seen/);
  assert.is(spawnSync('grep', ['-rl', 'very-secret-word', space], { encoding: 'utf8' }).stdout, '');
  assert.not.ok(readFileSync(join(place, 'secret.sif')).includes('very-secret-word'));
});

test('mounts of a step: files of the context, a cache that stays, memory; and a network that is not there', () => {
  const directory = context({
    Dockerfile: `FROM ${base} AS other
RUN mkdir /made && echo made > /made/it
FROM ${base}
RUN --mount=type=bind,from=other,source=/made,target=/its --mount=type=bind,from=other,source=/made/it,target=/file,rw cat /its/it /file > /its-copy && echo changed > /file
RUN --mount=type=bind,source=dir,target=/ctx --mount=type=tmpfs,target=/mem cp /ctx/b /b && echo x > /mem/x
RUN --mount=type=cache,target=/var/cache/thing,id=thing echo kept > /var/cache/thing/file
RUN --mount=type=cache,target=/elsewhere,id=thing cp /elsewhere/file /from-cache
RUN --network=none ip -o link | wc -l > /links
`,
    'dir/b': 'B\n',
  });
  ok(build(directory, 'mounts.sif'));
  assert.is(inside('mounts.sif', 'cat', '/b', '/from-cache', '/links', '/its-copy'), 'B\nkept\n1\nmade\nmade\n');
  assert.equal(
    listing('mounts.sif', '/').filter((line) => /\/(?:ctx|mem|elsewhere|var\/cache|its|file)$/.test(line)),
    [],
  );
});

const DEFINITION = (testLine: string): string => `Bootstrap: localimage
From: ${base}

%setup
  echo made > "$APPTAINER_ROOTFS/by-setup"
%files
  a.txt /data/
%post
  chown 11:12 /by-setup
  echo 'export ADDED=later' >> "$APPTAINER_ENVIRONMENT"
%environment
  export SET=yes
%runscript
  echo "$SET $ADDED $*"
%test
  ${testLine}
`;

test('a definition file is built: sections of the host and of the image, its environment, its test', () => {
  const directory = context({ 'x.def': DEFINITION('test -f /data/a.txt'), 'a.txt': 'A\n' });
  ok(tsrun(['build', join(place, 'def.sif'), 'x.def'], { env, cwd: directory }));
  assert.is(tsrunOk(['run', join(place, 'def.sif'), 'a', 'b'], { env }), 'yes later a b\n');
  assert.equal(listing('def.sif', '/by-setup'), ['-rw-r--r-- 11:12 /by-setup']);
  assertClean('def.sif');
});

test('an image whose test fails is not written, with --notest it is', () => {
  const directory = context({ 'x.def': DEFINITION('echo tested; exit 3'), 'a.txt': 'A\n' });
  const ran = tsrun(['build', join(place, 'untested.sif'), 'x.def'], { env, cwd: directory });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /tested\n[\s\S]*the test failed.*exit status is 3 \(E_TEST\)/);
  assert.not.ok(existsSync(join(place, 'untested.sif')));
  assertClean('untested.sif');
  ok(tsrun(['build', '--notest', join(place, 'untested.sif'), 'x.def'], { env, cwd: directory }));
  assert.ok(existsSync(join(place, 'untested.sif')));
});

test('other directories and images are named with --build-context, before stages of that name', () => {
  const other = context({ file: 'from the other directory\n', '.dockerignore': 'file\n' });
  const recipe = context({
    Dockerfile: `FROM ${base} AS other
RUN false
FROM ${base}
COPY --from=Other file /copied
RUN --mount=from=other,target=/shown cat /shown/file > /seen
`,
  });
  ok(build(recipe, 'contexts.sif', ['--build-context', `other=${other}`]));
  assert.is(inside('contexts.sif', 'cat', '/copied', '/seen'), 'from the other directory\n'.repeat(2));
  const missing = build(recipe, 'contexts.sif', ['--build-context', 'other=/nowhere']);
  assert.match(missing.stderr, /cannot use --build-context other=\/nowhere: there is no directory/);
  assertClean('contexts.sif');
});

test('a cache may begin with the files of a stage; what steps leave in it stays for the next', () => {
  const directory = context({
    Dockerfile: `FROM ${base} AS seed
RUN mkdir /seed && echo seed > /seed/file
FROM ${base}
RUN --mount=type=cache,target=/cache,from=seed,source=/seed cat /cache/file > /first && echo more >> /cache/file
RUN --mount=type=cache,target=/cache,from=seed,source=/seed cat /cache/file > /second
`,
  });
  for (const ids of ['single', 'ranges']) {
    ok(build(directory, `seed-${ids}.sif`, [], { TSRUN_BUILD_IDS: ids }));
    assert.is(inside(`seed-${ids}.sif`, 'cat', '/first', '/second'), 'seed\nseed\nmore\n');
    assertClean(`seed-${ids}.sif`);
  }
});

test('--ssh hands an agent in for one step, and nothing of it is in the image', async () => {
  const socket = join(place, 'agent');
  const agent = createServer((connection) => connection.end());
  await new Promise<void>((resolve) => agent.listen(socket, resolve));
  try {
    own(socket);
    const step = 'RUN --mount=type=ssh,required=true test -S "$SSH_AUTH_SOCK" && echo "$SSH_AUTH_SOCK" > /agent';
    const directory = context({
      Dockerfile: `FROM ${base}\n${step}\nRUN test -z "$SSH_AUTH_SOCK"\nRUN --mount=type=ssh test -z "$SSH_AUTH_SOCK"\n`,
    });
    const missing = build(directory, 'agent.sif');
    assert.match(missing.stderr, /Dockerfile:2: cannot give the SSH agent "default" to the step.*\nhint: add --ssh default/);
    const optional = context({ Dockerfile: `FROM ${base}\nRUN --mount=type=ssh test -z "$SSH_AUTH_SOCK"\n` });
    ok(build(optional, 'no-agent.sif'));
    const given = context({ Dockerfile: `FROM ${base}\n${step}\nRUN test -z "$SSH_AUTH_SOCK"\n` });
    ok(build(given, 'agent.sif', ['--ssh', `default=${socket}`]));
    assert.is(inside('agent.sif', 'cat', '/agent'), '/run/buildkit/ssh_agent.0\n');
    assert.is(inside('agent.sif', 'sh', '-c', 'ls -d /run/buildkit 2>&1 || true').includes('No such file'), true);
    assert.match(build(given, 'agent.sif', ['--ssh', 'default']).stderr, /SSH_AUTH_SOCK is not set \(E_USAGE\)/);
  } finally {
    agent.close();
  }
});

test('what is taken from elsewhere and cannot be had is said with its place, and the name that was meant', () => {
  const stages = (steps: string): string => `FROM ${base} AS builder\nRUN true\nFROM ${base}\n${steps}\n`;
  const failing = (steps: string): string => build(context({ Dockerfile: stages(steps) }), 'elsewhere.sif', ['--offline']).stderr;
  assert.match(
    failing('COPY --from=buidler /a /a'),
    /Dockerfile:4: cannot use .*buidler.*\nhint: no stage is called so; did you mean builder\?/,
  );
  const fetched = build(context({ Dockerfile: `FROM ${base}\nADD http://127.0.0.1:1/x /x\n` }), 'elsewhere.sif');
  assert.match(fetched.stderr, /Dockerfile:2: cannot add http:\/\/127\.0\.0\.1:1\/x: .*connection refused \(E_FETCH\)/);
});

test('a base of another architecture is refused before a step, and serves where it is asked for', () => {
  const other = process.arch === 'x64' ? 'arm64' : 'amd64';
  const copied = (from: string) => context({ Dockerfile: `FROM ${from}\nCOPY word /word\n`, word: 'word\n' });
  ok(build(copied('scratch'), 'other.sif', ['--arch', other]));
  const image = join(place, 'other.sif');
  const refused = build(copied(image), 'on-other.sif');
  assert.is(refused.status, 125);
  assert.match(
    refused.stderr,
    new RegExp(`other\\.sif on linux/\\w+: the image is there for linux/${other} \\(E_PLATFORM\\)\nhint: .*--arch`),
  );
  assertClean('on-other.sif');
  ok(build(copied(image), 'on-other.sif', ['--arch', other]));
  ok(build(copied(`--platform=linux/${other} ${image}`), 'on-other.sif'));
});

test('a step that fails where the place to build in has become full is told so, and where that is', () => {
  const directory = context({ Dockerfile: `FROM ${base}\nRUN dd if=/dev/zero of=/big bs=1M count=600\n` });
  const full = join(place, 'full');
  mkdirSync(full);
  const command = `mount -t tmpfs -o size=280m,mode=1777 none ${full} && exec setpriv --reuid ${user.uid} --regid ${user.gid} --clear-groups -- "$@"`;
  const ran = run('unshare', ['-m', 'sh', '-ec', command, 'sh', tsrunPath, 'build', join(place, 'big.sif'), directory], {
    as: 'root',
    env: { ...loginEnvironment('user'), ...env, TSRUN_TMPDIR: full },
  });
  assert.is(ran.status, 125);
  assert.match(
    ran.stderr,
    /No space left on device(?:.|\n)*E_STEP\)\nhint: its files lie in \S+\/full\/build\/single, and that is full: .*TSRUN_TMPDIR/,
  );
  assertClean('big.sif');
});

test('without a place to build in nothing is begun', () => {
  const directory = context({ Dockerfile: `FROM ${base}\nRUN true\n` });
  const ran = build(directory, 'nowhere.sif', [], { TSRUN_TMPDIR: '/proc/nowhere' });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /cannot find a place to build in: \/proc\/nowhere \(TSRUN_TMPDIR\).*E_BUILD_SPACE\)\nhint: set TSRUN_TMPDIR/);
});

test.run();
