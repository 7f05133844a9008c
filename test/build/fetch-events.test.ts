/** Downloads of base images as a task of the build. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { BuildEvent } from '../../src/build/events.ts';
import { createFetchEvents } from '../../src/build/fetch-events.ts';
import type { Digest } from '../../src/oci/descriptor.ts';

const test = suite('fetch events');
const a = `sha256:${'a'.repeat(64)}` as Digest;
const b = `sha256:${'b'.repeat(64)}` as Digest;

test('several blobs are one task, which ends when the last one is there and begins again with the next', () => {
  const heard: BuildEvent[] = [];
  const tell = createFetchEvents(
    (event) => heard.push(event),
    () => 5,
  );
  tell({ kind: 'cached', digest: b, bytes: 9, total: 9 });
  tell({ kind: 'done', digest: b, bytes: 9, total: 9 });
  assert.is(heard.length, 0, 'nothing was fetched');
  tell({ kind: 'download', digest: a, bytes: 10, total: 100 });
  tell({ kind: 'download', digest: b, bytes: 0, total: 50 });
  tell({ kind: 'done', digest: a, bytes: 100, total: 100 });
  tell({ kind: 'done', digest: b, bytes: 50, total: 50 });
  tell({ kind: 'download', digest: a, bytes: 1, total: 2 });
  assert.equal(
    heard.map((event) => (event.kind === 'task-progress' ? `${event.done}/${event.total}` : event.kind)),
    ['task-started', '10/100', '10/150', '100/150', '150/150', 'task-done', 'task-started', '1/2'],
  );
});

test('a fetch that is tried again is told', () => {
  const heard: BuildEvent[] = [];
  createFetchEvents(
    (event) => heard.push(event),
    () => 0,
  )({ kind: 'retry', digest: a, why: 'the connection broke', milliseconds: 1_500 } as never);
  assert.equal(heard, [{ kind: 'note', at: 0, text: 'the connection broke; trying again in 2 s' }]);
});

test.run();
