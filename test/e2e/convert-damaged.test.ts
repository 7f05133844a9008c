/**
 * Damaged and hostile images under `exec`, and hostile layers under `build`: each ends with a clear error, or runs; none hangs, crashes tsrun or
 * leaves anything. The program that runs comes from the host, so that a crash is never its own.
 */
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeTar, type TestEntry } from '../helpers/layers.ts';
import { run } from '../helpers/proc.ts';
import { environmentOf, makeBusyboxImage, scratch, tsrun, tsrunPath } from '../helpers/product.ts';
import { asTestUser } from '../helpers/user.ts';

const test = suite('damaged images');
const place = scratch('damaged');
const image = makeBusyboxImage(place);
const whole = readFileSync(image);
copyFileSync('/bin/busybox', join(place, 'busybox'));

/** xorshift32: the same damage in every run. */
const createChance = (seed: number) => {
  let state = seed;
  return (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
};

type Chance = ReturnType<typeof createChance>;

const partition = Number(/(\d+)-(\d+)\s*\|FS/.exec(tsrun(['image', 'objects', image]).stdout)?.[1]);
const partitionEnd = Number(/(\d+)-(\d+)\s*\|FS/.exec(tsrun(['image', 'objects', image]).stdout)?.[2]);

const scribble = (bytes: Buffer, from: number, to: number, times: number, chance: Chance): Buffer => {
  for (let i = 0; i < times; i++) bytes[from + chance(to - from)] = chance(256);
  return bytes;
};

const KINDS: Readonly<Record<string, (bytes: Buffer, chance: Chance) => Buffer>> = {
  'SIF header': (bytes, chance) => scribble(bytes, 0, 128, 1 + chance(4), chance),
  'SIF table': (bytes, chance) => scribble(bytes, 4096, 4096 + 7 * 585, 1 + chance(6), chance),
  'super block': (bytes, chance) => scribble(bytes, partition, partition + 96, 1 + chance(4), chance),
  'SquashFS tables': (bytes, chance) => scribble(bytes, partitionEnd - 4000, partitionEnd, 1 + chance(20), chance),
  anywhere: (bytes, chance) => scribble(bytes, 0, bytes.length, 1 + chance(500), chance),
  'cut off': (bytes, chance) => bytes.subarray(0, chance(bytes.length)),
  zeros: (bytes, chance) => {
    const from = chance(bytes.length);
    return bytes.fill(0, from, Math.min(bytes.length, from + chance(65_536)));
  },
};

/** Looks at everything in the image, whether it can be read or not. */
const PAYLOAD = 'exec 2>/dev/null; /mnt/busybox find / -xdev -exec /mnt/busybox cat {} + >/dev/null; echo done';

const execDamaged = async (name: string, bytes: Buffer, what: string): Promise<boolean> => {
  const path = join(place, name);
  writeFileSync(path, bytes);
  const argv = [tsrunPath, 'exec', '-q', '-B', `${join(place, 'busybox')}:/mnt/busybox`, path, '/mnt/busybox', 'sh', '-c', PAYLOAD];
  const env = Object.fromEntries(
    Object.entries(environmentOf({ env: { TSRUN_STORE: join(place, 'store') } })).map(([key, value]) => [key, value ?? '']),
  );
  const { status, signal, stdout, stderr } = await run(asTestUser(argv, env), { cwd: '/tmp' });
  rmSync(path);
  assert.is(signal, null, `${what}: ${signal}`);
  if (status === 0 && stdout === 'done\n') return true;
  assert.is(status, 125, `${what}: status ${status}, ${stdout}${stderr}`);
  assert.match(stderr, /^tsrun: .+: .+ \(E_[A-Z_]+\)$/m, what);
  assert.not.match(stderr, /E_INTERNAL|error \d+/, what);
  return false;
};

test('two hundred damaged copies of an image run or end with an error that says what is wrong', async () => {
  const chance = createChance(20_260_101);
  const kinds = Object.entries(KINDS);
  const counts = { ran: 0, refused: 0 };
  const work = Array.from({ length: 200 }, (_, at) => {
    const [kind, damage] = kinds[at % kinds.length] as (typeof kinds)[number];
    return { name: `damaged-${at}.sif`, what: `${at} (${kind})`, bytes: () => damage(Buffer.from(whole), chance) };
  });
  const next = async (): Promise<void> => {
    for (let item = work.pop(); item !== undefined; item = work.pop()) {
      counts[(await execDamaged(item.name, item.bytes(), item.what)) ? 'ran' : 'refused'] += 1;
    }
  };
  await Promise.all([next(), next(), next()]);
  assert.is(counts.ran + counts.refused, 200);
  assert.ok(counts.ran > 10 && counts.refused > 80, JSON.stringify(counts));
});

test('an empty file, a directory of nothing and a file of zeros are named for what they are', () => {
  for (const [name, bytes] of [
    ['empty.sif', Buffer.alloc(0)],
    ['zeros.sif', Buffer.alloc(100_000)],
    ['text.sif', Buffer.from('#!/bin/sh\necho no\n')],
  ] as const) {
    writeFileSync(join(place, name), bytes);
    const ran = tsrun(['exec', join(place, name), 'true']);
    assert.is(ran.status, 125);
    assert.match(ran.stderr, /E_IMAGE_(?:NOT|TRUNCATED|READ)/);
    assert.match(ran.stderr, /^hint: /m);
  }
});

const BAD_LAYERS: readonly (readonly [string, readonly TestEntry[], RegExp])[] = [
  ['a path out of the root', [{ path: '../../etc/evil', content: 'x' }], /E_LAYER_PATH/],
  ['a path out of the root in the middle', [{ path: 'a/../../evil', content: 'x' }], /E_LAYER_PATH/],
  ['a hard link out of the tree', [{ path: 'a', type: 'hardlink', link: '../../etc/passwd' }], /E_LAYER_(?:PATH|ENTRY)/],
  ['a hard link to nothing', [{ path: 'a', type: 'hardlink', link: 'nothing' }], /E_LAYER_ENTRY/],
  [
    'links in a circle on the way',
    [
      { path: 'a', type: 'symlink', link: 'b' },
      { path: 'b', type: 'symlink', link: 'a' },
      { path: 'a/x', content: 'x' },
    ],
    /E_LAYER_ENTRY/,
  ],
];

test('hostile archives are refused by name, and leave neither output nor temporary files', () => {
  const own = scratch('damaged-builds');
  for (const [what, entries, code] of BAD_LAYERS) {
    const ran = tsrun(['build', join(own, 'x.sif'), '-'], { input: makeTar(entries), cwd: own });
    assert.is(ran.status, 125, what);
    assert.match(ran.stderr, code, what);
    assert.equal(readdirSync(own), [], what);
  }
});

test('links that lead out of the image stay inside it when it is made and when it runs', () => {
  const own = scratch('damaged-links');
  const busybox = readFileSync('/bin/busybox');
  const entries: readonly TestEntry[] = [
    { path: 'bin/busybox', content: busybox, mode: 0o755 },
    { path: 'out', type: 'symlink', link: '../../../../../../etc' },
    { path: 'absolute', type: 'symlink', link: '/etc' },
    { path: 'out/made-by-image', content: 'inside\n' },
    { path: 'absolute/too', content: 'inside\n' },
  ];
  const target = join(own, 'x.sif');
  assert.is(tsrun(['build', target, '-'], { input: makeTar(entries), cwd: own }).status, 0);
  for (const name of ['/etc/made-by-image', '/etc/too']) {
    assert.is(tsrun(['exec', target, '/bin/busybox', 'cat', name]).stdout, 'inside\n');
    assert.not.ok(existsSync(name));
  }
});

test.run();
