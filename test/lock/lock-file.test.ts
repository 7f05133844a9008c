/** The lock as a file, and what it says of a build that is not as it was. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createDownloads } from '../../src/lock/downloads.ts';
import {
  type Lock,
  lockedBase,
  lockText,
  packageDifferences,
  parseLock,
  requireKept,
  requirePackages,
  requireRecipe,
} from '../../src/lock/lock-file.ts';
import { type Package, packageTitle } from '../../src/lock/packages.ts';
import { keptIn, requireVendored, supplyOf, withArchiveDigests } from '../../src/lock/vendor.ts';
import { fetchedFiles, localPackages } from '../../src/lock/vendor-pip.ts';
import { directoryFiles } from '../../src/oci/files.ts';
import { openLayout } from '../../src/oci/layout.ts';
import { addToLayout } from '../../src/oci/write-layout.ts';
import { makeTar, sha256, writeLayout } from '../helpers/layers.ts';
import { memoryLayer } from '../helpers/merge.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('lock');
const place = mkdtempSync(join(tmpdir(), 'tsrun-lock-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const CURL: Package = { manager: 'dpkg', name: 'curl', version: '1', architecture: 'amd64', files: digest('c') };
const LOCK: Lock = {
  version: 1,
  tsrun: '0.1.0',
  recipe: digest('a'),
  epoch: 1_700_000_000,
  treeDigest: digest('b'),
  bases: [
    { reference: 'docker://debian:12', platform: 'linux/amd64', digest: digest('d') },
    { reference: 'docker://alpine', platform: 'linux/amd64', digest: digest('e') },
  ],
  downloads: [],
  packages: [{ manager: 'pip', name: 'x', version: '1', place: '/opt/v' }, CURL],
  missing: [],
};

test('a lock is written in a fixed order, one thing on a line, and read again', () => {
  const text = lockText(LOCK);
  assert.is(
    text,
    `{
  "version": 1,
  "tsrun": "0.1.0",
  "recipe": "${digest('a')}",
  "epoch": 1700000000,
  "treeDigest": "${digest('b')}",
  "bases": [
    {"reference":"docker://alpine","platform":"linux/amd64","digest":"${digest('e')}"},
    {"reference":"docker://debian:12","platform":"linux/amd64","digest":"${digest('d')}"}
  ],
  "packages": [
    {"manager":"dpkg","name":"curl","version":"1","architecture":"amd64","files":"${digest('c')}"},
    {"manager":"pip","name":"x","version":"1","place":"/opt/v"}
  ]
}
`,
  );
  assert.is(lockText(parseLock(text, 'tsrun.lock')), text);
  assert.is(lockText(parseLock(lockText({ ...LOCK, bases: [], packages: [] }), 'l')), lockText({ ...LOCK, bases: [], packages: [] }));
});

test('what is no lock is refused with what is wrong about it', async () => {
  const good = JSON.parse(lockText(LOCK)) as Record<string, unknown>;
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [[], /no object/],
    [{ ...good, version: 2 }, /version 2, not 1/],
    [{ ...good, recipe: 'md5' }, /"recipe" is not what/],
    [{ ...good, epoch: -1 }, /"epoch"/],
    [{ ...good, epoch: 2 ** 40 }, /"epoch"/],
    [{ ...good, bases: 'x' }, /"bases" is no list/],
    [{ ...good, bases: [1] }, /"bases" is no list/],
    [{ ...good, packages: [{ manager: 'npm', name: 'a', version: '1' }] }, /"manager"/],
    [{ ...good, packages: [{ manager: 'pip', name: 'a' }] }, /"version" is missing/],
  ];
  for (const [value, pattern] of cases)
    assert.match((await failure(() => parseLock(JSON.stringify(value), 'l'), 'E_LOCK')).message, pattern);
  assert.match((await failure(() => parseLock('{', 'l'), 'E_LOCK')).message, /not JSON/);
});

test('another recipe, an unknown base and other packages are named', async () => {
  requireRecipe(LOCK, digest('a'), 'l');
  await failure(() => requireRecipe(LOCK, digest('f'), 'l'), 'E_LOCK_CHANGED');
  assert.is(lockedBase(LOCK, 'docker://alpine', 'linux/amd64', 'l').digest, digest('e'));
  assert.match(
    (await failure(() => lockedBase(LOCK, 'docker://alpine', 'linux/arm64', 'l'), 'E_LOCK_CHANGED')).message,
    /alpine \(linux\/arm64\)/,
  );
  requirePackages(LOCK, [...LOCK.packages], 'l');
  assert.match((await failure(() => requirePackages(LOCK, [CURL], 'l'), 'E_LOCK_CHANGED')).message, /- pip x 1 in \/opt\/v/);
  assert.equal(packageDifferences([CURL], [{ ...CURL, version: '2' }]), ['- dpkg curl 1 amd64', '+ dpkg curl 2 amd64']);
  assert.equal(packageDifferences([CURL], [{ ...CURL, files: digest('0') }]), ['! dpkg curl 1 amd64: its files have other hashes']);
  assert.equal(packageDifferences([CURL], [{ ...CURL, digest: digest('0') }]), [], 'only one of the two knows it');
});

test('kept archives give dpkg packages their digests, also those with an epoch in the version', async () => {
  const directory = join(place, 'vendor');
  mkdirSync(join(directory, 'apt/0/archives'), { recursive: true });
  writeFileSync(join(directory, 'apt/0/archives/git_1%3a2.39-1_amd64.deb'), 'git');
  writeFileSync(join(directory, 'apt/0/archives/lock'), '');
  const git: Package = { manager: 'dpkg', name: 'git', version: '1:2.39-1', architecture: 'amd64' };
  const kept = await keptIn(directory);
  assert.equal(withArchiveDigests(kept, [git, CURL]), [{ ...git, digest: sha256(Buffer.from('git')) }, CURL]);
  assert.is((await keptIn(join(place, 'nothing')))(git), undefined);
});

test('kept distributions of Python give pip packages their digests, however the names are written', async () => {
  const directory = join(place, 'wheels');
  mkdirSync(join(directory, 'pip'), { recursive: true });
  writeFileSync(join(directory, 'pip/Foo_Bar-1.0+cpu-py3-none-any.whl'), 'wheel');
  writeFileSync(join(directory, 'pip/my-tool-2.1.tar.gz'), 'source');
  const kept = await keptIn(directory);
  const named = (name: string, version: string): Package => ({ manager: 'pip', name, version });
  assert.is(kept(named('foo.bar', '1.0+cpu')), sha256(Buffer.from('wheel')));
  assert.is(kept(named('My_Tool', '2.1')), sha256(Buffer.from('source')));
  assert.is(kept(named('foo-bar', '1.1')), undefined);
  assert.is(kept({ ...named('foo-bar', '1.0+cpu'), manager: 'conda' }), undefined);
});

test("what pip's reports name is fetched: what came over http, each file once, and no name that leads elsewhere", () => {
  const item = (url: string, hashes?: object): object => ({ download_info: { url, archive_info: { hashes } }, metadata: {} });
  const report = (...install: readonly object[]): string => JSON.stringify({ version: '1', install }, undefined, 2);
  const text = [
    report(
      item('https://h/a/x-1-py3-none-any.whl?t=1', { sha256: 'ab' }),
      item('file:///opt/local.whl'),
      item('https://h/..%2F..%2Fetc.zip'),
    ),
    report(item('http://h/b/y%2B2-1.tar.gz'), item('https://mirror/x-1-py3-none-any.whl', { sha256: 'ab' }), {
      download_info: { vcs_info: {} },
    }),
    '{ "not json',
  ].join('');
  const lay = { download_info: { url: 'file:///wheels/z-3-py3-none-any.whl' }, metadata: { name: 'Z', version: '3' } };
  assert.equal(localPackages(report(lay, item('https://h/x-1-py3-none-any.whl'))), [{ manager: 'pip', name: 'Z', version: '3' }]);
  assert.equal(fetchedFiles(text), [
    { name: 'x-1-py3-none-any.whl', address: 'https://mirror/x-1-py3-none-any.whl', digest: 'sha256:ab' },
    { name: 'y+2-1.tar.gz', address: 'http://h/b/y%2B2-1.tar.gz', digest: undefined },
  ]);
});

test('what could not be kept stands in the lock, and is named before a build begins', async () => {
  const lock: Lock = { ...LOCK, missing: [{ manager: 'conda', name: 'samtools', version: '1.2=h1', place: '/opt/conda' }] };
  assert.equal(parseLock(lockText(lock), 'l').missing.map(packageTitle), ['conda samtools 1.2=h1 in /opt/conda']);
  requireKept(LOCK, '/v');
  assert.match(
    (await failure(() => requireKept(lock, '/v'), 'E_VENDOR')).message,
    /not kept there:\n {2}conda samtools 1.2=h1 in \/opt\/conda/,
  );
});

const noFetch = async (): Promise<never> => {
  throw new Error('nothing is to be fetched');
};

const nothing = { fetch: noFetch, onLocal: () => {} };

test('a step finds archives and lists outside of the image, per stage; what is kept it can only take from', async () => {
  const scratch = (): string => mkdtempSync(join(place, 'step-'));
  const first = scratch();
  const keep = await supplyOf({ directory: join(place, 'v'), purpose: 'keep' }, { stage: 2, scratch: first }, nothing);
  assert.equal(
    keep.mounts.map(({ source }) => source),
    [
      ...[join(first, 'apt'), join(place, 'v/apt/2'), join(first, 'apk'), join(first, 'pip'), join(first, 'conda'), join(place, 'v/dnf/2')],
      ...[join(first, 'zypp'), join(place, 'v/zypp/2'), join(first, 'r'), join(first, 'r-files')],
    ],
  );
  assert.match(keep.aptConfig, /^Dir::Cache::archives "(\/dev\/[^"]*)\/archives";\nDir::State::lists "\1\/lists";\n/);
  const address = 'https%3A%2F%2Fh%2Fsrc%2Fcontrib%2Fa_1.tar.gz';
  writeFileSync(join(first, 'r-files', address), 'R');
  // What a step leaves there may be anything.
  writeFileSync(join(first, 'r-files', 'other'), '');
  symlinkSync('/etc/passwd', join(first, 'r-files', 'https%3A%2F%2Fh%2Flink'));
  await keep.ended();
  assert.equal(readdirSync(join(place, 'v/r')), [address]);
  writeFileSync(join(place, 'v/apt/2/archives/a_1_all.deb'), '');
  mkdirSync(join(place, 'v/dnf/2/own-1/packages'), { recursive: true });
  writeFileSync(join(place, 'v/dnf/2/own-1/packages/a-1-1.noarch.rpm'), '');
  writeFileSync(join(place, 'v/dnf/2/own.solv'), '');
  for (const path of ['raw/own/repodata/repomd.xml', 'packages/own/noarch/b-1-1.noarch.rpm', 'packages/_tmpRPMcache_/c-1-1.noarch.rpm']) {
    mkdirSync(join(place, 'v/zypp/2', path, '..'), { recursive: true });
    writeFileSync(join(place, 'v/zypp/2', path), '');
  }
  mkdirSync(join(place, 'v/pip'));
  const second = scratch();
  const use = await supplyOf({ directory: join(place, 'v'), purpose: 'use' }, { stage: 2, scratch: second }, nothing);
  assert.match(use.aptConfig, /Acquire::Retries "0"/);
  assert.equal(
    use.mounts.map(({ readOnly }) => readOnly),
    [false, true, true, false, true, false, true, true, true],
  );
  assert.equal(readdirSync(join(second, 'dnf')), ['own-1']);
  assert.is(readlinkSync(join(second, 'dnf/own-1/packages/a-1-1.noarch.rpm')), `${use.mounts[4]?.target}/own-1/packages/a-1-1.noarch.rpm`);
  assert.is(
    readlinkSync(join(second, 'zypp/repositories/own/noarch/b-1-1.noarch.rpm')),
    `${use.mounts[6]?.target}/packages/own/noarch/b-1-1.noarch.rpm`,
  );
  assert.equal(readdirSync(join(second, 'zypp/repositories/own')).sort(), ['noarch', 'repodata']);
  const script = (program: string, behind: string): string | undefined => use.commands.get('dnf')?.({ program, behind });
  assert.match(
    script('/usr/bin/dnf', '/usr/bin/dnf-3') ?? '',
    /\nexec \/usr\/bin\/dnf -C --setopt=cachedir=\S+ --setopt=keepcache=1 "\$@"\n$/,
  );
  assert.match(script('/usr/bin/dnf', '/usr/bin/dnf5') ?? '', /\nexec \/usr\/bin\/dnf -C --setopt=system_cachedir=/);
  assert.is(script('/usr/bin/yum', '/usr/bin/yum'), '#!/bin/sh\nexec /usr/bin/yum "$@"\n');
  const kept = await keptIn(join(place, 'v'));
  const digest = `sha256:${'0'.repeat(64)}`;
  assert.is(kept({ manager: 'rpm', name: 'a', version: '2:1-1', architecture: 'noarch', digest }), digest);
  assert.is(kept({ manager: 'rpm', name: 'b', version: '1-1', architecture: 'noarch', digest }), digest);
  assert.is(kept({ manager: 'rpm', name: 'c', version: '1-1', architecture: 'noarch', digest }), undefined);
  assert.is(kept({ manager: 'r', name: 'a', version: '1' }), sha256(Buffer.from('R')));
  assert.is(kept({ manager: 'r', name: 'a', version: '2' }), undefined);
  assert.is(readlinkSync(join(second, 'apt/archives/a_1_all.deb')), `${use.mounts[1]?.target}/archives/a_1_all.deb`);
  const own = use.environment(
    new Map([
      ['PIP_FIND_LINKS', '/wheels'],
      ['R_PROFILE', '/own'],
    ]),
  );
  assert.equal([...own.keys()], ['PIP_NO_INDEX', 'PIP_FIND_LINKS', 'R_PROFILE', 'TSRUN_R_PROFILE']);
  assert.match(own.get('PIP_FIND_LINKS') ?? '', /^\/dev\/\S+ \/wheels$/);
  assert.is(own.get('TSRUN_R_PROFILE'), '/own');
  writeFileSync(join(place, 'file'), '');
  await failure(() => supplyOf({ directory: join(place, 'file'), purpose: 'keep' }, { stage: 2, scratch: scratch() }, nothing), 'E_VENDOR');
  await failure(() => requireVendored(join(place, 'v')), 'E_VENDOR');
});

test('what ADD fetches is noted and kept, taken from there offline, and refused when it is another', async () => {
  const bytes =
    (text: string): (() => Promise<AsyncIterable<Uint8Array>>) =>
    async () =>
      Readable.from([Buffer.from(text)]);
  const drain = async (chunks: AsyncIterable<Uint8Array>): Promise<string> => (await buffer(chunks)).toString();
  const directory = join(place, 'downloads');
  const address = 'https://h/data.csv';
  const options = { lock: undefined, vendor: undefined, offline: false };
  const keeping = createDownloads({ ...options, vendor: { directory, purpose: 'keep' } }, bytes('one'));
  assert.is(await drain(await keeping.fetch(address)), 'one');
  assert.equal(keeping.fetched, [{ address, digest: sha256(Buffer.from('one')) }]);

  const lock = { path: 'l', lock: { ...LOCK, downloads: keeping.fetched } };
  const using = createDownloads({ lock, vendor: { directory, purpose: 'use' }, offline: true }, noFetch);
  assert.is(await drain(await using.fetch(address)), 'one');
  await failure(() => using.fetch('https://h/other'), 'E_LOCK_CHANGED');
  writeFileSync(join(directory, 'files', sha256(Buffer.from('one')).replace(':', '-')), 'two');
  await failure(async () => drain(await using.fetch(address)), 'E_LOCK_CHANGED');
  rmSync(join(directory, 'files'), { recursive: true });
  await failure(async () => drain(await using.fetch(address)), 'E_VENDOR');

  const online = createDownloads({ ...options, lock }, bytes('two'));
  await failure(async () => drain(await online.fetch(address)), 'E_LOCK_CHANGED');
  await failure(() => createDownloads({ ...options, offline: true }, noFetch).fetch(address), 'E_FETCH');
});

test('base images are kept in a layout under their names, with the digests they had', async () => {
  const from = join(place, 'from');
  const tar = makeTar([{ path: 'a', content: 'x' }]);
  const { manifest } = writeLayout(from, { layers: [tar], tag: 'one' });
  const platform = { os: 'linux', architecture: 'amd64' };
  const origin = { bootstrap: 'oci', from: '' };
  const image = await openLayout(await directoryFiles(from, from), { tag: 'one', platform, origin });
  const to = join(place, 'to');
  assert.is(await addToLayout(to, image, 'docker://debian:12'), manifest.digest);
  const bare = { ...image, manifest: undefined, manifestDigest: undefined, config: undefined, layers: [memoryLayer(tar, 0, 1)] };
  const own = await addToLayout(to, bare, 'tar:rootfs.tar');
  assert.is(await addToLayout(to, bare, 'tar:rootfs.tar'), own, 'the same again replaces itself');
  await requireVendored(place).then(
    () => assert.unreachable(),
    () => {},
  );
  for (const [tag, found] of [
    ['docker://debian:12', manifest.digest],
    ['tar:rootfs.tar', own],
  ] as const) {
    const again = await openLayout(await directoryFiles(to, to), { tag, platform, origin });
    assert.is(again.manifestDigest, found);
    for (const layer of again.layers) {
      const bytes: Uint8Array[] = [];
      for await (const chunk of layer.open()) bytes.push(chunk);
      assert.is(sha256(Buffer.concat(bytes)), layer.digest);
      assert.is(layer.diffId, `sha256:${createHash('sha256').update(tar).digest('hex')}`);
    }
  }
});

test.run();
