// time limit: 900 s
/** Bases made from packages or of one program, and sections that run on the host: with one id, with several, and where the kernel makes no overlay. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
// biome-ignore lint/correctness/useImportExtensions: it takes the declarations for the module
import { machineAptOptions, machineSources } from '../../scripts/apt-sources.mjs';
import { type Ran, tsrun, tsrunOk } from '../helpers/product.ts';
import { type Environment, ok, onTerminal, RANGES, recipesIn } from '../helpers/recipes.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('bases of a build');
const { place, space, base, env, context, build, buildPlain, inside } = recipesIn('bootstrap');

type Debian = { readonly suite: string; readonly mirror: string };

/** What mmdebstrap can reach as it is: it takes no settings of apt from the machine. Undefined, and skipped, where there is no such mirror. */
const debian = (program: string): Debian | undefined => {
  const { suite, lines } = machineSources();
  const mirror = lines.flatMap((line) => new RegExp(`(http://\\S+) ${suite} main$`).exec(line)?.[1] ?? [])[0];
  if (spawnSync(program, ['--version']).status !== 0) skip(`${program} is not installed`);
  else if (mirror === undefined || machineAptOptions().some((line) => line.includes('Proxy')))
    skip('apt has no mirror of http without a proxy');
  else return { suite, mirror };
  return undefined;
};

const packages = ({ suite, mirror }: Debian): string =>
  join(
    context({
      'packages.def': `Bootstrap: debootstrap
OSVersion: ${suite}
MirrorURL: ${mirror}
Include: netbase
%post
  test -c /dev/null && dpkg --audit && test -s /etc/protocols && chown 5:6 /etc/protocols
`,
    }),
    'packages.def',
  );

/** Owners that only the packages can have told. */
const assertDebian = (out: string): void => {
  const listed = tsrunOk(['image', 'ls', join(place, out), '/etc/shadow', '/var/mail', '/usr/bin/chage', '/etc/protocols'], { env });
  assert.match(listed, /-rw-r----- +0 +42 .* \/etc\/shadow\n/);
  assert.match(listed, /drwxrwsr-x +0 +8 .* \/var\/mail\n/);
  assert.match(listed, /-rwxr-sr-x +0 +42 .* \/usr\/bin\/chage\n/);
  assert.match(listed, / +5 +6 .* \/etc\/protocols\n/);
  assert.is(inside(out, 'cat', '/etc/os-release').includes('ID='), true);
  assert.is(inside(out, 'ls', '/var/cache/apt/archives').includes('.deb'), false);
  // Nothing tells where, or with what ids, it was made.
  assert.not.match(
    inside(out, 'sh', '-c', 'cat /etc/apt/apt.conf.d/* /var/log/*.log 2>&1; ls -a / /dev /etc/dpkg/dpkg.cfg.d'),
    /Sandbox|begun|tsrun-owners|mmdebstrap/,
  );
};

const twoIds = [
  ['one id', {}, 'single'],
  ['many ids', RANGES, 'ranges'],
] as const;

test('one id: mmdebstrap makes a base from packages, which is kept', () => {
  const from = debian('mmdebstrap');
  if (from === undefined) return;
  const recipe = packages(from);
  ok(build(recipe, 'packages.sif'));
  assertDebian('packages.sif');
  assert.match(ok(build(recipe, 'packages.sif')).stderr, /3 steps \(3 cached\)/);
});

test('many ids: it does where the kernel makes no overlay, too', () => {
  const from = debian('mmdebstrap');
  if (from === undefined) return;
  ok(buildPlain('packages', packages(from), 'plain-packages.sif', [], RANGES));
  assertDebian('plain-packages.sif');
});

test('one id: without mmdebstrap it is debootstrap', () => {
  const from = debian('debootstrap');
  if (from === undefined || debian('mmdebstrap') === undefined) return;
  const programs = join(place, 'programs');
  mkdirSync(programs);
  for (const directory of ['/usr/bin', '/bin', '/usr/sbin', '/sbin'])
    for (const program of readdirSync(directory))
      if (program !== 'mmdebstrap' && !existsSync(join(programs, program))) symlinkSync(join(directory, program), join(programs, program));
  ok(build(packages(from), 'older.sif', [], { PATH: programs, TSRUN_TMPDIR: join(place, 'older') }));
  assertDebian('older.sif');
});

test('a suite or mirror that is none is told as the program tells it, and nothing is left', () => {
  if (spawnSync('mmdebstrap', ['--version']).status !== 0) return skip('mmdebstrap is not installed');
  const recipe = 'Bootstrap: debootstrap\nOSVersion: bookworm\nMirrorURL: http://127.0.0.1:1/none\n';
  const ran = build(join(context({ 'none.def': recipe }), 'none.def'), 'none.sif');
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /none\.def:1: cannot make a bookworm from its packages: [\s\S]*127\.0\.0\.1[\s\S]*\(E_DEBOOTSTRAP\)\nhint: /);
  assert.equal(readdirSync(join(space, 'build/single/begun')), []);
});

const BUSYBOX = `Bootstrap: busybox
MirrorURL: /bin/busybox

%setup
  echo "$(id -u) set up" > "$APPTAINER_ROOTFS/set-up" 2> /dev/null
  chown 3:4 "$APPTAINER_ROOTFS/set-up"
  test -e /usr/bin/env && echo seen > marker
%post
  cat /set-up > /seen && chown 5:6 /seen && rm -f /bin/vi
%runscript
  echo "hello $*"
`;

for (const [name, more, ids] of twoIds) {
  test(`${name}: where the kernel makes no overlay, a busybox is a base and %setup runs on the host, with the same image`, () => {
    const directory = context({ 'busybox.def': BUSYBOX });
    const recipe = join(directory, 'busybox.def');
    ok(build(recipe, `layers-${ids}.sif`, [], more));
    const ran = ok(buildPlain(ids, recipe, `plain-${ids}.sif`, [], more));
    assert.match(ran.stderr, /the next build begins with the first step again/);
    assert.ok(existsSync(join(directory, 'marker')));
    const diff = tsrun(['image', 'diff', join(place, `layers-${ids}.sif`), join(place, `plain-${ids}.sif`)], { env });
    assert.is(diff.status, 0, diff.stdout + diff.stderr);
    const listed = tsrunOk(['image', 'ls', join(place, `plain-${ids}.sif`), '/seen', '/set-up'], { env });
    assert.match(listed, / +5 +6 .* \/seen\n/);
    assert.match(listed, / +3 +4 .* \/set-up\n/);
    assert.is(inside(`plain-${ids}.sif`, 'cat', '/seen'), '0 set up\n');
    assert.equal(readdirSync(join(place, `under-${ids}/d/build/${ids}/begun`)), []);
  });
}

const shellRan = (ran: Ran): void => {
  assert.match(ran.stdout, /<state \/deep 0>/, ran.stdout + ran.stderr);
  assert.match(ran.stdout, /its exit status is 3 \(E_STEP\)/);
  assert.is(ran.status, 125);
};

for (const [name, more, ids] of twoIds) {
  test(`${name}: where the kernel makes no overlay, --debug-shell is in the state in which the step failed`, () => {
    const directory = context({ Dockerfile: `FROM ${base}\nWORKDIR /deep\nRUN echo state > left; exit 3\n` });
    const given: Environment = { ...more, TERM: 'dumb' };
    const typed = 'echo "<$(cat left) $(pwd) $(id -u)>"; exit 0\n';
    const around = (words: readonly string[]): readonly string[] => onTerminal('tsrun build> ', typed, words);
    shellRan(buildPlain(`shell-${ids}`, directory, 'shell.sif', ['--debug-shell'], given, around));
    assert.not.ok(existsSync(join(place, 'shell.sif')));
    assert.equal(readdirSync(join(place, `under-shell-${ids}/d/build/${ids}/begun`)), []);
  });
}

test.run();
