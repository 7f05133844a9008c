/** --explain: the request with the origin of each value, the image, the plan with the reason of each op, and every read that was made. */

import { printable } from '../util/printable.ts';
import type { Read } from '../util/recording-host.ts';
import { inherited } from './env.ts';
import { OPS, type Op, type Plan, type Variable } from './ops.ts';
import type { Situation } from './situation.ts';

const columns = (rows: readonly (readonly [string, string, string])[]): string[] => {
  const width = (column: 0 | 1, limit: number): number => Math.min(limit, Math.max(0, ...rows.map((row) => row[column].length)));
  const first = width(0, 24);
  const second = width(1, 72);
  return rows.map(([a, b, c]) => printable(`  ${a.padEnd(first)}  ${c === '' ? b : `${b.padEnd(second)}  ${c}`}`).replaceAll('\n', '\\n'));
};

/** Fields of an op as words: `source=/data target=/data flags=recursive`. */
const fieldWords = (op: Op): string =>
  Object.keys(OPS[op.op])
    .map((name) => {
      const value = op[name as keyof Op] as unknown;
      if (name === 'content') return `content of ${String(value).length} bytes`;
      if (name === 'mode') return `mode=${Number(value).toString(8)}`;
      const text = Array.isArray(value) ? value.join(',') : String(value);
      return text === '' ? '' : `${name}=${text}`;
    })
    .filter((word) => word !== '')
    .join(' ');

/** Each variable for itself, also what the launcher passes of its own environment. */
const variablesOf = ({ host }: Situation, plan: Plan, op: Op): readonly [string, Variable][] => {
  if (op.op === 'env') return [...op.variables];
  const given = plan.ops.find((each) => each.op === 'env');
  return op.op === 'environ' && given !== undefined ? [...inherited(host, op.leftOut, given.variables)] : [];
};

const imageRows = ({ image }: Situation): [string, string, string][] => {
  const { facts } = image;
  const kind = image.kind === 'directory' ? 'directory' : `${image.container}, SquashFS of ${image.size} bytes at ${image.offset}`;
  const libc = facts.libc.kind === 'none' ? 'no libc' : `${facts.libc.kind} ${facts.libc.version}`;
  return [
    ['path', image.path, ''],
    ['kind', kind, ''],
    ['system', [facts.os.name || facts.os.id || 'unknown', facts.arch, libc].filter((part) => part !== '').join(', '), ''],
    ['entry point', JSON.stringify(facts.entrypoint), ''],
    ['command', JSON.stringify(facts.cmd), ''],
    ['working directory', facts.workingDir || 'none', ''],
    ['environment scripts', facts.envScripts.join(' ') || 'none', ''],
  ];
};

export const explainText = (situation: Situation, plan: Plan, reads: readonly Read[]): string => {
  const { request } = situation;
  const asked: [string, string, string][] = [
    ['verb', request.verb, ''],
    ['image', request.image, ''],
    ...(request.args.length === 0 ? [] : [['arguments', request.args.join(' '), ''] as [string, string, string]]),
    ...request.given.map(({ flag, text, from, origin }): [string, string, string] => [
      flag,
      text,
      from === 'command line' ? `${from} (${origin})` : origin,
    ]),
  ];
  const environment: [string, string, string][] = [];
  const ops: [string, string, string][] = [];
  for (const op of plan.ops) {
    if (op.op === 'env' || op.op === 'environ')
      for (const [name, { value, why }] of variablesOf(situation, plan, op)) environment.push(['', `${name}=${value}`, why]);
    else ops.push([op.op, fieldWords(op), op.why]);
  }
  const sections: [string, string[]][] = [
    ['request', columns(asked)],
    ['image', columns(imageRows(situation))],
    ['plan', columns(ops)],
    ['environment', columns(environment).map((line) => line.slice(2))],
    ['reads', columns(reads.map(({ call, about, answer }) => [call, about, answer]))],
  ];
  return `${sections.map(([title, lines]) => [title, ...lines].join('\n')).join('\n\n')}\n`;
};

export const explainJson = (situation: Situation, plan: Plan, reads: readonly Read[]): string => {
  const { request, image, identity, home, cwd } = situation;
  const { given, ...asked } = request;
  const ops = plan.ops.flatMap((op): readonly object[] =>
    op.op === 'env' || op.op === 'environ'
      ? variablesOf(situation, plan, op).map(([name, { value, why }]) => ({ op: 'env', assignment: `${name}=${value}`, why }))
      : [op],
  );
  return `${JSON.stringify({ request: asked, given, image, identity, home, cwd, plan: ops, reads }, null, 1)}\n`;
};
