import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('error codes');

const top = join(import.meta.dirname, '../..');

const codesBelow = (folder: string, pattern: RegExp): Set<string> =>
  new Set(
    readdirSync(join(top, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|c|h|def)$/.test(name))
      .flatMap((name) => [...readFileSync(join(top, folder, name), 'utf8').matchAll(pattern)].map((match) => match[1] ?? '')),
  );

const used = [...codesBelow('src', /['"`](E_[A-Z0-9_]+)['"`]/g), ...codesBelow('native', /"(E_[A-Z0-9_]+)"/g)];
const rows = [...readFileSync(join(top, 'docs/ERRORS.md'), 'utf8').matchAll(/^\| `?(E_[A-Z0-9_]+)`? \| (.+?) \| (.+?) \|$/gm)];
const documented = rows.map((row) => row[1] ?? '');

test('every code in the source is documented', () => {
  assert.equal([...new Set(used)].filter((code) => !documented.includes(code)).sort(), []);
  assert.ok(used.length > 20);
});

test('every documented code is in the source', () => {
  assert.equal(documented.filter((code) => !used.includes(code)).sort(), []);
});

test('every code is documented once, with a meaning and a cure', () => {
  assert.is(new Set(documented).size, documented.length);
  for (const [, code, meaning, cure] of rows) assert.ok(meaning?.trim() && cure?.trim(), code);
});

test.run();
