/** Layers as streams: compression by what the bytes are, many frames and members, damage, bombs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type LayerSource, layerTar } from '../../src/oci/layer.ts';
import { DEFAULT_LIMITS, type Limits } from '../../src/oci/limits.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { makeTar, sha256 } from '../helpers/layers.ts';
import { memoryLayer } from '../helpers/merge.ts';

const test = suite('layer streams');

const cut = async function* (bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
};

const unpack = async (
  bytes: Uint8Array,
  size = 1 << 20,
  more: Partial<LayerSource> = {},
  limits: Limits = DEFAULT_LIMITS,
): Promise<Buffer> => {
  const parts: Uint8Array[] = [];
  for await (const chunk of layerTar(memoryLayer(bytes, 0, 1, { open: () => cut(bytes, size), ...more }), 'test image', limits, () => {}))
    parts.push(chunk);
  return Buffer.concat(parts);
};

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** Reads one chunk of what the command writes, taken as a layer, and no more. Returns the command's process id. */
const firstOf = async (script: string): Promise<number> => {
  const child = { pid: 0 };
  const open = async function* (): AsyncGenerator<Uint8Array> {
    const started = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    child.pid = started.pid ?? 0;
    const ended = once(started, 'close');
    try {
      yield* started.stdout;
    } finally {
      started.kill('SIGKILL');
      await ended;
    }
  };
  for await (const chunk of layerTar(memoryLayer(Buffer.alloc(0), 0, 1, { open }), 'test image', DEFAULT_LIMITS, () => {})) {
    assert.ok(chunk.length > 0);
    break;
  }
  return child.pid;
};

const fails = async (work: Promise<unknown>, code: string, pattern: RegExp): Promise<void> => {
  try {
    await work;
  } catch (error) {
    assert.instance(error, TsrunError, String(error));
    assert.is((error as TsrunError).code, code, (error as TsrunError).message);
    assert.match((error as TsrunError).message, pattern);
    return;
  }
  assert.unreachable(`no error, expected ${code}`);
};

const random = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) >> (i % 5)));
const tar = makeTar([
  { path: 'a', content: random },
  { path: 'b', content: 'x'.repeat(100_000) },
]);

/** A frame as pzstd and zstd:chunked put between others. */
const skippable = (text: string): Buffer => {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a5e, 0);
  head.writeUInt32LE(text.length, 4);
  return Buffer.concat([head, Buffer.from(text)]);
};

const pieces = (bytes: Buffer, size: number): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));

test('what the bytes are decides, whatever the media type says', async () => {
  const gzip = 'application/vnd.oci.image.layer.v1.tar+gzip';
  for (const stored of [tar, gzipSync(tar), zstdCompressSync(tar)])
    assert.ok((await unpack(stored, 1 << 20, { mediaType: gzip })).equals(tar));
});

test('zstd layers of many frames, skippable ones among them, are read to the end', async () => {
  const frames = pieces(tar, 10_000).map((piece) => zstdCompressSync(piece));
  const stored = Buffer.concat([
    skippable('first'),
    ...frames.slice(0, 20),
    skippable(''),
    ...frames.slice(20),
    zstdCompressSync(Buffer.alloc(0)),
    skippable('table of contents'),
  ]);
  for (const size of [1, 13, 4096, 1 << 20]) assert.ok((await unpack(stored, size)).equals(tar), `in chunks of ${size}`);
});

test('a zstd frame larger than what is decoded at once is streamed, and so is one that unpacks to much', async () => {
  const big = Buffer.alloc(12 << 20);
  for (let i = 0; i < big.length; i += 4) big.writeUInt32LE((i * 2_654_435_761) >>> 0, i);
  const large = makeTar([{ path: 'big', content: big }]);
  const stored = Buffer.concat([zstdCompressSync(large.subarray(0, 5000)), zstdCompressSync(large.subarray(5000))]);
  assert.ok((await unpack(stored, 700_001)).equals(large));
  const zeros = makeTar([{ path: 'zeros', content: Buffer.alloc(40 << 20) }]);
  assert.ok((await unpack(zstdCompressSync(zeros))).equals(zeros));
});

test('gzip layers of several members are read to the end', async () => {
  const stored = Buffer.concat(pieces(tar, 70_000).map((piece) => gzipSync(piece)));
  assert.ok((await unpack(stored, 1000)).equals(tar));
});

test('cut-off and damaged layers are errors, wherever it happens', async () => {
  for (const stored of [gzipSync(tar), zstdCompressSync(tar), Buffer.concat(pieces(tar, 90_000).map((piece) => zstdCompressSync(piece)))]) {
    for (const at of [20, stored.length >> 1, stored.length - 1]) await fails(unpack(stored.subarray(0, at)), 'E_LAYER', /cut off|damaged/);
    const flipped = Buffer.from(stored);
    flipped.writeUInt8((flipped[stored.length >> 1] ?? 0) ^ 0x10, stored.length >> 1);
    // A flipped bit may decode to other bytes: then the diffID tells.
    await unpack(flipped, 1 << 20, { diffId: sha256(tar) as `sha256:${string}` }).then(
      () => assert.unreachable('a flipped bit was not noticed'),
      (error: unknown) => assert.ok(error instanceof TsrunError && ['E_LAYER', 'E_DIGEST_MISMATCH'].includes(error.code), String(error)),
    );
  }
});

test('an empty layer has no bytes, and a layer that is no archive is named', async () => {
  assert.is((await unpack(Buffer.alloc(0))).length, 0);
  await fails(unpack(Buffer.from('<html>not found</html>'.repeat(40))), 'E_LAYER', /no tar archive/);
  await fails(unpack(Buffer.from('\xfd7zXZ\0 and more'.repeat(40), 'latin1')), 'E_LAYER', /compressed with xz/);
  await fails(unpack(Buffer.from('BZh91AY&SY'.repeat(60), 'latin1')), 'E_LAYER', /compressed with bzip2/);
  await fails(unpack(deflateRawSync(tar)), 'E_LAYER', /no tar archive/);
});

test('a layer that unpacks to more than a thousand times its size is a bomb', async () => {
  const zeros = zstdCompressSync(Buffer.alloc(8 << 20), { params: {} });
  const bomb = Buffer.concat([zstdCompressSync(makeTar([{ path: 'a' }]).subarray(0, 512)), ...Array.from({ length: 200 }, () => zeros)]);
  await fails(unpack(bomb, 1 << 20, {}, { ...DEFAULT_LIMITS, ratio: 100 }), 'E_LIMIT', /more than 100 times its size/);
});

test('random damage of zstd layers never hangs or passes for the right bytes', async () => {
  const stored = Buffer.concat([zstdCompressSync(tar.subarray(0, 50_000)), skippable('x'), zstdCompressSync(tar.subarray(50_000))]);
  const diffId = sha256(tar) as `sha256:${string}`;
  await fc.assert(
    fc.asyncProperty(
      fc.nat(stored.length - 1),
      fc.integer({ min: 1, max: 255 }),
      fc.integer({ min: 1, max: 9000 }),
      async (at, flip, size) => {
        const damaged = Buffer.from(stored);
        damaged.writeUInt8((damaged[at] ?? 0) ^ flip, at);
        await unpack(damaged, size, { diffId }).then(
          (bytes) => assert.ok(bytes.equals(tar), 'wrong bytes without an error'),
          (error: unknown) => assert.instance(error, TsrunError, String(error)),
        );
      },
    ),
    { numRuns: 150, seed: 3 },
  );
});

for (const [name, script] of [
  ['plain', 'exec cat /dev/zero'],
  ['gzip', 'exec gzip -1 < /dev/zero'],
  ['zstd', 'exec zstd -1 -q < /dev/zero'],
] as const) {
  test(`${name}: a reader that stops at the first bytes ends the source's process`, async () => {
    const pid = await firstOf(script);
    assert.ok(pid > 0);
    // Behind a decompressor it is let go a moment later.
    for (const late = Date.now() + 10_000; isAlive(pid) && Date.now() < late; ) await new Promise(setImmediate);
    assert.not.ok(isAlive(pid));
  });
}

test.run();
