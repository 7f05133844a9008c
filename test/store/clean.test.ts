import { existsSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RegistryReference } from '../../src/oci/reference.ts';
import { putDocument } from '../../src/store/blobs.ts';
import { cleanStore, listStore } from '../../src/store/clean.ts';
import { readFacts, recallReference, rememberReference, writeFacts } from '../../src/store/documents.ts';
import { blobPath, imagePath, partialName, referencePath } from '../../src/store/layout.ts';
import type { Store } from '../../src/store/types.ts';
import { start } from '../helpers/proc.ts';
import { describe, newStore, scratch } from '../helpers/store.ts';

const test = suite('cleaning the store');

const CONTENT = Buffer.from('content');
const { digest } = describe(CONTENT);
const REFERENCE: RegistryReference = { kind: 'registry', registry: 'ghcr.io', repository: 'team/tool', tag: '1.2', text: '' };
const SEEN = { digest, mediaType: 'm', size: 7, seen: '2026-01-01T00:00:00.000Z' };

const filled = async (): Promise<Store> => {
  const store = await newStore();
  await putDocument(store, digest, CONTENT);
  await rememberReference(store, REFERENCE, SEEN);
  await writeFacts(store, 'sha256-abc', { env: ['A=1'] });
  writeFileSync(imagePath(store.path, 'k'), 'sif');
  writeFileSync(`${store.path}/partial/${partialName(digest)}.part`, 'half');
  return store;
};

test('references and facts are read back, also from a lower store', async () => {
  const lower = await filled();
  const store = { ...(await newStore()), lowers: [lower.path] };
  assert.equal(await recallReference(store, REFERENCE), SEEN);
  assert.equal(await readFacts(store, 'sha256-abc'), { env: ['A=1'] });
  assert.is(await recallReference(store, { ...REFERENCE, tag: '2' }), undefined);
});

test('a damaged reference counts as missing', async () => {
  const store = await filled();
  for (const text of ['', '{', '[]', 'null', '{"digest":"sha256:12","mediaType":"m","size":1,"seen":"x"}']) {
    writeFileSync(referencePath(store.path, REFERENCE), text);
    assert.is(await recallReference(store, REFERENCE), undefined, text);
  }
});

test('the list names every kind with size and age', async () => {
  const items = await listStore(await filled());
  const names = items.map(({ kind, name, size }) => [kind, name, size]).toSorted();
  assert.equal(
    names.filter(([kind]) => kind !== 'facts' && kind !== 'reference'),
    [
      ['blob', digest, 7],
      ['image', 'k', 3],
      ['partial', `${partialName(digest)}.part`, 4],
    ],
  );
  assert.equal(
    names.filter(([kind]) => kind === 'facts' || kind === 'reference').map(([kind, name]) => [kind, name]),
    [
      ['facts', 'sha256-abc'],
      ['reference', 'ghcr.io/team/tool:1.2'],
    ],
  );
  assert.ok(items.every(({ age }) => age >= 0 && age < 60_000));
});

test('cleaning by age takes only what was not used since', async () => {
  const store = await filled();
  const old = new Date(Date.now() - 40 * 86_400_000);
  utimesSync(imagePath(store.path, 'k'), old, old);
  const plan = await cleanStore(store, { olderThan: 30 * 86_400_000, dryRun: true });
  assert.equal(
    plan.map(({ name }) => name),
    ['k'],
  );
  assert.ok(existsSync(imagePath(store.path, 'k')), 'a dry run removes nothing');
  await cleanStore(store, { olderThan: 30 * 86_400_000 });
  assert.not(existsSync(imagePath(store.path, 'k')));
  assert.ok(existsSync(blobPath(store.path, digest)));
});

test('cleaning by kind leaves the other kinds', async () => {
  const store = await filled();
  assert.is((await cleanStore(store, { kinds: ['blob', 'partial'] })).length, 2);
  assert.ok(existsSync(imagePath(store.path, 'k')));
});

test('cleaning everything spares a download under way and follows no symlink', async () => {
  const store = await filled();
  const outside = scratch();
  mkdirSync(`${outside}/d`);
  writeFileSync(`${outside}/d/precious`, 'x');
  symlinkSync(`${outside}/d`, `${store.path}/blobs/sha256/link`);
  const file = `${outside}/content`;
  writeFileSync(file, 'under way');
  const child = start([process.execPath, new URL('./fixtures/hold-blob.ts', import.meta.url).pathname, store.path, file, '5']);
  await child.until(/holding/);
  await cleanStore(store);
  const left = await listStore(store);
  assert.equal(left.map(({ kind, name }) => [kind, name.replace(/\.[0-9a-f]{16}/, '')]).toSorted(), [
    ['partial', `${partialName(describe(Buffer.from('under way')).digest)}.lease`],
    ['partial', `${partialName(describe(Buffer.from('under way')).digest)}.part`],
  ]);
  assert.ok(existsSync(`${outside}/d/precious`));
  await child.stop('SIGKILL');
  await cleanStore(store);
  assert.equal(await listStore(store), []);
});

test.run();
