/** What of a step's layer passes, and with which times and bytes. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Normalization, normalizeLayer } from '../../src/build/normalize.ts';
import { NOISE_RULES } from '../../src/build/normalize-rules.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { createTarReader, type TarHandler } from '../../src/tar/read.ts';
import { makeTar, type TestEntry } from '../helpers/layers.ts';
import { mergeEntries } from '../helpers/merge.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('normalizing layers');

const EPOCH = 1_700_000_000;
const RAN: Normalization = { epoch: EPOCH, ran: true };

type Passed = { readonly entry: TarEntry; readonly text: string; ended: boolean };

/** What comes through, with the archive cut into pieces of `chunk` bytes; every second answer of the taker has to be waited for. */
const passed = async (entries: readonly TestEntry[], how = RAN, chunk = 1 << 20, takes = (_: TarEntry) => true): Promise<Passed[]> => {
  const seen: { entry: TarEntry; text: string; ended: boolean }[] = [];
  let calls = 0;
  const take = (text: string): void | Promise<void> => {
    const last = seen.at(-1);
    if (last === undefined || last.ended) throw new Error('bytes of no file');
    last.text += text;
    return ++calls % 2 === 0 ? undefined : Promise.resolve();
  };
  const handler: TarHandler = {
    entry: (entry) => {
      if (entry.type === 'file' && !takes(entry)) return false;
      seen.push({ entry, text: '', ended: entry.type !== 'file' });
      return true;
    },
    data: (bytes) => take(Buffer.from(bytes).toString('latin1')),
    hole: (length) => take('\0'.repeat(length)),
    endFile: () => {
      const last = seen.at(-1);
      if (last === undefined || last.ended) throw new Error('end of no file');
      assert.is(last.text.length, last.entry.size, `${last.entry.path} has the length it was announced with`);
      last.ended = true;
    },
  };
  const reader = createTarReader({ name: 'test', handler: normalizeLayer(handler, how), requireEnd: true });
  const tar = makeTar(entries);
  for (let at = 0; at < tar.length; at += chunk) await reader.push(tar.subarray(at, at + chunk));
  reader.end();
  for (const { entry, ended } of seen) assert.ok(ended, entry.path);
  return seen;
};

const python = (code: string): string => spawnSync('python3', ['-c', code], { encoding: 'utf8' }).stdout.trim();
const hasPython = spawnSync('python3', ['--version']).status === 0;

const names = async (entries: readonly TestEntry[], how = RAN): Promise<string[]> =>
  (await passed(entries, how)).map(({ entry }) => entry.path);

test('times newer than the epoch become the epoch, older ones stay as they are', async () => {
  const pax = (mtime: string): Readonly<Record<string, string>> => ({ mtime });
  const found = await passed([
    { path: 'new', mtime: EPOCH + 5 },
    { path: 'same', mtime: EPOCH },
    { path: 'a little later', pax: pax(`${EPOCH}.25`) },
    { path: 'old', pax: pax(`${EPOCH - 1}.75`) },
    { path: 'dir/', type: 'dir', mtime: EPOCH + 1e6 },
    { path: 'link', type: 'symlink', link: 'old', mtime: EPOCH + 1 },
  ]);
  assert.equal(
    found.map(({ entry }) => [entry.path, entry.mtime - EPOCH, entry.mtimeNanos]),
    [
      ['new', 0, 0],
      ['same', 0, 0],
      ['a little later', 0, 0],
      ['old', -1, 750_000_000],
      ['dir/', 0, 0],
      ['link', 0, 0],
    ],
  );
});

const pyc = (magic: number, ...words: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(4 + 4 * words.length + 3, 'x');
  bytes.writeUInt16LE(magic, 0);
  bytes.write('\r\n', 2, 'latin1');
  for (const [at, word] of words.entries()) bytes.writeUInt32LE(word, 4 + 4 * at);
  return bytes;
};

test('the source time in compiled Python files follows, in the format of each version', async () => {
  const late = EPOCH + 77;
  const cases: readonly (readonly [string, Buffer, Buffer])[] = [
    ['3.11', pyc(3495, 0, late, 12), pyc(3495, 0, EPOCH, 12)],
    ['3.7', pyc(3394, 0, late, 12), pyc(3394, 0, EPOCH, 12)],
    ['3.14', pyc(3627, 0, late, 12), pyc(3627, 0, EPOCH, 12)],
    ['3.11, by hash', pyc(3495, 1, late, 12), pyc(3495, 1, late, 12)],
    ['3.11, by checked hash', pyc(3495, 3, late, late), pyc(3495, 3, late, late)],
    ['3.6', pyc(3379, late, 12), pyc(3379, EPOCH, 12)],
    ['2.7', pyc(62_211, late), pyc(62_211, EPOCH)],
    ['PyPy 3.9', pyc(336, 0, late, 12), pyc(336, 0, EPOCH, 12)],
    ['PyPy 3.6', pyc(160, late, 12), pyc(160, EPOCH, 12)],
    ['older than the epoch', pyc(3495, 0, EPOCH - 9, 12), pyc(3495, 0, EPOCH - 9, 12)],
    ['cut off', pyc(3495, 0).subarray(0, 9), pyc(3495, 0).subarray(0, 9)],
    ['of one byte', Buffer.from('x'), Buffer.from('x')],
    ['something else', Buffer.alloc(40, 0xff), Buffer.alloc(40, 0xff)],
  ];
  for (const ran of [true, false]) {
    for (const chunk of [1 << 20, 512, 7, 1]) {
      const found = await passed(
        cases.map(([name, before]) => ({ path: `d/${name}.pyc`, content: before, mtime: late })),
        { epoch: EPOCH, ran },
        chunk,
      );
      for (const [at, [name, , after]] of cases.entries())
        assert.is(found[at]?.text, after.toString('latin1'), `${name}, ${chunk} at once`);
    }
  }
});

test('a compiled file that nobody takes is passed over', async () => {
  const content = pyc(3495, 0, EPOCH + 1, 12);
  const found = await passed(
    [
      { path: 'a.pyc', content },
      { path: 'b.pyc', content },
    ],
    RAN,
    3,
    ({ path }) => path === 'b.pyc',
  );
  assert.equal(
    found.map(({ entry }) => entry.path),
    ['b.pyc'],
  );
});

test('holes in the head of a sparse compiled file are zeros like others', async () => {
  const map = '1\n4\n60\n';
  const stored = Buffer.concat([Buffer.from(map.padEnd(512, '\0')), Buffer.alloc(60, 'y')]);
  const [file] = await passed([
    {
      path: 'x',
      content: stored,
      pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.name': 'x.pyc', 'GNU.sparse.realsize': '100' },
    },
  ]);
  assert.is(file?.entry.path, 'x.pyc');
  assert.is(file?.text, `\0\0\0\0${'y'.repeat(60)}${'\0'.repeat(36)}`);
});

test('the day an account was made is at most the day of the epoch', async () => {
  const day = Math.floor(EPOCH / 86_400);
  const shadow = (days: readonly string[]): string => days.map((each, at) => `user${at}:!:${each}:0:99999:7:::\n`).join('');
  const content = shadow([String(day + 300), String(day - 1), '', '123456', 'x']);
  for (const path of ['etc/shadow', './etc/shadow', '/etc/shadow-']) {
    const [file] = await passed([{ path, content, mtime: EPOCH + 1 }], RAN, 13);
    assert.is(file?.text, shadow([String(day), String(day - 1), '', String(day), 'x']));
  }
  const [copied] = await passed([{ path: 'etc/shadow', content }], { epoch: EPOCH, ran: false });
  assert.is(copied?.text, content, 'a recipe that copies the file means it');
});

test('a day with fewer digits makes the file shorter', async () => {
  const [file] = await passed([{ path: 'etc/shadow', content: 'u:!:20000:0:99999:7:::\nv' }], { epoch: 86_400 * 7, ran: true }, 1);
  assert.is(file?.text, 'u:!:7:0:99999:7:::\nv');
});

const NOISE = [
  'var/lib/dbus/machine-id',
  'etc/hostname',
  'etc/resolv.conf',
  'etc/passwd-',
  'var/cache/ldconfig/aux-cache',
  'var/log/apt/history.log',
  'var/log/apt/eipp.log.xz',
  'var/log/dpkg.log',
  'var/log/alternatives.log',
  'var/log/bootstrap.log',
  'var/log/lastlog',
  'var/log/dnf.librepo.log',
  'var/log/zypp/history',
  'var/lib/zypp/AnonymousUniqueId',
  'var/cache/apt/pkgcache.bin',
  'var/cache/fontconfig/abc-le64.cache-8',
  'root/.cache/fontconfig/x',
  'var/cache/man/de/index.db',
  'var/lib/plocate/plocate.db',
  'var/lib/systemd/random-seed',
  'var/lib/rpm/__db.001',
  'home/u/.gnupg/random_seed',
  'root/.cache/pip/http-v2/a/b',
  'root/.bash_history',
];

const KEPT = [
  'etc/hosts',
  'etc/passwd',
  'etc/machine-info',
  'opt/app/etc/hostname',
  'var/log/app.log',
  'var/log/apt',
  'var/cache/apt/archives/x.deb',
  'var/lib/apt/lists/x_Packages',
  'etc/ssh/ssh_host_ed25519_key',
  'etc/ssl/private/ssl-cert-snakeoil.key',
  'home/u/.cache/other/x',
];

test('what a program left of the moment and the machine does not pass, what a program may want does', async () => {
  const files = (paths: readonly string[]): TestEntry[] => paths.map((path) => ({ path: `./${path}`, content: path }));
  assert.equal(
    await names([...files(NOISE), ...files(KEPT)]),
    KEPT.map((path) => `./${path}`),
  );
  assert.equal(
    await names(files(NOISE), { epoch: EPOCH, ran: false }),
    NOISE.map((path) => `./${path}`),
    'copied files are meant',
  );
});

test('every rule is tried here', () => {
  const tried = [...NOISE, 'etc/machine-id', 'etc/shadow', 'var/lib/zypp/AutoInstalled'];
  for (const { path } of NOISE_RULES)
    assert.ok(
      tried.some((name) => path.test(name)),
      String(path),
    );
});

test('the list of what zypper chose itself stays, without its date', async () => {
  const [file] = await passed(
    [{ path: 'var/lib/zypp/AutoInstalled', content: '# AutoInstalled generated Sun Nov 22 2026\n#\nlibtool-x\n' }],
    {
      epoch: EPOCH,
      ran: true,
    },
  );
  assert.is(file?.text, '# AutoInstalled\n#\nlibtool-x\n');
});

test('the machine id stays as an empty file', async () => {
  const [file] = await passed([
    { path: 'etc/machine-id', content: '0123456789abcdef\n', mode: 0o444 },
    { path: 'etc/zz', content: 'z' },
  ]);
  assert.is(file?.text, '');
  assert.is(file?.entry.size, 0);
  assert.is(file?.entry.mode, 0o444);
});

test('directories and removals pass whatever their name', async () => {
  assert.equal(
    await names([
      { path: 'var/log/apt/', type: 'dir' },
      { path: 'var/cache/fontconfig/', type: 'dir' },
      { path: 'var/log/.wh.dpkg.log' },
      { path: 'var/cache/fontconfig/.wh.x' },
      { path: 'var/cache/fontconfig/.wh..wh..opq' },
    ]),
    ['var/log/apt/', 'var/cache/fontconfig/', 'var/log/.wh.dpkg.log', 'var/cache/fontconfig/.wh.x', 'var/cache/fontconfig/.wh..wh..opq'],
  );
});

test('a further name of a dropped file goes with it, so that no link dangles', async () => {
  const entries: TestEntry[] = [
    { path: './var/log/dpkg.log', content: 'x' },
    { path: './srv/log', type: 'hardlink', link: './var/log/dpkg.log' },
    { path: './srv/other', content: 'o' },
    { path: './srv/same', type: 'hardlink', link: './srv/other' },
  ];
  assert.equal(await names(entries), ['./srv/other', './srv/same']);
});

test('merged over a base, a dropped file shows the base again', async () => {
  const { lines } = await mergeEntries(
    [
      [{ path: 'var/log/dpkg.log', content: 'base' }],
      [
        { path: 'var/log/dpkg.log', content: 'step' },
        { path: 'etc/machine-id', content: 'abc' },
      ],
    ],
    { filter: (handler, layer) => (layer === 0 ? handler : normalizeLayer(handler, RAN)) },
  );
  assert.equal(
    lines.filter((line) => line.includes(' file ')),
    ['/etc/machine-id file 644', '/var/log/dpkg.log file 644 base'],
  );
});

test('Python takes a compiled file whose source got the time of the epoch', async () => {
  if (!hasPython) return skip('needs python3');
  const dir = mkdtempSync(join(tmpdir(), 'normalize-'));
  try {
    const [source, compiled] = [
      join(dir, 'mod.py'),
      join(dir, '__pycache__', `mod.${python('import sys; print(sys.implementation.cache_tag)')}.pyc`),
    ];
    writeFileSync(source, 'print("imported")\n');
    python(`import py_compile; py_compile.compile(${JSON.stringify(source)}, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)`);
    const verbose = (): string => spawnSync('python3', ['-v', '-c', 'import mod'], { cwd: dir, encoding: 'utf8' }).stderr;
    utimesSync(source, EPOCH, EPOCH);
    assert.match(verbose(), /bytecode is stale for 'mod'/, 'the test would see a file that does not fit');
    python(
      `import py_compile, os; os.utime(${JSON.stringify(source)}); py_compile.compile(${JSON.stringify(source)}, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)`,
    );
    utimesSync(source, EPOCH, EPOCH);
    const [file] = await passed([{ path: 'mod.pyc', content: readFileSync(compiled) }]);
    writeFileSync(compiled, Buffer.from(file?.text ?? '', 'latin1'));
    assert.match(verbose(), /__pycache__\/mod\.[^ ]*pyc matches /);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('directories for temporary files have the time of the epoch where programs ran, whatever was there', async () => {
  const entries = ['tmp/', './var/tmp', 'var/tmp/kept', 'srv/tmp'].map((path): TestEntry => ({ path, type: 'dir', mtime: 1_600_000_000 }));
  const times = async (ran: boolean): Promise<readonly number[]> =>
    (await passed(entries, { epoch: EPOCH, ran })).map(({ entry }) => entry.mtime);
  assert.equal(await times(true), [EPOCH, EPOCH, 1_600_000_000, 1_600_000_000]);
  assert.equal(await times(false), Array(4).fill(1_600_000_000));
});

test.run();
