// time limit: 900 s
/** README's first command, for real: packages from the machine's own Debian or Ubuntu mirror, an image of them, and the analysis in it. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type RunResult, run } from '../helpers/proc.ts';
import { skip } from '../helpers/skip.ts';
import { isRoot } from '../helpers/user.ts';

const test = suite('quickstart');

const top = resolve(import.meta.dirname, '../..');
const place = join(top, 'build/quickstart');
const quickstart = (): Promise<RunResult> => run(['npm', 'run', '--silent', 'quickstart'], { cwd: top, limitSeconds: 400 });
const cannotInstall = (): boolean => !isRoot() && spawnSync('mmdebstrap', ['--version']).status !== 0;

test('npm run quickstart makes an image and shows the numbers and the picture of the analysis in it', async () => {
  if (cannotInstall()) return skip('installing mmdebstrap needs root');
  const { status, stdout, stderr } = await quickstart();
  assert.is(status, 0, stdout + stderr);
  assert.match(stdout, /^python 3\.\d+\.\d+, numpy [\d.]+, /m);
  assert.match(stdout, /^period {9}3\.14\d\d \+- 0\.00\d\d days$/m);
  assert.match(stdout, /\*{2}/);
  assert.match(stderr, 'Ready in');
});

test('the example ran as an ordinary user, who owns the picture', () => {
  if (cannotInstall()) return skip('installing mmdebstrap needs root');
  const pictures = readdirSync(place)
    .map((name) => join(place, name, 'analysis.svg'))
    .filter((path) => existsSync(path));
  assert.ok(pictures.length > 0);
  // Where others cannot enter the checkout (a clone in /root), the example has to run as root.
  const reachable = spawnSync('setpriv', ['--reuid=65534', '--clear-groups', 'test', '-r', join(place, 'pipeline.sif')]).status === 0;
  for (const path of pictures) assert.ok(statSync(path).size > 1000 && (!reachable || statSync(path).uid !== 0), path);
});

test('a second run uses what is there', async () => {
  if (cannotInstall()) return skip('installing mmdebstrap needs root');
  const { status, stdout, stderr } = await quickstart();
  assert.is(status, 0, stdout + stderr);
  assert.not.match(stderr, /installing|making/);
  assert.match(stdout, /^period/m);
});

/** What a user of this name would have cloned and built, theirs: all of the checkout but what the quickstart makes, and npm's packages by a link. */
const checkoutOf = (user: string): string => {
  const copy = mkdtempSync(join(tmpdir(), 'tsrun-quickstart-'));
  const files = spawnSync('git', ['ls-files', '-z'], { cwd: top, encoding: 'utf8' }).stdout.split('\0');
  const built = ['bin', ...readdirSync(join(top, 'build')).map((name) => join('build', name))];
  const made = ['quickstart', 'debian-base', 'test-base'].map((name) => join('build', name));
  for (const path of [...files, ...built].filter((each) => each !== '' && !made.includes(each) && existsSync(join(top, each))))
    cpSync(join(top, path), join(copy, path), { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  symlinkSync(join(top, 'node_modules'), join(copy, 'node_modules'));
  assert.is(spawnSync('chown', ['-hR', `${user}:`, copy]).status, 0);
  return copy;
};

test('a user without root and without subordinate ids gets the same', async () => {
  if (!isRoot()) return skip('becoming another user needs root');
  const user = 'nobody';
  for (const path of ['/etc/subuid', '/etc/subgid']) assert.not.match(existsSync(path) ? readFileSync(path, 'utf8') : '', `${user}:`);
  if (spawnSync('setpriv', ['--reuid=65534', '--clear-groups', 'test', '-x', join(top, 'node_modules/.bin/node')]).status !== 0)
    return skip(`${user} cannot reach ${top}`);
  const copy = checkoutOf(user);
  try {
    const env = [`HOME=${copy}`, `PATH=${dirname(process.execPath)}:${process.env['PATH']}`];
    const command = ['npm', 'run', '--silent', 'quickstart'];
    const { status, stdout, stderr } = await run(
      ['setpriv', `--reuid=${user}`, '--regid=65534', '--clear-groups', 'env', '-i', ...env, ...command],
      { cwd: copy, limitSeconds: 400 },
    );
    assert.is(status, 0, stdout + stderr);
    assert.match(stderr, /^making a small \w+ \w+ with mmdebstrap and tsrun$/m);
    assert.match(stdout, /^period {9}3\.14\d\d \+- 0\.00\d\d days$/m);
    assert.match(stderr, 'Ready in');
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});

test.run();
