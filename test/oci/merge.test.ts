/** How layers become one tree, and which bytes reach the image. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_LIMITS } from '../../src/oci/limits.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { makeTar, sha256, type TestEntry } from '../helpers/layers.ts';
import { memoryLayer, mergeEntries, mergeTars } from '../helpers/merge.ts';

const test = suite('merging layers');

const fails = async (work: Promise<unknown>, code: string, pattern: RegExp): Promise<void> => {
  try {
    await work;
  } catch (error) {
    assert.instance(error, TsrunError, String(error));
    assert.is((error as TsrunError).code, code, (error as TsrunError).message);
    assert.match((error as TsrunError).message, pattern);
    return;
  }
  assert.unreachable(`no error, expected ${code}`);
};

test('bytes that an upper layer replaces, removes or covers never reach the image', async () => {
  const { lines, contents } = await mergeEntries([
    [
      { path: 'replaced', content: 'SECRET old' },
      { path: 'removed', content: 'SECRET removed' },
      { path: 'tree/', type: 'dir' },
      { path: 'tree/sub/file', content: 'SECRET below' },
      { path: 'opaque/', type: 'dir' },
      { path: 'opaque/file', content: 'SECRET opaque' },
      { path: 'covered/file', content: 'SECRET covered' },
      { path: 'kept', content: 'kept' },
    ],
    [
      { path: 'replaced', content: 'new' },
      { path: '.wh.removed' },
      { path: '.wh.tree' },
      { path: 'opaque/', type: 'dir' },
      { path: 'opaque/new', content: 'fresh' },
      { path: 'opaque/.wh..wh..opq' },
      { path: 'covered', type: 'symlink', link: 'kept' },
    ],
  ]);
  assert.equal(lines, [
    '/covered symlink 777 -> kept',
    '/kept file 644 kept',
    '/opaque directory 755',
    '/opaque/new file 644 fresh',
    '/replaced file 644 new',
  ]);
  assert.equal([...contents].sort(), ['fresh', 'kept', 'new']);
});

test('an opaque mark counts wherever it stands in its layer, and only for the layers below', async () => {
  const lower: TestEntry[] = [{ path: 'd/old', content: 'old' }];
  for (const upper of [
    [{ path: 'd/.wh..wh..opq' }, { path: 'd/new', content: 'new' }],
    [{ path: 'd/new', content: 'new' }, { path: 'd/.wh..wh..opq' }],
  ]) {
    const { lines } = await mergeEntries([lower, upper]);
    assert.equal(lines, ['/d directory 755', '/d/new file 644 new']);
  }
});

test('an opaque mark in the root hides everything below', async () => {
  const { lines, contents } = await mergeEntries([
    [{ path: 'a/b', content: 'old' }],
    [{ path: '.wh..wh..opq' }, { path: 'c', content: 'new' }],
  ]);
  assert.equal(lines, ['/c file 644 new']);
  assert.equal(contents, ['new']);
});

test('a whiteout does not hide the same name of its own layer', async () => {
  const { lines } = await mergeEntries([
    [{ path: 'd/x', content: 'old' }],
    [{ path: 'd/', type: 'dir', mode: 0o700 }, { path: 'd/y', content: 'new' }, { path: '.wh.d' }],
  ]);
  assert.equal(lines, ['/d directory 700', '/d/y file 644 new']);
});

test('what a middle layer covered stays hidden when an upper layer brings the directory back', async () => {
  const { lines, contents } = await mergeEntries([
    [{ path: 'a/c', content: 'SECRET' }],
    [{ path: 'a', content: 'a file now' }],
    [
      { path: 'a/', type: 'dir' },
      { path: 'a/b', content: 'again' },
    ],
  ]);
  assert.equal(lines, ['/a directory 755', '/a/b file 644 again']);
  assert.equal(contents, ['again']);
});

test('a hard link keeps the content of a name that an upper layer hides', async () => {
  const { lines, contents } = await mergeEntries([
    [
      { path: 'first', content: 'shared', mode: 0o4755, uid: 7 },
      { path: 'other', content: 'SECRET' },
      { path: 'second', type: 'hardlink', link: 'first' },
      { path: 'third', type: 'hardlink', link: '/first' },
    ],
    [{ path: '.wh.first' }, { path: '.wh.other' }],
  ]);
  assert.equal(lines, ['/second file 4755 shared', '/third file 4755 shared =/second']);
  assert.equal(contents, ['shared']);
});

test('a hard link may lead to a file of a lower layer, also to one its own layer removes', async () => {
  const { lines } = await mergeEntries([
    [
      { path: 'a', content: 'A' },
      { path: 'b', content: 'B' },
    ],
    [{ path: 'la', type: 'hardlink', link: 'a' }, { path: '.wh.b' }, { path: 'lb', type: 'hardlink', link: 'b' }],
    [{ path: '.wh.a' }],
  ]);
  assert.equal(lines, ['/la file 644 A', '/lb file 644 B']);
});

test('replacing one name of a hard-linked file leaves the others alone', async () => {
  const { lines } = await mergeEntries([
    [
      { path: 'a', content: 'one' },
      { path: 'b', type: 'hardlink', link: 'a' },
      { path: 'c', type: 'hardlink', link: 'a' },
    ],
    [{ path: 'a', content: 'two' }],
  ]);
  assert.equal(lines, ['/a file 644 two', '/b file 644 one', '/c file 644 one =/b']);
});

test('a path through a symbolic link of a lower layer lands where the link leads', async () => {
  const { lines, contents } = await mergeEntries([
    [
      { path: 'var/', type: 'dir' },
      { path: 'var/run', type: 'symlink', link: '/run' },
      { path: 'run/', type: 'dir', mode: 0o1777 },
      { path: 'run/ko/', type: 'dir' },
      { path: 'run/ko/old', content: 'SECRET old' },
      { path: 'run/keep', content: 'keep' },
    ],
    [
      { path: 'var/run/ko/', type: 'dir', mode: 0o700 },
      { path: 'var/run/ko/old', content: 'new' },
      { path: 'var/run/ko/data', content: 'data' },
    ],
  ]);
  assert.equal(lines, [
    '/run directory 1777',
    '/run/keep file 644 keep',
    '/run/ko directory 700',
    '/run/ko/data file 644 data',
    '/run/ko/old file 644 new',
    '/var directory 755',
    '/var/run symlink 777 -> /run',
  ]);
  // The replaced file is hidden under another spelling; that is found out and put right.
  assert.equal([...contents].sort(), ['data', 'keep', 'new']);
});

test('links that lead out of the root stay inside, as in a chroot', async () => {
  const { lines } = await mergeEntries([
    [
      { path: 'esc', type: 'symlink', link: '../../../../tmp' },
      { path: 'abs', type: 'symlink', link: '/etc' },
    ],
    [
      { path: 'esc/x', content: '1' },
      { path: 'abs/passwd', content: '2' },
    ],
  ]);
  assert.equal(lines, [
    '/abs symlink 777 -> /etc',
    '/esc symlink 777 -> ../../../../tmp',
    '/etc directory 755',
    '/etc/passwd file 644 2',
    '/tmp directory 755',
    '/tmp/x file 644 1',
  ]);
});

test('a directory over a link replaces the link, a directory over a directory merges', async () => {
  const { lines } = await mergeEntries([
    [
      { path: 'real/x', content: 'x' },
      { path: 'd', type: 'symlink', link: 'real' },
      { path: 'e/y', content: 'y' },
    ],
    [
      { path: 'd/', type: 'dir' },
      { path: 'd/z', content: 'z' },
      { path: 'e/', type: 'dir', mode: 0o711 },
    ],
  ]);
  assert.equal(lines, [
    '/d directory 755',
    '/d/z file 644 z',
    '/e directory 711',
    '/e/y file 644 y',
    '/real directory 755',
    '/real/x file 644 x',
  ]);
});

test('the last entry of a name in one layer wins, and the first one is not stored', async () => {
  const { lines, contents } = await mergeEntries([
    [
      { path: 'a', content: 'first' },
      { path: './a', content: 'second' },
    ],
  ]);
  assert.equal(lines, ['/a file 644 second']);
  assert.equal(contents, ['second']);
});

test('a pipe, which cannot be read twice, is converted all the same', async () => {
  const tar = makeTar([
    { path: 'a', content: 'first' },
    { path: 'a', content: 'second' },
  ]);
  const { lines } = await mergeTars([tar], { layers: [memoryLayer(tar, 0, 1, { reopenable: false })] });
  assert.equal(lines, ['/a file 644 second']);
});

test('devices, fifos, setuid bits, odd names and missing parents are kept as they are', async () => {
  const { lines } = await mergeEntries([
    [
      { path: 'deep/er/null', type: 'char', device: [1, 3], mode: 0o666 },
      { path: 'disk', type: 'block', device: [259, 70_000], mode: 0o660 },
      { path: 'pipe', type: 'fifo', mode: 0o600 },
      { path: 'su', content: 'x', mode: 0o6755 },
      { path: '\xff\xfe', content: 'bytes' },
      { path: './/a/./b/../c', content: 'dots' },
    ],
  ]);
  assert.equal(lines, [
    '/a directory 755',
    '/a/c file 644 dots',
    '/deep directory 755',
    '/deep/er directory 755',
    '/deep/er/null character 666 1:3',
    '/disk block 660 259:70000',
    '/pipe fifo 600',
    '/su file 6755 x',
    '/\xff\xfe file 644 bytes',
  ]);
});

test('old images of aufs find the files behind their hard links', async () => {
  const { lines } = await mergeEntries([
    [
      { path: '.wh..wh.aufs', content: '' },
      { path: '.wh..wh.plnk/', type: 'dir' },
      { path: '.wh..wh.plnk/12.34', content: 'linked' },
      { path: 'a', type: 'hardlink', link: '/.wh..wh.plnk/12.34' },
      { path: 'b', type: 'hardlink', link: '.wh..wh.plnk/12.34' },
    ],
  ]);
  assert.equal(lines, ['/a file 644 linked', '/b file 644 linked =/a']);
});

test('names that lead out of the root are refused', async () => {
  await fails(mergeEntries([[{ path: '../escape', content: 'x' }]]), 'E_LAYER_PATH', /leads out of the root/);
  await fails(mergeEntries([[{ path: 'a/../../b', content: 'x' }]]), 'E_LAYER_PATH', /leads out of the root/);
  await fails(mergeEntries([[{ path: 'l', type: 'hardlink', link: '../../etc/shadow' }]]), 'E_LAYER_PATH', /leads out of the root/);
  await fails(mergeEntries([[{ path: '.wh...' }]]), 'E_LAYER_PATH', /nothing that could exist/);
  await fails(mergeEntries([[{ path: `${'d/'.repeat(3000)}x`, content: 'x' }]]), 'E_LAYER_PATH', /longer than the 4095 bytes/);
});

test('hard links to nothing, to directories and paths through files are refused', async () => {
  await fails(mergeEntries([[{ path: 'l', type: 'hardlink', link: 'nowhere' }]]), 'E_LAYER_ENTRY', /does not exist/);
  await fails(
    mergeEntries([
      [
        { path: 'd/', type: 'dir' },
        { path: 'l', type: 'hardlink', link: 'd' },
      ],
    ]),
    'E_LAYER_ENTRY',
    /the directory "d"/,
  );
  await fails(
    mergeEntries([
      [
        { path: 'f', content: '' },
        { path: 'f/x', content: '' },
      ],
    ]),
    'E_LAYER_ENTRY',
    /which is a file/,
  );
  await fails(mergeEntries([[{ path: './', type: 'symlink', link: 'x' }]]), 'E_LAYER_ENTRY', /replace the root/);
});

test('links in a circle are refused', async () => {
  const circle: TestEntry[] = [
    { path: 'a', type: 'symlink', link: 'b' },
    { path: 'b', type: 'symlink', link: 'a' },
  ];
  await fails(mergeEntries([circle, [{ path: 'a/x', content: '' }]]), 'E_LAYER_ENTRY', /more than 40 symbolic links/);
});

test('a hard link of a name to itself changes nothing', async () => {
  const { lines } = await mergeEntries([
    [
      { path: 'a', content: 'x' },
      { path: 'a', type: 'hardlink', link: 'a' },
    ],
  ]);
  assert.equal(lines, ['/a file 644 x']);
});

test('limits on entries, bytes and claimed sizes hold', async () => {
  const many = Array.from({ length: 20 }, (_, i): TestEntry => ({ path: `f${i}`, content: 'x' }));
  await fails(mergeEntries([many], { limits: { ...DEFAULT_LIMITS, entries: 10 } }), 'E_LIMIT', /more than 10 entries/);
  await fails(mergeEntries([many], { limits: { ...DEFAULT_LIMITS, bytes: 5000 } }), 'E_LIMIT', /more than 5000 bytes/);
  const sparse: TestEntry = {
    path: 's',
    content: 'abc',
    pax: { 'GNU.sparse.major': '0', 'GNU.sparse.realsize': String(2 ** 45), 'GNU.sparse.map': '0,3' },
  };
  await fails(mergeEntries([[sparse]]), 'E_LIMIT', /unpacks to more than/);
  const deep = Array.from({ length: 40 }, (_, i): TestEntry => ({ path: `${i}/${'a/'.repeat(50)}f`, content: '' }));
  await fails(mergeEntries([deep], { limits: { ...DEFAULT_LIMITS, entries: 500 } }), 'E_LIMIT', /more than 1000 directories/);
});

test('a layer that is read a second time does not count twice against the limits', async () => {
  const stacks: TestEntry[][] = [
    [
      { path: 'first', content: 'shared' },
      { path: 'second', type: 'hardlink', link: 'first' },
    ],
    [{ path: '.wh.first' }],
  ];
  const { contents, merged } = await mergeEntries(stacks, { limits: { ...DEFAULT_LIMITS, entries: 3, bytes: 5120 } });
  assert.equal([contents, merged.entries], [['shared'], 3]);
});

test('a wrong diffID or digest, and a layer of the wrong length, are found', async () => {
  const tar = makeTar([{ path: 'a', content: 'x' }]);
  const wrong = sha256(Buffer.from('else')) as `sha256:${string}`;
  await fails(mergeTars([tar], { layers: [memoryLayer(tar, 0, 1, { diffId: wrong })] }), 'E_DIGEST_MISMATCH', /unpacked content/);
  await fails(mergeTars([tar], { layers: [memoryLayer(tar, 0, 1, { digest: wrong })] }), 'E_DIGEST_MISMATCH', /digest of its content/);
  await fails(mergeTars([tar], { layers: [memoryLayer(tar, 0, 1, { size: tar.length - 1 })] }), 'E_LAYER', /more than/);
  await fails(mergeTars([tar], { layers: [memoryLayer(tar, 0, 1, { size: tar.length + 1 })] }), 'E_LAYER', /cut off/);
});

test('a thousand small layers are read one behind the other', async () => {
  const tars = Array.from({ length: 1000 }, (_, i) =>
    makeTar([
      { path: 'shared', content: String(i) },
      { path: `d${i % 10}/f${i}`, content: '' },
    ]),
  );
  const { contents, merged } = await mergeTars(tars);
  assert.equal(contents, ['999']);
  assert.is(merged.entries, 2000);
});

test('a stop signal ends the work', async () => {
  const stop = new AbortController();
  stop.abort(new Error('stopped by the test'));
  await mergeTars([makeTar([{ path: 'a' }])], { signal: stop.signal }).then(
    () => assert.unreachable(),
    (error: unknown) => assert.match(String(error), /stopped by the test/),
  );
});

test.run();
