/**
 * The plan of a build step: root inside a tree of layers whose top one takes the writes, in namespaces of its own, with nothing of the caller but
 * what the step is given. Carried out by the same launcher as runs are.
 */
import type { Host } from '../util/host.ts';
import { putMinimalDevices } from './devices.ts';
import { inMountOrder, newTable, put, type TableEntry } from './mount-table.ts';
import type { Op, Plan } from './ops.ts';

/** The files a step works on; directories of the host, lowest first. */
export type StepTree = {
  /** What the base image has, or an empty directory. */
  readonly base: string;
  readonly layers: readonly string[];
  /** Where changes go; WORK is an empty directory on the same file system. Without it they are lost in memory. */
  readonly upper: { readonly directory: string; readonly work: string } | undefined;
  /**
   * Without an overlay, where the kernel makes none: `base` is all there is. "written": the step works in it. "looked-at": nothing is written.
   * Its mount points have to be there already, or are left behind.
   */
  readonly plain?: 'written' | 'looked-at' | undefined;
};

/** Whose ids there are inside. */
export type StepIds =
  /** Only the caller, as root; owners are recorded. */
  | { readonly kind: 'single' }
  /** The caller as root and the ranges of /etc/subuid and /etc/subgid; maps as newuidmap takes them: "0 1000 1 1 100000 65536". */
  | { readonly kind: 'ranges'; readonly uidMap: string; readonly gidMap: string; readonly newuidmap: string; readonly newgidmap: string };

export type StepMount =
  | {
      readonly kind: 'bind';
      readonly source: string;
      readonly target: string;
      readonly readOnly: boolean;
      readonly isFile: boolean;
      /** Those below it can be opened. */
      readonly devices?: boolean | undefined;
      /** Left out where it is not there. */
      readonly optional: boolean;
      readonly why: string;
    }
  | { readonly kind: 'tmpfs'; readonly target: string; readonly size: number; readonly mode: number; readonly why: string }
  /** A file that is in memory only. */
  | {
      readonly kind: 'file';
      readonly target: string;
      readonly mode: number;
      readonly content: string;
      /** Root, when left out, and where there is one id only. */
      readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
      readonly why: string;
    }
  /** A file that is in memory only, seen read-only at another place: over whatever is there. */
  | { readonly kind: 'shown'; readonly file: string; readonly target: string; readonly why: string };

export type StepProgram = {
  /** As `exec` takes it: without a slash it is looked for in the PATH of `environment`. */
  readonly file: string;
  readonly argv: readonly string[];
  readonly environment: ReadonlyMap<string, string>;
  readonly cwd: string;
  /** Who it runs as; undefined: root. Only where the ids are there. */
  readonly user: { readonly uid: number; readonly gid: number; readonly groups: readonly number[] } | undefined;
};

export type StepSituation = {
  readonly host: Host;
  readonly tree: StepTree;
  readonly ids: StepIds;
  /** File for the owners that cannot be kept on inodes; undefined: nothing is recorded. */
  readonly owners: string | undefined;
  readonly network: 'host' | 'none';
  readonly mounts: readonly StepMount[];
  readonly program: StepProgram;
};

/** In memory, for the length of the step: files the step's program is given. */
export const STEP_FILES = '/dev/.tsrun';

export const makeStepPlan = (situation: StepSituation): Plan => {
  const { host, tree, ids, owners, network, mounts, program } = situation;
  const table = newTable();
  put(table, { op: 'proc', target: '/proc', why: 'a process list of its own: nothing outlives the step' });
  if (network === 'none') put(table, { op: 'sysfs', target: '/sys', why: 'a network of its own' });
  else put(table, { op: 'bind', source: '/sys', target: '/sys', flags: ['ro', 'recursive', 'optional'], why: 'build step' });
  putMinimalDevices(table, host, false);
  for (const mount of mounts) putStepMount(table, mount);

  // A user of the step may become root of the step again (sudo, su): that is the caller, whatever way leads there.
  const regains = program.user !== undefined && ids.kind === 'ranges';
  const upper: Op[] =
    tree.upper === undefined
      ? []
      : [{ op: 'upper', directory: tree.upper.directory, work: tree.upper.work, why: 'takes what the step changes' }];
  const ops: Op[] = [
    namespace(situation),
    { op: 'image_directory', path: tree.base, why: 'the base image' },
    ...tree.layers.map((directory): Op => ({ op: 'layer', directory, why: 'an earlier step' })),
    ...upper,
    {
      op: 'unshare',
      flags: ['mount', 'pid', 'ipc', 'uts', ...(network === 'none' ? ['net'] : []), 'leash'],
      why: 'a build step sees nothing of the host',
    },
    { op: 'root', flags: [...rootFlags(tree), ...(regains ? ['suid'] : [])], size: 0, why: 'a build step' },
    ...shownLast(inMountOrder(table)).flatMap((op): readonly Op[] => [op, ...(ids.kind === 'ranges' ? ownerOf(op, mounts) : [])]),
    { op: 'pivot', why: "leave the host's tree" },
    { op: 'hostname', name: 'localhost', why: 'no result depends on where it was built' },
    ...(owners === undefined
      ? []
      : [
          {
            op: 'owners',
            table: owners,
            flags: ids.kind === 'ranges' ? ['devices'] : [],
            why: 'what only root outside may do is recorded',
          } as const,
        ]),
    ...(regains ? [] : [{ op: 'no_new_privs', why: 'no program may gain rights' } as const]),
    ...(program.user === undefined || situation.ids.kind === 'single'
      ? []
      : [
          {
            op: 'ids',
            uid: program.user.uid,
            gid: program.user.gid,
            groups: program.user.groups.join(' '),
            why: 'the user of the step',
          } as const,
        ]),
    { op: 'chdir', path: program.cwd, why: 'working directory of the step' },
    {
      op: 'env',
      variables: new Map([...program.environment].map(([name, value]) => [name, { value, why: 'build step' }])),
      why: 'build step',
    },
    ...program.argv.map((text): Op => ({ op: 'arg', text, why: 'build step' })),
    { op: 'exec', file: program.file, why: 'build step' },
  ];
  return { ops };
};

/** Once what they show is there. */
const shownLast = (ops: readonly TableEntry[]): readonly Op[] => {
  const isShown = (op: Op): boolean => op.op === 'bind' && op.flags.includes('inside');
  return [...ops.filter((op) => !isShown(op)), ...ops.filter(isShown)];
};

const ownerOf = (op: Op, mounts: readonly StepMount[]): readonly Op[] => {
  if (op.op !== 'file') return [];
  const owner = mounts.flatMap((mount) => (mount.kind === 'file' && mount.target === op.target ? [mount.owner] : [])).at(-1);
  return owner === undefined ? [] : [{ op: 'owner', target: op.target, uid: owner.uid, gid: owner.gid, why: op.why }];
};

const rootFlags = ({ upper, plain }: StepTree): readonly string[] => {
  if (plain === 'written') return ['in_place'];
  return upper === undefined && plain === undefined ? ['writable'] : [];
};

const namespace = ({ ids }: StepSituation): Op =>
  ids.kind === 'single'
    ? { op: 'userns', uid: 0, gid: 0, why: 'the caller is root inside' }
    : {
        op: 'userns_ranges',
        newuidmap: ids.newuidmap,
        newgidmap: ids.newgidmap,
        uidMap: ids.uidMap,
        gidMap: ids.gidMap,
        why: 'the caller is root inside, other ids are those of /etc/subuid and /etc/subgid',
      };

const putStepMount = (table: ReturnType<typeof newTable>, mount: StepMount): void => {
  switch (mount.kind) {
    case 'bind': {
      const { readOnly, isFile, optional, devices = false } = mount;
      const chosen = { ro: readOnly, recursive: !isFile, optional, dev: devices };
      const flags = Object.entries(chosen).flatMap(([flag, given]) => (given ? [flag] : []));
      put(table, { op: 'bind', source: mount.source, target: mount.target, flags, why: mount.why }, mount.isFile);
      break;
    }
    case 'tmpfs':
      put(table, { op: 'tmpfs', target: mount.target, mode: mount.mode, size: mount.size, why: mount.why });
      break;
    case 'shown':
      put(table, { op: 'bind', source: mount.file, target: mount.target, flags: ['ro', 'inside'], why: mount.why }, true);
      break;
    case 'file':
      put(table, { op: 'file', target: mount.target, mode: mount.mode, content: mount.content, why: mount.why }, true);
      break;
    default:
      mount satisfies never;
  }
};
