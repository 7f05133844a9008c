import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('imports');

/** Data flows to the right; a folder imports from its own row or from rows before it. Files at the top of src/ are entries: they import anything. */
const ROWS = [
  ['util'],
  ['tar', 'sif', 'squashfs', 'oci', 'elf'],
  ['registry', 'store', 'request', 'image', 'facts'],
  ['plan'],
  ['run'],
  ['recipe', 'lock'],
  ['build', 'bench', 'slurm'],
  ['ui'],
  ['cli'],
] as const;

const source = join(import.meta.dirname, '../../src');
const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));

type Import = { readonly file: string; readonly target: string };

/** Type imports count as well: they are dependencies of the reader. */
const imports: readonly Import[] = files.flatMap((file) =>
  [...readFileSync(join(source, file), 'utf8').matchAll(/(?:\bfrom|\bimport\(?)\s*'([^']+)'/g)].map((match) => {
    const target = match[1] ?? '';
    return { file, target: target.startsWith('.') ? relative(source, join(source, dirname(file), target)) : target };
  }),
);

const folderOf = (path: string): string | null => (path.includes('/') ? (path.split('/')[0] ?? null) : null);
const rowOf = (folder: string): number => ROWS.findIndex((row) => (row as readonly string[]).includes(folder));
const isLocal = ({ target }: Import): boolean => target.endsWith('.ts');

test('every folder of src/ has its place in the data flow', () => {
  const folders = new Set(files.map(folderOf).filter((folder) => folder !== null));
  assert.equal(
    [...folders].filter((folder) => rowOf(folder) < 0),
    [],
  );
  assert.ok(folders.size > 4);
});

test('no folder imports from one that comes after it in the data flow', () => {
  const wrong = imports.filter(isLocal).filter(({ file, target }) => {
    const [from, to] = [folderOf(file), folderOf(target)];
    return from !== null && (to === null || rowOf(to) > rowOf(from));
  });
  assert.equal(wrong, []);
});

test('folders do not import each other in a circle', () => {
  const needs = new Map<string, Set<string>>();
  for (const { file, target } of imports.filter(isLocal)) {
    const [from, to] = [folderOf(file), folderOf(target)];
    if (from === null || to === null || from === to) continue;
    needs.set(from, (needs.get(from) ?? new Set()).add(to));
  }
  const circleThrough = (folder: string, path: readonly string[]): readonly string[] | null => {
    if (path.includes(folder)) return [...path, folder];
    for (const next of needs.get(folder) ?? []) {
      const circle = circleThrough(next, [...path, folder]);
      if (circle !== null) return circle;
    }
    return null;
  };
  for (const folder of needs.keys()) assert.is(circleThrough(folder, []), null);
});

test('ink and react are imported below a ui/ folder only', () => {
  const wrong = imports.filter(({ file, target }) => /^(ink|react)(\/|$)/.test(target) && !file.split('/').includes('ui'));
  assert.equal(wrong, []);
});

test.run();
