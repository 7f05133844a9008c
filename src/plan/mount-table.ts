/**
 * The mounts of a run while they are being decided: what lies where, and what of the host can be seen at its own path. All by text: paths of the
 * host are compared as spelled, so whoever asks about a path that may hold symbolic links asks about both spellings.
 */
import { depthOf, parentOf } from '../util/paths.ts';
import type { Op, OpOf } from './ops.ts';

export type MountOp = Extract<Op, { readonly op: 'bind' | 'bind_cwd' | 'tmpfs' | 'proc' | 'sysfs' | 'devpts' | 'mqueue' }>;

/** Files made on a tmpfs of the run, right after it is mounted. */
export type ContentOp = OpOf<'directory'> | OpOf<'file'> | OpOf<'symlink'>;

export type TableEntry = MountOp | ContentOp;

export type MountTable = {
  /** By target, in the order in which they were added: one at each, the latest. */
  readonly entries: Map<string, TableEntry>;
  /** Targets where a file is shown, not a directory. */
  readonly files: Set<string>;
};

export const newTable = (): MountTable => ({ entries: new Map(), files: new Set() });

const isMount = (entry: TableEntry): entry is MountOp => entry.op !== 'directory' && entry.op !== 'file' && entry.op !== 'symlink';

/** Takes out what another entry put at the same target. */
export const put = (table: MountTable, entry: TableEntry, isFile = false): void => {
  const target = entry.target;
  if (table.entries.delete(target)) table.files.delete(target);
  table.entries.set(target, entry);
  if (isFile) table.files.add(target);
};

/** The mount that decides what is at `path`; undefined: the image does. */
export const mountAt = (table: MountTable, path: string): MountOp | undefined => {
  for (let end = path.length; end >= 0; end = end > 0 ? path.lastIndexOf('/', end - 1) : -1) {
    const entry = table.entries.get(path.slice(0, end) || '/');
    if (entry !== undefined && isMount(entry)) return entry;
  }
  return undefined;
};

/** The mount in which `target` itself lies. */
export const mountAround = (table: MountTable, target: string): MountOp | undefined => mountAt(table, parentOf(target));

/** True for a mount that shows in the run what the host has at the same path. */
export const isHosts = (mount: MountOp): boolean => mount.op === 'bind_cwd' || (mount.op === 'bind' && mount.source === mount.target);

/** True when `path` shows in the run what it shows on the host. */
export const showsHost = (table: MountTable, path: string): boolean => {
  const mount = mountAt(table, path);
  return mount !== undefined && isHosts(mount);
};

/** What has to be made on a tmpfs of this run so that `target` can be mounted on; the launcher makes other missing targets, or the host has them. */
const placesFor = (table: MountTable, target: string, made: Set<string>): TableEntry[] => {
  const around = mountAround(table, target);
  if (around?.op !== 'tmpfs') return [];
  const places: TableEntry[] = [];
  for (let path = parentOf(target); path !== around.target; path = parentOf(path)) {
    if (!made.has(path)) places.unshift({ op: 'directory', target: path, mode: 0o755, why: `leads to ${target}` });
    made.add(path);
  }
  if (made.has(target)) return places;
  made.add(target);
  if (table.files.has(target)) places.push({ op: 'file', target, mode: 0o644, content: '', why: 'a place to mount on' });
  else places.push({ op: 'directory', target, mode: 0o755, why: 'a place to mount on' });
  return places;
};

const byDepth = (entries: readonly TableEntry[]): TableEntry[] => {
  const levels: TableEntry[][] = [];
  for (const entry of entries) {
    const depth = depthOf(entry.target);
    while (levels.length <= depth) levels.push([]);
    levels[depth]?.push(entry);
  }
  return levels.flat();
};

/**
 * Parents before what lies in them, otherwise as added: where the image has links, two paths can be one place, and the later mount is the one that shows.
 * Each behind the places it needs.
 */
export const inMountOrder = (table: MountTable): TableEntry[] => {
  const added: TableEntry[] = [];
  let depth = 0;
  let inOrder = true;
  let inMemory = false;
  table.entries.forEach((entry, target) => {
    added.push(entry);
    const before = depth;
    depth = depthOf(target);
    inOrder &&= depth >= before;
    inMemory ||= entry.op === 'tmpfs';
  });
  const sorted = inOrder ? added : byDepth(added);
  if (!inMemory) return sorted;
  const made = new Set(sorted.filter((entry) => entry.op === 'directory').map((entry) => entry.target));
  return sorted.flatMap((entry) => (isMount(entry) ? [...placesFor(table, entry.target, made), entry] : [entry]));
};
