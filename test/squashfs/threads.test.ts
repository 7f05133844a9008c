/** Threads end with the writer, however it ends, and what goes wrong in them is reported. */
import { closeSync, mkdirSync, openSync, readdirSync, statfsSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createTree } from '../../src/squashfs/tree.ts';
import { createSquashfsWriter, type Writer } from '../../src/squashfs/writer.ts';
import { failure } from '../helpers/throws.ts';
import { codecCommand, feedFile, must, noise, scratch } from './support.ts';

const test = suite('squashfs threads');

const threadNames = (): string[] => readdirSync('/proc/self/task');
const children = (): string[] =>
  must(['ps', '--ppid', String(process.pid), '-o', 'comm='])
    .stdout.split('\n')
    .filter((name) => name.trim() !== '' && name.trim() !== 'ps');

const feedMuch = async (writer: Writer): Promise<void> => {
  for (let i = 0; i < 20; i++) await feedFile(writer, [noise(3_000_000, i)]);
};

test('abort in the middle of a file leaves no thread', async () => {
  const before = threadNames().length;
  const fd = openSync(scratch(), 'w+');
  const writer = createSquashfsWriter({ fd, threads: 4 });
  await feedMuch(writer);
  writer.beginFile(5_000_000);
  await writer.write(noise(1_000_000, 1));
  assert.ok(threadNames().length >= before + 4);
  await writer.abort();
  await writer.abort();
  closeSync(fd);
  assert.is(threadNames().length, before);
});

test('finish leaves no thread, and abort after it does nothing', async () => {
  const before = threadNames().length;
  const fd = openSync(scratch(), 'w+');
  const writer = createSquashfsWriter({ fd, threads: 3 });
  await writer.finish(createTree());
  await writer.abort();
  closeSync(fd);
  assert.is(threadNames().length, before);
});

test('codec processes end with the writer', async () => {
  const fd = openSync(scratch(), 'w+');
  const writer = createSquashfsWriter({ fd, threads: 2, compressor: 'lz4', codecCommand: codecCommand() });
  await feedMuch(writer);
  assert.is(children().length, 2);
  await writer.abort();
  closeSync(fd);
  assert.equal(children(), []);
});

const failingCodec = async (command: readonly string[]): Promise<string> => {
  const before = threadNames().length;
  const fd = openSync(scratch(), 'w+');
  const writer = createSquashfsWriter({ fd, threads: 2, compressor: 'xz', codecCommand: command });
  const error = await failure(async () => {
    await feedMuch(writer);
    await writer.finish(createTree());
  }, 'E_SQUASHFS_COMPRESS');
  await failure(() => writer.finish(createTree()), 'E_SQUASHFS_COMPRESS');
  closeSync(fd);
  assert.is(threadNames().length, before);
  return error.message;
};

test('a codec that is missing, ends, complains or answers nonsense is an error that says so', async () => {
  assert.match(await failingCodec(['/nonexistent/tsrun']), /cannot run \/nonexistent\/tsrun/);
  assert.match(await failingCodec(['false']), /false ended \(1\)/);
  assert.match(await failingCodec(['sh', '-c', 'echo the reason >&2; exit 3', 'sh']), /sh ended \(3\) the reason/);
  assert.match(await failingCodec(['sh', '-c', 'exec cat /dev/zero | head -c 9000000', 'sh']), /answered with/);
});

test('a failing worker file is an error', async () => {
  const fd = openSync(scratch(), 'w+');
  const workerUrl = new URL('data:text/javascript,throw new Error("no thread today")');
  const writer = createSquashfsWriter({ fd, threads: 2, workerUrl });
  const error = await failure(() => feedMuch(writer), 'E_SQUASHFS_COMPRESS');
  assert.match(error.message, /no thread today/);
  await writer.abort();
  closeSync(fd);
});

test('a full disk is an error that names it, and the threads end', async () => {
  const before = threadNames().length;
  const disk = scratch();
  mkdirSync(disk);
  must(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]);
  try {
    assert.ok(statfsSync(disk).blocks > 0);
    const fd = openSync(`${disk}/image`, 'w+');
    const writer = createSquashfsWriter({ fd, threads: 2 });
    const error = await failure(async () => {
      await feedMuch(writer);
      await writer.finish(createTree());
    }, 'E_SQUASHFS_WRITE');
    assert.match(error.message, /ENOSPC/);
    await writer.abort();
    closeSync(fd);
  } finally {
    must(['umount', disk]);
  }
  assert.is(threadNames().length, before);
});

test('the codec refuses what is not a block', () => {
  const [program = '', ...args] = codecCommand();
  const feed = (input: Buffer, ...more: string[]) =>
    must(['sh', '-c', 'printf "$1" | { shift; "$@"; echo "status $?"; } 2>&1', 'sh', escaped(input), program, ...args, ...more]).stdout;
  assert.match(feed(Buffer.from([0, 0, 0, 0]), 'xz', '4096'), /its length is 0[\s\S]*status 1/);
  assert.match(feed(Buffer.from([1, 0x20, 0, 0]), 'lz4', '4096'), /its length is 8193, not 1 to 8192[\s\S]*status 1/);
  assert.match(feed(Buffer.from([9, 0, 0, 0, 1]), 'lz4', '4096'), /ends within 9 bytes[\s\S]*status 1/);
  assert.match(feed(Buffer.from([9, 0]), 'lz4', '4096'), /status 1/);
  for (const wrong of [[], ['xz'], ['zip', '4096'], ['xz', '0'], ['xz', '5000'], ['xz', '2097152'], ['xz', '4096x'], ['xz', '4096', 'x']]) {
    assert.match(feed(Buffer.alloc(0), ...wrong), /usage[\s\S]*status 2/);
  }
  assert.match(feed(Buffer.alloc(0), 'xz', '4096'), /^status 0/);
});

const escaped = (bytes: Buffer): string => [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');

test.run();
