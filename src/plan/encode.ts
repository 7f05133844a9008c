/** Answers as the launcher reads them: strings that each end with NUL (top of native/plan.def). */
import { type Answer, type Op, type OpName, type OpOf, PLAN_VERSION } from './ops.ts';

/** One string of an answer: numbers stand for their decimal text, lists for their strings with commas between them. */
export type Field = string | number | readonly string[];

/** Those of an op, or of another part. */
export type Fields = readonly Field[];

const assignments = ({ variables }: OpOf<'env'>): Fields => {
  const fields: Field[] = [];
  variables.forEach((variable, name) => {
    fields.push('env', `${name}=${variable.value}`);
  });
  return fields;
};

/** What is sent of each op, in the order of plan.def. */
const FIELDS: { readonly [Name in OpName]: (op: OpOf<Name>) => Fields } = {
  scope: (op) => [op.op, op.dir, op.key, op.uid, op.gid, op.lingerMs, op.cacheBytes],
  userns: (op) => [op.op, op.uid, op.gid],
  userns_ranges: (op) => [op.op, op.newuidmap, op.newgidmap, op.uidMap, op.gidMap],
  record: (op) => [op.op, op.path],
  hot: (op) => [op.op, op.offset, op.size],
  stage: (op) => [op.op, op.path, op.flags],
  image_mount: (op) => [op.op, op.handle, op.path, op.offset, op.size],
  image_directory: (op) => [op.op, op.path],
  image_extracted: (op) => [op.op, op.handle, op.path, op.offset, op.size, op.directory],
  layer: (op) => [op.op, op.directory],
  upper: (op) => [op.op, op.directory, op.work],
  unshare: (op) => [op.op, op.flags],
  directory: (op) => [op.op, op.target, op.mode],
  file: (op) => [op.op, op.target, op.mode, op.content],
  symlink: (op) => [op.op, op.target, op.link],
  root: (op) => [op.op, op.flags, op.size],
  uncovered: (op) => [op.op, op.target],
  owner: (op) => [op.op, op.target, op.uid, op.gid],
  bind: (op) => [op.op, op.source, op.target, op.flags],
  bind_cwd: (op) => [op.op, op.target, op.flags],
  tmpfs: (op) => [op.op, op.target, op.mode, op.size],
  proc: (op) => [op.op, op.target],
  sysfs: (op) => [op.op, op.target],
  devpts: (op) => [op.op, op.target],
  mqueue: (op) => [op.op, op.target],
  pivot: (op) => [op.op],
  hostname: (op) => [op.op, op.name],
  no_new_privs: (op) => [op.op],
  owners: (op) => [op.op, op.table, op.flags],
  ids: (op) => [op.op, op.uid, op.gid, op.groups],
  notice: (op) => [op.op, op.text],
  chdir: (op) => [op.op, op.path],
  environ: (op) => [op.op, op.leftOut],
  env: assignments,
  arg: (op) => [op.op, op.text],
  exec: (op) => [op.op, op.file],
};

const fieldsOf = FIELDS as Readonly<Record<OpName, (op: Op) => Fields>>;

const BEGIN: Fields = ['plan', PLAN_VERSION];
const END: Fields = ['end'];

/**
 * Environment and arguments are bounded by the kernel (2 MiB by default), file contents by the reads they come from. Whether paths, numbers and flags are
 * what they should be is checked by who reads them (native/plan.c).
 */
export const fieldsOfAnswer = (answer: Answer): readonly Fields[] => {
  switch (answer.kind) {
    case 'plan': {
      const { ops } = answer.plan;
      const parts: Fields[] = [BEGIN];
      for (let at = 0; at < ops.length; at++) {
        const op = ops[at] as Op;
        parts[at + 1] = fieldsOf[op.op](op);
      }
      parts.push(END);
      return parts;
    }
    case 'print':
    case 'fail':
      // Whatever went wrong, its words get out: one wide character would have the engine refuse them all.
      return [[answer.kind, answer.text.replace(/\0|[^\0-\xff]/g, '?'), answer.status]];
    case 'node':
      return [['node', '']];
    case 'prepare':
      return [['prepare', '', ...answer.args, 'end']];
  }
};

/** As one byte string, for a launcher that is another process; the engine does the same (engine_texts). Errors: a field with a NUL. */
export const encodeAnswer = (answer: Answer): string =>
  fieldsOfAnswer(answer)
    .flat()
    .map((field) => {
      const text = String(field);
      if (text.includes('\0')) throw new Error('a field of the answer holds a NUL');
      return `${text}\0`;
    })
    .join('');
