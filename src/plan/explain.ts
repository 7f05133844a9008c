/** --explain: the request with the origin of each value, the image, the plan with the reason of each op, and every read that was made. */

import { printable } from '../util/printable.ts';
import type { Read } from '../util/recording-host.ts';
import { OPS, type Op, type OpOf, type Plan, reasonOf, textOf } from './ops.ts';
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

/** As the launcher gets them. */
const assignments = ({ op, variables }: OpOf<'env'>): readonly object[] =>
  [...variables].map(([name, variable]) => ({ op, assignment: `${name}=${textOf(variable)}`, why: reasonOf(variable) }));

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
    if (op.op === 'env')
      for (const [name, variable] of op.variables) environment.push(['', `${name}=${textOf(variable)}`, reasonOf(variable)]);
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
  const ops = plan.ops.flatMap((op) => (op.op === 'env' ? assignments(op) : [op]));
  return `${JSON.stringify({ request: asked, given, image, identity, home, cwd, plan: ops, reads }, null, 1)}\n`;
};
