/** Answers as the launcher reads them: strings that each end with NUL (top of native/plan.def). */
import { isClean } from '../util/paths.ts';
import { type Answer, type FieldKind, OPS, type Op, PLAN_VERSION } from './ops.ts';

/** A slip of the planner, not of the user: nothing from outside may get here unchecked. */
const wrong = (op: string, field: string, why: string): Error => new Error(`op ${op}: ${field} ${why}`);

const plainText = (op: string, field: string, value: unknown): string => {
  if (typeof value !== 'string' || value.includes('\0')) throw wrong(op, field, 'is no text without NUL');
  return value;
};

const fieldText = (op: string, field: string, kind: FieldKind, value: unknown): string => {
  switch (kind) {
    case 'S':
      return plainText(op, field, value);
    case 'T':
      if (!isClean(plainText(op, field, value))) throw wrong(op, field, `is not an absolute, clean path: ${value}`);
      return value as string;
    case 'P':
      if (plainText(op, field, value) === '') throw wrong(op, field, 'is empty');
      return value as string;
    case 'F':
      return (value as readonly string[]).join(',');
    case 'N':
    case 'H':
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < (kind === 'H' ? -1 : 0))
        throw wrong(op, field, `is no number: ${String(value)}`);
      return String(value);
  }
};

type Field = { readonly name: string; readonly kind: FieldKind };

/** Fields of each op, in order; made at the first use and kept. */
const fieldsByOp = new Map<string, readonly Field[]>();

export const fieldsOf = (op: Op['op']): readonly Field[] => {
  let fields = fieldsByOp.get(op);
  if (fields === undefined) {
    fields = Object.entries(OPS[op]).map(([name, kind]) => ({ name, kind }));
    fieldsByOp.set(op, fields);
  }
  return fields;
};

const encodeOps = (ops: readonly Op[], out: string[]): void => {
  for (const op of ops) {
    out.push(op.op);
    // Most ops by far, and no iteration over a list of one.
    if (op.op === 'env') out.push(plainText('env', 'assignment', op.assignment));
    else if (op.op === 'arg') out.push(plainText('arg', 'text', op.text));
    else for (const field of fieldsOf(op.op)) out.push(fieldText(op.op, field.name, field.kind, op[field.name as keyof Op]));
  }
};

/** Environment and arguments are bounded by the kernel (2 MiB by default), file contents by the reads they come from. */
export const encodeAnswer = (answer: Answer): string => {
  const out: string[] = [];
  switch (answer.kind) {
    case 'plan':
      out.push('plan', String(PLAN_VERSION));
      encodeOps(answer.plan.ops, out);
      out.push('end');
      break;
    case 'print':
    case 'fail':
      // Whatever went wrong, its words get out: one wide character would have the engine refuse them all.
      out.push(answer.kind, answer.text.replace(/\0|[^\0-\xff]/g, '?'), String(answer.status));
      break;
    case 'node':
      out.push('node', '');
      break;
    case 'prepare':
      out.push('prepare', '', ...answer.args, 'end');
      break;
  }
  return `${out.join('\0')}\0`;
};
