// time limit: 600 s
/** README's first command, for real: packages from the machine's own Debian or Ubuntu mirror, an image of them, and the analysis in it. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
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

test.run();
