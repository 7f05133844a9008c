/** The documentation says what the source says: its tables are printed from the source's tables, and its links lead somewhere. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../helpers/proc.ts';

const test = suite('documentation');
const top = resolve(import.meta.dirname, '../..');
const pages = ['README.md', ...readdirSync(join(top, 'docs')).map((name) => `docs/${name}`)];

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

test.run();
