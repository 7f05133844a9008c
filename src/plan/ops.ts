/**
 * The operations of a plan: the TypeScript side of native/plan.def, which says what each does. test/contract/ops.test.ts holds both tables
 * against each other. Kinds of fields: S byte string, P path on the host, T target inside the run (absolute, clean), N number, F flags, H handle.
 */

export const PLAN_VERSION = 4;

export const OPS = {
  scope: { dir: 'P', key: 'S', uid: 'N', gid: 'N', lingerMs: 'N', cacheBytes: 'N' },
  userns: { uid: 'N', gid: 'N' },
  userns_ranges: { newuidmap: 'S', newgidmap: 'S', uidMap: 'S', gidMap: 'S' },
  record: { path: 'P' },
  hot: { offset: 'N', size: 'N' },
  stage: { path: 'P', flags: 'F' },
  image_mount: { handle: 'H', path: 'P', offset: 'N', size: 'N' },
  image_directory: { path: 'P' },
  image_extracted: { handle: 'H', path: 'P', offset: 'N', size: 'N', directory: 'P' },
  layer: { directory: 'P' },
  upper: { directory: 'P', work: 'P' },
  unshare: { flags: 'F' },
  directory: { target: 'T', mode: 'N' },
  file: { target: 'T', mode: 'N', content: 'S' },
  symlink: { target: 'T', link: 'S' },
  root: { flags: 'F', size: 'N' },
  uncovered: { target: 'T' },
  owner: { target: 'T', uid: 'N', gid: 'N' },
  bind: { source: 'P', target: 'T', flags: 'F' },
  bind_cwd: { target: 'T', flags: 'F' },
  tmpfs: { target: 'T', mode: 'N', size: 'N' },
  proc: { target: 'T' },
  sysfs: { target: 'T' },
  devpts: { target: 'T' },
  mqueue: { target: 'T' },
  pivot: {},
  hostname: { name: 'S' },
  no_new_privs: {},
  owners: { table: 'P', flags: 'F' },
  ids: { uid: 'N', gid: 'N', groups: 'S' },
  notice: { text: 'S' },
  chdir: { path: 'T' },
  environ: { leftOut: 'S' },
  env: { assignment: 'S' },
  arg: { text: 'S' },
  exec: { file: 'S' },
} as const;

/** Words that flags may hold (FLAG lines of plan.def). */
export const FLAG_WORDS = {
  stage: ['memory'],
  unshare: ['mount', 'pid', 'ipc', 'uts', 'net', 'leash'],
  root: ['writable', 'in_place', 'suid'],
  bind: ['ro', 'recursive', 'optional', 'dev', 'inside', 'own'],
  bind_cwd: ['ro', 'recursive', 'optional', 'dev', 'absent', 'own'],
  owners: ['devices'],
} as const;

type FieldTypes = { S: string; P: string; T: string; N: number; F: readonly string[]; H: number };
export type FieldKind = keyof FieldTypes;
export type OpName = keyof typeof OPS;
type Fields<Name extends OpName> = {
  readonly [Field in keyof (typeof OPS)[Name]]: (typeof OPS)[Name][Field] extends FieldKind ? FieldTypes[(typeof OPS)[Name][Field]] : never;
};

export type Variable = { readonly value: string; readonly why: string };

/** All that a plan gives of the environment is one op here, since a start pays for each: many values, each with its own reason. The launcher gets an `env` for each. */
type Environment = { readonly variables: ReadonlyMap<string, Variable> };

/** `why` is for --explain; it is not sent to the launcher. */
export type OpOf<Name extends OpName> = { readonly op: Name; readonly why: string } & (Name extends 'env' ? Environment : Fields<Name>);
export type Op = { [Name in OpName]: OpOf<Name> }[OpName];

export type Plan = { readonly ops: readonly Op[] };

/** What the planner answers. */
export type Answer =
  | { readonly kind: 'plan'; readonly plan: Plan }
  | { readonly kind: 'print'; readonly text: string; readonly status: number }
  | { readonly kind: 'fail'; readonly text: string; readonly status: number }
  | { readonly kind: 'node' }
  | { readonly kind: 'prepare'; readonly args: readonly string[] };
