/**
 * Makes what a step left the same on every day and machine: a handler of tar entries between the reader and whoever takes them. Times
 * newer than the epoch are clamped to it, copies of such times inside files follow, and what normalize-rules.ts calls noise does not pass.
 * Nothing is read ahead: at most one file's edited part (`MAX_EDITED`) is held.
 */
import type { TarEntry } from '../tar/entry.ts';
import type { TarHandler } from '../tar/read.ts';
import { NOISE_RULES, type Rule, TIME_RULES } from './normalize-rules.ts';

export type Normalization = {
  /** SOURCE_DATE_EPOCH: whole seconds since 1970, 0 … 2³²-1. */
  readonly epoch: number;
  /** Whether the layer was made by programs that ran; false for files copied into the image. */
  readonly ran: boolean;
};

type Wait = void | Promise<void>;

/** A file to be edited as a whole that is longer than this passes unchanged. */
const MAX_EDITED = 4 * 1024 * 1024;
const MARK_OF_WHITEOUT = '.wh.';

/** What `createTarReader` calls, in front of `next`. One layer each: it remembers names. */
export const normalizeLayer = (next: TarHandler, { epoch, ran }: Normalization): TarHandler => {
  const rules = ran ? [...TIME_RULES, ...NOISE_RULES] : TIME_RULES;
  const any = new RegExp(rules.map(({ path }) => path.source).join('|'));
  const dropped = new Set<string>();
  let editing: Editing | undefined;

  const ruleFor = (path: string): Rule | undefined => (any.test(path) ? rules.find((rule) => rule.path.test(path)) : undefined);

  const file = (entry: TarEntry, rule: Rule | undefined): boolean => {
    if (rule?.action.do === 'empty' && entry.size > 0) {
      if (next.entry({ ...entry, size: 0 })) next.endFile();
      return false;
    }
    if (rule?.action.do !== 'edit' || entry.size === 0) return next.entry(entry);
    const { head, edit } = rule.action;
    if (head === 'whole' && entry.size > MAX_EDITED) return next.entry(entry);
    editing = createEditing(next, entry, head === 'whole' ? entry.size : Math.min(head, entry.size), (bytes) => edit(bytes, epoch));
    return true;
  };

  return {
    entry: (original) => {
      editing = undefined;
      const entry = ran && isTemporary(original) ? { ...original, mtime: epoch, mtimeNanos: 0 } : clampTime(original, epoch);
      const path = plainPath(entry.path);
      if (entry.type === 'hardlink' && dropped.has(plainPath(entry.linkpath))) return false;
      const isWhiteout = path.slice(path.lastIndexOf('/') + 1).startsWith(MARK_OF_WHITEOUT);
      if (entry.type === 'directory' || isWhiteout) return next.entry(entry);
      const rule = ruleFor(path);
      if (rule?.action.do === 'drop') {
        dropped.add(path);
        return false;
      }
      return entry.type === 'file' ? file(entry, rule) : next.entry(entry);
    },
    data: (chunk) => (editing === undefined ? next.data(chunk) : editing.data(chunk)),
    hole: (length) => (editing === undefined ? next.hole(length) : editing.hole(length)),
    endFile: () => {
      if (editing === undefined || editing.wanted()) next.endFile();
      editing = undefined;
    },
  };
};

export const clampTime = (entry: TarEntry, epoch: number): TarEntry =>
  entry.mtime > epoch || (entry.mtime === epoch && entry.mtimeNanos > 0) ? { ...entry, mtime: epoch, mtimeNanos: 0 } : entry;

/** A program that leaves nothing there may have changed its time, or not, as it had to fetch something or not. */
const isTemporary = ({ type, path }: TarEntry): boolean => type === 'directory' && /^(?:var\/)?tmp\/?$/.test(plainPath(path));

const plainPath = (path: string): string => path.replace(/^(?:\.?\/+)+/, '');

type Editing = {
  data(chunk: Uint8Array): Wait;
  hole(length: number): Wait;
  /** Whether `next` took the entry. */
  wanted(): boolean;
};

/** Holds the first `size` bytes back until they are there and edited; only then does `next` hear of the entry, whose length may be another. */
const createEditing = (next: TarHandler, entry: TarEntry, size: number, edit: (bytes: Buffer) => Buffer): Editing => {
  const head = Buffer.alloc(size);
  let filled = 0;
  let wanted = false;

  /** @returns how many of `length` bytes belong to the head */
  const fill = (length: number, chunk: Uint8Array | undefined): number => {
    const used = Math.min(length, size - filled);
    if (chunk !== undefined) head.set(chunk.subarray(0, used), filled);
    filled += used;
    return used;
  };

  /** Passes the edited head on as soon as it is complete, then `rest`. */
  const pass = (wasComplete: boolean, rest: () => Wait): Wait => {
    if (filled < size) return undefined;
    if (wasComplete) return wanted ? rest() : undefined;
    const edited = edit(head);
    wanted = next.entry({ ...entry, size: entry.size - size + edited.length });
    if (!wanted) return undefined;
    const wait = edited.length > 0 ? next.data(edited) : undefined;
    return wait === undefined ? rest() : wait.then(rest);
  };

  return {
    data: (chunk) => {
      const wasComplete = filled === size;
      const used = fill(chunk.length, chunk);
      return pass(wasComplete, () => (used < chunk.length ? next.data(chunk.subarray(used)) : undefined));
    },
    hole: (length) => {
      const wasComplete = filled === size;
      const used = fill(length, undefined);
      return pass(wasComplete, () => (used < length ? next.hole(length - used) : undefined));
    },
    wanted: () => wanted,
  };
};
