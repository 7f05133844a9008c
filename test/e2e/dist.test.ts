/** The release: unpacked elsewhere, with the checkout hidden, it does the main job; and running an image never starts its Node. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { must, run } from '../helpers/proc.ts';
import { makeBusyboxTree } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { asTestUser, isRoot, userDirectory } from '../helpers/user.ts';

const test = suite('release tarball');

const top = resolve(import.meta.dirname, '../..');
const { version } = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8')) as { readonly version: string };
const name = `tsrun-${version}-linux-${process.arch === 'x64' ? 'x86_64' : 'aarch64'}`;
const tarball = join(top, 'dist', `${name}.tar.gz`);

test.before(async () => {
  await must(['node', 'scripts/dist.mjs'], { cwd: top, limitSeconds: 200 });
});

/** The command as the test user in a mount namespace where the checkout is an empty directory. */
const withoutCheckout = (argv: readonly string[]): string[] => [
  ...['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"', top],
  ...asTestUser(argv, { TSRUN_LINGER: '0' }),
];

test('the program says nothing of the directory it was built in: elsewhere the same source gives the same bytes', () => {
  assert.not.ok(readFileSync(join(top, 'bin/tsrun')).includes(top));
});

test('it builds an image and runs it where nothing else is installed, and runs it without its Node', async () => {
  if (!isRoot()) return skip('hiding the checkout needs root');
  const place = userDirectory('dist');
  await must(asTestUser(['tar', '-C', place, '-xzf', '-']), { input: readFileSync(tarball), cwd: '/' });
  const tsrun = join(place, name, 'bin/tsrun');
  const image = join(place, 'image.sif');
  const tree = join(place, 'tree');
  mkdirSync(tree);
  makeBusyboxTree(tree);
  const rootfs = execFileSync('tar', ['-C', tree, '--owner=0', '--group=0', '-cf', '-', '.'], { maxBuffer: 256 << 20 });

  await must(withoutCheckout([tsrun, 'build', image, '-']), { input: rootfs, cwd: place });
  const node = join(place, name, 'lib/node/bin/node');
  chmodSync(node, 0);
  assert.is.not((await run(asTestUser([node, '--version']))).status, 0);
  const out = await must(withoutCheckout([tsrun, 'exec', image, 'cat', '/opt/tool/data.txt']), { cwd: place });
  assert.is(out, 'from the image\n');
});

test('it carries the licences of everything that is in it, the manual and completions', () => {
  const names = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8', maxBuffer: 64 << 20 });
  const parts = [
    'LICENSE',
    'licenses/native/libzstd-dev',
    'licenses/native/libc6-dev',
    'licenses/npm/quickjs-wasi/LICENSE',
    'licenses/npm/ink/',
    'share/man/man1/tsrun.1',
    'share/bash-completion/completions/tsrun',
    'share/zsh/site-functions/_tsrun',
    'share/fish/vendor_completions.d/tsrun.fish',
  ];
  for (const part of [...parts, `licenses/npm/node-linux-${process.arch}/LICENSE`]) assert.ok(names.includes(`${name}/${part}`), part);
});

test('the same parts give the same tarball', async () => {
  const first = readFileSync(tarball);
  await must(['node', 'scripts/dist.mjs'], { cwd: top, limitSeconds: 200 });
  assert.ok(first.equals(readFileSync(tarball)));
  assert.ok(readdirSync(join(top, 'dist')).includes(`${name}.tar.gz`));
});

test.run();
