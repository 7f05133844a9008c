import { mkdtempSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { SifContent } from '../../src/sif/format.ts';
import { findObject, primaryPartition, readObject, readSif } from '../../src/sif/read.ts';
import { createSif, type NewSifObject, type SifBuilder, type SifOptions } from '../../src/sif/write.ts';
import { type ByteSource, bytesOf, bytesSource } from '../../src/util/bytes.ts';
import { TsrunError } from '../../src/util/errors.ts';

const test = suite('sif');

const scratch = mkdtempSync(join(tmpdir(), 'sif-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
let files = 0;

const made = async (fill: (sif: SifBuilder) => Promise<void>, options: SifOptions = {}): Promise<Buffer> => {
  const path = join(scratch, `${files++}.sif`);
  await createSif(path, options, fill);
  return readFileSync(path);
};

const squashfs: SifContent = { type: 'partition', fileSystem: 'squashfs', role: 'primary', arch: 'amd64' };
const sample = (): Promise<Buffer> =>
  made(async (sif) => {
    await sif.add({ content: { type: 'definition' }, name: '' }, bytesOf('bootstrap: docker\n'));
    await sif.add({ content: { type: 'generic-json' }, name: 'oci-config.json' }, bytesOf('{"os":"linux"}'));
    await sif.add({ content: squashfs, name: 'rootfs' }, new Uint8Array(5000).fill(7));
    await sif.add({ content: { type: 'generic-json' }, name: 'tsrun-image-facts.json' }, bytesOf('{}'));
  });

/** Says where two files differ instead of printing both. */
const sameBytes = (actual: Buffer, expected: Buffer): void => {
  assert.is(actual.length, expected.length);
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  if (at >= 0)
    assert.unreachable(`byte ${at}: ${actual.subarray(at, at + 16).toString('hex')} for ${expected.subarray(at, at + 16).toString('hex')}`);
};

const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof TsrunError) return error.code;
    throw error;
  }
  return 'no error';
};

/** An independent statement of the format: the file as a list of [offset, hex] that are not zero. */
const assembled = (size: number, parts: readonly (readonly [number, string])[]): Buffer => {
  const bytes = Buffer.alloc(size);
  for (const [at, hex] of parts) Buffer.from(hex.replaceAll(' ', ''), 'hex').copy(bytes, at);
  return bytes;
};
const hexOf = (text: string): string => Buffer.from(text, 'latin1').toString('hex');
const NO_TIME_HEX = '00096e88f1ffffff'; // -62135596800 as 64-bit little-endian

test('an empty SIF has the bytes of the format and nothing else', async () => {
  const expected = assembled(32176, [
    [0, hexOf('#!/usr/bin/env run-singularity\n')],
    [32, hexOf('SIF_MAGIC')],
    [42, hexOf('01')],
    [45, hexOf('00')],
    [64, NO_TIME_HEX],
    [72, NO_TIME_HEX],
    [80, '30'], // 48 free
    [88, '30'], // of 48
    [96, '0010'], // table at 4096
    [104, 'b06d'], // 28080 bytes
    [112, 'b07d'], // data at 32176
  ]);
  sameBytes(await made(async () => {}), expected);
});

test('a JSON object and a primary partition have the bytes of the format', async () => {
  const file = await made(
    async (sif) => {
      await sif.add({ content: { type: 'generic-json' }, name: 'data.json' }, bytesOf('{}'));
      await sif.add({ content: squashfs, name: 'sq' }, bytesOf('hsqs'));
      await sif.add({ content: { type: 'generic' }, name: '', group: 0, link: { to: 'group', group: 1 } }, bytesOf('x'));
      await sif.add({ content: { type: 'generic' }, name: '', group: 2, link: { to: 'object', id: 2 } }, bytesOf('y'));
    },
    { uuid: '3fa802cc358b45e3bcc069dc7a45f9f8', time: 1593475316, launchScript: '#!/usr/bin/env run-script' },
  );
  const time = 'f480fa5e';
  const expected = assembled(32774, [
    [0, hexOf('#!/usr/bin/env run-script')],
    [32, hexOf('SIF_MAGIC')],
    [42, hexOf('01')],
    [45, hexOf('02')], // amd64, from the primary partition
    [48, '3fa802cc358b45e3bcc069dc7a45f9f8'],
    [64, time],
    [72, time],
    [80, '2c'], // 44 free
    [88, '30'],
    [96, '0010'],
    [104, 'b06d'],
    [112, 'b07d'],
    [120, '5602'], // 32774 - 32176
    // slot 0: generic JSON, used, id 1, group 1, no link, at 32176, 2 bytes
    [4096, '06400000 01 01000000 010000f0 00000000 b07d000000000000 0200000000000000 0200000000000000'],
    [4096 + 41, time],
    [4096 + 49, time],
    [4096 + 73, hexOf('data.json')],
    // slot 1: partition at 32768, 4 bytes after 590 of padding; squashfs, primary, amd64
    [4681, '04400000 01 02000000 010000f0 00000000 0080000000000000 0400000000000000 5202000000000000'],
    [4681 + 41, time],
    [4681 + 49, time],
    [4681 + 73, hexOf('sq')],
    [4681 + 201, '01000000 02000000 303200'],
    // slot 2: no group, linked to group 1
    [5266, '07400000 01 03000000 000000f0 010000f0 0480000000000000 0100000000000000 0100000000000000'],
    [5266 + 41, time],
    [5266 + 49, time],
    // slot 3: group 2, linked to object 2
    [5851, '07400000 01 04000000 020000f0 02000000 0580000000000000 0100000000000000 0100000000000000'],
    [5851 + 41, time],
    [5851 + 49, time],
    [32176, hexOf('{}')],
    [32768, hexOf('hsqs')],
    [32772, hexOf('xy')],
  ]);
  sameBytes(file, expected);
});

test('the same objects give the same bytes', async () => {
  sameBytes(await sample(), await sample());
});

test('a partition written as a stream begins at a multiple of 4096 and the next object right after it', async () => {
  const file = await made(async (sif) => {
    await sif.add({ content: { type: 'generic-json' }, name: 'first' }, bytesOf('{}'));
    await sif.addStream({ content: squashfs, name: 'root' }, async (fd, offset) => {
      assert.is(offset, 32768);
      return writeSync(fd, Buffer.alloc(4097, 9), 0, 4097, offset);
    });
    await sif.add({ content: { type: 'generic-json' }, name: 'last' }, bytesOf('[]'));
  });
  const image = readSif(bytesSource(file));
  assert.equal(
    image.objects.map((object) => [object.name, object.offset, object.size, object.sizeWithPadding]),
    [
      ['first', 32176, 2, 2],
      ['root', 32768, 4097, 590 + 4097],
      ['last', 36865, 2, 2],
    ],
  );
  assert.is(file.length, 36867);
});

test('a usual image is read with a single read of 8776 bytes', async () => {
  const bytes = await sample();
  const reads: [number, number][] = [];
  const source: ByteSource = {
    size: bytes.length,
    read: (offset, length) => {
      reads.push([offset, length]);
      return bytes.subarray(offset, offset + length);
    },
  };
  const image = readSif(source);
  assert.equal(reads, [[0, 8776]]);
  assert.is(image.objects.length, 4);
  assert.is(primaryPartition(image).offset, 36864 - 4096);
});

test('objects beyond the eighth slot, and behind deleted ones, are found', async () => {
  const bytes = await made(async (sif) => {
    for (let n = 1; n <= 48; n++) await sif.add({ content: { type: 'generic' }, name: `object ${n}` }, bytesOf('x'));
  });
  for (const slot of [0, 3, 4, 20, 46]) bytes.fill(0, 4096 + slot * 585, 4096 + (slot + 1) * 585);
  bytes.writeUInt8(5, 80);
  const image = readSif(bytesSource(bytes));
  assert.is(image.objects.length, 43);
  assert.is(image.objects.at(-1)?.name, 'object 48');
});

test('a table in another place is read', async () => {
  const bytes = await sample();
  const moved = Buffer.concat([bytes, bytes.subarray(4096, 32176)]);
  bytes.copy(moved, 0, 0, 128);
  moved.writeUInt32LE(bytes.length, 96);
  moved.fill(0, 4096, 32176);
  assert.equal(readSif(bytesSource(moved)).objects, readSif(bytesSource(bytes)).objects);
});

test('an object is found by type and name, and its bytes are bounded', async () => {
  const source = bytesSource(await sample());
  const object = findObject(readSif(source), 'generic-json', 'oci-config.json');
  assert.ok(object);
  assert.is(Buffer.from(readObject(source, object, 1000)).toString(), '{"os":"linux"}');
  assert.is(
    codeOf(() => readObject(source, object, 13)),
    'E_SIF_TOO_BIG',
  );
  assert.is(findObject(readSif(source), 'generic', 'oci-config.json'), undefined);
});

test('more than one primary partition, or none, is refused', async () => {
  const none = await made(async () => {});
  assert.is(
    codeOf(() => primaryPartition(readSif(bytesSource(none)))),
    'E_SIF_NO_ROOT',
  );
  const bytes = await made(async (sif) => {
    await sif.add({ content: squashfs, name: 'a' }, bytesOf('a'));
    await sif.add({ content: { ...squashfs, role: 'system' }, name: 'b' }, bytesOf('b'));
  });
  assert.is(primaryPartition(readSif(bytesSource(bytes))).name, 'a');
  bytes.writeInt32LE(2, 4096 + 585 + 205);
  assert.is(
    codeOf(() => primaryPartition(readSif(bytesSource(bytes)))),
    'E_SIF_NO_ROOT',
  );
});

/** Ordinary objects, as the reader makes them. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
const digests = fc.stringMatching(/^sha256:[0-9a-f]{64}$/);
const contents: fc.Arbitrary<SifContent> = fc.oneof(
  fc.constantFrom<SifContent>({ type: 'definition' }, { type: 'environment' }, { type: 'labels' }, { type: 'generic' }),
  record({
    type: fc.constant('partition' as const),
    fileSystem: fc.constantFrom('squashfs' as const, 'ext3' as const, 'gocryptfs-squashfs' as const),
    role: fc.constantFrom('system' as const, 'data' as const, 'overlay' as const),
    arch: fc.constantFrom('amd64' as const, 'arm64' as const, 'loong64' as const, 'unknown' as const),
  }),
  record({
    type: fc.constant('signature' as const),
    hash: fc.constantFrom('sha256' as const, 'blake2b-256' as const),
    entity: fc.constantFrom('', '12045c8c0b1004d058de4beda20c27ee7ff7ba00'),
  }),
  record({
    type: fc.constant('crypto-message' as const),
    format: fc.integer({ min: 1, max: 2 }),
    message: fc.constantFrom(0x100, 0x200),
  }),
  record({ type: fc.constant('sbom' as const), format: fc.constantFrom('cyclonedx-json' as const, 'syft-json' as const) }),
  record({ type: fc.constantFrom('oci-root-index' as const, 'oci-blob' as const), digest: digests }),
  record({ type: fc.constant('unknown' as const), code: fc.integer({ min: 0x5000, max: 0x6000 }) }),
);
const newObjects: fc.Arbitrary<Required<NewSifObject>> = record({
  content: contents,
  name: fc.string({ unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)), maxLength: 128 }),
  group: fc.integer({ min: 0, max: 0x0fffffff }),
  link: fc.oneof(
    fc.constant({ to: 'nothing' as const }),
    record({ to: fc.constant('object' as const), id: fc.integer({ min: 1, max: 48 }) }),
    record({ to: fc.constant('group' as const), group: fc.integer({ min: 1, max: 0x0fffffff }) }),
  ),
});

test('what is written is what is read', async () => {
  const cases = fc.array(fc.tuple(newObjects, fc.uint8Array({ maxLength: 9000 })), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(cases, async (objects) => {
      const bytes = await made(async (sif) => {
        for (const [object, body] of objects) await sif.add(object, body);
      });
      const source = bytesSource(bytes);
      const image = readSif(source);
      assert.equal(
        image.objects.map(({ content, name, group, link }) => ({ content, name, group, link })),
        objects.map(([object]) => object),
      );
      for (const [index, object] of image.objects.entries()) {
        sameBytes(Buffer.from(readObject(source, object, 9000)), Buffer.from(objects[index]?.[1] ?? []));
      }
    }),
    { numRuns: 60 },
  );
});

const patched = (bytes: Buffer, patch: (copy: Buffer) => void): string => {
  const copy = Buffer.from(bytes);
  patch(copy);
  return codeOf(() => primaryPartition(readSif(bytesSource(copy))));
};

test('hostile counts, offsets and sizes are refused', async () => {
  const bytes = await sample();
  const u64At = (at: number, value: bigint) => (copy: Buffer) => copy.writeBigInt64LE(value, at);
  const slot = (index: number, field: number) => 4096 + index * 585 + field;
  const cases: [string, (copy: Buffer) => void][] = [
    ['no error', () => {}],
    ['E_SIF_NOT', (copy) => copy.write('SIF_MAGIK', 32)],
    ['E_SIF_VERSION', (copy) => copy.write('02', 42)],
    ['E_SIF_CORRUPT', u64At(88, -1n)],
    ['E_SIF_CORRUPT', u64At(88, 1n << 62n)],
    ['E_SIF_CORRUPT', u64At(88, 5000n)],
    ['E_SIF_CORRUPT', u64At(88, 49n)],
    ['E_SIF_CORRUPT', u64At(80, 49n)],
    ['E_SIF_CORRUPT', u64At(96, 0n)],
    ['E_SIF_CORRUPT', u64At(96, -4096n)],
    ['E_SIF_TRUNCATED', u64At(96, 1n << 40n)],
    ['E_SIF_CORRUPT', u64At(104, 585n)],
    ['E_SIF_CORRUPT', u64At(64, 1n << 60n)],
    ['E_SIF_CORRUPT', u64At(slot(2, 17), -1n)],
    ['E_SIF_TRUNCATED', u64At(slot(2, 17), 1n << 50n)],
    ['E_SIF_TRUNCATED', u64At(slot(2, 25), 1n << 52n)],
    ['E_SIF_TRUNCATED', u64At(slot(2, 25), 5003n)],
    ['E_SIF_CORRUPT', u64At(slot(2, 25), 5001n)], // reaches into the object behind it
    ['E_SIF_CORRUPT', u64At(slot(2, 17), 0n)], // the header as root file system
    ['E_SIF_CORRUPT', u64At(slot(2, 17), 4096n)], // the table as root file system
    ['E_SIF_CORRUPT', (copy) => copy.writeUInt32LE(1, slot(2, 5))], // an id used twice
    ['E_SIF_CORRUPT', (copy) => copy.writeUInt32LE(0, slot(2, 5))],
    ['E_SIF_NO_ROOT', (copy) => copy.writeUInt32LE(0x4007, slot(2, 0))],
    ['E_SIF_NO_ROOT', (copy) => copy.writeUInt8(0, slot(2, 4))],
  ];
  for (const [index, [code, patch]] of cases.entries()) assert.is(patched(bytes, patch), code, `case ${index}`);
});

test('a file cut anywhere is refused as no SIF or as truncated', async () => {
  const bytes = await sample();
  for (const length of [0, 1, 41, 42, 127])
    assert.is(
      codeOf(() => readSif(bytesSource(bytes.subarray(0, length)))),
      'E_SIF_NOT',
    );
  for (const length of [128, 4096, 8776, 32175, 32176, 36000, bytes.length - 1]) {
    assert.is(
      codeOf(() => readSif(bytesSource(bytes.subarray(0, length)))),
      'E_SIF_TRUNCATED',
      `${length}`,
    );
  }
});

test('random damage gives an error of its own or objects that lie in the file', async () => {
  const bytes = await sample();
  const at = fc.oneof(fc.integer({ min: 32, max: 127 }), fc.integer({ min: 4096, max: 4096 + 5 * 585 }));
  const damage = fc.array(fc.tuple(at, fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 }))), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(damage, (changes) => {
      const copy = Buffer.from(bytes);
      for (const [offset, value] of changes) copy[offset] = value;
      try {
        for (const object of readSif(bytesSource(copy)).objects)
          assert.ok((object.size === 0 || object.offset >= 128) && object.offset + object.size <= copy.length);
      } catch (error) {
        if (!(error instanceof TsrunError)) throw error;
      }
    }),
    { numRuns: 20_000 },
  );
});

test('what the format cannot hold is refused and nothing is left behind', async () => {
  const directory = mkdtempSync(join(scratch, 'refused-'));
  const refused = async (fill: (sif: SifBuilder) => Promise<unknown>, options: SifOptions = {}): Promise<string> => {
    try {
      await createSif(join(directory, 'x.sif'), options, async (sif) => void (await fill(sif)));
    } catch (error) {
      if (error instanceof TsrunError) return error.code;
      throw error;
    }
    return 'no error';
  };
  const nothing = new Uint8Array();
  assert.is(await refused(async () => {}, { launchScript: 'x'.repeat(32) }), 'E_SIF_WRITE');
  assert.is(await refused(async () => {}, { uuid: '00'.repeat(17) }), 'E_SIF_WRITE');
  assert.is(await refused((sif) => sif.add({ content: { type: 'generic' }, name: 'n'.repeat(129) }, nothing)), 'E_SIF_WRITE');
  assert.is(
    await refused(async (sif) => {
      await sif.add({ content: squashfs, name: 'a' }, nothing);
      await sif.add({ content: squashfs, name: 'b' }, nothing);
    }),
    'E_SIF_WRITE',
  );
  assert.is(
    await refused(async (sif) => {
      for (let n = 0; n < 49; n++) await sif.add({ content: { type: 'generic' }, name: '' }, nothing);
    }),
    'E_SIF_WRITE',
  );
  assert.equal(readdirSync(directory), []);
});

test.run();
