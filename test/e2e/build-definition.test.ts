/** Definition files as an ordinary user: what they build, and what run, exec, test and inspect then show. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxTree, type Ran, scratch, tsrun, tsrunOk } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('definition files are built');
const place = scratch('definition');
const user = testUser();
const env = { TSRUN_STORE: join(place, 'store'), TSRUN_TMPDIR: join(place, 'space'), TSRUN_BUILD_IDS: 'single' };

const own = (path: string): void => {
  spawnSync('chown', ['-hR', `${user.uid}:${user.gid}`, path]);
};

const write = (files: Readonly<Record<string, string>>): void => {
  for (const [name, content] of Object.entries(files)) {
    const path = join(place, name);
    if (dirname(path) !== place) mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    own(path);
  }
};

const build = (out: string, recipe: string, args: readonly string[] = [], more: Readonly<Record<string, string>> = {}): Ran =>
  tsrun(['build', '--force', ...args, join(place, out), recipe], { env: { ...env, ...more }, cwd: place });

const ok = (ran: Ran): Ran => {
  if (ran.status !== 0) throw new Error(`status ${ran.status} ${ran.signal ?? ''}\n${ran.stdout}${ran.stderr}`);
  return ran;
};

const say = (...args: readonly string[]): string => tsrunOk(args, { env, cwd: place });
const inside = (image: string, ...command: readonly string[]): string => say('exec', '--containall', '--pwd', '/', image, ...command);

mkdirSync(join(place, 'base'));
makeBusyboxTree(join(place, 'base'));
own(join(place, 'base'));

const FULL = `Bootstrap: localimage
From: base
Stage: one

%post
    mkdir -p /opt/made && echo art > /opt/made/file
    test -x /.singularity.d/actions/run

%test
    false of a stage that is not the image

Bootstrap: localimage
From: base
Stage: final

%arguments
    VERSION=1.0
%labels
    Author A. Person
    Version {{ VERSION }}
%help
    Help of the image.
%files from one
    /opt/made/file /got
%files
    hello.txt /etc/hello
%environment
    export FROM_DEFINITION=yes
%post -c /bin/ash
    cat /.singularity.d/env/90-environment.sh /environment > /seen
    readlink /singularity >> /seen
    echo 'export FROM_POST=old' >> $SINGULARITY_ENVIRONMENT
    echo 'export FROM_POST_TOO=new' >> "$APPTAINER_ENVIRONMENT"
    echo "FromPost some value" >> "$APPTAINER_LABELS"
    echo "FromPostToo 2" >> "$SINGULARITY_LABELS"
%runscript
    echo "run $FROM_DEFINITION $FROM_POST $FROM_POST_TOO $*"
%startscript
    exec sleep 100
%test -e
    test -e /got
    case "$-$FROM_DEFINITION" in *e*yes) ;; *) exit 3 ;; esac
%apprun tool
    echo "the tool $TOOL $SCIF_APPNAME $APPTAINER_APPNAME $SCIF_APPROOT $FROM_DEFINITION $*"
    made-here
%appenv tool
    export TOOL=hammer
%apptest tool
    echo "tests $TOOL"; exit 4
%appinstall tool
    echo installed > bin/made
    printf '#!/bin/sh\\necho "of $0"\\n' > bin/made-here; chmod +x bin/made-here
%apphelp other
    Nothing to run.
%apphelp tool
    Help of the tool.
%applabels tool
    Kind hammer
`;

write({ 'hello.txt': 'hello\n', 'full.def': FULL });

const labelsOf = (image: string): Readonly<Record<string, string>> =>
  (JSON.parse(say('inspect', '--json', '--labels', image)) as { data: { attributes: { labels: Record<string, string> } } }).data.attributes
    .labels;

test('every section of a definition file shows in the image as it would in Apptainer', () => {
  ok(build('full.sif', 'full.def', [], { SOURCE_DATE_EPOCH: '1700000000' }));
  assert.equal(say('run', 'full.sif', 'a', 'b c'), 'run yes old new a b c\n');
  assert.equal(inside('full.sif', 'cat', '/got', '/etc/hello', '/scif/apps/tool/bin/made'), 'art\nhello\ninstalled\n');
  assert.equal(inside('full.sif', 'cat', '/scif/apps/tool/scif/runscript.help').trim(), 'Help of the tool.');
  assert.match(inside('full.sif', 'cat', '/scif/apps/tool/scif/labels.json'), /"Kind": "hammer"/);
  assert.equal(say('inspect', '--helpfile', 'full.sif'), '    Help of the image.\n');
  assert.match(say('inspect', '--runscript', 'full.sif'), /^#!\/bin\/sh\n\s+echo "run/);
  assert.match(say('inspect', '--startscript', 'full.sif'), /exec sleep 100/);
  assert.match(say('inspect', '--test', 'full.sif'), /^#!\/bin\/sh -e\n\s+test -e \/got/);
  assert.equal(say('inspect', '--deffile', 'full.sif'), FULL);
  assert.match(say('inspect', '--environment', 'full.sif'), /=== \/\.singularity\.d\/env\/91-environment\.sh ===\nexport FROM_POST=old\n/);
});

test('--app runs an app of the image in its environment', () => {
  const contained = ['--containall', '--pwd', '/'];
  assert.is(
    say('run', ...contained, '--app', 'tool', 'full.sif', 'a', 'b c'),
    'the tool hammer tool tool /scif/apps/tool yes a b c\nof /scif/apps/tool/bin/made-here\n',
  );
  assert.is(
    say('exec', ...contained, '--app', 'tool', 'full.sif', 'sh', '-c', 'echo $TOOL; made-here'),
    'hammer\nof /scif/apps/tool/bin/made-here\n',
  );
  assert.is(
    say('shell', ...contained, '--app=tool', 'full.sif', '-c', 'echo $TOOL $LD_LIBRARY_PATH'),
    'hammer /scif/apps/tool/lib:/.singularity.d/libs\n',
  );
  assert.is(say('exec', ...contained, 'full.sif', 'sh', '-c', 'echo "<$TOOL$SCIF_APPNAME>"'), '<>\n');
  const run = (...args: readonly string[]): Ran => tsrun(args, { env, cwd: place });
  const tested = run('test', ...contained, '--app', 'tool', 'full.sif');
  assert.is(tested.stdout, 'tests hammer\n');
  assert.is(tested.status, 4);
  assert.is(run('test', ...contained, '--app', 'other', 'full.sif').status, 0);
  const nothing = run('run', ...contained, '--app', 'other', 'full.sif');
  assert.is(nothing.status, 127);
  assert.match(nothing.stderr, /\/scif\/apps\/other\/scif\/runscript.*\(E_NOT_FOUND\)/);
  for (const verb of ['run', 'exec']) {
    const missing = run(verb, ...contained, '--app', 'tol', 'full.sif', 'true');
    assert.is(missing.status, 125);
    assert.match(missing.stderr, /cannot run the app tol: the image has no such app \(E_NO_APP\)\nhint: its apps: other tool\n/);
  }
  assert.match(run('run', '--app', '../x', 'full.sif').stderr, /no name of an app.*\(E_USAGE\)/s);
});

test('inspect and run-help speak of apps', () => {
  assert.is(say('inspect', '--list-apps', 'full.sif'), 'other\ntool\n');
  assert.match(say('inspect', '--app', 'tool', 'full.sif'), /^Kind: hammer$/m);
  assert.match(say('inspect', '--app', 'tool', '--runscript', 'full.sif'), /the tool \$TOOL/);
  assert.match(say('inspect', '--app', 'tool', '--environment', 'full.sif'), /=== \/scif\/apps\/tool\/scif\/env\/90-environment\.sh ===/);
  assert.is(say('run-help', '--app', 'tool', 'full.sif').trim(), 'Help of the tool.');
  const all = JSON.parse(say('inspect', '--all', 'full.sif')) as { data: { attributes: { apps: Record<string, { test?: string }> } } };
  assert.equal(Object.keys(all.data.attributes.apps), ['other', 'tool']);
  assert.match(all.data.attributes.apps['tool']?.test ?? '', /tests \$TOOL/);
  const missing = tsrun(['inspect', '--app', 'tol', 'full.sif'], { env, cwd: place });
  assert.match(missing.stderr, /no such app[\s\S]*its apps: other tool/);
});

test('/.singularity.d and the links to it are there before %post', () => {
  const seen = inside('full.sif', 'cat', '/seen');
  assert.equal(seen.match(/^#!\/bin\/sh$/gm)?.length, 2);
  assert.match(seen, /\.singularity\.d\/runscript\n$/);
});

test('labels are those of the recipe, of %post and of the build', () => {
  const labels = labelsOf('full.sif');
  assert.equal(labels['Author'], 'A. Person');
  assert.equal(labels['Version'], '1.0');
  assert.equal(labels['FromPost'], 'some value');
  assert.equal(labels['FromPostToo'], '2');
  assert.equal(labels['org.label-schema.build-date'], 'Tuesday_14_November_2023_22:13:20_UTC');
  assert.equal(labels['org.label-schema.schema-version'], '1.0');
  assert.equal(labels['org.label-schema.build-arch'], process.arch === 'x64' ? 'amd64' : process.arch);
  assert.equal(labels['org.label-schema.usage.singularity.deffile.bootstrap'], 'localimage');
  assert.equal(labels['org.label-schema.usage'], '/.singularity.d/runscript.help');
  assert.equal(JSON.parse(inside('full.sif', 'cat', '/.singularity.d/labels.json')), labels);
  assert.equal(inside('full.sif', 'sh', '-c', 'test -e /.build.labels || echo gone'), 'gone\n');
});

test('an image built upon keeps its labels, its scripts, and its definition in the history', () => {
  write({
    'child.def': 'Bootstrap: localimage\nFrom: full.sif\n%labels\n  Author B. Person\n%environment\n  export FROM_CHILD=1\n',
    'grandchild.def': 'Bootstrap: localimage\nFrom: child.sif\n%runscript\n  echo "$FROM_DEFINITION $FROM_CHILD"\n',
  });
  ok(build('child.sif', 'child.def'));
  ok(build('grandchild.sif', 'grandchild.def'));
  const labels = labelsOf('grandchild.sif');
  assert.equal(labels['Author'], 'B. Person');
  assert.equal(labels['FromPost'], 'some value');
  assert.equal(say('run', 'grandchild.sif'), 'yes 1\n');
  assert.equal(inside('grandchild.sif', 'cat', '/.singularity.d/bootstrap_history/Singularity0'), FULL);
  assert.match(inside('grandchild.sif', 'cat', '/.singularity.d/bootstrap_history/Singularity1'), /From: full\.sif/);
  assert.match(inside('grandchild.sif', 'cat', '/.singularity.d/Singularity'), /From: child\.sif/);
});

test('what was rendered from the config of a base follows the config of the image built on it', () => {
  write({ 'first/Dockerfile': 'FROM ../base\nENV A=1\nCMD ["echo", "first"]\nLABEL one=1 two=1\n' });
  write({ 'second/Dockerfile': 'FROM ../first.sif\nENV B=2\nCMD ["echo", "second"]\nLABEL two=2\n' });
  for (const name of ['first', 'second']) ok(tsrun(['build', '--force', join(place, `${name}.sif`), '.'], { env, cwd: join(place, name) }));
  assert.equal(inside('second.sif', 'sh', '/.singularity.d/runscript'), 'second\n');
  assert.match(inside('second.sif', 'cat', '/.singularity.d/env/10-docker2singularity.sh'), /export A=.*\nexport B=/);
  assert.equal(JSON.parse(inside('second.sif', 'cat', '/.singularity.d/labels.json')), {
    one: '1',
    two: '2',
    'org.opencontainers.image.created': '1980-01-01T00:00:00Z',
  });
});

test('a %test that fails leaves no image', () => {
  write({ 'bad.def': 'Bootstrap: localimage\nFrom: base\n%test -e\n  false\n  true\n' });
  const ran = build('bad.sif', 'bad.def');
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /E_TEST/);
  assert.not(existsSync(join(place, 'bad.sif')));
});

test('what a base has for whoever builds on it is done first, once', () => {
  write({
    'trigger/Dockerfile': [
      'FROM ../base',
      'ONBUILD ARG KIND=plain',
      'ONBUILD COPY part /part',
      'ONBUILD RUN echo "$KIND $(cat /part)" > /made',
      'ONBUILD ENV TRIGGERED=yes',
    ].join('\n'),
    'user/Dockerfile': 'FROM ../trigger.sif AS one\nRUN cat /made > /copy; echo $TRIGGERED >> /copy\nFROM one\nRUN rm /made\n',
    'user/part': 'of the context\n',
    'later/Dockerfile': 'FROM ../user.sif\nRUN test ! -e /made\n',
  });
  const make = (name: string, ...args: readonly string[]): Ran =>
    ok(tsrun(['build', '--force', ...args, join(place, `${name}.sif`), '.'], { env, cwd: join(place, name) }));
  make('trigger');
  assert.is(inside('trigger.sif', 'sh', '-c', 'test -e /made || echo nothing'), 'nothing\n');
  const { stderr } = make('user', '--build-arg', 'KIND=given', '--build-arg', 'KINT=slip');
  assert.match(stderr, /nothing uses the build argument KINT/);
  assert.not.match(stderr, /argument KIND/);
  assert.is(inside('user.sif', 'cat', '/copy'), 'given of the context\nyes\n');
  make('later');
  write({ 'trigger/Dockerfile': 'FROM ../base\nONBUILD COPY missing /x\n' });
  make('trigger');
  const ran = tsrun(['build', '--force', join(place, 'x.sif'), '.'], { env, cwd: join(place, 'user') });
  assert.match(ran.stderr, /trigger\.sif \(ONBUILD\):1: cannot copy "missing"/);
});

test('ADD unpacks tar archives however they are compressed', () => {
  const packed = join(place, 'packed');
  write({ 'packed/sub/file': 'from the archive\n', 'packed/note': 'no archive\n' });
  const shell = (command: string): void => {
    const ran = spawnSync('/bin/sh', ['-ec', command], { cwd: packed, encoding: 'utf8' });
    assert.is(ran.status, 0, ran.stderr);
  };
  shell('tar cf a.tar sub; xz -k a.tar; bzip2 -k a.tar; gzip -k a.tar; xz -k note; head -c 100 a.tar.xz > cut.tar.xz');
  write({
    'packed/Dockerfile': `FROM ${join(place, 'base')}\n${['tar', 'tar.xz', 'tar.bz2', 'tar.gz'].map((kind) => `ADD a.${kind} /${kind}/`).join('\n')}\nADD note.xz /plain/\n`,
  });
  own(packed);
  const make = (more: Readonly<Record<string, string>>, ...args: readonly string[]): Ran =>
    tsrun(['build', '--force', ...args, join(place, 'packed.sif'), '.'], { env: { ...env, ...more }, cwd: packed });
  ok(make({}));
  for (const kind of ['tar', 'tar.xz', 'tar.bz2', 'tar.gz'])
    assert.is(inside('packed.sif', 'cat', `/${kind}/sub/file`), 'from the archive\n', kind);
  assert.is(inside('packed.sif', 'ls', '/plain'), 'note.xz\n');
  const whole = readFileSync(join(packed, 'Dockerfile'), 'latin1');
  write({ 'packed/Dockerfile': `FROM ${join(place, 'base')}\nADD cut.tar.xz /x/\n` });
  assert.match(make({}).stderr, /cut\.tar\.xz: it is cut off \(E_SOURCE\)/);
  write({ 'packed/Dockerfile': whole });
  const ran = make({ PATH: join(place, 'nowhere') }, '--no-cache');
  assert.match(ran.stderr, /no program bzip2 \(E_ADD_ARCHIVE\)/);
});

test('test runs the test of an image with its environment, and passes where there is none', () => {
  const recipe = (body: string): string => `Bootstrap: localimage\nFrom: base\n%environment\n  export CODE=5\n%test\n  ${body}\n`;
  write({ 'tested.def': recipe('echo "tests $*"; exit $CODE') });
  ok(build('tested.sif', 'tested.def', ['--notest']));
  const ran = tsrun(['test', '--containall', 'tested.sif', 'a', 'b'], { env, cwd: place });
  assert.is(ran.stdout, 'tests a b\n');
  assert.is(ran.status, 5);
  const without = tsrun(['test', '--containall', 'base'], { env, cwd: place });
  assert.is(without.status, 0);
  assert.match(without.stderr, /the image has no test/);
});

test('run-help prints the help of an image, and build --schema that of recipes', () => {
  assert.is(say('run-help', 'full.sif'), '    Help of the image.\n');
  assert.match(say('run-help', 'base'), /no help/);
  const schema = JSON.parse(say('build', '--schema')) as { $defs: { stage: { properties: Record<string, unknown> } } };
  assert.ok('from' in schema.$defs.stage.properties && 'packages' in schema.$defs.stage.properties);
});

/** Serves a file over plain http on the loopback device, from a thread of its own: runs of the product block this one. */
const served = async (path: string): Promise<{ readonly url: string; readonly close: () => Promise<unknown> }> => {
  const worker = new Worker(
    `const { createServer } = require('node:http');
     const { readFileSync } = require('node:fs');
     const { parentPort, workerData } = require('node:worker_threads');
     createServer((request, response) => {
       response.statusCode = request.url === '/busybox' ? 200 : 404;
       response.end(request.url === '/busybox' ? readFileSync(workerData) : 'no');
     }).listen(0, '127.0.0.1', function () { parentPort.postMessage(this.address().port); });`,
    { eval: true, workerData: path },
  );
  const port = await new Promise((resolve) => worker.once('message', resolve));
  return { url: `http://127.0.0.1:${port}`, close: () => worker.terminate() };
};

const BUSYBOX = '/bin/busybox';
const busyboxRecipe = (mirror: string): string =>
  `Bootstrap: busybox\nMirrorURL: ${mirror}\n%post\n  grep ^root: /etc/passwd > /seen\n%runscript\n  echo "hello $*"\n`;

test('a busybox from a file or an address is a base', async () => {
  const { url, close } = await served(BUSYBOX);
  try {
    for (const mirror of [`file://${BUSYBOX}`, BUSYBOX, `${url}/busybox`]) {
      write({ 'busybox.def': busyboxRecipe(mirror) });
      ok(build('busybox.sif', 'busybox.def'));
      assert.is(say('run', '--containall', 'busybox.sif', 'you'), 'hello you\n');
      assert.is(inside('busybox.sif', 'cat', '/seen'), 'root:x:0:0:root:/root:/bin/sh\n');
      assert.is(inside('busybox.sif', 'readlink', '/bin/ls'), '/bin/busybox\n');
      assert.is(labelsOf('busybox.sif')['org.label-schema.usage.singularity.deffile.mirrorurl'], mirror);
    }
    write({ 'busybox.def': busyboxRecipe(`${url}/other`) });
    const ran = build('busybox.sif', 'busybox.def');
    assert.match(ran.stderr, /E_FETCH/);
  } finally {
    await close();
  }
});

test('what is no busybox for this machine is refused before anything runs', () => {
  const foreign = readFileSync(BUSYBOX).subarray(0, 200_000);
  foreign.writeUInt16LE(22, 18);
  write({ 'page.html': '<html>'.padEnd(4096), empty: '' });
  writeFileSync(join(place, 'foreign'), foreign);
  writeFileSync(join(place, 'large'), '');
  truncateSync(join(place, 'large'), 65 * 2 ** 20);
  own(place);
  const cases: readonly (readonly [string, RegExp])[] = [
    ['page.html', /E_BUSYBOX[\s\S]*not of a page/],
    ['empty', /it is no program/],
    ['foreign', /it is a program for s390x/],
    ['large', /it has more than 64 MiB/],
    ['nothing', /no such file/],
    ['ftp://a/b', /its scheme is not known/],
    [process.execPath, /it needs \/lib|it has more than 64 MiB/],
  ];
  for (const [mirror, message] of cases) {
    write({ 'busybox.def': busyboxRecipe(mirror) });
    const ran = build('refused.sif', 'busybox.def');
    assert.is(ran.status, 125, mirror);
    assert.match(ran.stderr, message);
  }
  assert.not(existsSync(join(place, 'refused.sif')));
});

test.run();
