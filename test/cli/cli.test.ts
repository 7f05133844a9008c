/** The command line run unbuilt: verbs, their output, errors with code and cure, exit statuses. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hostEnvironment, loadSettings } from '../../src/cli/settings.ts';
import { VERSION } from '../../src/util/version.ts';
import { makeTar, writeLayout } from '../helpers/layers.ts';
import { forNode } from '../helpers/proc.ts';
import { must } from '../helpers/trees.ts';

const test = suite('command line');
const place = mkdtempSync(join(tmpdir(), 'tsrun-cli-'));
test.after(() => rmSync(place, { recursive: true, force: true }));
const top = resolve(import.meta.dirname, '../..');

type Ran = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

const tsrun = (args: readonly string[], input?: Buffer): Ran => {
  const env = { ...forNode(), HOME: place, TSRUN_STORE: join(place, 'store'), TSRUN_LOCAL: join(place, 'local') };
  const done = spawnSync(process.execPath, [join(top, 'src/cli/main.ts'), ...args], {
    cwd: place,
    env,
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return { status: done.status, stdout: done.stdout, stderr: done.stderr };
};

const ok = (args: readonly string[], input?: Buffer): string => {
  const ran = tsrun(args, input);
  assert.is(ran.status, 0, ran.stderr);
  assert.is(ran.stderr, '');
  return ran.stdout;
};

const refused = (args: readonly string[], code: string, pattern: RegExp, input?: Buffer): void => {
  const ran = tsrun(args, input);
  assert.is(ran.status, 125, ran.stdout + ran.stderr);
  assert.match(ran.stderr, new RegExp(`^tsrun: .*\\(${code}\\)$`, 'm'));
  assert.match(ran.stderr, pattern);
};

const root = makeTar([
  { path: 'bin/tool', content: '#!/bin/sh\n', mode: 0o755 },
  { path: 'opt/a/b', content: 'deep\n' },
  { path: 'etc/os-release', content: 'ID=test\nPRETTY_NAME="A ü"\n' },
]);
const layout = join(place, 'layout');
writeLayout(layout, { layers: [root], config: { Cmd: ['/bin/tool'], Labels: { zeta: 'last', alpha: 'grüße' }, Env: ['A=1'] }, tag: 'v1' });
const image = join(place, 'image.sif');

test('build is silent on success and writes an executable file', () => {
  assert.is(ok(['build', image, `oci:${layout}:v1`]), '');
  assert.ok(existsSync(image));
});

test('the version is that of package.json', () => {
  assert.is(VERSION, JSON.parse(readFileSync(join(top, 'package.json'), 'utf8')).version);
  for (const words of [['version'], ['--version']]) assert.is(ok(words).trim(), `tsrun version ${VERSION}`);
});

test('help names every verb, and each verb its options; exec, run and shell take theirs from the flag table', () => {
  const help = ok(['--help']);
  for (const verb of [
    'build',
    'pull',
    'exec',
    'run',
    'shell',
    'inspect',
    'image',
    'cache',
    'login',
    'logout',
    'version',
    'help',
    'completion',
  ])
    assert.match(help, new RegExp(`tsrun ${verb}`));
  assert.not.match(help, /__prepare/);
  assert.match(ok(['help', 'build']), /--compress/);
  for (const words of [
    ['exec', '--help'],
    ['help', 'exec'],
  ])
    assert.match(ok(words), /--writable-tmpfs/);
  assert.match(ok(['completion', 'bash']), /complete -o filenames -F _tsrun tsrun/);
});

test('mistakes on the command line say what is meant', () => {
  refused(['biuld', 'x', 'y'], 'E_USAGE', /build/);
  refused([], 'E_USAGE', /no command is given.*\nhint: say what to do/);
  refused(['build', 'only-one'], 'E_USAGE', / SOURCE is missing.*\nhint: write tsrun build \[options\] OUTPUT SOURCE/);
  refused(['build', '--compres', 'gzip', 'x', 'y'], 'E_USAGE', /compres/);
  refused(['build', '--compress', 'brotli', 'x.sif', 'tar:x'], 'E_USAGE', /zstd, gzip, xz, lz4/);
  refused(['build', '--compress', 'zstd:99', 'x.sif', 'tar:x'], 'E_USAGE', /1 to 22/);
  refused(['build', '--block-size', '100K', 'x.sif', 'tar:x'], 'E_USAGE', /powers of two/);
  refused(['build', '--threads', '0', 'x.sif', 'tar:x'], 'E_USAGE', /1 to 64/);
  refused(['build', '--arch', 'vax', 'x.sif', 'tar:x'], 'E_PLATFORM', /known/);
  refused(['build', 'x.sif', 'library://x/y'], 'E_REFERENCE', /Apptainer/);
  refused(['pull', 'tar:x'], 'E_USAGE', /tsrun build/);
  refused(['pull', 'alpine:3'], 'E_USAGE', /hint: an image in a registry is written docker:\/\/alpine:3; /);
  refused(['pull', 'a', 'b', 'c'], 'E_USAGE', /too many/);
  refused(['build', '--limit-files', 'many', 'x.sif', 'tar:x'], 'E_USAGE', /--limit-files "many".*not a number/);
  refused(['build', '--limit-ratio', '-1', 'x.sif', 'tar:x'], 'E_USAGE', /limit-ratio/);
  refused(['build', '--threads', '1.5', 'x.sif', 'tar:x'], 'E_USAGE', /1 to 64/);
  refused(['build', '--force=maybe', 'x.sif', 'tar:x'], 'E_USAGE', /--force takes no value/);
  refused(['build', '', 'tar:x'], 'E_USAGE', /name is empty/);
  refused(['build', `oci:${layout}`, 'x.sif'], 'E_USAGE', /new file comes first[\s\S]*OUT\.sif/);
  refused(['build', 'x.sif', 'alpine:3'], 'E_SOURCE', /docker:\/\/alpine:3/);
  refused(['login', '--username'], 'E_USAGE', /--username lacks its value/);
  refused(['help', 'nothing'], 'E_USAGE', /no command nothing/);
  refused(['completion', 'tcsh'], 'E_USAGE', /bash, zsh, fish/);
  refused(['image', 'ls', '--depth', 'x', image], 'E_USAGE', /--depth/);
});

test('what fingers know from other tools is answered with what to write', () => {
  for (const [words, hint] of [
    [['images'], /images are files: .*tsrun cache list/],
    [['instance', 'start', image, 'x'], /there are no instances: .*systemd-run --user/],
    [['docker', 'run', 'x'], /leave the word out/],
    [['ls', image], /tsrun image ls IMAGE \[PATHS…\]/],
    [['sif', 'header', image], /there are ls, cat, .*dump/],
    [['image'], /say what to do: ls, cat/],
    [['build', '-t', 'name', '.'], /the file comes first, .*tsrun build NAME\.sif SOURCE/],
    [['build', '--remote', 'x.sif', 'x.def'], /images are built here, without root/],
    [['build', '--compres', 'gzip', 'x.sif', 'tar:x'], /did you mean --compress\?/],
    [['inspect', '-lx', image], /see tsrun inspect --help/],
    [['inspect'], /write tsrun inspect \[options\] IMAGE/],
    [['inspect', image, image], /write tsrun inspect \[options\] IMAGE/],
    [['pull'], /write tsrun pull \[options\] \[OUT\.sif\] REFERENCE/],
  ] as const)
    refused(words, 'E_USAGE', new RegExp(`\nhint: .*${hint.source}`));
  assert.is(ok(['image', 'ls', '-laR', image, '/opt']), ok(['image', 'ls', image, '/opt']));
});

test('help and version are told wherever they stand before the image', () => {
  for (const words of [
    ['--help', 'exec'],
    ['-h', 'run'],
    ['shell', '--help'],
    ['test', '-h'],
  ])
    assert.match(ok(words), /^tsrun (exec|run|shell|test) \[options\] IMAGE/);
  assert.is(ok(['--version', 'exec']), ok(['version']));
  assert.match(ok(['image', '--help']), /tsrun image ls <image>/);
  assert.match(ok(['image', 'ls', '--help']), /--depth/);
});

test('of an option that is given twice the last one counts', () => {
  ok(['build', '--compress', 'xz', '--compress', 'gzip:1', 'twice.sif', `oci:${layout}:v1`]);
  assert.is(JSON.parse(ok(['image', 'dump', '7', 'twice.sif'])).compression.compressor, 'gzip');
});

test('a target that cannot be written is named before anything is read', () => {
  const source = `oci:${join(place, 'no-such-layout')}`;
  refused(['build', join(place, 'no/such/x.sif'), source], 'E_OUTPUT', /its directory does not exist/);
  refused(['build', '-F', place, source], 'E_OUTPUT', /is a directory/);
  refused(['build', image, source], 'E_EXISTS', /--force/);
});

test('an existing file is only replaced with --force, and never by its own source', () => {
  refused(['build', image, `oci:${layout}:v1`], 'E_EXISTS', /--force/);
  assert.is(ok(['build', '-F', image, `oci:${layout}:v1`]), '');
  refused(['build', '-F', image, image], 'E_USAGE', /the source itself/);
});

test('standard input may be a tar stream, plain or compressed', () => {
  for (const [name, input] of [
    ['plain', root],
    ['gzip', must('gzip', ['-c'], root)],
    ['zstd', must('zstd', ['-c'], root)],
  ] as const) {
    ok(['build', join(place, `${name}.sif`), '-'], input);
    assert.is(ok(['image', 'cat', join(place, `${name}.sif`), 'opt/a/b']), 'deep\n');
  }
  refused(['build', join(place, 'none.sif'), '-'], 'E_TAR', /without its end mark/, Buffer.alloc(0));
  refused(['build', join(place, 'none.sif'), '-'], 'E_LAYER', /no tar archive/, Buffer.from('hello '.repeat(200)));
  assert.not.ok(existsSync(join(place, 'none.sif')));
});

test('Ctrl-C while standard input keeps it waiting ends it by the signal and leaves nothing', async () => {
  const directory = join(place, 'waiting');
  mkdirSync(directory);
  const child = spawn(process.execPath, [join(top, 'src/cli/main.ts'), 'build', 'x.sif', '-'], {
    cwd: directory,
    env: { ...forNode(), HOME: place },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const ended = new Promise<readonly unknown[]>((done) => child.on('close', (...how) => done(how)));
  child.stdin.write(root.subarray(0, 512));
  // The temporary file is there once the conversion has begun.
  await new Promise<void>((done) => {
    const watcher = watch(directory, () => {
      watcher.close();
      done();
    });
  });
  child.kill('SIGINT');
  assert.equal(await ended, [null, 'SIGINT']);
  assert.is(said, '');
  assert.equal(readdirSync(directory), []);
});

test('pull names its output after image and tag', () => {
  ok(['pull', `oci:${layout}:v1`]);
  assert.ok(existsSync(join(place, 'layout_v1.sif')));
  ok(['pull', 'own.sif', `oci:${layout}:v1`]);
  assert.ok(existsSync(join(place, 'own.sif')));
});

test('inspect prints labels sorted, the parts asked for, and JSON', () => {
  assert.is(ok(['inspect', image]), 'alpha: grüße\nzeta: last\n');
  assert.is(ok(['inspect', '-d', image]), 'bootstrap: oci\nfrom: layout:v1\n\n');
  assert.match(ok(['inspect', '-r', image]), /'\/bin\/tool'/);
  assert.match(ok(['inspect', '-e', image]), /^=== \/\.singularity\.d\/env\/10-docker2singularity\.sh ===\n#!\/bin\/sh\n/);
  const { data, type } = JSON.parse(ok(['inspect', '--json', image]));
  assert.equal([data.attributes, type], [{ labels: { alpha: 'grüße', zeta: 'last' } }, 'container']);
});

test('inspect of a directory reads its files', () => {
  const directory = join(place, 'tree');
  mkdirSync(join(directory, '.singularity.d'), { recursive: true });
  writeFileSync(join(directory, '.singularity.d/labels.json'), '{"from":"directory"}');
  assert.is(ok(['inspect', directory]), 'from: directory\n');
});

test('image ls, cat, extract, facts and objects look into an image', () => {
  assert.match(ok(['image', 'ls', image, '/opt']), /\/opt\/a\/b$/m);
  assert.is(ok(['image', 'cat', image, '/opt/a/b', '/opt/a/b']), 'deep\ndeep\n');
  ok(['image', 'extract', image, join(place, 'extracted')]);
  assert.is(readFileSync(join(place, 'extracted/opt/a/b'), 'utf8'), 'deep\n');
  assert.match(ok(['image', 'facts', image]), /^system: +A ü$[\s\S]*^tree digest: +sha256:[0-9a-f]{64}$/m);
  assert.equal(JSON.parse(ok(['image', 'facts', '--json', image])).cmd, ['/bin/tool']);
  assert.match(ok(['image', 'objects', image]), /^\d+ +\|1 +\|NONE +\|\d+-\d+ +\|FS \(Squashfs\/\*System\/amd64\) image\.squashfs$/m);
  refused(['image', 'cat', image, '/missing'], 'E_IMAGE_READ', /missing[\s\S]*\nhint: tsrun image ls .*image\.sif lists its names/);
  refused(['image', 'extract', image, join(place, 'extracted')], 'E_IMAGE_READ', /not empty[\s\S]*\nhint: name a directory that is empty/);
});

test("Apptainer's words for the objects of a SIF work", () => {
  assert.is(ok(['sif', 'list', image]), ok(['image', 'objects', image]));
  assert.is(ok(['sif', 'dump', '1', image]), 'bootstrap: oci\nfrom: layout:v1\n\n');
  refused(['sif', 'dump', '99', image], 'E_IMAGE_NOT', /it has 1, 2, 3/);
});

test('the switches for registries come from the command line, the environment, or the configuration', () => {
  const env = { HOME: place, TSRUN_STORE: '/s' };
  const seen = (...given: Parameters<typeof loadSettings>): readonly [boolean, readonly string[]] => {
    const { offline, registry } = loadSettings(...given);
    return [offline, registry.insecure];
  };
  assert.equal(seen(env), [false, []]);
  assert.equal(seen(env, { offline: true, insecure: true }), [true, ['*']]);
  assert.equal(seen({ ...env, TSRUN_OFFLINE: 'yes', APPTAINER_NOHTTPS: '1' }), [true, ['*']]);
  assert.equal(seen({ ...env, TSRUN_OFFLINE: '0', TSRUN_INSECURE: 'false', APPTAINER_NOHTTPS: '1' }), [false, []]);
  assert.throws(() => seen({ ...env, TSRUN_OFFLINE: 'perhaps' }), /neither yes nor no/);
});

test('what is no image is named', () => {
  const junk = join(place, 'junk');
  writeFileSync(junk, 'nothing of the kind');
  refused(['image', 'ls', junk], 'E_IMAGE_NOT', /junk/);
  refused(['inspect', '/nowhere'], 'E_SOURCE', /no such file/);
  refused(['image', 'facts', join(place, 'layout')], 'E_SOURCE', /directory/);
});

test('the store gets the facts of images made by others, and converted archives', () => {
  const bare = join(place, 'bare.squashfs');
  must('mksquashfs', [join(place, 'tree'), bare, '-quiet', '-no-progress']);
  ok(['__prepare', bare]);
  assert.is(
    must('find', [join(place, 'store/facts'), '-name', '*.json'])
      .toString()
      .trim()
      .split('\n').length,
    1,
  );
  ok(['__prepare', `oci:${layout}:v1`]);
  const [path = ''] = must('find', [join(place, 'store/images'), '-name', 'oci-layout-*.sif'])
    .toString()
    .trim()
    .split('\n');
  assert.is(ok(['image', 'cat', path, '/opt/a/b']), 'deep\n');
  assert.is(must('find', [join(place, 'store/partial'), '-type', 'f']).toString(), '');
});

test('the cache is listed with sizes, and cleaned by age or altogether', () => {
  const store = join(place, 'store');
  assert.match(ok(['cache', 'list']), /^image +[\d.]+ MB +today +oci-layout-.*\n[\s\S]*\d+ items, [\d.]+ MB in .*store\n$/m);
  const { items } = JSON.parse(ok(['cache', 'list', '--json']));
  assert.ok(items.some(({ kind, days }: { kind: string; days: number }) => kind === 'facts' && days === 0));
  assert.match(ok(['cache', 'clean', '--all', '--dry-run']), new RegExp(`${items.length} items, .* would be removed`));
  assert.match(tsrun(['cache', 'clean']).stderr, /^tsrun: nothing in .* was unused for 30 days; --all removes everything\n$/);
  assert.is(JSON.parse(ok(['cache', 'list', '--json'])).items.length, items.length);
  const [old] = items;
  must('touch', ['-d', '10 days ago', old.path]);
  assert.match(tsrun(['cache', 'clean', '--days', '9']).stderr, /^tsrun: removed 1 item, /);
  assert.not.ok(existsSync(old.path));
  assert.is(tsrun(['cache', 'clean', '--all']).status, 0);
  assert.is(must('find', [store, '-type', 'f']).toString(), '');
});

test("what the launcher keeps from Node is the user's environment again", () => {
  const env = hostEnvironment({ HOME: '/h', TSRUN_HOST_ENV: 'LD_LIBRARY_PATH=/a%3A/b%0Ac\nNODE_OPTIONS=%C3%BC' });
  assert.equal(env, { HOME: '/h', LD_LIBRARY_PATH: '/a:/b\nc', NODE_OPTIONS: 'ü' });
});

test('a config file that says nonsense is named with its key', () => {
  mkdirSync(join(place, '.config/tsrun'), { recursive: true });
  const file = join(place, '.config/tsrun/config.yaml');
  for (const [text, pattern] of [
    ['insecure: {a: 1}\n', /insecure/],
    ['mirrors: [x]\n', /mirrors/],
    ['timeouts: {connect: soon}\n', /timeouts/],
    ['stroe: /x\n', /store/],
  ] as const) {
    writeFileSync(file, text);
    refused(['build', join(place, 'c.sif'), `oci:${layout}:v1`], 'E_CONFIG', pattern);
  }
  rmSync(file);
});

test.run();
