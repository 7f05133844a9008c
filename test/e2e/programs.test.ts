/** What exec, run and shell start, in images of all makes: with and without a shell, scripts of others, entry points, odd names. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeTar, writeLayout } from '../helpers/layers.ts';
import { makeBusyboxImage, makeBusyboxTree, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { helperProgram } from './launcher/helpers.ts';

const test = suite('programs of an image');
const place = scratch('programs');
const image = makeBusyboxImage(place);

const squash = (tree: string): string => {
  execFileSync('mksquashfs', [tree, `${tree}.sqfs`, '-quiet', '-no-progress', '-noappend', '-all-root']);
  return `${tree}.sqfs`;
};

const script = (path: string, text: string): void => {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
};

/** As Apptainer leaves it: ENV rendered, an own environment script, its stock ones, a runscript. */
const apptainerImage = (): string => {
  const tree = join(place, 'apptainer');
  mkdirSync(join(tree, '.singularity.d/env'), { recursive: true });
  makeBusyboxTree(tree);
  script(join(tree, '.singularity.d/runscript'), '#!/bin/sh\necho "runscript $# <$1> FOO=$FOO"\n');
  script(
    join(tree, '.singularity.d/env/10-docker2singularity.sh'),
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell's
    '#!/bin/sh\nexport PATH="/opt/tool:/bin"\nexport FOO="${FOO:-"of the image"}"\n',
  );
  script(
    join(tree, '.singularity.d/env/90-environment.sh'),
    '#!/bin/sh\nexport COMPUTED="$(echo by a script)"\nexport SAW="$HOST_VALUE"\n',
  );
  script(join(tree, '.singularity.d/env/99-base.sh'), '#!/bin/sh\nexport LD_LIBRARY_PATH="$LD_LIBRARY_PATH:/.singularity.d/libs"\n');
  return squash(tree);
};
const apptainer = apptainerImage();

test('an image with one static program and nothing else runs it', () => {
  const tree = join(place, 'single');
  mkdirSync(tree);
  copyFileSync(helperProgram('payload'), join(tree, 'prog'));
  chmodSync(join(tree, 'prog'), 0o755);
  const single = squash(tree);
  for (const args of [
    ['exec', single, '/prog'],
    ['exec', '-C', single, '/prog'],
    ['run', single, '/prog'],
    ['exec', tree, '/prog'],
  ])
    assert.is(tsrun([...args, 'exit', '7']).status, 7, args.join(' '));
  const shell = tsrun(['shell', single]);
  assert.is(shell.status, 125);
  assert.match(shell.stderr, /neither bash nor sh.*\(E_NO_SHELL\)\nhint: /);
  assert.match(tsrun(['run', single]).stderr, /names no entry point, command or runscript \(E_NOTHING_TO_RUN\)\nhint: /);
  assert.is(tsrun(['exec', single, 'sh']).status, 127);
});

test('an image made by Apptainer: its runscript and environment scripts count, and see nothing of the host', () => {
  const env = { HOST_VALUE: 'host', FOO: 'of the host' };
  assert.is(tsrunOk(['run', apptainer, 'a b'], { env }), 'runscript 1 <a b> FOO=of the image\n');
  const inside = tsrunOk(['exec', apptainer, 'sh', '-c', 'echo "$FOO|$COMPUTED|$SAW|$HOST_VALUE|$PATH"'], { env });
  assert.is(inside, 'of the image|by a script||host|/opt/tool:/bin\n');
  assert.is(tsrunOk(['exec', '--env', 'FOO=mine', apptainer, 'sh', '-c', 'echo "$FOO"']), 'mine\n');
});

test('behind environment scripts a command fails as it does without them', () => {
  for (const [command, status, text] of [
    ['no-such', 127, /cannot run no-such: it is in no directory of PATH .*\(E_NOT_FOUND\)\nhint: /],
    ['/no/such', 127, /cannot run \/no\/such: there is no such file \(E_NOT_FOUND\)/],
    ['/etc/passwd', 126, /cannot run \/etc\/passwd: it is not executable \(E_NOT_EXECUTABLE\)/],
    ['/etc', 126, /cannot run \/etc: it is a directory \(E_NOT_EXECUTABLE\)/],
  ] as const) {
    for (const each of [image, apptainer]) {
      const ran = tsrun(['exec', each, command]);
      assert.is(ran.status, status, command);
      assert.match(ran.stderr, text);
    }
  }
  assert.is(tsrun(['exec', apptainer, 'sh', '-c', 'exit 9']).status, 9);
});

test('run joins entry point, command and arguments as Docker does, in the working directory of the image', () => {
  const busybox = readFileSync('/bin/busybox');
  const files = [
    { path: 'bin', type: 'dir' as const, mode: 0o755 },
    { path: 'bin/busybox', content: busybox, mode: 0o755 },
    { path: 'bin/sh', type: 'symlink' as const, link: 'busybox' },
    { path: 'bin/printf', type: 'symlink' as const, link: 'busybox' },
    { path: 'bin/pwd', type: 'symlink' as const, link: 'busybox' },
    { path: 'app', type: 'dir' as const, mode: 0o755 },
  ];
  const make = (name: string, config: Record<string, unknown>): string => {
    const layout = join(place, `${name}-layout`);
    writeLayout(layout, { layers: [makeTar(files)], config, architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' });
    const sif = join(place, `${name}.sif`);
    tsrunOk(['build', sif, `oci:${layout}`]);
    return sif;
  };
  const both = make('both', { Entrypoint: ['printf', '<%s>'], Cmd: ['a', '$HOME b'], Env: ['GREETING=hello', 'PATH=/bin'] });
  assert.is(tsrunOk(['run', both]), '<a><$HOME b>');
  assert.is(tsrunOk(['run', both, 'c', '`d`', '']), '<c><`d`><>');
  assert.is(tsrunOk(['exec', both, 'sh', '-c', 'printf "%s" "$GREETING"']), 'hello');
  const command = make('command', { Cmd: ['pwd'], WorkingDir: '/app' });
  assert.is(tsrunOk(['run', command]), '/app\n');
  assert.is(tsrunOk(['run', '--pwd', '/', command]), '/\n');
  assert.is(tsrunOk(['exec', command, 'pwd'], { cwd: place }), `${place}\n`);
  assert.is(tsrunOk(['run', command, 'printf', 'other']), 'other');
});

test('shell takes lines, a script with -c, and another shell', () => {
  assert.is(run('sh', ['-c', `echo 'echo from stdin' | ${tsrunPath} shell ${image}`]).stdout, 'from stdin\n');
  for (const each of [image, apptainer]) assert.is(tsrunOk(['shell', each, '-c', 'echo "$1"', 'sh', 'argument']), 'argument\n');
  assert.match(tsrun(['shell', '--shell', '/no/shell', image]).stderr, /cannot run \/no\/shell/);
});

test('on a terminal the shell has a prompt that names the image, and its status is the status', () => {
  for (const [each, prompt] of [
    [image, '(image.sif) $ '],
    [apptainer, '(apptainer.sqfs) $ '],
  ] as const) {
    const ran = run('script', ['-qec', `${tsrunPath} shell ${each}`, '/dev/null'], {
      input: 'echo "is $((40 + 2))"; exit 5\n',
      env: { TERM: 'dumb' },
    });
    assert.ok(ran.stdout.includes(prompt), ran.stdout);
    assert.match(ran.stdout, /is 42/);
    assert.is(ran.status, 5);
  }
});

test('scripts without #! run with the image’s sh; others that cannot run say why', () => {
  const bin = join(place, 'bin');
  mkdirSync(bin);
  script(join(bin, 'plain'), 'echo "plain $1"\n');
  script(join(bin, 'lost'), '#!/no/interpreter\n');
  script(join(bin, 'windows'), '#!/bin/sh\r\necho\r\n');
  const elf = Buffer.alloc(128);
  elf.write('\x7fELF\x02\x01\x01', 'latin1');
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(process.arch === 'arm64' ? 62 : 183, 18);
  elf.writeUInt32LE(1, 20);
  writeFileSync(join(bin, 'foreign'), elf, { mode: 0o755 });
  const ran = (name: string) => tsrun(['exec', '-B', `${bin}:/x`, image, `/x/${name}`, 'arg']);
  assert.is(ran('plain').stdout, 'plain arg\n');
  assert.is(ran('lost').status, 127);
  assert.match(ran('lost').stderr, /its interpreter \/no\/interpreter is missing/);
  assert.is(ran('windows').status, 127);
  assert.match(ran('windows').stderr, /carriage return/);
  assert.is(ran('foreign').status, 126);
  assert.match(ran('foreign').stderr, /a program for .*, this machine is /);
});

test('an image is found by any name its file can have', () => {
  const names = ['a b.sif', 'n\nl.sif', 'a:b.sif', 'x=y.sif', 'ümlaut.sif'];
  for (const name of names) {
    copyFileSync(image, join(place, name));
    assert.is(tsrunOk(['exec', name, 'sh', '-c', 'printf %s "$APPTAINER_NAME"'], { cwd: place }), Buffer.from(name).toString('latin1'));
  }
  symlinkSync('image.sif', join(place, 'link.sif'));
  symlinkSync('link.sif', join(place, 'link2.sif'));
  copyFileSync(image, join(place, '-dash.sif'));
  for (const name of ['link2.sif', './-dash.sif', `../${place.split('/').at(-1)}/image.sif`, `${place}//image.sif`])
    assert.is(tsrunOk(['exec', name, 'echo', 'found'], { cwd: place }), 'found\n', name);
  assert.is(tsrunOk(['exec', '--', '-dash.sif', 'echo', 'found'], { cwd: place }), 'found\n');
  const bytes = run(
    'bash',
    ['-c', `cp image.sif $'caf\\xe9.sif' && ${tsrunPath} exec $'caf\\xe9.sif' sh -c 'printf %s "$APPTAINER_NAME"'`],
    { cwd: place },
  );
  assert.is(bytes.stdout, 'caf\xe9.sif', bytes.stderr);
  const descriptor = run('bash', ['-c', `exec 7< image.sif; ${tsrunPath} exec /proc/self/fd/7 echo found`], { cwd: place });
  assert.is(descriptor.stdout, 'found\n', descriptor.stderr);
});

test('closed standard descriptors stay closed, and harm nothing', () => {
  const inside = (how: string): string =>
    run('bash', ['-c', `${tsrunPath} exec ${image} sh -c 'for d in 0 1 2; do [ -e /proc/$$/fd/$d ] && echo $d; done >&9' ${how} 9>&1`])
      .stdout;
  assert.is(inside(''), '0\n1\n2\n');
  assert.is(inside('<&- '), '1\n2\n');
  assert.is(inside('2>&- '), '0\n1\n');
});

test.run();
