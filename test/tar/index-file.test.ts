/** Finding the members of a tar file without reading their data. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { indexTarFile } from '../../src/tar/index-file.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { makeTar } from '../helpers/layers.ts';

const test = suite('index of a tar file');
const place = mkdtempSync(join(tmpdir(), 'tsrun-index-'));
test.after(() => rmSync(place, { recursive: true, force: true }));
const path = join(place, 'a.tar');

const index = async (): Promise<Map<string, { offset: number; size: number }>> => {
  const found = new Map<string, { offset: number; size: number }>();
  await indexTarFile(path, 'a.tar', ({ entry, offset }) => found.set(entry.path, { offset, size: entry.size }));
  return found;
};

test('every member is found at its place, small and large, with long names and empty ones', async () => {
  const contents = new Map([
    ['small', 'x'],
    ['empty', ''],
    ['n'.repeat(180), 'long name'],
    ['large', 'y'.repeat(1_000_000)],
    ['exact', 'z'.repeat(65_536 - 512)],
    ['last', 'end'],
  ]);
  writeFileSync(path, makeTar([...contents].map(([name, content]) => ({ path: name, content }))));
  const bytes = readFileSync(path);
  const found = await index();
  assert.is(found.size, contents.size);
  for (const [name, content] of contents) {
    const { offset = -1, size = -1 } = found.get(name) ?? {};
    assert.is(bytes.toString('latin1', offset, offset + size), content, name.slice(0, 20));
  }
});

test('a cut-off archive is an error', async () => {
  truncateSync(path, 500_000);
  await index().then(
    () => assert.unreachable(),
    (error: unknown) => assert.ok(error instanceof TsrunError && error.code === 'E_TAR' && /middle of an entry/.test(error.message)),
  );
});

test('an archive of more members than an image could have is refused', async () => {
  writeFileSync(path, makeTar(Array.from({ length: 100_001 }, (_, i) => ({ path: `f${i}` }))));
  await index().then(
    () => assert.unreachable(),
    (error: unknown) => assert.match(String(error), /more than 100000 members/),
  );
});

test.run();
