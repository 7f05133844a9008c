/** native/plan.def and src/plan/ops.ts are one table in two languages. */
import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FLAG_WORDS, OPS, PLAN_VERSION } from '../../src/plan/ops.ts';

const test = suite('ops and plan.def');

const definition = readFileSync(new URL('../../native/plan.def', import.meta.url), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');

const camel = (name: string): string => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** "name: field kind, …" of each OP line, in order. */
const inC = [...definition.matchAll(/^OP\((\w+)((?:,\s*[A-Z]\(\w+\))*)\)/gm)].map(([, name = '', fields = '']) => {
  const parts = [...fields.matchAll(/([A-Z])\((\w+)\)/g)].map(([, kind = '', field = '']) => `${camel(field)} ${kind}`);
  return `${name}: ${parts.join(', ')}`;
});

const inTypeScript = Object.entries(OPS).map(
  ([name, fields]) =>
    `${name}: ${Object.entries(fields)
      .map(([field, kind]) => `${field} ${kind}`)
      .join(', ')}`,
);

test('every op has the same name, fields, kinds and order on both sides', () => {
  assert.ok(inC.length > 20);
  assert.equal(inTypeScript, inC);
});

test('the flags of each op are the same words', () => {
  const words: Record<string, string[]> = {};
  for (const [, op = '', word = ''] of definition.matchAll(/^FLAG\((\w+),\s*(\w+)\)/gm)) {
    words[op] = [...(words[op] ?? []), word];
  }
  assert.equal(words, FLAG_WORDS);
});

test('both speak the same version', () => {
  assert.is(Number(/#define PLAN_VERSION (\d+)/.exec(definition)?.[1]), PLAN_VERSION);
});

test.run();
