/**
 * The compressing threads and the slabs they share with the main thread. Two stocks of slabs: data slabs, whose lack is what makes a caller
 * wait, and fragment slabs, which the main thread fills while it empties data slabs and for which it must never have to wait.
 */
import { Worker } from 'node:worker_threads';
import { TsrunError } from '../util/errors.ts';
import type { CodecOptions, SyncCompress } from './codec.ts';
import { nodeCompress } from './codec.ts';
import { doneAfter, doneAfterSync, doneCount, pushJob, queueMemory, queueViews, stopJobs } from './job-queue.ts';
import { METADATA_BYTES } from './metadata.ts';
import type { Slab } from './slab.ts';
import { readFailure, SEGMENT, STATE, STORED_BIT, setSegmentCount, setSlabState, slabMemory, slabState, slabViews } from './slab.ts';
import type { WorkerData } from './worker.ts';

export type SlabStock = 'data' | 'fragment';

export type Pool = {
  /** A slab without segments, or undefined when all of that stock are under way. */
  acquire(stock: SlabStock): Slab | undefined;
  /** Hands the slab to the threads; a fragment slab goes first. */
  submit(slab: Slab): void;
  /** Throws E_SQUASHFS_COMPRESS when the threads failed. */
  isDone(slab: Slab): boolean;
  release(slab: Slab): void;
  /** Resolves when a slab may have become done since the last isDone. */
  progress(): Promise<void>;
  /** One block at once, for metadata: blocks the calling thread. Valid until the next call. */
  readonly compressNow: SyncCompress;
  /** No more slabs will come: ends the threads, whose garbage would count in the peak, unless compressNow needs them. */
  endOfSlabs(): Promise<void>;
  stop(): Promise<void>;
};

export type PoolOptions = {
  readonly threads: number;
  readonly fragmentSlabs: number;
  readonly codec: CodecOptions;
  readonly known: SharedArrayBuffer | undefined;
  readonly workerUrl: URL | undefined;
};

/** Enough that a thread finds work while the main thread empties a run of slabs in order. */
const DATA_SLABS_PER_THREAD = 6;
const SPARE_DATA_SLABS = 8;
/** What a thread makes is garbage at once: a small young generation keeps it from piling up to 70 MB in each. */
const THREAD_HEAP = { maxYoungGenerationSizeMb: 3 };
/** A metadata block takes a thread milliseconds; after this long it is dead. */
const SILENCE_MS = 120_000;

export const createPool = (options: PoolOptions): Pool => {
  const { threads, fragmentSlabs, codec } = options;
  const dataSlabs = threads * DATA_SLABS_PER_THREAD + SPARE_DATA_SLABS;
  // The last one serves compressNow.
  const memories = Array.from({ length: dataSlabs + fragmentSlabs + 1 }, () => slabMemory(codec.blockSize));
  const sharedQueue = queueMemory(memories.length);
  const queue = queueViews(sharedQueue);
  const slabs = memories.map((memory, index) => slabViews(memory, index, codec.blockSize));
  const stockOf = (slab: Slab): SlabStock => (slab.index < dataSlabs ? 'data' : 'fragment');
  const free = { data: slabs.slice(0, dataSlabs).reverse(), fragment: slabs.slice(dataSlabs, -1).reverse() };
  let seen = 0;
  let failure: TsrunError | undefined;
  let wakeOnFailure: () => void = () => {};
  const failed = new Promise<void>((resolve) => {
    wakeOnFailure = resolve;
  });

  const fail = (why: string): TsrunError => {
    failure ??= new TsrunError({
      code: 'E_SQUASHFS_COMPRESS',
      what: `cannot compress blocks with ${codec.compressor}`,
      why,
      hint: 'try again with fewer threads or more memory; zstd and gzip need no helper program',
    });
    wakeOnFailure();
    return failure;
  };
  const workers = Array.from({ length: threads }, () => {
    const workerData: WorkerData = { queue: sharedQueue, slabs: memories, codec, known: options.known };
    const worker = new Worker(options.workerUrl ?? defaultWorkerUrl(), { workerData, resourceLimits: THREAD_HEAP });
    worker.on('error', (error: Error) => fail(`a compressing thread died: ${error.message}`));
    return { worker, ended: new Promise<void>((resolve) => worker.once('exit', () => resolve())) };
  });

  const isDone = (slab: Slab): boolean => {
    seen = doneCount(queue);
    const state = slabState(slab);
    if (state === STATE.failed) fail(readFailure(slab));
    if (failure !== undefined) throw failure;
    return state === STATE.done;
  };
  const submit = (slab: Slab): void => {
    setSlabState(slab, STATE.queued);
    pushJob(queue, slab.index, stockOf(slab) === 'fragment');
  };

  const compressInThread: SyncCompress = (block) => {
    const slab = slabs.at(-1) as Slab;
    slab.input.set(block);
    slab.kind[0] = SEGMENT.plain;
    slab.offset[0] = 0;
    slab.length[0] = block.length;
    setSegmentCount(slab, 1);
    submit(slab);
    while (!isDone(slab)) if (!doneAfterSync(queue, seen, SILENCE_MS)) throw fail(`no answer from a thread for ${SILENCE_MS / 1000} s`);
    const size = slab.sizes[0] as number;
    return (size & STORED_BIT) === 0 ? slab.output.subarray(0, size) : undefined;
  };

  const compressHere = nodeCompress({ ...codec, blockSize: METADATA_BYTES });
  const stop = async (): Promise<void> => {
    stopJobs(queue);
    await Promise.all(workers.map(({ ended }) => ended));
  };

  return {
    acquire: (stock) => {
      const slab = free[stock].pop();
      if (slab !== undefined) setSegmentCount(slab, 0);
      return slab;
    },
    submit,
    isDone,
    release: (slab) => {
      setSlabState(slab, STATE.idle);
      free[stockOf(slab)].push(slab);
    },
    progress: async () => {
      if (failure !== undefined) throw failure;
      await Promise.race([doneAfter(queue, seen), failed]);
      if (failure !== undefined) throw failure;
    },
    compressNow: compressHere ?? compressInThread,
    endOfSlabs: async () => {
      if (compressHere !== undefined) await stop();
    },
    stop,
  };
};

/** Unbuilt the entry file lies beside this one; in a bundle it is an entry of its own beside the bundle. */
const defaultWorkerUrl = (): URL => new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './squashfs-worker.js', import.meta.url);
