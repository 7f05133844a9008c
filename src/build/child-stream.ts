/** What a program writes, as a stream that fails when the program does. */
import { spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { TsrunError } from '../util/errors.ts';

const MAX_MESSAGE = 4000;
const CHUNK = 1 << 20;

/**
 * @param input byte strings for its standard input; nothing when left out
 * @throws TsrunError E_SOURCE, when reading, with what the program said
 */
export async function* childOutput(command: readonly string[], what: string, input?: Iterable<string>): AsyncGenerator<Uint8Array> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
  if (child.stdout === null || child.stderr === null) throw new Error('no pipes');
  // A program that ends early says why itself.
  if (child.stdin !== null && input !== undefined) pipeline(Readable.from(inChunks(input)), child.stdin).catch(() => {});
  let message = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    message = (message + text).slice(0, MAX_MESSAGE);
  });
  const ended = new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (status, signal) => resolve(status === 0 ? undefined : message.trim() || `ended with ${signal ?? status}`));
  });
  try {
    yield* gathered(child.stdout);
    const failure = await ended;
    if (failure !== undefined) throw new TsrunError({ code: 'E_SOURCE', what, why: failure.replace(/^tsrun: /, '') });
  } finally {
    child.kill('SIGKILL');
  }
}

function* inChunks(texts: Iterable<string>): Generator<Buffer> {
  let held = '';
  for (const text of texts) {
    held += text;
    if (held.length < 65_536) continue;
    yield Buffer.from(held, 'latin1');
    held = '';
  }
  yield Buffer.from(held, 'latin1');
}

/** A pipe gives 64 KiB at a time: too little for the work behind to be worth its overhead. */
export async function* gathered(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held = Buffer.allocUnsafeSlow(CHUNK);
  let used = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + CHUNK - used);
      held.set(part, used);
      used += part.length;
      at += part.length;
      if (used < CHUNK) continue;
      yield held;
      held = Buffer.allocUnsafeSlow(CHUNK);
      used = 0;
    }
  }
  if (used > 0) yield held.subarray(0, used);
}
