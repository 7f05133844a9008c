/** The image server's processes as they run: what they may do, where they run, that they are replaced when they die, and that they end. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ServerStats } from '../../src/cli/image-stats.ts';
import { allProcessors, field, oneProcessor, openIn, processorsOf, sessionOf, textOf } from '../helpers/processes.ts';
import { run as asUser, makeBusyboxImage, scratch, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { endOf, processesOf, runtimeIn, type Staying, servingOf, startStaying, until } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('image server');
const place = scratch('server');
const DIRECTORIES = 40;
const FILES = 20;
const BLOCK = 128 << 10;
const BLOCKS = 16;
/** Compresses, and no page is like another. */
const blocks = Buffer.from(Array.from({ length: (BLOCKS * BLOCK) / 16 }, (_, line) => `line ${String(line).padStart(10)}\n`).join(''));
const image = makeBusyboxImage(place, (tree) => {
  writeFileSync(join(tree, 'opt/blocks'), blocks);
  for (let directory = 0; directory < DIRECTORIES; directory++) {
    const path = join(tree, 'usr/many', String(directory));
    mkdirSync(path, { recursive: true });
    for (let file = 0; file < FILES; file++) writeFileSync(join(path, `file-${file}`), 'x');
  }
});
const isRoot = process.getuid?.() === 0;

const runtimeOf = (name: string): string => runtimeIn(place, name);
const waiting = (name: string, script: string, before: readonly string[] = []): Promise<Staying> =>
  startStaying(runtimeOf(name), [image, 'sh', '-c', script], before);

test('the process that reads the image is confined; neither it nor the server has anything of the run that started them', async () => {
  if (!isRoot) return skip('needs root to look into the server');
  const starter = 'ulimit -Sn 100; ulimit -Ss 1024; exec 7</etc/passwd; exec "$@"';
  const run = await waiting('confined', 'echo ready; read line', ['taskset', '-c', oneProcessor(), 'sh', '-c', starter, 'sh']);
  const { server, serving } = processesOf(run.pid ?? 0);
  assert.ok(server > 0 && serving > 0);
  assert.is(field(serving, 'Seccomp'), '2');
  assert.is(asUser('readlink', [`/proc/${run.pid}/exe`]).status, 0);
  assert.is(field(serving, 'NoNewPrivs'), '1');
  assert.equal([processorsOf(server), processorsOf(serving)], [allProcessors(), allProcessors()]);
  assert.is(processorsOf(run.pid ?? 0), oneProcessor());
  for (const pid of [server, serving]) {
    assert.is.not(sessionOf(pid), sessionOf(run.pid ?? 0));
    assert.is.not(asUser('readlink', [`/proc/${pid}/exe`]).status, 0, 'not even its user may look into it, nor trace it');
    const limits = textOf(`/proc/${pid}/limits`).match(/^Max (?!core).*$/gm) ?? [];
    assert.ok(limits.length > 10);
    for (const limit of limits) assert.match(limit, /^Max .*?\s\s+(\S+)\s+\1(\s|$)/);
  }
  assert.is(textOf(`/proc/${serving}/oom_score_adj`), textOf(`/proc/${process.pid}/oom_score_adj`));
  const open = openIn(serving).map((target) => target.replace(/\[\d+\]|^\/dev(?=\/fuse)/, ''));
  assert.ok(openIn(run.pid ?? 0).includes('/etc/passwd') && !openIn(server).includes('/etc/passwd'));
  assert.equal([...new Set(open)].sort(), ['/dev/null', '/fuse', image, 'socket:'].sort());
  assert.is(open.filter((target) => target === 'socket:').length, 2);
  run.stdin?.end('\n');
  assert.is(await endOf(run), 0);
  await until(() => field(server, 'Name') === undefined && field(serving, 'Name') === undefined);
});

/** Reads a page of each block but the first; of a number, or of what a variable of the shell holds. */
const readPages = (page: number | 'page'): string =>
  `for i in $(seq 1 ${BLOCKS - 1}); do dd if=/opt/blocks bs=4096 count=1 skip=$((i * 32 + ${page})) 2>/dev/null; done | md5sum`;
const sumOfPages = (page: number): string => {
  const hash = createHash('md5');
  for (let block = 1; block < BLOCKS; block++) hash.update(blocks.subarray(block * BLOCK + page * 4096, block * BLOCK + (page + 1) * 4096));
  return hash.digest('hex');
};

test('the kernel gets the rest of a block of which a page was read here and there, and does not ask again', async () => {
  const runtime = runtimeOf('rests');
  // The programs are read as a whole first: what is sent then is of the blocks.
  const script = `cat /bin/busybox >/dev/null; echo ready; while read page; do ${readPages('page')}; done; md5sum </opt/blocks`;
  const run = await startStaying(runtime, [image, 'sh', '-c', script]);
  const stats = (): ServerStats['images'][0] => {
    const all = JSON.parse(tsrunOk(['image', 'stats', '--json'], { env: { XDG_RUNTIME_DIR: runtime } })) as { servers: ServerStats[] };
    const [first] = all.servers.find(({ directory }) => directory === `${runtime}/tsrun`)?.images ?? [];
    if (first === undefined) throw new Error('no image is served');
    return first;
  };
  /** How many requests that took. */
  const reads = async (page: number): Promise<number> => {
    const before = stats();
    run.stdin?.write(`${page}\n`);
    await until(() => run.text().includes(sumOfPages(page)));
    return stats().read - before.read;
  };
  const begun = stats();
  await reads(5);
  await until(() => stats().bytes - begun.bytes >= (BLOCKS - 1) * BLOCK);
  // Where a neighbour has the kernel drop its caches in between, the rests are fetched again, and what is read next is there.
  const asked: number[] = [];
  for (const page of [20, 28, 12, 2]) if (asked.every((requests) => requests >= BLOCKS)) asked.push(await reads(page));
  assert.ok(Math.min(...asked) < BLOCKS, `${asked} requests`);
  run.stdin?.end();
  assert.is(await endOf(run), 0);
  assert.ok(run.text().includes(createHash('md5').update(blocks).digest('hex')));
});

test('who fetches the rest of blocks is confined, holds neither the image nor a device, and is not missed when it is killed; it ends with the server', async () => {
  if (!isRoot) return skip('needs root to look into the server');
  const run = await waiting('fetching', `${readPages(1)}; echo ready; while read page; do ${readPages('page')}; done`);
  await until(() => processesOf(run.pid ?? 0).fetching > 0);
  const { server, serving, fetching } = processesOf(run.pid ?? 0);
  const open = openIn(fetching);
  assert.not.ok(
    open.some((target) => target.includes('fuse') || target === image),
    open.join(' '),
  );
  assert.is(open.filter((target) => target.startsWith('socket:')).length, 1);
  assert.is(field(fetching, 'Seccomp'), '2');
  const reads = async (page: number): Promise<void> => {
    run.stdin?.write(`${page}\n`);
    await until(() => run.text().includes(sumOfPages(page)));
  };
  await reads(2);
  process.kill(fetching, 'SIGKILL');
  await until(() => field(fetching, 'Name') === undefined);
  await reads(9);
  process.kill(server, 'SIGKILL');
  await reads(30);
  run.stdin?.end();
  assert.is(await endOf(run), 0);
  await until(() => field(serving, 'Name') === undefined);
});

test('a server that is killed takes who fetches along, and the run reads on', async () => {
  if (!isRoot) return skip('needs root to find the processes');
  const run = await waiting('fetching-killed', `${readPages(1)}; echo ready; read page; ${readPages(9)}`);
  await until(() => processesOf(run.pid ?? 0).fetching > 0);
  const { server, serving, fetching } = processesOf(run.pid ?? 0);
  process.kill(server, 'SIGKILL');
  await until(() => field(fetching, 'Name') === undefined);
  run.stdin?.end('\n');
  assert.is(await endOf(run), 0);
  assert.ok(run.text().includes(sumOfPages(9)));
  await until(() => field(serving, 'Name') === undefined);
});

test('a run reads on while the process that reads its image is killed again and again', async () => {
  if (!isRoot) return skip('needs root to find the process');
  const script = 'echo ready; while read word; do cat "/none-$word" 2>/dev/null; cat /opt/tool/data.txt; done';
  const run = await waiting('killed', script);
  const { server } = processesOf(run.pid ?? 0);
  for (let i = 0; i < 20; i++) {
    await until(() => servingOf(server) !== undefined);
    const serving = servingOf(server) ?? Number.NaN;
    process.kill(serving, i % 2 === 0 ? 'SIGKILL' : 'SIGSEGV');
    run.stdin?.write(`${i}\n`);
    await until(() => run.text().split('from the image\n').length === i + 2 && servingOf(server) !== serving);
  }
  run.stdin?.end();
  assert.is(await endOf(run), 0);
  assert.is(run.text(), `ready\n${'from the image\n'.repeat(20)}`);
  await until(() => field(server, 'Name') === undefined);
});

test('a run goes on when the server itself is killed, and the next one starts another', async () => {
  if (!isRoot) return skip('needs root to find the process');
  const run = await waiting('orphaned', 'echo ready; read line; cat /opt/tool/data.txt');
  const { server, serving } = processesOf(run.pid ?? 0);
  process.kill(server, 'SIGKILL');
  await until(() => field(server, 'Name') === undefined);
  assert.is(tsrunOk(['exec', image, 'cat', '/opt/tool/data.txt'], { env: { XDG_RUNTIME_DIR: runtimeOf('orphaned') } }), 'from the image\n');
  run.stdin?.end('\n');
  assert.is(await endOf(run), 0);
  assert.is(run.text(), 'ready\nfrom the image\n');
  await until(() => field(serving, 'Name') === undefined);
});

test('the server ends the mount namespaces of runs when they have ended, and keeps none', async () => {
  if (!isRoot) return skip('needs root to look into the server');
  const name = 'namespaces';
  // With a /tmp of its own each has a mount namespace that no other run enters.
  const alone = ['--contain', image];
  const stay = (): Promise<Staying> => startStaying(runtimeOf(name), [...alone, 'sh', '-c', 'echo ready; read line']);
  const stays = await stay();
  const { server } = processesOf(stays.pid ?? 0);
  const open = (kind: string): number => openIn(server).filter((target) => target.includes(kind)).length;
  const atRest = open('socket:');
  const ends = open('pidfd');
  const other = await stay();
  // Of a run whose end it is not told (before Linux 5.3) it has none.
  assert.is(open('socket:') - atRest, open('pidfd') - ends);
  other.stdin?.end();
  assert.is(await endOf(other), 1);
  const env = { XDG_RUNTIME_DIR: runtimeOf(name) };
  for (let i = 0; i < 20; i++) tsrunOk(['exec', ...alone, 'true'], { env });
  // The mount of such a namespace is one use of the image more, which the server would have to outlive.
  await until(() => open('socket:') === atRest);
  stays.stdin?.end('\n');
  assert.is(await endOf(stays), 0);
  await until(() => field(server, 'Name') === undefined);
});

test('a server tells what it has done', async () => {
  const run = await waiting('told', 'cat /opt/tool/data.txt /none; echo ready; read line');
  const runtime = join(runtimeOf('told'), 'tsrun');
  const told = readdirSync(runtime)
    .filter((name) => name.endsWith('.sock'))
    .map((name) => asUser(tsrunPath, ['@server-statistics', runtime, name.replace(/\.\d+\.sock$/, '')]).stdout)
    .filter((text) => text !== '')
    .map((text) => JSON.parse(text));
  run.stdin?.end('\n');
  await endOf(run);
  const { ino } = statSync(image);
  const mine = told.flatMap((server) => server.images).filter((each) => each.inode === ino);
  assert.is(mine.length, 1);
  const { runs, replaced, failed, mount, lookup, read, bytes } = mine[0];
  assert.equal({ runs, replaced, failed }, { runs: 1, replaced: 0, failed: 0 });
  assert.ok(['shared', 'own', 'view'].includes(mount));
  assert.ok(lookup > 2 && read > 0 && bytes > 1000, JSON.stringify(mine[0]));
});

/** How many names were looked up one by one while the host's programs look into the image. */
const lookupsOf = async (name: string, commands: readonly (readonly string[])[]): Promise<readonly number[]> => {
  const run = await waiting(name, 'echo ready; read line');
  const lookups = (): number => {
    const told = JSON.parse(tsrunOk(['image', 'stats', '--json'], { env: { XDG_RUNTIME_DIR: runtimeOf(name) } })) as {
      servers: ServerStats[];
    };
    return told.servers.flatMap(({ images }) => images).find(({ runs }) => runs > 0)?.lookup ?? Number.NaN;
  };
  const counts = commands.map(([program = '', ...args]) => {
    const before = lookups();
    const ran = asUser(program, [`/proc/${run.pid}/root/usr/many`, ...args]);
    assert.is(ran.stdout.trim().split('\n').length, DIRECTORIES * FILES, ran.stderr);
    return lookups() - before;
  });
  run.stdin?.end('\n');
  await endOf(run);
  return counts;
};

test('who walks for names is given names alone; who looks at the files is given what there is to know of them with the listings', async () => {
  const files = DIRECTORIES * FILES;
  const [names = Number.NaN, looks = Number.NaN] = await lookupsOf('names', [
    ['/usr/bin/find', '-name', 'file-*'],
    ['/usr/bin/find', '-size', '1', '-name', 'file-*'],
  ]);
  // Of directories there may be some, twice where the kernel had to forget them.
  assert.ok(names < 2 * DIRECTORIES, `${names} lookups for names`);
  assert.ok(looks < files, `${looks} lookups of files known by name`);
  const [first = Number.NaN] = await lookupsOf('looks', [['/usr/bin/find', '-size', '1', '-name', 'file-*']]);
  assert.ok(first < 2 * DIRECTORIES, `${first} lookups of ${files} files`);
});

test('where programs are, the image is seen without the overlay that costs at every look, unless something is laid over them', () => {
  const typesOf = (...options: string[]): Record<string, string> =>
    Object.fromEntries(
      tsrunOk(['exec', ...options, image, 'cat', '/proc/self/mountinfo'])
        .trim()
        .split('\n')
        .map((line) => [line.split(' ')[4] ?? '', line.split(' - ')[1]?.split(' ')[0] ?? '']),
    );
  const plain = typesOf();
  assert.equal([plain['/'], plain['/usr'], plain['/opt']], ['overlay', 'fuse', 'fuse']);
  const bound = typesOf('-B', '/usr/share:/usr/laid/over');
  assert.equal([bound['/'], bound['/usr'], bound['/opt']], ['overlay', undefined, 'fuse']);
  assert.ok('/usr/laid/over' in bound);
  assert.is(typesOf('--writable-tmpfs')['/usr'], undefined);
});

test.run();
