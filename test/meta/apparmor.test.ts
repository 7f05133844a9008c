/** The AppArmor profile for kernels that ask for one (Ubuntu 23.10 and newer), on invented file systems; the loader is a recorder. */
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type RunResult, run } from '../helpers/proc.ts';
import { skip } from '../helpers/skip.ts';
import { asTestUser, isRoot, testUser, userDirectory } from '../helpers/user.ts';

const test = suite('AppArmor profile');

const top = resolve(import.meta.dirname, '../..');
const node = join(top, 'node_modules/.bin/node');

/** A machine whose kernel says `restricted`, with tsrun installed behind a symbolic link and a loader that notes what it is told. */
const machine = (restricted: string): string => {
  const files = userDirectory('apparmor');
  for (const path of ['sys/kernel/security/apparmor', 'proc/sys/kernel', 'etc/apparmor.d', 'opt/tsrun-1', 'bin']) {
    mkdirSync(join(files, path), { recursive: true });
  }
  writeFileSync(join(files, 'proc/sys/kernel/apparmor_restrict_unprivileged_userns'), `${restricted}\n`);
  writeFileSync(join(files, 'opt/tsrun-1/tsrun'), '');
  symlinkSync('tsrun-1', join(files, 'opt/tsrun'));
  writeFileSync(join(files, 'bin/apparmor_parser'), `#!/bin/sh\necho "$@" >> ${files}/loaded\n`);
  chmodSync(join(files, 'bin/apparmor_parser'), 0o755);
  return files;
};

const allow = (files: string, prefix: (argv: readonly string[]) => readonly string[] = (argv) => argv): Promise<RunResult> => {
  const script = `import { allowUserNamespaces } from '${join(top, 'scripts/apparmor.mjs')}'; allowUserNamespaces('${files}/opt/tsrun/tsrun', '${files}');`;
  return run(prefix([node, '--input-type=module', '-e', script]), { env: { ...process.env, PATH: `${files}/bin:${process.env['PATH']}` } });
};

const profileOf = (files: string): string => join(files, 'etc/apparmor.d/tsrun');

test('root installs and loads it for the real path of the program, once', async () => {
  if (!isRoot()) return skip('installing a profile needs root');
  const files = machine('1');
  const { status, stderr } = await allow(files);
  assert.is(status, 0, stderr);
  const profile = readFileSync(profileOf(files), 'utf8');
  assert.ok(profile.includes(`profile tsrun "${files}/opt/tsrun-1/tsrun" flags=(unconfined) {\n  userns,`), profile);
  const page = readFileSync(join(top, 'docs/administrators.md'), 'utf8');
  assert.ok(page.includes(profile.replace(`${files}/opt/tsrun-1/tsrun`, '/opt/tsrun/*/bin/tsrun')), 'the page for administrators shows it');
  assert.is((await allow(files)).stderr, '');
  assert.is(readFileSync(join(files, 'loaded'), 'utf8'), `-r ${profileOf(files)}\n`);
});

test('anybody else is told what root has to run, and nothing is written', async () => {
  const files = machine('1');
  const { status, stderr } = await allow(files, (argv) => (isRoot() ? asTestUser(argv) : argv));
  assert.is(status, 0, stderr);
  assert.match(stderr, 'As root, once');
  assert.ok(stderr.includes(`"${files}/opt/tsrun-1/tsrun"`) && stderr.includes('apparmor_parser -r /etc/apparmor.d/tsrun'), stderr);
  assert.not.ok(existsSync(profileOf(files)), testUser().name);
});

test('a kernel that does not ask for it gets none', async () => {
  const files = machine('0');
  assert.is((await allow(files)).stderr, '');
  assert.not.ok(existsSync(profileOf(files)));
});

test.run();
