import { chmodSync, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findBlob, putDocument } from '../../src/store/blobs.ts';
import { openLocalPlace, openStore, removeTemporaryStore, requireSpace } from '../../src/store/open.ts';
import { must, run } from '../helpers/proc.ts';
import { skip } from '../helpers/skip.ts';
import { describe, newStore, scratch } from '../helpers/store.ts';
import { failure } from '../helpers/throws.ts';
import { asTestUser, isRoot, testUser, userDirectory } from '../helpers/user.ts';

const test = suite('opening the store');

const place = (path: string) => ({ path, origin: 'test' });

test('a new store is private to its user', async () => {
  const { path } = await newStore();
  for (const folder of ['', '/blobs', '/blobs/sha256', '/partial', '/refs', '/facts'])
    assert.is(statSync(path + folder).mode & 0o777, 0o700, folder);
});

test('a store where anybody may write is refused with the command that cures it', async () => {
  const { path } = await newStore();
  chmodSync(path, 0o777);
  const error = await failure(() => openStore({ store: place(path), local: place(`${path}-local`) }), 'E_STORE_UNSAFE');
  assert.match(error.hint ?? '', /chmod o-w/);
});

test('a store on a read-only place is still read, and a temporary one takes what is new', async () => {
  const warnings: string[] = [];
  const content = Buffer.from('kept');
  const lower = await newStore();
  await putDocument(lower, describe(content).digest, content);
  // /proc cannot be written, not even by root; the store below a file neither.
  const local = `${scratch()}/local`;
  const store = await openStore(
    { store: place('/proc/tsrun-store'), local: place(local) },
    { onWarning: (message) => warnings.push(message) },
  );
  assert.ok(store.temporary);
  assert.equal(store.lowers, ['/proc/tsrun-store']);
  assert.match(warnings.join(), /\/proc\/tsrun-store \(test\) cannot be written: .*for this run only/);
  assert.is(
    await findBlob({ ...store, lowers: [lower.path] }, describe(content).digest),
    `${lower.path}/blobs/sha256/${describe(content).digest.slice(7)}`,
  );
  await removeTemporaryStore(store);
  assert.equal(readdirSync(local), []);
});

test('an ordinary user who may not write the store gets a temporary one and the reason', async () => {
  const directory = userDirectory('tsrun-open');
  mkdirSync(`${directory}/store`, { mode: 0o555 });
  const program = `
    const { openStore } = await import(${JSON.stringify(new URL('../../src/store/open.ts', import.meta.url).href)});
    const store = await openStore({ store: { path: '${directory}/store', origin: 'TSRUN_STORE' }, local: { path: '${directory}/local', origin: 'test' } }, { onWarning: (text) => console.log(text) });
    console.log(store.temporary);`;
  const text = await must(asTestUser([process.execPath, '--input-type=module', '-e', program]));
  assert.match(text, /store \(TSRUN_STORE\) cannot be written: permission denied; using .*\ntrue/);
});

test('the node-local place is made private, and closed again when it was open', async () => {
  const path = `${scratch()}/local`;
  assert.is(await openLocalPlace(place(path)), path);
  chmodSync(path, 0o755);
  await openLocalPlace(place(path));
  assert.is(statSync(path).mode & 0o777, 0o700);
});

test("a symlink or somebody else's directory in the node-local place is refused", async () => {
  const directory = scratch();
  mkdirSync(`${directory}/elsewhere`);
  symlinkSync(`${directory}/elsewhere`, `${directory}/link`);
  assert.match((await failure(() => openLocalPlace(place(`${directory}/link`)), 'E_LOCAL_PLACE')).why, /not a directory/);
  if (!isRoot()) return;
  const foreign = userDirectory('tsrun-foreign');
  assert.match((await failure(() => openLocalPlace(place(foreign)), 'E_LOCAL_PLACE')).why, new RegExp(`belongs to user ${testUser().uid}`));
});

test('missing room is said with both numbers before work starts', async () => {
  const error = await failure(async () => requireSpace(await newStore(), 2 ** 60, 'docker://x'), 'E_STORE_FULL');
  assert.match(error.why, /needs 1152921504607 MB, but only \d+(\.\d)? MB are free/);
  await requireSpace(await newStore(), 1, 'docker://x');
});

test('a full file system while writing is said as that, and leaves no temporary file', async () => {
  if (!isRoot()) return skip('needs root, to mount a small file system');
  const directory = scratch();
  mkdirSync(`${directory}/small`);
  await must(['mount', '-t', 'tmpfs', '-o', 'size=64k,mode=700', 'tmpfs', `${directory}/small`]);
  try {
    const store = await openStore({ store: place(`${directory}/small/store`), local: place(`${directory}/local`) });
    const content = Buffer.alloc(200_000, 1);
    const error = await failure(() => putDocument(store, describe(content).digest, content), 'E_STORE_FULL');
    assert.match(error.why, /full/);
    assert.equal(readdirSync(`${store.path}/partial`), []);
  } finally {
    await run(['umount', `${directory}/small`]);
  }
});

test.run();
