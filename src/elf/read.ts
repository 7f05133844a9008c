/**
 * Reads what a loader has to know of an ELF file: machine, interpreter, sonames, and which symbol versions it needs and defines
 * (System V gABI, chapters 4 and 5; symbol versioning of the Linux Standard Base). It goes by program headers, as the loader does,
 * so files without section headers are read too. No Node API: the planner uses it in the embedded engine.
 */

import { u16At, u16BigAt, u32At, u32BigAt } from '../util/byte-fields.ts';
import { type ByteSource, byteString } from '../util/bytes.ts';

/** What header and program headers say: in most files one small read. */
export type ElfHead = {
  readonly class: 32 | 64;
  readonly littleEndian: boolean;
  /** As `uname -m` names it, or `machine-NUMBER`. */
  readonly machine: string;
  /** The dynamic loader; null in libraries and static programs. */
  readonly interp: string | null;
};

export type ElfInfo = ElfHead & {
  readonly soname: string | null;
  /** Sonames of the libraries it is linked with, in their order. */
  readonly needed: readonly string[];
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

/** Small, because in the planner every byte that is read costs; header, program headers and interpreter usually lie in the first. */
const PAGE = 1024;
const MAX_PAGES = 4096;
const MAX_STRING = 4096;
const MAX_TEXT = 1 << 20;
const MAX_PROGRAM_HEADERS = 512;
const MAX_DYNAMIC_ENTRIES = 8192;
const MAX_VERSIONS = 16_384;

/** The file does not keep to the format, or asks for more than a real one does. */
class Unreadable extends Error {}

/** A file whose parts come as byte strings. */
export type ElfSource = {
  /** In bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`; throws when the file does not have them. Never asked for more than `size` says. */
  readonly read: (offset: number, length: number) => string;
};

/** Fields and strings at file offsets, read by pages: what a loader needs lies in few places. */
type Fields = {
  readonly wide: boolean;
  readonly u16: (at: number) => number;
  readonly u32: (at: number) => number;
  /** An address, offset or size: 4 or 8 bytes by the file's class. */
  readonly word: (at: number) => number;
  /** The low 32 bits of a word: some dynamic tags use all 64, those read here do not. */
  readonly lowWord: (at: number) => number;
  /** A byte string up to its NUL. */
  readonly string: (at: number) => string;
};

const pagesOf = (source: ElfSource): ((number: number) => string) => {
  const pages = new Map<number, string>();
  return (number) => {
    const known = pages.get(number);
    if (known !== undefined) return known;
    const at = number * PAGE;
    if (pages.size === MAX_PAGES || at >= source.size) throw new Unreadable();
    const fresh = source.read(at, Math.min(PAGE, source.size - at));
    pages.set(number, fresh);
    return fresh;
  };
};

const fieldsOf = (source: ElfSource, wide: boolean, little: boolean): Fields => {
  const page = pagesOf(source);
  const number = (at: number, length: number, read: (text: string, at: number) => number): number => {
    if (!(at >= 0 && at + length <= source.size)) throw new Unreadable();
    const start = at % PAGE;
    const text = page((at - start) / PAGE);
    return start + length <= PAGE ? read(text, start) : read(text.slice(start) + page((at - start) / PAGE + 1).slice(0, length), 0);
  };
  const u16 = (at: number): number => number(at, 2, little ? u16At : u16BigAt);
  const u32 = (at: number): number => number(at, 4, little ? u32At : u32BigAt);
  let textLeft = MAX_TEXT;
  return {
    wide,
    u16,
    u32,
    lowWord: (at) => u32(wide && !little ? at + 4 : at),
    word: (at) => {
      if (!wide) return u32(at);
      const value = u32(little ? at + 4 : at) * 2 ** 32 + u32(little ? at : at + 4);
      if (!Number.isSafeInteger(value)) throw new Unreadable();
      return value;
    },
    string: (at) => {
      let text = '';
      for (let from = at; from >= 0 && from < source.size && text.length < MAX_STRING; from = at + text.length) {
        const start = from % PAGE;
        const piece = page((from - start) / PAGE);
        const end = piece.indexOf('\0', start);
        text += piece.slice(start, end < 0 ? piece.length : end);
        if (end < 0) continue;
        textLeft -= text.length;
        if (text.length >= MAX_STRING || textLeft < 0) break;
        return text;
      }
      throw new Unreadable();
    },
  };
};

type Segment = { readonly type: number; readonly offset: number; readonly address: number; readonly size: number };

const readSegments = (fields: Fields): Segment[] => {
  const { wide } = fields;
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
const readDynamic = (fields: Fields, segments: readonly Segment[]): [tag: number, value: number][] => {
  const segment = segments.find(({ type }) => type === PT_DYNAMIC);
  if (segment === undefined) return [];
  const entrySize = fields.wide ? 16 : 8;
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

type Opened = { readonly head: ElfHead; readonly fields: Fields; readonly segments: readonly Segment[] };

const open = (source: ElfSource): Opened => {
  const first = source.read(0, Math.min(PAGE, source.size));
  const wide = first.charCodeAt(4) === 2;
  const littleEndian = first.charCodeAt(5) === 1;
  if ((!wide && first.charCodeAt(4) !== 1) || (!littleEndian && first.charCodeAt(5) !== 2)) throw new Unreadable();
  const fields = fieldsOf(source, wide, littleEndian);
  const segments = readSegments(fields);
  const interp = segments.find(({ type }) => type === PT_INTERP);
  const machine = fields.u16(18);
  const head: ElfHead = {
    class: wide ? 64 : 32,
    littleEndian,
    machine: MACHINES[machine] ?? `machine-${machine}`,
    interp: interp === undefined ? null : fields.string(interp.offset),
  };
  return { head, fields, segments };
};

const parse = ({ head, fields, segments }: Opened): ElfInfo => {
  const dynamic = readDynamic(fields, segments);

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

  return {
    ...head,
    soname: textOf(DT.SONAME),
    needed: dynamic.filter((entry) => entry[0] === DT.NEEDED).map((entry) => text(entry[1])),
    rpath: textOf(DT.RPATH),
    runpath: textOf(DT.RUNPATH),
    versionNeeds: chain(DT.VERNEED, DT.VERNEEDNUM, readVersionNeeds),
    versionDefs: chain(DT.VERDEF, DT.VERDEFNUM, readVersionDefs),
  };
};

const MAGIC = '\x7fELF';

/** `take` of an ELF file; null when it is none or a damaged one (errors of `source` itself pass through). */
const reading = <T>(source: ElfSource, take: (opened: Opened) => T): T | null => {
  if (source.size < 52) return null;
  let first: string | undefined;
  const once: ElfSource = {
    size: source.size,
    read: (offset, length) => {
      if (offset !== 0) return source.read(offset, length);
      first ??= source.read(0, length);
      return first;
    },
  };
  if (!once.read(0, Math.min(PAGE, source.size)).startsWith(MAGIC)) return null;
  try {
    return take(open(once));
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
};

/** What header and program headers tell; null when it is no ELF file or a damaged one (errors of `source` itself pass through). */
export const readElfHead = (source: ElfSource): ElfHead | null => reading(source, ({ head }) => head);

/** What the file tells; null as above. */
export const readElfText = (source: ElfSource): ElfInfo | null => reading(source, parse);

/** The same from bytes. */
export const readElf = (source: ByteSource): ElfInfo | null =>
  readElfText({ size: source.size, read: (offset, length) => byteString(source.read(offset, length)) });
