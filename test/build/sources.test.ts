/** Images from layouts and archives of other tools, and what is said when they are not what they should be. */
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { objectText, openSquashFile } from '../../src/build/squash-file.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { convert, RENDERED_NAMES, unsquash } from '../helpers/convert.ts';
import { makeTar, sha256, type TestEntry, writeLayout } from '../helpers/layers.ts';
import { listTree, must } from '../helpers/trees.ts';

const test = suite('sources');
const place = mkdtempSync(join(tmpdir(), 'tsrun-sources-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

let count = 0;
const fresh = (name: string): string => join(place, `${count++}-${name}`);

const base: readonly TestEntry[] = [
  { path: 'bin/', type: 'dir' },
  { path: 'bin/tool', content: '#!/bin/sh\n', mode: 0o755, uid: 5, gid: 6 },
  { path: 'data/old', content: 'old' },
];
const top: readonly TestEntry[] = [{ path: 'data/new', content: 'new' }, { path: 'data/.wh.old' }];
const config = { Env: ['A=1', 'PATH=/bin'], Entrypoint: ['/bin/tool'], Labels: { who: 'me' } };
const layout = fresh('layout');
writeLayout(layout, { layers: [makeTar(base), makeTar(top)], config, tag: 'v1' });

const fails = async (work: Promise<unknown>, code: string, pattern: RegExp): Promise<void> => {
  try {
    await work;
  } catch (error) {
    assert.instance(error, TsrunError, String(error));
    assert.is((error as TsrunError).code, code, (error as TsrunError).message);
    assert.match(`${(error as TsrunError).message} ${(error as TsrunError).hint}`, pattern);
    return;
  }
  assert.unreachable(`no error, expected ${code}`);
};

const skopeo = (from: string, to: string): Buffer => must('skopeo', ['copy', '--quiet', '--insecure-policy', from, to]);

test('a layout, an OCI archive and a docker archive of the same image, also compressed, give the same tree', async () => {
  const oci = fresh('oci.tar');
  const docker = fresh('docker.tar');
  skopeo(`oci:${layout}:v1`, `oci-archive:${oci}:v1`);
  skopeo(`oci:${layout}:v1`, `docker-archive:${docker}:tools/image:v1`);
  writeFileSync(`${docker}.gz`, gzipSync(readFileSync(docker)));
  writeFileSync(`${oci}.zst`, zstdCompressSync(readFileSync(oci)));
  const references = [
    `oci:${layout}:v1`,
    `oci:${layout}`,
    `oci-archive:${oci}`,
    `oci-archive:${oci}.zst:v1`,
    `docker-archive:${docker}`,
    `docker-archive:${docker}.gz:tools/image:v1`,
    `docker-archive:${docker}:@0`,
  ];
  const digests = new Set<string>();
  for (const reference of references) {
    const target = fresh('image.sif');
    digests.add((await convert(reference, target)).treeDigest);
    const file = openSquashFile(target);
    assert.match(objectText(file, 'generic-json', 'oci-config.json'), /"Entrypoint":\["\/bin\/tool"\]/);
  }
  assert.is(digests.size, 1);
});

test('owners, modes, whiteouts and contents arrive in the image', async () => {
  const target = fresh('image.sif');
  await convert(`oci:${layout}:v1`, target);
  const out = fresh('out');
  unsquash(target, out);
  assert.equal(
    listTree(out, { without: RENDERED_NAMES })
      .slice(1)
      .map((line) =>
        line
          .replace(/ 1600000000 /, ' ')
          .split(' ')
          .slice(0, 4)
          .join(' '),
      ),
    ['/bin d 755 0:0', '/bin/tool f 755 5:6', '/data d 755 0:0', '/data/new f 644 0:0'],
  );
});

test('an archive whose layers are symbolic links in any order is read, as old docker versions write it', async () => {
  const layer = makeTar(base);
  const config = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [sha256(layer), sha256(layer)] } };
  const manifest = [{ Config: 'cfg.json', RepoTags: ['x:latest'], Layers: ['one/layer.tar', 'two/layer.tar'] }];
  const archive = fresh('old.tar');
  writeFileSync(
    archive,
    makeTar([
      { path: 'two/', type: 'dir' },
      { path: 'two/layer.tar', type: 'symlink', link: '../one/layer.tar' },
      { path: 'manifest.json', content: JSON.stringify(manifest) },
      { path: 'one/layer.tar', content: layer },
      { path: 'cfg.json', content: JSON.stringify(config) },
    ]),
  );
  assert.is((await convert(`docker-archive:${archive}:x`, fresh('image.sif'))).entries, 6);
});

test('tar files are read plain, with gzip and with zstd', async () => {
  const digests = new Set<string>();
  for (const stored of [makeTar(base), gzipSync(makeTar(base)), zstdCompressSync(makeTar(base))]) {
    const file = fresh('root.tar');
    writeFileSync(file, stored);
    digests.add((await convert(`tar:${file}`, fresh('image.sif'))).treeDigest);
  }
  assert.is(digests.size, 1);
});

test('a directory converts with owners, modes, attributes, hard links, holes, devices and names of any bytes', async () => {
  const tree = fresh('tree');
  mkdirSync(join(tree, 'd'), { recursive: true });
  writeFileSync(join(tree, 'd/file'), 'content');
  chownSync(join(tree, 'd/file'), 1234, 4321);
  chmodSync(join(tree, 'd/file'), 0o6751);
  linkSync(join(tree, 'd/file'), join(tree, 'twin'));
  symlinkSync('../nowhere', join(tree, 'd/link'));
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0x41])]), 'odd');
  must('mknod', [join(tree, 'null'), 'c', '1', '3']);
  must('mkfifo', [join(tree, 'pipe')]);
  must('setfattr', ['-n', 'user.note', '-v', 'kept', join(tree, 'd/file')]);
  writeFileSync(join(tree, 'sparse'), 'begin');
  truncateSync(join(tree, 'sparse'), 5_000_000);
  const target = fresh('tree.sif');
  await convert(tree, target);
  const out = fresh('tree-out');
  unsquash(target, out);
  assert.equal(listTree(out, { without: RENDERED_NAMES }).slice(1), listTree(tree).slice(1));
  assert.match(must('getfattr', ['-n', 'user.note', join(out, 'twin')]).toString(), /user\.note="kept"/);
});

test('of an index the image for the wanted architecture is taken, also of a nested index', async () => {
  const multi = fresh('multi');
  const parts = ['amd64', 'arm64'].map((architecture) => {
    const { manifest } = writeLayout(multi, { layers: [makeTar([{ path: 'arch', content: architecture }])], architecture });
    return { ...manifest, platform: { os: 'linux', architecture } };
  });
  const inner = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: parts }));
  writeFileSync(join(multi, 'blobs/sha256', sha256(inner).slice(7)), inner);
  const entry = { mediaType: 'application/vnd.oci.image.index.v1+json', digest: sha256(inner), size: inner.length };
  writeFileSync(join(multi, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  const target = fresh('arm.sif');
  await convert(`oci:${multi}`, target, {}, 'arm64');
  assert.is(openSquashFile(target).sif?.header.arch, 'arm64');
  await fails(convert(`oci:${multi}`, fresh('none.sif'), {}, 'riscv64'), 'E_PLATFORM', /linux\/riscv64/);
});

test('an image for another architecture is refused before its layers are read', async () => {
  const arm = fresh('arm');
  writeLayout(arm, { layers: [makeTar(base)], architecture: 'arm64' });
  await fails(convert(`oci:${arm}`, fresh('x.sif')), 'E_PLATFORM', /linux\/arm64.*--arch/);
});

test('what is missing or of another kind is named with what to do', async () => {
  await fails(convert('oci:/nowhere/at/all', fresh('x.sif')), 'E_SOURCE', /no such file/);
  await fails(convert(`oci:${layout}:v9`, fresh('x.sif')), 'E_SOURCE', /no image "v9".*v1/);
  const empty = fresh('empty.tar');
  writeFileSync(empty, '');
  for (const scheme of ['tar', 'oci-archive', 'docker-archive'])
    await fails(convert(`${scheme}:${empty}`, fresh('x.sif')), 'E_SOURCE', /empty/);
  const root = fresh('root.tar');
  writeFileSync(root, makeTar(base));
  await fails(convert(`docker-archive:${root}`, fresh('x.sif')), 'E_SOURCE', /no manifest\.json.*tar:FILE/);
  await fails(convert(`oci-archive:${root}`, fresh('x.sif')), 'E_SOURCE', /no index\.json/);
  await fails(convert(root, fresh('x.sif')), 'E_SOURCE', /tar archive.*tar:/);
  await fails(convert(layout, fresh('x.sif')), 'E_SOURCE', /write oci:/);
  const directory = fresh('dir');
  mkdirSync(directory);
  await fails(convert(`tar:${directory}`, fresh('x.sif')), 'E_SOURCE', /is a directory/);
});

test('missing, exchanged and cut-off blobs of a layout are found', async () => {
  const damaged = (change: (blobs: string, layer: string, manifest: string) => void): string => {
    const copy = fresh('damaged');
    const { layers, manifest } = writeLayout(copy, { layers: [makeTar(base), makeTar(top)] });
    change(join(copy, 'blobs/sha256'), layers[0]?.digest.slice(7) ?? '', manifest.digest.slice(7));
    return `oci:${copy}`;
  };
  await fails(
    convert(
      damaged((blobs, layer) => rmSync(join(blobs, layer))),
      fresh('x.sif'),
    ),
    'E_SOURCE',
    /lacks the blob of layer 1/,
  );
  const flipped = damaged((blobs, layer) => {
    const bytes = readFileSync(join(blobs, layer));
    bytes.writeUInt8((bytes[bytes.length >> 1] ?? 0) ^ 1, bytes.length >> 1);
    writeFileSync(join(blobs, layer), bytes);
  });
  await convert(flipped, fresh('x.sif')).then(
    () => assert.unreachable('a flipped bit was not noticed'),
    (error: unknown) => assert.match(String(error), /damaged|digest of its/),
  );
  await fails(
    convert(
      damaged((blobs, layer) => writeFileSync(join(blobs, layer), readFileSync(join(blobs, layer)).subarray(0, 100))),
      fresh('x.sif'),
    ),
    'E_LAYER',
    /cut off/,
  );
  await fails(
    convert(
      damaged((blobs, _, manifest) => writeFileSync(join(blobs, manifest), '{}')),
      fresh('x.sif'),
    ),
    'E_DIGEST_MISMATCH',
    /digest of its content/,
  );
  await fails(
    convert(
      damaged((blobs, _, manifest) => rmSync(join(blobs, manifest))),
      fresh('x.sif'),
    ),
    'E_SOURCE',
    /lacks the blob/,
  );
});

test('an index without manifest, a config without layers and a foreign layer are refused', async () => {
  const broken = (index: unknown): string => {
    const copy = fresh('broken');
    mkdirSync(copy);
    writeFileSync(join(copy, 'index.json'), JSON.stringify(index));
    return `oci:${copy}`;
  };
  await fails(convert(broken({ schemaVersion: 2, manifests: [] }), fresh('x.sif')), 'E_SOURCE', /index is empty/);
  await fails(convert(broken({ schemaVersion: 1 }), fresh('x.sif')), 'E_MANIFEST', /schema 1/);
  await fails(convert(broken([]), fresh('x.sif')), 'E_MANIFEST', /not an object/);
});

test.run();
