import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { factsJson } from '../../src/image/compute.ts';
import { IMAGE_FACTS_OBJECT } from '../../src/image/facts.ts';
import { archiveImageKey, archOfMachine, fileKey, registryImageKey } from '../../src/image/identity.ts';
import { HOT_LIST_OBJECT, type Image, type Prepare } from '../../src/image/image.ts';
import { openImage } from '../../src/image/open.ts';
import { quickFacts } from '../../src/image/quick-facts.ts';
import { parseFacts } from '../../src/image/read-facts.ts';
import { readUsualSif, type UsualSif } from '../../src/image/usual-sif.ts';
import { entryAt, hidesImage, linkAt } from '../../src/plan/image-tree.ts';
import {
  codeOfArch,
  DATA_OFFSET,
  DATA_TYPES,
  DESCRIPTOR_SIZE,
  FILE_SYSTEMS,
  type SifArch,
  TABLE_OFFSET,
  TABLE_SLOTS,
} from '../../src/sif/format.ts';
import { findObject, primaryPartition, readSif } from '../../src/sif/read.ts';
import { bytesOf, bytesSource } from '../../src/util/bytes.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { failed } from '../../src/util/host.ts';
import { closed, device, directory, file, link, type MachineOptions, machine, type Tree } from '../helpers/machine.ts';
import { codeOf, errorOf, facts, squash } from '../helpers/planning.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('opening images');

const le = (value: number, bytes: number): string => {
  let text = '';
  for (let at = 0, rest = value; at < bytes; at++, rest = Math.floor(rest / 256)) text += String.fromCharCode(rest % 256);
  return text;
};

type SifParts = {
  readonly facts?: string;
  readonly arch?: SifArch;
  readonly fileSystem?: (typeof FILE_SYSTEMS)[number];
  readonly root?: string;
  readonly role?: number;
  /** The bytes of a hot list. */
  readonly hot?: string;
  /** The facts lie before the root, as no converter puts them. */
  readonly factsFirst?: boolean;
};

/** A SIF with a facts object (unless '') and a root file system. */
const sif = ({
  facts: text = factsJson(facts()),
  arch = 'amd64',
  fileSystem = 'squashfs',
  root = squash(),
  role = 2,
  hot = '',
  factsFirst = false,
}: SifParts = {}): string => {
  const descriptor = (type: number, id: number, offset: number, size: number, name: string, extra: string): string =>
    le(type, 4) +
    '\x01' +
    le(id, 4) +
    le(0xf0000001, 4) +
    le(0, 4) +
    le(offset, 8) +
    le(size, 8) +
    le(size, 8) +
    le(0, 32) +
    name.padEnd(128, '\0') +
    extra.padEnd(384, '\0');
  const rootAt = Math.ceil((DATA_OFFSET + (factsFirst ? text.length : 0)) / 4096) * 4096;
  const factsAt = factsFirst ? DATA_OFFSET : rootAt + root.length;
  const hotAt = rootAt + root.length + (factsFirst ? 0 : text.length);
  const code = `${codeOfArch(arch)}\0`;
  const objects: ((id: number) => string)[] = [
    (id) => descriptor(DATA_TYPES.partition, id, rootAt, root.length, 'root', le(FILE_SYSTEMS.indexOf(fileSystem), 4) + le(role, 4) + code),
  ];
  const theFacts = (id: number): string => descriptor(DATA_TYPES['generic-json'], id, factsAt, text.length, IMAGE_FACTS_OBJECT, '');
  if (text !== '') objects.splice(factsFirst ? 0 : 1, 0, theFacts);
  if (hot !== '') objects.push((id) => descriptor(DATA_TYPES.generic, id, hotAt, hot.length, HOT_LIST_OBJECT, ''));
  const header =
    '#!/usr/bin/env run-singularity\n'.padEnd(32, '\0') +
    'SIF_MAGIC\0' +
    '01\0' +
    code +
    '\0'.repeat(16) +
    le(0, 16) +
    le(TABLE_SLOTS - objects.length, 8) +
    le(TABLE_SLOTS, 8) +
    le(TABLE_OFFSET, 8) +
    le(TABLE_SLOTS * DESCRIPTOR_SIZE, 8) +
    le(DATA_OFFSET, 8) +
    le(4096, 8);
  const head = (header.padEnd(TABLE_OFFSET, '\0') + objects.map((object, index) => object(index + 1)).join('')).padEnd(DATA_OFFSET, '\0');
  return factsFirst ? head.concat(text).padEnd(rootAt, '\0') + root + hot : head.padEnd(rootAt, '\0') + root + text + hot;
};

const STORE = '/store';
type Options = { readonly prepared?: boolean; readonly cwd?: string } & MachineOptions;

const open = (reference: string, files: Tree, options: Options = {}): Image | Prepare =>
  openImage(machine({ ...options, files }), reference, {
    stores: () => [STORE, '/local/store'],
    prepared: options.prepared ?? false,
    cwd: options.cwd ?? '/place',
  });

const image = (reference: string, files: Tree, options: Options = {}): Image => {
  const opened = open(reference, files, options);
  if ('prepare' in opened) throw new Error(`asks for ${opened.prepare.join(' ')}`);
  return opened;
};

/** Where the store keeps the facts of a file of this machine. */
const factsAt = (files: Tree, path: string, store = STORE): string => {
  const stat = machine({ files }).stat(path);
  return failed(stat) ? '' : `${store}/facts/${fileKey(stat)}.json`;
};

test('a SIF with its facts is opened with one open and two reads', () => {
  const host = machine({ files: { '/x.sif': sif() } });
  const opened = openImage(host, '/x.sif', { stores: () => [STORE], prepared: false, cwd: '/' });
  assert.ok(!('prepare' in opened) && opened.kind === 'squashfs');
  assert.equal(
    host.calls.map((call) => call.split(' ')[0]),
    ['open', 'unpack', 'pread'],
  );
});

test('where much lies behind the facts, they are not read to its end: the length is asked for', () => {
  const files = { '/x.sif': sif({ factsFirst: true }) };
  const host = machine({ files });
  openImage(host, '/x.sif', { stores: () => [STORE], prepared: false, cwd: '/' });
  assert.equal(
    host.calls.map((call) => call.split(' ')[0]),
    ['open', 'unpack', 'fstat', 'pread'],
  );
  assert.is(
    codeOf(() => open('/x.sif', { '/x.sif': files['/x.sif'].slice(0, -1) })),
    'E_SIF_TRUNCATED',
  );
});

test('the image tells where its SquashFS lies', () => {
  const opened = image('/x.sif', { '/x.sif': sif() });
  assert.ok(opened.kind === 'squashfs');
  assert.is(opened.container, 'SIF');
  assert.is(opened.offset % 4096, 0);
  assert.is(opened.size, 4096);
  assert.is(opened.handle, 0);
  assert.is(opened.facts.os.id, 'debian');
});

test('where handles mean nothing the plan names the path', () => {
  const opened = image('/x.sif', { '/x.sif': sif() }, { isLauncher: false });
  assert.is(opened.kind === 'squashfs' && opened.handle, -1);
});

test('the suffix of the name does not matter', () => {
  for (const name of ['/x.img', '/x.simg', '/x.sqsh', '/x']) assert.is(image(name, { [name]: sif() }).kind, 'squashfs');
});

test('a relative path starts at the current directory; .. is left to the kernel', () => {
  assert.is(image('./a/../x.sif', { '/x.sif': sif(), '/a/y': '' }, { cwd: '/' }).path, '/a/../x.sif');
  assert.is(image('x.sif', { '/place/x.sif': sif() }, { cwd: '/place' }).path, '/place/x.sif');
  assert.is(image('x.sif', { '/x.sif': sif() }, { cwd: '' }).path, '/proc/self/cwd/x.sif');
});

/** What the full reader says of root and facts; undefined when it refuses the file. */
const readFully = (text: string): Omit<UsualSif, 'end'> | undefined => {
  try {
    const whole = readSif(bytesSource(bytesOf(text)));
    const root = primaryPartition(whole);
    const found = findObject(whole, 'generic-json', IMAGE_FACTS_OBJECT);
    const hot = findObject(whole, 'generic', HOT_LIST_OBJECT);
    return {
      root: { offset: root.offset, size: root.size, arch: root.content.arch },
      facts: found === undefined ? undefined : { offset: found.offset, size: found.size },
      hot: hot === undefined ? undefined : { offset: hot.offset, size: hot.size },
    };
  } catch (error) {
    if (error instanceof TsrunError) return undefined;
    throw error;
  }
};

const readQuickly = (text: string): Omit<UsualSif, 'end'> | undefined => {
  const host = machine({ files: { '/x.sif': text } });
  const found = readUsualSif(host, host.openKeep('/x.sif'));
  if (found === undefined || found.end > text.length) return undefined;
  const { root, facts, hot } = found;
  return { root, facts, hot };
};

test('the quick look at a SIF finds what the full reader finds', () => {
  const text = sif();
  assert.ok(readQuickly(text) !== undefined);
  assert.equal(readQuickly(text), readFully(text));
  const optimized = sif({ hot: 'a list' });
  assert.equal(readQuickly(optimized), readFully(optimized));
  assert.equal(readFully(optimized)?.hot, { offset: text.length, size: 6 });
});

test('whatever is changed in header and descriptors: the quick look takes nothing that the full reader would not, and finds no other place', () => {
  const text = sif({ hot: 'a list' });
  let taken = 0;
  let refused = 0;
  const tryOne = (changed: string, what: string): void => {
    const quick = readQuickly(changed);
    if (quick === undefined) refused++;
    else {
      taken++;
      assert.equal(quick, readFully(changed), what);
    }
  };
  const fields = [...Array(128).keys(), ...Array(3 * DESCRIPTOR_SIZE).keys()].map((at, index) => (index < 128 ? at : TABLE_OFFSET + at));
  for (const at of fields) {
    // Padded sizes, times, owners and where data begins are no business of a run.
    const inDescriptor = at < TABLE_OFFSET ? -1 : (at - TABLE_OFFSET) % DESCRIPTOR_SIZE;
    if ((at >= 64 && at < 80) || (at >= 112 && at < 128) || (inDescriptor >= 33 && inDescriptor < 73)) continue;
    for (const byte of ['\0', '\x01', '\x02', '\x7f', '\xff']) tryOne(text.slice(0, at) + byte + text.slice(at + 1), `byte ${at}`);
  }
  for (const length of [0, 127, 4096, 5000, 6000, DATA_OFFSET, text.length - 1]) tryOne(text.slice(0, length), `${length} bytes`);
  assert.ok(taken > 1000 && refused > 200, `${taken} taken, ${refused} refused`);
});

test('a SIF without facts asks the full program, once', () => {
  const files = { '/x.sif': sif({ facts: '' }) };
  assert.equal(open('/x.sif', files), { prepare: ['__prepare', '/x.sif'] });
  assert.is(
    codeOf(() => open('/x.sif', files, { prepared: true })),
    'E_PREPARE',
  );
});

test('facts of an image made by others are found in either store', () => {
  for (const store of [STORE, '/local/store']) {
    const files = { '/x.sif': sif({ facts: '' }) };
    const stored = { ...files, [factsAt(files, '/x.sif', store)]: file(factsJson(facts({ os: { id: store, version: '', name: '' } }))) };
    assert.is(image('/x.sif', stored).facts.os.id, store);
  }
});

test('facts that are broken, of another version or with wide characters count as absent', () => {
  for (const text of [
    '{',
    '{}',
    factsJson(facts()).replace('"version":1', '"version":2'),
    factsJson(facts()).replace('debian', '\\u0100'),
  ]) {
    assert.ok('prepare' in open('/x.sif', { '/x.sif': sif({ facts: text }) }), text.slice(0, 40));
  }
});

test('a bare SquashFS is an image, also behind a line of a shebang', () => {
  for (const [before, offset] of [
    ['', 0],
    ['#!/usr/bin/env run-singularity\n', 31],
  ] as const) {
    const files = { '/x.sqfs': before + squash() };
    const opened = image('/x.sqfs', { ...files, [factsAt(files, '/x.sqfs')]: file(factsJson(facts())) });
    assert.ok(opened.kind === 'squashfs');
    assert.is(opened.offset, offset);
    assert.is(opened.container, 'SquashFS');
  }
});

test('a directory is an image, its facts are found out at once', () => {
  const opened = image('/img/', { '/img/etc/os-release': 'ID=alpine\n', '/img/bin/sh': file('#!', 0o755) });
  assert.is(opened.kind, 'directory');
  assert.is(opened.path, '/img');
  assert.is(opened.facts.os.id, 'alpine');
});

test('links of a directory image do not lead out of it', () => {
  const opened = image('/img', { '/img/etc/passwd': link('/etc/passwd'), '/etc/passwd': 'host', '/img/etc/os-release': '' });
  assert.is(opened.facts.passwd, '');
});

test('what is missing and cannot be meant as a file is shown as a name in a registry', async () => {
  for (const [name, hint] of [
    ['alpine:3', 'an image in a registry is written docker://alpine:3'],
    ['alpine.sif', 'check the path'],
    ['team/tool', 'check the path'],
  ] as const)
    assert.is((await failure(() => open(name, {}), 'E_IMAGE_MISSING')).hint, hint);
});

const REFUSED: readonly [string, Tree, string, RegExp][] = [
  ['a missing file', {}, 'E_IMAGE_MISSING', /there is no such file/],
  ['a path through a file', { '/x': '', '/y': '' }, 'E_IMAGE_MISSING', /no such file/],
  ['an unreadable file', { '/x.sif': closed(file(sif())) }, 'E_IMAGE_READ', /you may not read it/],
  ['a device', { '/x.sif': device() }, 'E_IMAGE_READ', /cannot be opened/],
  ['an empty file', { '/x.sif': '' }, 'E_IMAGE_NOT', /the file is empty/],
  ['text', { '/x.sif': 'hello' }, 'E_IMAGE_NOT', /neither a SIF nor a SquashFS/],
  ['a script', { '/x.sif': '#!/bin/sh\necho' }, 'E_IMAGE_NOT', /it is a script/],
  ['a program', { '/x.sif': '\x7fELF' }, 'E_IMAGE_NOT', /it is a program/],
  ['a tar archive', { '/x.sif': `${'\0'.repeat(257)}ustar` }, 'E_IMAGE_ARCHIVE', /tsrun build image\.sif docker-archive:\/x\.sif/],
  ['gzip', { '/x.sif': '\x1f\x8b\x08' }, 'E_IMAGE_ARCHIVE', /compressed/],
  ['an ext3 image', { '/x.sif': `${'\0'.repeat(1080)}\x53\xef\0\0` }, 'E_IMAGE_EXT3', /ext3/],
  ['big-endian SquashFS', { '/x.sif': 'sqsh'.padEnd(200, '\0') }, 'E_IMAGE_NOT', /big-endian/],
  ['SquashFS 3', { '/x.sif': `${squash().slice(0, 28)}\x03\0${squash().slice(30)}` }, 'E_IMAGE_NOT', /version 3\.0/],
  ['a cut SquashFS', { '/x.sif': squash(8192).slice(0, 5000) }, 'E_IMAGE_TRUNCATED', /8192 bytes, the file only 5000/],
  ['a SquashFS cut in its superblock', { '/x.sif': squash().slice(0, 50) }, 'E_IMAGE_TRUNCATED', /superblock/],
  ['a cut SIF', { '/x.sif': sif().slice(0, -100) }, 'E_SIF_TRUNCATED', /ends at/],
  ['a SIF of which the last byte is missing', { '/x.sif': sif({ hot: 'a list' }).slice(0, -1) }, 'E_SIF_TRUNCATED', /ends at/],
  ['a SIF cut in its header', { '/x.sif': sif().slice(0, 100) }, 'E_SIF_NOT', /./],
  ['an encrypted SIF', { '/x.sif': sif({ fileSystem: 'encrypted-squashfs' }) }, 'E_IMAGE_ENCRYPTED', /encrypted/],
  ['a gocryptfs SIF', { '/x.sif': sif({ fileSystem: 'gocryptfs-squashfs' }) }, 'E_IMAGE_ENCRYPTED', /encrypted/],
  ['an ext3 SIF', { '/x.sif': sif({ fileSystem: 'ext3' }) }, 'E_IMAGE_EXT3', /ext3 partition/],
  ['a raw SIF', { '/x.sif': sif({ fileSystem: 'raw' }) }, 'E_IMAGE_NOT', /"raw"/],
  ['a SIF without a root', { '/x.sif': sif({ role: 1 }) }, 'E_SIF_NO_ROOT', /no primary/],
  ['a SIF of another architecture', { '/x.sif': sif({ arch: 'arm64' }) }, 'E_IMAGE_ARCH', /it is for arm64, this machine is amd64/],
];
for (const [what, files, code, text] of REFUSED) {
  test(`${what} is refused with ${code}`, () => {
    assert.is(
      codeOf(() => open('/x.sif', files)),
      code,
    );
    const message = errorOf(() => open('/x.sif', files));
    assert.match(message, text);
    assert.match(message, /cannot use image \/x\.sif/);
  });
}

test('an OCI layout gets the right spelling as hint', () => {
  assert.match(
    errorOf(() => open('/l', { '/l/oci-layout': '{}', '/l/index.json': '{}' })),
    /OCI layout.*oci:\/l/s,
  );
});

test('programs of 386 run on amd64, those of amd64 not on arm64', () => {
  assert.is(image('/x.sif', { '/x.sif': sif({ arch: '386' }) }).kind, 'squashfs');
  assert.is(
    codeOf(() => open('/x.sif', { '/x.sif': sif() }, { arch: 'aarch64' })),
    'E_IMAGE_ARCH',
  );
  assert.is(archOfMachine('ppc64le'), 'ppc64le');
});

test('a directory for another machine is refused too', () => {
  const elf = `\x7fELF\x02\x01\x01${'\0'.repeat(9)}\x03\0\xb7\0\x01\0\0\0`.padEnd(64, '\0');
  assert.is(
    codeOf(() => open('/img', { '/img/bin/sh': file(elf, 0o755), '/img/etc/x': '' })),
    'E_IMAGE_ARCH',
  );
});

const DIGEST = `sha256:${'a'.repeat(64)}`;
const REFS = { [`${STORE}/refs/docker.io/library/debian/:12`]: JSON.stringify({ digest: DIGEST, mediaType: 'x', size: 1, seen: '' }) };

test('a registry reference that the store knows is opened from there, without a network', () => {
  const opened = image('docker://debian:12', { ...REFS, [`${STORE}/images/${registryImageKey(DIGEST, 'amd64')}.sif`]: sif() });
  assert.is(opened.reference, 'docker://debian:12');
  assert.is(opened.path, `${STORE}/images/sha256-${'a'.repeat(64)}-amd64.sif`);
  assert.is(image(`docker://debian@${DIGEST}`, { [`${STORE}/images/${registryImageKey(DIGEST, 'amd64')}.sif`]: sif() }).kind, 'squashfs');
});

test('one that it does not know asks the full program', () => {
  assert.equal(open('docker://debian:12', {}), { prepare: ['__prepare', 'docker://debian:12'] });
  assert.equal(open('docker://debian:12', REFS), { prepare: ['__prepare', 'docker://debian:12'] });
  assert.equal(open('docker://debian:12', { [`${STORE}/refs/docker.io/library/debian/:12`]: '{"digest":"../../x"}' }), {
    prepare: ['__prepare', 'docker://debian:12'],
  });
  assert.is(
    codeOf(() => open('docker://debian:12', {}, { prepared: true })),
    'E_PREPARE',
  );
});

test('an image converted from a local archive is found until the archive changes', () => {
  const files = { '/a.tar': 'x', '/place/dir/index.json': '{}' };
  const host = machine({ files });
  for (const [reference, kind, tag, path] of [
    ['oci-archive:/a.tar:v1', 'oci-archive', 'v1', '/a.tar'],
    ['docker-archive:/a.tar', 'docker-archive', undefined, '/a.tar'],
    ['tar:/a.tar', 'tar', undefined, '/a.tar'],
  ] as const) {
    const stat = host.stat(path);
    assert.ok(!failed(stat));
    const stored = { ...files, [`${STORE}/images/${archiveImageKey(kind, tag, stat, 'amd64')}.sif`]: sif() };
    assert.is(image(reference, stored).kind, 'squashfs', reference);
    assert.ok('prepare' in open(reference, { ...stored, '/a.tar': 'xx' }), reference);
  }
});

test('standard input is no image for a run, and a foreign scheme says what to use', () => {
  assert.is(
    codeOf(() => open('-', {})),
    'E_IMAGE_STDIN',
  );
  assert.is(
    codeOf(() => open('library://x', {})),
    'E_REFERENCE',
  );
});

test('facts survive the way through JSON, byte by byte', () => {
  const all = facts({ env: ['A=\xff\x80', 'PS1=\\u@\\h', 'B="x"'], passwd: 'caf\xc3\xa9\n' });
  assert.equal(parseFacts(factsJson(all)), all);
});

/** As plain data: a tree that is looked at where it lies is one for what is asked of it. */
const quickly = (text: string, paths: readonly string[]) => {
  const found = quickFacts(machine(), text);
  return found && { ...found, tree: Object.fromEntries(paths.map((path) => [path, entryAt(found, path)])) };
};

test('the quick look at facts finds what the full reader finds', () => {
  const odd = { '/a"b\\c': 'd', '/\xe9': 'l\xff' };
  for (const each of [
    facts(),
    facts({ env: ['A=\xff\x80', 'PS1=\\u@\\h', 'B="x"', ''], mpi: ['libmpi.so.40'], tree: odd, runscript: true, passwd: '' }),
  ]) {
    const text = factsJson(each);
    assert.equal(quickly(text, Object.keys(each.tree)), parseFacts(text));
    assert.equal(quickly(text, ['/nope'])?.tree, { '/nope': undefined });
  }
});

test('facts of a wrong shape are none', () => {
  const good = facts();
  for (const bad of [
    { ...good, env: 'x' },
    { ...good, sh: 'sh' },
    { ...good, tree: ['/usr'] },
    { ...good, libc: { kind: 'x', version: '' } },
    { ...good, cmd: [1] },
    { ...good, passwd: 'a\0b' },
    { ...good, os: null },
  ]) {
    assert.is(parseFacts(JSON.stringify(bad)), null);
    assert.is(quickFacts(machine(), JSON.stringify(bad)), undefined);
  }
  assert.is(parseFacts('x'.repeat(600_000)), null);
});

test('of the tree in an image, what is no text is as if it were not there', () => {
  const odd = parseFacts(JSON.stringify({ ...facts(), tree: { '/usr': 1, '/opt': ['d'], '/etc': 'd', '/lib': 'lusr/lib' } }));
  assert.ok(odd !== null);
  assert.equal(
    ['/usr', '/opt', '/etc', '/lib', '/srv'].map((path) => entryAt(odd, path)),
    [undefined, undefined, 'd', 'lusr/lib', undefined],
  );
  assert.equal([hidesImage(odd, '/usr'), hidesImage(odd, '/etc'), linkAt(odd, '/lib')], [false, true, 'usr/lib']);
});

test('the image may lie behind a symbolic link', () => {
  assert.is(image('/l.sif', { '/l.sif': link('/d/x.sif'), '/d/x.sif': sif(), '/d/y': directory() }).path, '/l.sif');
});

test.run();
