/**
 * Two queues of slab numbers in shared memory: one producer (the main thread), many takers. Urgent ones are taken first: fragment blocks,
 * which the main thread must have back in a fixed place of its order. Takers sleep in Atomics.wait; nothing polls.
 */
const STOP = 0;
/** Counts what was queued; takers sleep on it. */
const WORK = 1;
/** Counts what was finished; the main thread sleeps on it. */
const DONE = 2;
const URGENT = 3;
const NORMAL = 5;
const RINGS = 7;

export type JobQueue = { readonly words: Int32Array; readonly capacity: number };

/** `slots`: how many numbers each queue must hold at once. */
export const queueMemory = (slots: number): SharedArrayBuffer => new SharedArrayBuffer(4 * (RINGS + 2 * powerOfTwo(slots)));

export const queueViews = (memory: SharedArrayBuffer): JobQueue => {
  const words = new Int32Array(memory);
  return { words, capacity: (words.length - RINGS) / 2 };
};

export const pushJob = (queue: JobQueue, job: number, urgent: boolean): void => {
  const { words, capacity } = queue;
  const counters = urgent ? URGENT : NORMAL;
  const pushed = words[counters] as number;
  words[ringStart(queue, counters) + (pushed & (capacity - 1))] = job;
  Atomics.store(words, counters, pushed + 1);
  Atomics.add(words, WORK, 1);
  Atomics.notify(words, WORK, 1);
};

/** Sleeps until there is a job; -1 when the queue was stopped. */
export const takeJob = (queue: JobQueue): number => {
  const { words } = queue;
  for (;;) {
    const seen = Atomics.load(words, WORK);
    if (Atomics.load(words, STOP) !== 0) return -1;
    const job = takeFrom(queue, URGENT);
    if (job >= 0) return job;
    const other = takeFrom(queue, NORMAL);
    if (other >= 0) return other;
    Atomics.wait(words, WORK, seen);
  }
};

export const announceDone = (queue: JobQueue): void => {
  Atomics.add(queue.words, DONE, 1);
  Atomics.notify(queue.words, DONE);
};

/** How much was finished so far: look at it, look at the slabs, then wait for it to change. */
export const doneCount = (queue: JobQueue): number => Atomics.load(queue.words, DONE);

/** Resolves when something was finished since `seen` was read. */
export const doneAfter = async (queue: JobQueue, seen: number): Promise<void> => {
  const waiting = Atomics.waitAsync(queue.words, DONE, seen);
  if (waiting.async) await waiting.value;
};

/** Blocks the calling thread; false after `milliseconds` without news. */
export const doneAfterSync = (queue: JobQueue, seen: number, milliseconds: number): boolean =>
  Atomics.wait(queue.words, DONE, seen, milliseconds) !== 'timed-out';

export const stopJobs = (queue: JobQueue): void => {
  Atomics.store(queue.words, STOP, 1);
  Atomics.add(queue.words, WORK, 1);
  Atomics.notify(queue.words, WORK);
};

const takeFrom = ({ words, capacity }: JobQueue, counters: number): number => {
  for (;;) {
    const taken = Atomics.load(words, counters + 1);
    if (taken === Atomics.load(words, counters)) return -1;
    const job = Atomics.load(words, ringStart({ words, capacity }, counters) + (taken & (capacity - 1)));
    if (Atomics.compareExchange(words, counters + 1, taken, (taken + 1) | 0) === taken) return job;
  }
};

const ringStart = (queue: JobQueue, counters: number): number => RINGS + (counters === URGENT ? 0 : queue.capacity);

const powerOfTwo = (atLeast: number): number => 2 ** Math.ceil(Math.log2(Math.max(atLeast, 2)));
