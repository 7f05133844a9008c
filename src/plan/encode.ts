/** Answers as the launcher reads them: strings that each end with NUL (top of native/plan.def). */
import { type Answer, OPS, type Op, PLAN_VERSION } from './ops.ts';

/** Fields of each op, in order; made at the first use and kept. */
const fieldsByOp: { [Name in Op['op']]?: readonly string[] } = {};

export const fieldsOf = (op: Op['op']): readonly string[] => {
  fieldsByOp[op] ??= Object.keys(OPS[op]);
  return fieldsByOp[op];
};

/** As they are: joining them makes decimal text of numbers, and puts commas between flags. */
const fieldsInOrder = (ops: readonly Op[], out: unknown[]): void => {
  ops.forEach((op) => {
    // Most ops by far.
    if (op.op === 'env') out.push('env', op.assignment);
    else if (op.op === 'arg') out.push('arg', op.text);
    else if (op.op === 'bind') out.push('bind', op.source, op.target, op.flags);
    else {
      const fields = fieldsOf(op.op);
      out.push(op.op);
      for (let at = 0; at < fields.length; at++) out.push(op[fields[at] as keyof Op]);
    }
  });
};

/**
 * Environment and arguments are bounded by the kernel (2 MiB by default), file contents by the reads they come from. Whether paths, numbers and flags are
 * what they should be is checked by who reads them (native/plan.c), and that no field of a plan holds a NUL: it would be one string more than were sent.
 * Errors: another answer with a NUL in it.
 */
export const encodeAnswer = (answer: Answer): string => {
  const out: unknown[] = [];
  switch (answer.kind) {
    case 'plan':
      out.push('plan', PLAN_VERSION);
      fieldsInOrder(answer.plan.ops, out);
      out.push('end');
      out.push(out.length);
      return `${out.join('\0')}\0`;
    case 'print':
    case 'fail':
      // Whatever went wrong, its words get out: one wide character would have the engine refuse them all.
      out.push(answer.kind, answer.text.replace(/\0|[^\0-\xff]/g, '?'), answer.status);
      break;
    case 'node':
      out.push('node', '');
      break;
    case 'prepare':
      out.push('prepare', '', ...answer.args, 'end');
      break;
  }
  const text = `${out.join('\0')}\0`;
  if (text.split('\0').length !== out.length + 1) throw new Error('a field of the answer holds a NUL');
  return text;
};
