/**
 * Reads what a loader has to know of an ELF file: machine, interpreter, sonames, and which symbol versions it needs and defines
 * (System V gABI, chapters 4 and 5; symbol versioning of the Linux Standard Base). It goes by program headers, as the loader does,
 * so files without section headers are read too. No Node API: the planner uses it in the embedded engine.
 */
import { type ByteSource, byteString, untilNul, viewOf } from '../util/bytes.ts';

export type ElfInfo = {
  readonly class: 32 | 64;
  readonly littleEndian: boolean;
  /** As `uname -m` names it, or `machine-NUMBER`. */
  readonly machine: string;
  readonly soname: string | null;
  /** Sonames of the libraries it is linked with, in their order. */
  readonly needed: readonly string[];
  /** The dynamic loader; null in libraries and static programs. */
  readonly interp: string | null;
  readonly rpath: string | null;
  readonly runpath: string | null;
  readonly versionNeeds: readonly ElfVersionNeed[];
  /** Such as GLIBC_2.34; without the base version, which is the soname. */
  readonly versionDefs: readonly string[];
};

export type ElfVersionNeed = { readonly lib: string; readonly versions: readonly string[] };

const MACHINES: { readonly [number: number]: string } = {
  3: 'i386',
  8: 'mips',
  21: 'ppc64',
  22: 's390x',
  40: 'arm',
  62: 'x86_64',
  183: 'aarch64',
  243: 'riscv64',
  258: 'loongarch64',
};

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;

const DT = {
  NULL: 0,
  NEEDED: 1,
  STRTAB: 5,
  SONAME: 14,
  RPATH: 15,
  RUNPATH: 29,
  VERDEF: 0x6ffffffc,
  VERDEFNUM: 0x6ffffffd,
  VERNEED: 0x6ffffffe,
  VERNEEDNUM: 0x6fffffff,
} as const;
const KNOWN_TAGS: ReadonlySet<number> = new Set(Object.values(DT));
const VER_FLG_BASE = 1;

const PAGE = 16_384;
const MAX_PAGES = 256;
const MAX_STRING = 4096;
const MAX_TEXT = 1 << 20;
const MAX_PROGRAM_HEADERS = 512;
const MAX_DYNAMIC_ENTRIES = 8192;
const MAX_VERSIONS = 16_384;

/** The file does not keep to the format, or asks for more than a real one does. */
class Unreadable extends Error {}

/** Fields and strings at file offsets, read by pages: what a loader needs lies in few places. */
type Fields = {
  readonly u16: (at: number) => number;
  readonly u32: (at: number) => number;
  /** An address, offset or size: 4 or 8 bytes by the file's class. */
  readonly word: (at: number) => number;
  /** The low 32 bits of a word: some dynamic tags use all 64, those read here do not. */
  readonly lowWord: (at: number) => number;
  readonly bytes: (at: number, length: number) => Uint8Array;
  /** A byte string up to its NUL. */
  readonly string: (at: number) => string;
};

const pagedBytes = (source: ByteSource): Fields['bytes'] => {
  const pages = new Map<number, Uint8Array>();
  const page = (number: number): Uint8Array => {
    const known = pages.get(number);
    if (known !== undefined) return known;
    if (pages.size === MAX_PAGES) throw new Unreadable();
    const fresh = source.read(number * PAGE, Math.min(PAGE, source.size - number * PAGE));
    pages.set(number, fresh);
    return fresh;
  };
  return (at, length) => {
    if (!(at >= 0 && length >= 0 && length <= PAGE && at + length <= source.size)) throw new Unreadable();
    const first = Math.floor(at / PAGE);
    const start = at - first * PAGE;
    if (start + length <= PAGE) return page(first).subarray(start, start + length);
    const joined = new Uint8Array(length);
    joined.set(page(first).subarray(start), 0);
    joined.set(page(first + 1).subarray(0, start + length - PAGE), PAGE - start);
    return joined;
  };
};

const fieldsOf = (source: ByteSource, wide: boolean, little: boolean): Fields => {
  const bytes = pagedBytes(source);
  const u32 = (at: number): number => viewOf(bytes(at, 4)).getUint32(0, little);
  let textLeft = MAX_TEXT;
  return {
    bytes,
    u16: (at) => viewOf(bytes(at, 2)).getUint16(0, little),
    u32,
    lowWord: (at) => u32(wide && !little ? at + 4 : at),
    word: (at) => {
      if (!wide) return u32(at);
      const value = u32(little ? at + 4 : at) * 2 ** 32 + u32(little ? at : at + 4);
      if (!Number.isSafeInteger(value)) throw new Unreadable();
      return value;
    },
    string: (at) => {
      const room = Math.min(MAX_STRING, source.size - at);
      const text = untilNul(bytes(at, room));
      textLeft -= text.length;
      if (text.length === room || textLeft < 0) throw new Unreadable();
      return text;
    },
  };
};

type Segment = { readonly type: number; readonly offset: number; readonly address: number; readonly size: number };

const readSegments = (fields: Fields, wide: boolean): Segment[] => {
  const table = fields.word(wide ? 32 : 28);
  const entrySize = fields.u16(wide ? 54 : 42);
  const count = fields.u16(wide ? 56 : 44);
  if (count > MAX_PROGRAM_HEADERS || (count > 0 && entrySize < (wide ? 56 : 32))) throw new Unreadable();
  return Array.from({ length: count }, (_, index) => {
    const at = table + index * entrySize;
    return {
      type: fields.u32(at),
      offset: fields.word(at + (wide ? 8 : 4)),
      address: fields.word(at + (wide ? 16 : 8)),
      size: fields.word(at + (wide ? 32 : 16)),
    };
  });
};

/** Tag and value of each entry of the dynamic section, up to DT_NULL. */
const readDynamic = (fields: Fields, segments: readonly Segment[], wide: boolean): [tag: number, value: number][] => {
  const segment = segments.find(({ type }) => type === PT_DYNAMIC);
  if (segment === undefined) return [];
  const entrySize = wide ? 16 : 8;
  const entries: [number, number][] = [];
  for (let at = segment.offset; at + entrySize <= segment.offset + segment.size; at += entrySize) {
    if (entries.length === MAX_DYNAMIC_ENTRIES) throw new Unreadable();
    const tag = fields.lowWord(at);
    if (tag === DT.NULL) break;
    if (KNOWN_TAGS.has(tag)) entries.push([tag, fields.word(at + entrySize / 2)]);
  }
  return entries;
};

/** Chains of `struct verneed` and, below each, `struct vernaux`: offsets are relative to the entry that holds them. */
const readVersionNeeds = (fields: Fields, at: number, count: number, text: (offset: number) => string): ElfVersionNeed[] => {
  const needs: ElfVersionNeed[] = [];
  let budget = MAX_VERSIONS;
  for (let left = count, need = at; left > 0; left--) {
    const versions: string[] = [];
    for (let more = fields.u16(need + 2), aux = need + fields.u32(need + 8); more > 0; more--) {
      if (budget-- === 0) throw new Unreadable();
      versions.push(text(fields.u32(aux + 8)));
      const next = fields.u32(aux + 12);
      if (next === 0) break;
      aux += next;
    }
    if (budget-- === 0) throw new Unreadable();
    needs.push({ lib: text(fields.u32(need + 4)), versions });
    const next = fields.u32(need + 12);
    if (next === 0) break;
    need += next;
  }
  return needs;
};

/** A chain of `struct verdef`; the first `struct verdaux` of each holds its name. */
const readVersionDefs = (fields: Fields, at: number, count: number, text: (offset: number) => string): string[] => {
  if (count > MAX_VERSIONS) throw new Unreadable();
  const defs: string[] = [];
  for (let left = count, def = at; left > 0; left--) {
    const isBase = (fields.u16(def + 2) & VER_FLG_BASE) !== 0;
    if (!isBase) defs.push(text(fields.u32(def + fields.u32(def + 12))));
    const next = fields.u32(def + 16);
    if (next === 0) break;
    def += next;
  }
  return defs;
};

const parse = (source: ByteSource): ElfInfo => {
  const ident = source.read(0, 6);
  const wide = ident[4] === 2;
  const littleEndian = ident[5] === 1;
  if ((!wide && ident[4] !== 1) || (!littleEndian && ident[5] !== 2)) throw new Unreadable();
  const fields = fieldsOf(source, wide, littleEndian);
  const segments = readSegments(fields, wide);
  const dynamic = readDynamic(fields, segments, wide);

  const tagged = (tag: number): number | null => dynamic.find((entry) => entry[0] === tag)?.[1] ?? null;
  const offsetOf = (address: number): number => {
    const holder = segments.find((s) => s.type === PT_LOAD && address >= s.address && address < s.address + s.size);
    if (holder === undefined) throw new Unreadable();
    return address - holder.address + holder.offset;
  };
  const stringTable = tagged(DT.STRTAB);
  const text = (offset: number): string => {
    if (stringTable === null) throw new Unreadable();
    return fields.string(offsetOf(stringTable) + offset);
  };
  const textOf = (tag: number): string | null => {
    const offset = tagged(tag);
    return offset === null ? null : text(offset);
  };
  const chain = <T>(tag: number, countTag: number, read: (f: Fields, at: number, count: number, t: typeof text) => T[]): T[] => {
    const address = tagged(tag);
    return address === null ? [] : read(fields, offsetOf(address), tagged(countTag) ?? 0, text);
  };

  const interp = segments.find(({ type }) => type === PT_INTERP);
  const machine = fields.u16(18);
  return {
    class: wide ? 64 : 32,
    littleEndian,
    machine: MACHINES[machine] ?? `machine-${machine}`,
    soname: textOf(DT.SONAME),
    needed: dynamic.filter((entry) => entry[0] === DT.NEEDED).map((entry) => text(entry[1])),
    interp: interp === undefined ? null : fields.string(interp.offset),
    rpath: textOf(DT.RPATH),
    runpath: textOf(DT.RUNPATH),
    versionNeeds: chain(DT.VERNEED, DT.VERNEEDNUM, readVersionNeeds),
    versionDefs: chain(DT.VERDEF, DT.VERDEFNUM, readVersionDefs),
  };
};

export const isElf = (head: Uint8Array): boolean => byteString(head.subarray(0, 4)) === '\x7fELF';

/** What the file tells; null when it is no ELF file or a damaged one (errors of `source` itself pass through). */
export const readElf = (source: ByteSource): ElfInfo | null => {
  if (source.size < 52 || !isElf(source.read(0, 4))) return null;
  try {
    return parse(source);
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
};
