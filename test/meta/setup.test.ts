import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../helpers/proc.ts';
import { asTestUser, isRoot, TEST_USER, testUser, userDirectory } from '../helpers/user.ts';

const test = suite('set-up');

const top = join(import.meta.dirname, '../..');

test('nothing is said when nothing is missing', async () => {
  const result = await run([process.execPath, 'scripts/setup.mjs', 'build', 'test'], { cwd: top });
  assert.equal({ status: result.status, output: result.stdout + result.stderr }, { status: 0, output: '' });
});

test('the tests have their user, and it can open /dev/fuse', async () => {
  if (isRoot()) assert.is(testUser().name, TEST_USER);
  if (existsSync('/dev/fuse')) assert.is((await run(asTestUser(['test', '-w', '/dev/fuse']))).status, 0);
});

test('an ordinary user without the Debian packages is told the one command, and nothing is touched', async () => {
  // Copies, since the checkout may lie where this user cannot go; an empty dpkg database, so that everything is missing.
  const place = userDirectory('setup');
  const node = join(place, 'node');
  cpSync(process.execPath, node);
  cpSync(join(top, 'scripts'), join(place, 'scripts'), { recursive: true });
  cpSync(join(top, 'package-lock.json'), join(place, 'package-lock.json'));
  mkdirSync(join(place, 'dpkg/info'), { recursive: true });
  mkdirSync(join(place, 'dpkg/updates'));
  writeFileSync(join(place, 'dpkg/status'), '');
  const result = await run(asTestUser([node, 'scripts/setup.mjs', 'build'], { DPKG_ADMINDIR: join(place, 'dpkg') }), { cwd: place });
  const groups = JSON.parse(readFileSync(join(top, 'scripts/packages.json'), 'utf8')) as { readonly build: readonly string[] };
  assert.is(result.status, 1);
  assert.match(result.stderr, `sudo apt-get install -y --no-install-recommends ${[...groups.build].sort().join(' ')}\n`);
  assert.not(existsSync(join(place, 'node_modules')));
});

test('an unknown group is refused', async () => {
  const result = await run([process.execPath, 'scripts/setup.mjs', 'everything'], { cwd: top });
  assert.is(result.status, 1);
  assert.match(result.stderr, 'unknown group everything');
});

test.run();
