import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { factsJson } from '../../src/image/compute.ts';
import { archiveImageKey, archOfMachine, fileKey, registryImageKey } from '../../src/image/identity.ts';
import type { Image, Prepare } from '../../src/image/image.ts';
import { openImage } from '../../src/image/open.ts';
import { failed } from '../../src/util/host.ts';
import { closed, device, directory, file, link, type MachineOptions, machine, type Tree } from '../helpers/machine.ts';
import { codeOf, errorOf, facts, squash } from '../helpers/planning.ts';
import { sif } from '../helpers/sif.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('opening images');

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

test('a SIF with its facts is opened with one open and two reads, also an optimized one whose list is long', () => {
  for (const text of [sif(), sif({ hot: 'x'.repeat(100_000), factsAre: 'last' })]) {
    const host = machine({ files: { '/x.sif': text } });
    const opened = openImage(host, '/x.sif', { stores: () => [STORE], prepared: false, cwd: '/' });
    assert.ok(!('prepare' in opened) && opened.kind === 'squashfs');
    assert.equal(
      host.calls.map((call) => call.split(' ')[0]),
      ['open', 'unpack', 'pread'],
    );
  }
});

test('where much lies behind the facts, they are not read to its end: the length is asked for', () => {
  const files = { '/x.sif': sif({ factsAre: 'first' }) };
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

test('the image may lie behind a symbolic link', () => {
  assert.is(image('/l.sif', { '/l.sif': link('/d/x.sif'), '/d/x.sif': sif(), '/d/y': directory() }).path, '/l.sif');
});

test.run();
