/** The documentation says what the source says: its tables are printed from the source's tables, and its links lead somewhere. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../helpers/proc.ts';

const test = suite('documentation');
const top = resolve(import.meta.dirname, '../..');
const pages = [
  'README.md',
  ...readdirSync(join(top, 'docs')).map((name) => `docs/${name}`),
  ...['benchmarks', 'native/engine', 'native/start', 'recipes', 'src/squashfs'].map((folder) => `${folder}/README.md`),
];

test('tables printed from the source are up to date', async () => {
  const checked = await run(['node', 'scripts/docs.mjs', '--check'], { cwd: top });
  assert.is(checked.status, 0, checked.stderr);
});

test('every relative link and every source file named in backticks exists', () => {
  const missing: string[] = [];
  for (const page of pages) {
    const text = readFileSync(join(top, page), 'utf8');
    const links = [...text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map((match) => join(dirname(page), match[1] ?? ''));
    const files = [...text.matchAll(/`((?:src|native|test|scripts|benchmarks|recipes)\/[\w./-]+)`/g)].map((match) => match[1] ?? '');
    for (const path of [...links, ...files]) if (!existsSync(join(top, path))) missing.push(`${page}: ${path}`);
  }
  assert.equal(missing, []);
});

test("every file that a table of a folder's page begins a row with is in that folder", () => {
  const missing: string[] = [];
  for (const page of pages.filter((each) => each.startsWith('native/'))) {
    const rows = readFileSync(join(top, page), 'utf8').matchAll(/^\| ((?:`[\w-]+\.\w+`(?:, )?)+) \|/gm);
    for (const [, cell = ''] of rows)
      for (const [, name = ''] of cell.matchAll(/`([^`]+)`/g))
        if (!existsSync(join(top, dirname(page), name))) missing.push(`${page}: ${name}`);
  }
  assert.equal(missing, []);
});

test('every source file that a comment names exists', () => {
  const missing: string[] = [];
  const sources = ['native', 'src'].flatMap((folder) =>
    readdirSync(join(top, folder), { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`),
  );
  for (const source of ['Makefile', ...sources.filter((name) => /\.(c|h|def|ld|mjs|ts)$/.test(name))])
    for (const [path] of readFileSync(join(top, source), 'utf8').matchAll(
      /(?<![\w/])(?:native\/[\w./-]+\.(?:c|h|def|ld|mjs|md)|(?:src|test|scripts)\/[\w./-]+\.(?:mjs|mts|sh|ts))\b/g,
    ))
      if (!existsSync(join(top, path))) missing.push(`${source}: ${path}`);
  assert.equal(missing, []);
});

test.run();
