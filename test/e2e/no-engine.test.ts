/** The native program built without the engine: the planner runs in Node, and a run is the same. It is built here, which takes some seconds. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, type Ran, run, scratch, tsrun } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('without the engine');

const top = resolve(import.meta.dirname, '../..');
const place = scratch('no-engine');
// Node and the full program are found from where the native program lies.
const program = join(top, 'build/none/bin/tsrun');

test.before(() => {
  const made = spawnSync('make', ['ENGINE=none', 'BUILD=build/none', 'BIN=build/none/bin', 'build/none/bin/tsrun'], {
    cwd: top,
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`make ENGINE=none: ${made.stdout}${made.stderr}`);
  makeBusyboxImage(place);
});

const images = [
  ['a SIF', join(place, 'image.sif')],
  ['a directory', join(place, 'tree')],
] as const;

for (const [what, image] of images) {
  test(`a command runs in ${what}: user, directory, arguments, status`, () => {
    const ran = run(program, ['exec', '--env', 'MARK=here', image, 'sh', '-c', 'id -u; pwd; echo "$MARK $1"; exit 7', 'x', 'a b'], {
      cwd: place,
    });
    assert.is(ran.stderr, '');
    assert.is(ran.stdout, `${testUser().uid}\n${place}\nhere a b\n`);
    assert.is(ran.status, 7);
  });
}

test('the environment of a run is the same as with the engine, although Node starts without a part of it', () => {
  const [, [, image]] = images;
  const env = { LD_LIBRARY_PATH: '/opt/none', NODE_OPTIONS: '--no-such-option', NODE_PATH: '/x', LATIN1: 'caf\u00e9 100%\n', KEPT: 'yes' };
  const variables = (ran: Ran): readonly string[] => {
    assert.is(ran.status, 0, ran.stderr);
    return ran.stdout.split('\0').sort();
  };
  const here = variables(run(program, ['exec', image, 'env', '-0'], { env }));
  assert.equal(here, variables(tsrun(['exec', image, 'env', '-0'], { env })));
  assert.ok(here.includes('KEPT=yes'));
  assert.not.ok(here.includes('LD_LIBRARY_PATH=/opt/none'));
});

test('an image without facts is prepared first', () => {
  const bare = join(place, 'bare.sqfs');
  const packed = run('/usr/bin/mksquashfs', [join(place, 'tree'), bare, '-quiet', '-no-progress'], { as: 'root' });
  assert.is(packed.status, 0, packed.stderr);
  const ran = run(program, ['exec', bare, 'true'], { env: { TSRUN_STORE: join(place, 'store') } });
  assert.is(ran.status, 0, ran.stderr);
});

test('other commands, help and errors are as ever', () => {
  assert.match(run(program, ['version']).stdout, /^tsrun version /);
  assert.match(run(program, ['exec', '--help']).stdout, /^tsrun exec/);
  const missing = run(program, ['exec', '/nowhere.sif', 'true']);
  assert.is(missing.status, 125);
  assert.match(missing.stderr, /E_IMAGE_MISSING/);
  assert.is(run(program, ['exec', images[1][1], 'no-such-program']).status, 127);
});

test('a copy without Node beside it says what is missing', () => {
  mkdirSync(join(place, 'bin'));
  const alone = join(place, 'bin/tsrun');
  copyFileSync(program, alone);
  const ran = run(alone, ['exec', images[1][1], 'true']);
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /E_NODE/);
});

test.run();
