import { randomBytes } from 'node:crypto';
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlobSink } from '../../src/store/blob-source.ts';
import { findBlob, putDocument, readDocument } from '../../src/store/blobs.ts';
import { blobPath, partialName } from '../../src/store/layout.ts';
import { openStore } from '../../src/store/open.ts';
import { produceBlob } from '../../src/store/produce.ts';
import type { Store } from '../../src/store/types.ts';
import { realTiming } from '../../src/util/timing.ts';
import { fakeTiming } from '../helpers/fake-timing.ts';
import { must, run, start } from '../helpers/proc.ts';
import { skip } from '../helpers/skip.ts';
import { describe, newStore, scratch } from '../helpers/store.ts';
import { failure } from '../helpers/throws.ts';
import { isRoot } from '../helpers/user.ts';

const test = suite('producing blobs');

const CONTENT = randomBytes(300_000);
const BLOB = describe(CONTENT);
const HOLDER = new URL('./fixtures/hold-blob.ts', import.meta.url).pathname;

/** Writes the rest of `content`; notes where it began. */
const rest =
  (content: Uint8Array, began: number[] = []) =>
  async (sink: BlobSink): Promise<void> => {
    began.push(sink.offset());
    sink.write(content.subarray(sink.offset()));
  };

const holder = async (store: Store, bytes: number) => {
  const file = `${scratch()}/content`;
  writeFileSync(file, CONTENT);
  const child = start([process.execPath, HOLDER, store.path, file, String(bytes)]);
  await child.until(/holding/);
  return child;
};

test('a blob appears under its digest, read-only, and leaves nothing beside it', async () => {
  const store = await newStore();
  const path = await produceBlob(store, BLOB, rest(CONTENT), { timing: realTiming });
  assert.is(path, blobPath(store.path, BLOB.digest));
  assert.equal(readFileSync(path), CONTENT);
  assert.is(statSync(path).mode & 0o777, 0o444);
  assert.equal(readdirSync(`${store.path}/partial`), []);
});

test('what is there is not made again', async () => {
  const store = await newStore();
  await produceBlob(store, BLOB, rest(CONTENT), { timing: realTiming });
  await produceBlob(store, BLOB, async () => assert.unreachable('made twice'), { timing: realTiming });
});

test('a blob of the wrong length on disk does not count', async () => {
  const store = await newStore();
  writeFileSync(blobPath(store.path, BLOB.digest), CONTENT.subarray(0, 10));
  assert.is(await findBlob(store, BLOB.digest, BLOB.size), undefined);
  await produceBlob(store, BLOB, rest(CONTENT), { timing: realTiming });
  assert.equal(readFileSync(blobPath(store.path, BLOB.digest)), CONTENT);
});

test('a broken download is kept and continued by the next', async () => {
  const store = await newStore();
  const broken = async (sink: BlobSink): Promise<void> => {
    sink.write(CONTENT.subarray(0, 100_000));
    throw new Error('broken');
  };
  await produceBlob(store, BLOB, broken, { timing: realTiming }).then(
    () => assert.unreachable(),
    (error) => assert.is(error.message, 'broken'),
  );
  assert.equal(readdirSync(`${store.path}/partial`), [`${partialName(BLOB.digest)}.part`]);
  const began: number[] = [];
  await produceBlob(store, BLOB, rest(CONTENT, began), { timing: realTiming });
  assert.equal(began, [100_000]);
  assert.equal(readdirSync(`${store.path}/partial`), []);
});

test('wrong content is refused, not kept, and the blob does not appear', async () => {
  const store = await newStore();
  const wrong = Buffer.from(CONTENT);
  wrong[5] = (wrong[5] ?? 0) ^ 1;
  await failure(() => produceBlob(store, BLOB, rest(wrong), { timing: realTiming }), 'E_DIGEST_MISMATCH');
  assert.equal(readdirSync(`${store.path}/partial`), []);
  assert.equal(readdirSync(`${store.path}/blobs/sha256`), []);
});

test('one byte too many is refused at once', async () => {
  const store = await newStore();
  await failure(
    () => produceBlob(store, BLOB, rest(Buffer.concat([CONTENT, Buffer.alloc(1)])), { timing: realTiming }),
    'E_DIGEST_MISMATCH',
  );
});

test('a complete but wrong leftover is started over instead of blamed on the source', async () => {
  const store = await newStore();
  writeFileSync(`${store.path}/partial/${partialName(BLOB.digest)}.part`, Buffer.alloc(BLOB.size, 7));
  const began: number[] = [];
  await produceBlob(store, BLOB, rest(CONTENT, began), { timing: realTiming });
  assert.equal(began, [0]);
});

test('two writers in one process make a blob once', async () => {
  const store = await newStore();
  let made = 0;
  const source = async (sink: BlobSink): Promise<void> => {
    made++;
    await new Promise((resolve) => setImmediate(resolve));
    sink.write(CONTENT);
  };
  await Promise.all([1, 2, 3].map(() => produceBlob(store, BLOB, source, { timing: realTiming })));
  assert.is(made, 1);
});

test('while another process is at work one waits, and takes over at once when it is killed', async () => {
  const store = await newStore();
  const child = await holder(store, 123_456);
  const waited: number[] = [];
  const began: number[] = [];
  // The waiting itself kills the holder: first it is seen at work, then it is gone.
  const timing = fakeTiming(async (_milliseconds, count) => {
    if (count === 3) await child.stop('SIGKILL');
  });
  const path = await produceBlob(store, BLOB, rest(CONTENT, began), { timing, onWait: (bytes) => waited.push(bytes) });
  assert.equal(readFileSync(path), CONTENT);
  assert.equal(waited, [123_456, 123_456, 123_456]);
  assert.equal(began, [123_456], 'continues where the dead process stopped');
  assert.equal(readdirSync(`${store.path}/partial`), []);
});

test('the lease of a process killed long ago does not make anybody wait', async () => {
  const store = await newStore();
  await (await holder(store, 1000)).stop('SIGKILL');
  const timing = fakeTiming();
  await produceBlob(store, BLOB, rest(CONTENT), { timing });
  assert.equal(timing.sleeps, []);
});

test('a holder that hangs for a minute is replaced, and what it writes later harms nobody', async () => {
  const store = await newStore();
  const child = await holder(store, 50_000);
  process.kill(child.pid, 'SIGSTOP');
  try {
    const own = readdirSync(`${store.path}/partial`).find((name) => name.endsWith('.part')) ?? '';
    const began: number[] = [];
    const timing = fakeTiming();
    const source = async (sink: BlobSink): Promise<void> => {
      began.push(sink.offset());
      // As if the stopped process woke up and went on.
      appendFileSync(`${store.path}/partial/${own}`, 'garbage');
      sink.write(CONTENT.subarray(sink.offset()));
    };
    const path = await produceBlob(store, BLOB, source, { timing });
    assert.equal(readFileSync(path), CONTENT);
    assert.equal(began, [50_000]);
    const waited = timing.sleeps.reduce((sum, milliseconds) => sum + milliseconds, 0);
    assert.ok(waited >= 60_000 && waited < 70_000, `waited ${waited} ms`);
  } finally {
    await child.stop('SIGKILL');
  }
});

test('a holder that shows life is waited for as long as it takes', async () => {
  const store = await newStore();
  const child = await holder(store, 1000);
  const lease = `${store.path}/partial/${partialName(BLOB.digest)}.lease`;
  let touches = 0;
  const abort = new AbortController();
  const timing = fakeTiming((_milliseconds, count) => {
    // The holder's own heartbeat, faster than the real one.
    utimesSync(lease, new Date(), new Date(Date.now() + count * 1000));
    if (++touches === 100) abort.abort(new Error('enough'));
  });
  await produceBlob(store, BLOB, rest(CONTENT), { timing, signal: abort.signal }).then(
    () => assert.unreachable('took a living lease'),
    (error) => assert.is(error.message, 'enough'),
  );
  assert.ok(timing.sleeps.reduce((sum, milliseconds) => sum + milliseconds, 0) > 120_000);
  await child.stop('SIGKILL');
});

test('an unreadable lease is broken after a minute', async () => {
  const store = await newStore();
  writeFileSync(`${store.path}/partial/${partialName(BLOB.digest)}.lease`, 'not a lease');
  await produceBlob(store, BLOB, rest(CONTENT), { timing: fakeTiming() });
});

test('an aborted download leaves its lease to nobody and its bytes to the next', async () => {
  const store = await newStore();
  const abort = new AbortController();
  const source = async (sink: BlobSink, signal: AbortSignal | undefined): Promise<void> => {
    sink.write(CONTENT.subarray(0, 10));
    abort.abort(new Error('stop'));
    signal?.throwIfAborted();
  };
  await produceBlob(store, BLOB, source, { timing: realTiming, signal: abort.signal }).then(
    () => assert.unreachable(),
    () => undefined,
  );
  assert.equal(readdirSync(`${store.path}/partial`), [`${partialName(BLOB.digest)}.part`]);
});

test('a full disk in mid-download is said, and what came is kept for later', async () => {
  if (!isRoot()) return skip('needs root, to mount a small file system');
  const directory = scratch();
  mkdirSync(`${directory}/small`);
  await must(['mount', '-t', 'tmpfs', '-o', 'size=128k,mode=700', 'tmpfs', `${directory}/small`]);
  try {
    const place = (path: string) => ({ path, origin: 'test' });
    const store = await openStore({ store: place(`${directory}/small/store`), local: place(`${directory}/local`) });
    const pieces = async (sink: BlobSink): Promise<void> => {
      for (let at = 0; at < CONTENT.length; at += 4096) sink.write(CONTENT.subarray(at, at + 4096));
    };
    await failure(() => produceBlob(store, BLOB, pieces, { timing: realTiming }), 'E_STORE_FULL');
    assert.equal(readdirSync(`${store.path}/partial`), [`${partialName(BLOB.digest)}.part`]);
  } finally {
    await run(['umount', `${directory}/small`]);
  }
});

test('a document that rotted on disk is removed and counts as missing', async () => {
  const store = await newStore();
  const text = Buffer.from('{"a":1}');
  const { digest } = describe(text);
  await putDocument(store, digest, text);
  assert.equal(await readDocument(store, digest, 100), text);
  assert.is(await readDocument(store, digest, 3), undefined, 'longer than allowed');
  rmSync(blobPath(store.path, digest));
  writeFileSync(blobPath(store.path, digest), '{"a":2}');
  assert.is(await readDocument(store, digest, 100), undefined);
  assert.equal(readdirSync(`${store.path}/blobs/sha256`), []);
});

test('sha512 blobs are verified by sha512', async () => {
  const store = await newStore();
  const { createHash } = await import('node:crypto');
  const digest = `sha512:${createHash('sha512').update(CONTENT).digest('hex')}` as const;
  const path = await produceBlob(store, { ...BLOB, digest }, rest(CONTENT), { timing: realTiming });
  assert.match(path, /blobs\/sha512\/[0-9a-f]{128}$/);
});

test.run();
