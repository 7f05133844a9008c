/**
 * Behind the memory of the planner's engine nothing is mapped, as far as any address of the generated code leads (native/engine/README.md): however the
 * kernel lays out the address space, and whatever limits there are.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { environmentOf, makeBusyboxImage, scratch, tsrunPath } from '../helpers/product.ts';
import { endOf, until } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('the address space of a start');

const place = scratch('space');
const root = new URL('../../', import.meta.url).pathname;
/** What 32 bits and a constant in the code (ENGINE_BEYOND) can lead to. */
const REACH = 2 ** 32 + 2 ** 21;

let image = '';
test.before(() => {
  image = makeBusyboxImage(place);
});

/** Start and end of the mappings, while the planner has been called and waits for a pipe that it reads. */
const mappingsOf = async (name: string, prefix: string): Promise<readonly (readonly [number, number])[]> => {
  const pipe = join(place, name);
  const { uid, gid } = testUser();
  execFileSync('mkfifo', ['-m', '666', pipe]);
  const writer = openSync(pipe, 'r+');
  const words = [tsrunPath, 'exec', '--env-file', '/dev/fd/3', image, '/bin/true'];
  const child = spawn('/bin/sh', ['-c', `${prefix} "$@" 3<"$0"`, pipe, ...words], {
    env: environmentOf({}),
    uid,
    gid,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const proc = `/proc/${child.pid}`;
  const read = (file: string): string => readFileSync(join(proc, file), 'latin1');
  await until(
    () => child.exitCode !== null || (read('comm') === 'tsrun\n' && /^0 0x[0-9a-f]+ /.test(read('syscall'))),
    'the planner reads the pipe',
  );
  const mappings = [...read('maps').matchAll(/^([0-9a-f]+)-([0-9a-f]+) /gm)].map(
    ([, start = '', end = '']) => [Number.parseInt(start, 16), Number.parseInt(end, 16)] as const,
  );
  writeSync(writer, 'A=1\n');
  closeSync(writer);
  assert.is(await endOf(child), 0, prefix);
  return mappings;
};

const LAYOUTS: readonly (readonly [name: string, prefix: string])[] = [
  ['as usual', 'exec'],
  ['without randomness', 'exec setarch -R'],
  ['in the old layout', 'exec setarch -L'],
  ['with a stack without limit', 'ulimit -s unlimited; exec'],
  ['with little address space', 'ulimit -v 400000; exec'],
];

/** Addresses of symbols; none without the half of the program that has the engine (native/start/README.md). */
const symbols = (): ReadonlyMap<string, number> => {
  const { stdout } = spawnSync('nm', [join(root, 'build/tsrun.full')], { encoding: 'utf8', maxBuffer: 1 << 28 });
  const found = [...stdout.matchAll(/^([0-9a-f]+) \w (\w+)$/gm)];
  return found.some(([, , name]) => name === 'start_entry')
    ? new Map(found.map(([, at = '', name = '']) => [name, Number.parseInt(at, 16)]))
    : new Map();
};

for (const [name, prefix] of LAYOUTS) {
  test(`nothing is mapped behind the engine's memory ${name}`, async () => {
    const places = symbols();
    const [start, end] = [places.get('engine_space'), places.get('_end')];
    if (start === undefined || end === undefined) return skip('the program is not linked in two halves');
    const mappings = await mappingsOf(name.replaceAll(' ', '-'), prefix);
    assert.ok(
      mappings.some(([first, last]) => first >= start && last <= end),
      'the engine has its memory there',
    );
    assert.equal(
      mappings.filter(([, last]) => last > start).filter(([first, last]) => (first < start || last > end) && first < start + REACH),
      [],
    );
  });
}

test("the engine's memory is the end of the program", () => {
  const places = symbols();
  const start = places.get('engine_space');
  if (start === undefined) return skip('the program is not linked in two halves');
  assert.equal(
    [...places].filter(([name, at]) => at > start && name !== '_end').map(([name]) => name),
    [],
  );
});

test.run();
