/** Entry file of a compressing thread (its own bundle entry: squashfs-worker.js). Takes slabs until the queue is stopped. */
import { workerData } from 'node:worker_threads';
import type { CodecOptions } from './codec.ts';
import { createCodec } from './codec.ts';
import { createSlabWork } from './compress-slab.ts';
import { announceDone, queueViews, takeJob } from './job-queue.ts';
import { createKnownBlocks } from './known-blocks.ts';
import type { Slab } from './slab.ts';
import { STATE, setSlabState, slabViews, writeFailure } from './slab.ts';

export type WorkerData = {
  readonly queue: SharedArrayBuffer;
  readonly slabs: readonly SharedArrayBuffer[];
  readonly codec: CodecOptions;
  /** Of known-blocks.ts; undefined: stored blocks are not listed. */
  readonly known: SharedArrayBuffer | undefined;
};

const serve = async ({ queue: queueMemory, slabs: memories, codec: options, known }: WorkerData): Promise<void> => {
  const queue = queueViews(queueMemory);
  const slabs = memories.map((memory, index) => slabViews(memory, index, options.blockSize));
  const codec = createCodec(options);
  const work = createSlabWork(codec, options.blockSize, known === undefined ? undefined : createKnownBlocks(known));
  for (let job = takeJob(queue); job >= 0; job = takeJob(queue)) {
    const slab = slabs[job] as Slab;
    try {
      await work(slab);
      setSlabState(slab, STATE.done);
    } catch (error) {
      writeFailure(slab, error instanceof Error ? error.message : String(error));
    }
    announceDone(queue);
  }
  codec.close();
};

await serve(workerData as WorkerData);
