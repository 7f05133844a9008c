/** `tsrun build --sandbox`: a directory that runs, can be built upon and changed, and becomes an image with the owners that were meant. */
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { tsrun, tsrunOk } from '../helpers/product.ts';
import { ok, recipesIn } from '../helpers/recipes.ts';

const test = suite('sandboxes');
const { user, place, base, env, context, build, listing, assertClean } = recipesIn('sandbox');

const say = (...args: readonly string[]): string => tsrunOk(args, { env, cwd: place });

/** A definition file of that name. */
const recipe = (name: string, from: string, ...lines: readonly string[]): string =>
  join(
    context({ [`${name}.def`]: `Bootstrap: localimage\nFrom: ${from}\n%post\n${lines.map((line) => `  ${line}\n`).join('')}` }),
    `${name}.def`,
  );

const convert = (source: string, out: string): void => void ok(tsrun(['build', '--force', out, source], { env, cwd: place }));

test('--sandbox writes a directory that runs, and an image built on it has the owners that were recorded', () => {
  const directory = context({ Dockerfile: `FROM ${base}\nRUN echo x > /x && chown 21:22 /x && mkdir -m 700 /private\n` });
  ok(build(directory, 'box', ['--sandbox']));
  assert.is(tsrunOk(['exec', join(place, 'box'), 'cat', '/x'], { env }), 'x\n');
  assert.is(statSync(join(place, 'box/x')).uid, user.uid);
  const on = context({ Dockerfile: `FROM ${join(place, 'box')}\nRUN echo y > /y\n` });
  ok(build(on, 'on-box.sif'));
  assert.equal(listing('on-box.sif', '/x'), ['-rw-r--r-- 21:22 /x']);
  const more = context({ Dockerfile: 'FROM scratch\nRUN echo z > /z && rm -r /private\n' });
  ok(build(more, 'box', ['--update']));
  assert.is(tsrunOk(['exec', join(place, 'box'), 'cat', '/x', '/z'], { env }), 'x\nz\n');
  assert.not.ok(existsSync(join(place, 'box/private')));
  assertClean('box');
});

test('a sandbox made into an image keeps the owners that are recorded in it', () => {
  const owners = recipe(
    'owners',
    base,
    'echo x > /its; chown 5:6 /its; mkdir /closed; chown 7:8 /closed; chmod 0 /closed',
    'ln -s its /link; chown -h 9:10 /link; mkfifo /pipe; chown 11:12 /pipe; ln -s its /roots; chmod 555 /',
  );
  ok(build(owners, 'owners', ['--sandbox']));
  const expectOwners = (image: string): void => {
    const listed = (path: string): string => say('image', 'ls', '--depth', '0', image, path).trim();
    assert.match(listed('/its'), /^-rw-r--r--\s+5\s+6\s/);
    assert.match(listed('/closed'), /^d---------\s+7\s+8\s/);
    assert.match(listed('/link'), /^l\S+\s+9\s+10\s/);
    assert.match(listed('/pipe'), /^p\S+\s+11\s+12\s/);
    assert.match(listed('/roots'), /^l\S+\s+0\s+0\s/);
    assert.match(listed('/bin/busybox'), /^-rwxr-xr-x\s+0\s+0\s/);
    assert.not.match(say('image', 'ls', image), /tsrun-owners/);
  };
  assert.is(statSync(join(place, 'owners')).mode & 0o7777, 0o555);
  convert('owners', 'unboxed.sif');
  expectOwners('unboxed.sif');
  assert.match(say('image', 'ls', '--depth', '0', 'unboxed.sif', '/'), /^dr-xr-xr-x/);
  // People copy such directories, and links have no room for a record.
  assert.is(spawnSync('cp', ['-a', join(place, 'owners'), join(place, 'copied')]).status, 0);
  convert('copied', 'copied.sif');
  expectOwners('copied.sif');
  const on = recipe('on', join(place, 'owners'), 'ln -s its /two; chown -h 13:14 /two');
  ok(build(on, 'on.sif'));
  expectOwners('on.sif');
  ok(build(on, 'owners', ['--update']));
  convert('owners', 'updated.sif');
  expectOwners('updated.sif');
  assert.match(say('image', 'ls', 'updated.sif', '/two'), /^l\S+\s+13\s+14\s/);
});

test('a sandbox of root keeps them too', () => {
  const root = (...args: readonly string[]): unknown =>
    ok(tsrun(['build', '--force', ...args], { env: { ...env, TSRUN_TMPDIR: join(place, 'root') }, cwd: place, as: 'root' }));
  root('--sandbox', join(place, 'roots'), recipe('root', join(place, 'unboxed.sif'), 'true'));
  root(join(place, 'roots.sif'), 'roots');
  assert.match(say('image', 'ls', 'roots.sif', '/link'), /^l\S+\s+9\s+10\s/);
  assert.match(say('image', 'ls', 'roots.sif', '/its'), /^-rw-r--r--\s+5\s+6\s/);
});

test('--sandbox of an image is its files, with their owners', () => {
  const image = join(place, 'of-image.sif');
  ok(build(context({ Dockerfile: `FROM ${base}\nRUN echo '$x' > /its && chown 5:6 /its\nLABEL a=b\n` }), 'of-image.sif'));
  for (const source of [image, './of-image.sif']) {
    ok(tsrun(['build', '--force', '--sandbox', join(place, 'box-of-image'), source], { env, cwd: place }));
    assert.is(tsrunOk(['exec', join(place, 'box-of-image'), 'cat', '/its'], { env }), '$x\n');
    ok(build(context({ Dockerfile: `FROM ${join(place, 'box-of-image')}\nRUN true\n` }), 'on-image.sif'));
    assert.equal(listing('on-image.sif', '/its'), ['-rw-r--r-- 5:6 /its']);
  }
  const none = tsrun(['build', '--sandbox', join(place, 'none'), 'no such image'], { env, cwd: place });
  assert.is(none.status, 125);
  assert.not.ok(existsSync(join(place, 'none')));
});

test('what only recipes have is refused for an image', () => {
  for (const option of ['--update', '--lock', '--check', '--no-cache']) {
    const ran = tsrun(['build', option, join(place, 'refused'), base], { env, cwd: place });
    assert.is(ran.status, 125, option);
    assert.match(ran.stderr, new RegExp(`^tsrun: cannot use ${option} for .*/base: it is no recipe .*E_USAGE`, 's'));
    assert.not.ok(existsSync(join(place, 'refused')));
  }
});

test.run();
