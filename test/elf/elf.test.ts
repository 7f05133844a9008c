import { execFileSync } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type ElfInfo, readElf } from '../../src/elf/read.ts';
import { bytesSource } from '../../src/util/bytes.ts';

const test = suite('elf');

/** A small library, made by hand from the gABI's structures, in each class and byte order. */
const makeElf = (wide: boolean, little: boolean): Buffer => {
  const bytes = Buffer.alloc(2048);
  const u16 = (value: number, at: number) => (little ? bytes.writeUInt16LE(value, at) : bytes.writeUInt16BE(value, at));
  const u32 = (value: number, at: number) => (little ? bytes.writeUInt32LE(value, at) : bytes.writeUInt32BE(value, at));
  const word = (value: number, at: number) => {
    if (!wide) return u32(value, at);
    return little ? bytes.writeBigUInt64LE(BigInt(value), at) : bytes.writeBigUInt64BE(BigInt(value), at);
  };
  const base = 0x10000; // the whole file is mapped here
  bytes.write('\x7fELF', 0, 'latin1');
  bytes[4] = wide ? 2 : 1;
  bytes[5] = little ? 1 : 2;
  u16(3, 16);
  u16(wide ? 183 : 40, 18);
  const headers = 64;
  word(headers, wide ? 32 : 28);
  u16(wide ? 56 : 32, wide ? 54 : 42);
  u16(3, wide ? 56 : 44);
  const segment = (index: number, type: number, offset: number, size: number) => {
    const at = headers + index * (wide ? 56 : 32);
    u32(type, at);
    word(offset, at + (wide ? 8 : 4));
    word(base + offset, at + (wide ? 16 : 8));
    word(size, at + (wide ? 32 : 16));
  };
  segment(0, 1, 0, 2048);
  segment(1, 2, 512, 400);
  segment(2, 3, 300, 10);
  bytes.write('/lib/ld.so\0', 300, 'latin1');

  const strings = ['', 'libmine.so.1', 'libc.so.6', 'libm.so.6', 'GLIBC_2.34', 'GLIBC_2.17', 'MINE_1.0', '/opt/lib'];
  const offsets = new Map<string, number>();
  let end = 1600;
  for (const text of strings) {
    offsets.set(text, end - 1600);
    end += bytes.write(`${text}\0`, end, 'latin1');
  }
  const string = (text: string): number => offsets.get(text) ?? 0;

  const dynamic: [number, number][] = [
    [1, string('libc.so.6')],
    [1, string('libm.so.6')],
    [14, string('libmine.so.1')],
    [5, base + 1600],
    [29, string('/opt/lib')],
    [0x6ffffffe, base + 1000],
    [0x6fffffff, 2],
    [0x6ffffffc, base + 1200],
    [0x6ffffffd, 2],
    [0, 0],
    [15, string('/opt/lib')], // behind the end: not there
  ];
  for (const [index, [tag, value]] of dynamic.entries()) {
    word(tag, 512 + index * (wide ? 16 : 8));
    word(value, 512 + index * (wide ? 16 : 8) + (wide ? 8 : 4));
  }
  const need = (at: number, lib: string, versions: readonly string[], next: number) => {
    u16(1, at);
    u16(versions.length, at + 2);
    u32(string(lib), at + 4);
    u32(16, at + 8);
    u32(next, at + 12);
    for (const [index, version] of versions.entries()) {
      u32(string(version), at + 16 + index * 16 + 8);
      u32(index + 1 < versions.length ? 16 : 0, at + 16 + index * 16 + 12);
    }
  };
  need(1000, 'libc.so.6', ['GLIBC_2.34', 'GLIBC_2.17'], 64);
  need(1064, 'libm.so.6', ['GLIBC_2.17'], 0);
  const define = (at: number, flags: number, name: string, next: number) => {
    u16(1, at);
    u16(flags, at + 2);
    u16(1, at + 6);
    u32(20, at + 12);
    u32(next, at + 16);
    u32(string(name), at + 20);
  };
  define(1200, 1, 'libmine.so.1', 32);
  define(1232, 0, 'MINE_1.0', 0);
  return bytes;
};

for (const [wide, little] of [
  [true, true],
  [true, false],
  [false, true],
  [false, false],
] as const) {
  test(`a ${wide ? 64 : 32}-bit ${little ? 'little' : 'big'}-endian library is read`, () => {
    const expected: ElfInfo = {
      class: wide ? 64 : 32,
      littleEndian: little,
      machine: wide ? 'aarch64' : 'arm',
      soname: 'libmine.so.1',
      needed: ['libc.so.6', 'libm.so.6'],
      interp: '/lib/ld.so',
      rpath: null,
      runpath: '/opt/lib',
      versionNeeds: [
        { lib: 'libc.so.6', versions: ['GLIBC_2.34', 'GLIBC_2.17'] },
        { lib: 'libm.so.6', versions: ['GLIBC_2.17'] },
      ],
      versionDefs: ['MINE_1.0'],
    };
    assert.equal(readElf(bytesSource(makeElf(wide, little))), expected);
  });
}

/** What binutils says of the same file. */
const readelf = (path: string): Pick<ElfInfo, 'soname' | 'needed' | 'versionDefs'> & { readonly needs: readonly string[] } => {
  const text = execFileSync('readelf', ['-W', '-d', '-V', path], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
  });
  const all = (pattern: RegExp): string[] => [...text.matchAll(pattern)].map((match) => match[1] ?? '');
  return {
    soname: all(/\(SONAME\).*\[(.*)\]/g)[0] ?? null,
    needed: all(/\(NEEDED\).*\[(.*)\]/g),
    versionDefs: all(/Rev: 1 {2}Flags: (?!BASE).*?Name: (\S+)/g),
    needs: all(/(?:File|^ +0x\w+: {3}Name): (\S+)/gm),
  };
};

for (const path of ['/bin/ls', '/lib/*/libc.so.6', '/usr/lib/*/libstdc++.so.6', '/lib/*/libm.so.6', process.execPath]) {
  test(`${path} is read as binutils reads it`, () => {
    const multiarch = execFileSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).trim();
    const file = realpathSync(path.replace('*', multiarch));
    const info = readElf(bytesSource(readFileSync(file)));
    assert.ok(info);
    const { soname, needed, versionDefs, versionNeeds } = info;
    const needs = versionNeeds.flatMap(({ lib, versions }) => [lib, ...versions]);
    assert.equal({ soname, needed, versionDefs, needs }, readelf(file));
    assert.ok(needs.length > 0);
  });
}

test('a big library is read in a few pages', () => {
  const bytes = readFileSync(process.execPath);
  let read = 0;
  const info = readElf({
    size: bytes.length,
    read: (offset, length) => {
      read += length;
      return bytes.subarray(offset, offset + length);
    },
  });
  assert.ok(info?.needed.includes('libc.so.6'));
  assert.ok(read < 400_000, `${read} bytes read of ${bytes.length}`);
});

test('other files, and cut ones, are null', () => {
  const whole = makeElf(true, true);
  assert.is(readElf(bytesSource(new Uint8Array())), null);
  assert.is(readElf(bytesSource(Buffer.from('#!/bin/sh\necho this is no program but a script of some length\n'))), null);
  for (const length of [4, 51, 64, 200, 600, 1010, 1605]) assert.is(readElf(bytesSource(whole.subarray(0, length))), null, `${length}`);
});

test('a version chain that leads out of the file is damage', () => {
  const bytes = makeElf(true, true);
  bytes.writeUInt32LE(2 ** 32 - 64, 1064 + 12); // the last need's next, which nobody follows
  assert.ok(readElf(bytesSource(bytes)));
  bytes.writeUInt32LE(65_535, 512 + 6 * 16 + 8); // 65535 needs are claimed
  assert.is(readElf(bytesSource(bytes)), null);
});

test('an error of the source is not taken for a damaged file', () => {
  const source = {
    size: 10_000,
    read: () => {
      throw new Error('EIO');
    },
  };
  assert.throws(() => readElf(source), 'EIO');
});

test('random damage gives null or an answer of bounded size', () => {
  const seeds = [makeElf(true, true), makeElf(true, false), makeElf(false, true), makeElf(false, false)];
  const change = fc.tuple(
    fc.integer({ min: 0, max: 1700 }),
    fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 })),
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3 }), fc.array(change, { minLength: 1, maxLength: 8 }), (seed, changes) => {
      const copy = Buffer.from(seeds[seed] as Buffer);
      for (const [at, value] of changes) copy[at] = value;
      const info = readElf(bytesSource(copy));
      if (info !== null) assert.ok(JSON.stringify(info).length < 8 << 20);
    }),
    { numRuns: 30_000 },
  );
});

test.run();
