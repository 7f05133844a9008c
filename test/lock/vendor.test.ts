/** What is kept of packages whose tools are not at hand: of apk, conda and its kin, microdnf. */
import { spawnSync } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Package } from '../../src/lock/packages.ts';
import { keepInstalled, keptIn, type StepSupply, supplyOf } from '../../src/lock/vendor.ts';
import { controlDigest } from '../../src/lock/vendor-apk.ts';
import { apkOf, condaOf, condaRecord, type TestPackage } from '../helpers/foreign-packages.ts';

const test = suite('packages kept');
const place = mkdtempSync(join(tmpdir(), 'tsrun-vendor-'));
process.on('exit', () => rmSync(place, { recursive: true, force: true }));

const noFetch = async (): Promise<never> => {
  throw new Error('nothing is to be fetched');
};
const step = (directory: string, purpose: 'keep' | 'use', scratch: string): Promise<StepSupply> => {
  mkdirSync(join(place, scratch));
  return supplyOf(
    { directory: join(place, directory), purpose },
    { stage: 0, scratch: join(place, scratch) },
    { fetch: noFetch, onLocal: () => {} },
  );
};
const tool: TestPackage = { name: 'tool', version: '1.0-r0', files: [{ path: 'tool', content: 'x' }] };
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const apk = apkOf(tool, privateKey);
const sha1 = createHash('sha1').update(apk.control).digest('hex');

test('the checksum of an apk is that of its control section as it is compressed, with and without signatures before it', async () => {
  const file = (name: string, bytes: Buffer): string => {
    writeFileSync(join(place, name), bytes);
    return join(place, name);
  };
  assert.is(await controlDigest(file('signed.apk', apk.bytes)), `sha1:${sha1}`);
  assert.is(await controlDigest(file('unsigned.apk', apk.bytes.subarray(apk.bytes.indexOf(apk.control)))), `sha1:${sha1}`);
  // Of version 3, cut off, and something else.
  assert.is(await controlDigest(file('three.apk', Buffer.from('ADBd rest'))), undefined);
  assert.is(await controlDigest(file('cut.apk', apk.bytes.subarray(0, 40))), undefined);
  assert.is(await controlDigest(file('empty.apk', Buffer.alloc(0))), undefined);
});

/** What the step's apk is called with: by a program in its place that tells. */
const calledWith = (supply: StepSupply, version: string, words: readonly string[]): readonly string[] => {
  const program = join(place, 'real');
  writeFileSync(
    program,
    `#!/bin/sh\n[ "$1" = --version ] && echo "apk-tools ${version}, compiled for x86_64." && exit\nprintf '%s\\n' "$@"\n`,
  );
  chmodSync(program, 0o755);
  const text = supply.commands.get('apk')?.({ program, behind: program }) ?? '';
  const ran = spawnSync('sh', ['-c', text, 'apk', ...words], { encoding: 'utf8' });
  assert.is(ran.status, 0, ran.stderr);
  return ran.stdout.trimEnd().split('\n');
};

test('apk goes on with a cache where the recipe wants none, its words as they were; without a network offline', async () => {
  const keep = await step('v', 'keep', 'apk-1');
  const words = ['--no-cache', 'add', '-t', '.b d', '--cache-dir', '/c', 'a', '--cache-dir=/d', '--', '-x'];
  assert.equal(calledWith(keep, '2.14.4', words), ['--cache-dir=/dev/.tsrun-apk', '--update-cache', 'add', '-t', '.b d', 'a', '--', '-x']);
  assert.equal(calledWith(keep, '3.0.0', ['add', 'a']), ['--cache-dir=/dev/.tsrun-apk', '--update-cache', '--cache-packages', 'add', 'a']);
  assert.equal(calledWith(keep, '2.14.4', ['cache', 'clean']), ['cache', 'clean']);
  const name = `tool-1.0-r0.${sha1.slice(0, 8)}.apk`;
  writeFileSync(join(place, 'apk-1/apk', name), apk.bytes);
  writeFileSync(join(place, 'apk-1/apk/APKINDEX.01234567.tar.gz'), '');
  // What apk notes, and what a step may leave there besides.
  writeFileSync(join(place, 'apk-1/apk/installed'), '');
  symlinkSync('/etc/passwd', join(place, 'apk-1/apk/x-1.01234567.apk'));
  await keep.ended();
  assert.equal(readdirSync(join(place, 'v/apk/0')).sort(), ['APKINDEX.01234567.tar.gz', name]);

  const use = await step('v', 'use', 'apk-2');
  assert.equal(calledWith(use, '2.14.4', ['add', '--no-cache', 'a']), ['--cache-dir=/dev/.tsrun-apk', '--no-network', 'add', 'a']);
  assert.is(readlinkSync(join(place, 'apk-2/apk', name)), `/dev/.tsrun-apk-kept/${name}`);
  const kept = await keptIn(join(place, 'v'));
  const found: Package = { manager: 'apk', name: 'tool', version: '1.0-r0', digest: `sha1:${sha1}` };
  assert.is(kept(found), found.digest);
  assert.is(kept({ ...found, digest: `sha1:${sha1.slice(0, 8)}${'0'.repeat(32)}` }), undefined, 'another package with such a beginning');
  assert.is(kept({ ...found, digest: `sha1:${'0'.repeat(40)}` }), undefined);
});

const aligner: TestPackage = { name: 'aligner', version: '1.2', depends: ['lib'], files: [{ path: 'bin/aligner', content: 'x' }] };
const { fn, bytes } = condaOf(aligner, 'linux-64');
const record = condaRecord(aligner, bytes, 'linux-64') as Readonly<Record<string, unknown>>;
const CHANNEL = 'https://conda.example.org:8443/pkgs/main';
const url = `${CHANNEL}/linux-64/${fn}`;
const PLACE = `https/conda.example.org_8443/pkgs/main/linux-64/${fn}`;
/** As it stands in conda-meta. */
const note = { ...record, url, fn, channel: CHANNEL, files: ['bin/aligner'], link: {}, extracted_package_dir: '/dev/x' };

test('of what conda noted, archive and record are kept: from its own directory, else fetched again, and only with the right hash', async () => {
  const directory = join(place, 'c');
  const vendor = { directory, purpose: 'keep' } as const;
  const fetch = (content: Buffer) => async (): Promise<AsyncIterable<Uint8Array>> => Readable.from([content]);
  await keepInstalled(vendor, [note], fetch(Buffer.from('another')));
  await keepInstalled(vendor, [note], noFetch);
  assert.not.ok(existsSync(join(directory, 'conda', `${PLACE}.json`)));
  const elsewhere = [
    { url: `https://h/a/../../../../x/${fn}` },
    { url: `https://h/%2e%2e/%2e%2e/x/${fn}` },
    { url: 'https://h/c/noarch/tool.sh' },
    { url: `file:///c/noarch/${fn}` },
  ];
  await keepInstalled(vendor, [...elsewhere.map((each) => ({ ...note, ...each })), { ...note, sha256: '', md5: '' }], fetch(bytes));
  const all = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => lstatSync(join(directory, name)).isFile());
  assert.ok(
    all.every((name) => name.startsWith('conda/https/h/')),
    all.join(' '),
  );
  rmSync(directory, { recursive: true });

  const keep = await step('c', 'keep', 'conda-1');
  assert.is(keep.environment(new Map()).get('CONDA_PKGS_DIRS'), '/dev/.tsrun-conda');
  assert.not.ok(keep.environment(new Map()).has('CONDA_OFFLINE'));
  writeFileSync(join(place, 'conda-1/conda', fn), bytes);
  writeFileSync(join(place, 'conda-1/conda/urls.txt'), `${url}\nhttps://h/c/noarch/gone-1-0.conda\nfile:///etc/passwd\n`);
  await keep.ended();
  await keepInstalled(vendor, [note], noFetch);
  assert.equal(JSON.parse(readFileSync(join(directory, 'conda', `${PLACE}.json`), 'utf8')), { url, record });
  const kept = await keptIn(directory);
  const found: Package = { manager: 'conda', name: 'aligner', version: '1.2=0', place: '/opt/conda', from: url };
  assert.is(kept(found), `sha256:${record['sha256']}`);
  assert.is(kept({ ...found, place: '/app/.pixi/envs/default' }), undefined, 'pixi would not find it');
  assert.is(kept({ ...found, from: `${url}x` }), undefined);
  // One that knows MD5 only, of a second channel.
  await keepInstalled(vendor, [{ ...note, sha256: undefined, url: `https://h/science/noarch/${fn}` }], fetch(bytes));
  assert.ok(existsSync(join(directory, `conda/https/h/science/noarch/${fn}.json`)));
});

test("links in a step's directory of packages are not followed: the step may put any there", async () => {
  const keep = await step('links', 'keep', 'conda-links');
  const own = join(place, 'conda-links/conda');
  const outside = join(place, 'outside');
  mkdirSync(join(outside, 'c/noarch'), { recursive: true });
  const archives = ['by-link-1-0.conda', 'c/noarch/below-link-1-0.conda', 'plain-1-0.conda'];
  for (const path of archives) writeFileSync(join(outside, path), path);
  symlinkSync(join(outside, 'by-link-1-0.conda'), join(own, 'by-link-1-0.conda'));
  mkdirSync(join(own, 'https'));
  symlinkSync(outside, join(own, 'https/h'));
  writeFileSync(join(own, 'plain-1-0.conda'), 'plain');
  const urls = ['by-link-1-0.conda', 'below-link-1-0.conda', 'plain-1-0.conda'].map((name) => `https://h/c/noarch/${name}\n`);
  writeFileSync(join(own, 'urls.txt'), urls.join(''));
  await keep.ended();
  assert.equal(readdirSync(join(place, 'links/conda/https/h/c/noarch')), ['plain-1-0.conda']);

  const second = await step('links-2', 'keep', 'conda-links-2');
  const list = join(place, 'conda-links-2/conda/urls.txt');
  symlinkSync(join(own, 'urls.txt'), list);
  writeFileSync(join(place, 'conda-links-2/conda/plain-1-0.conda'), 'plain');
  await second.ended();
  assert.not.ok(existsSync(join(place, 'links-2/conda/https')), 'nor is the list');
});

test('offline conda and libmamba find the archives, and indexes of their channels as if fetched before', async () => {
  const use = await step('c', 'use', 'conda-2');
  const variables = use.environment(new Map());
  assert.equal(
    ['CONDA_OFFLINE', 'MAMBA_OFFLINE', 'CONDA_REPODATA_FNS'].map((name) => variables.get(name)),
    ['true', 'true', 'repodata.json'],
  );
  const own = join(place, 'conda-2/conda');
  for (const path of [fn, PLACE]) assert.is(readlinkSync(join(own, path)), `/dev/.tsrun-conda-kept/${PLACE}`);
  assert.match(readFileSync(join(own, 'urls.txt'), 'utf8'), new RegExp(`^${url.replace(/[.+]/g, '.')}$`, 'm'));
  const named = (text: string): string => join(own, 'cache', createHash('md5').update(text).digest('hex').slice(0, 8));
  for (const name of [`${CHANNEL}/linux-64/`, 'pkgs/main/linux-64/']) {
    const text = readFileSync(`${named(name)}.json`, 'utf8');
    assert.ok(text.startsWith(`{"_url":"${CHANNEL}/linux-64","_etag":"","_mod":"","_cache_control":""`));
    assert.equal(JSON.parse(text)['packages.conda'], { [fn]: record });
    const { mtimeNs, size } = statSync(`${named(name)}.json`, { bigint: true });
    for (const suffix of ['info', 'state']) {
      const state = readFileSync(`${named(name)}.${suffix}.json`, 'utf8');
      assert.is(/"mtime_ns":(\d+)/.exec(state)?.[1], String(mtimeNs));
      assert.is(JSON.parse(state).size, Number(size));
    }
  }
  assert.equal(JSON.parse(readFileSync(`${named(`${CHANNEL}/noarch/`)}.json`, 'utf8')).packages, {}, 'a channel has both');
  assert.equal(Object.keys(JSON.parse(readFileSync(`${named('https://h/science/noarch/')}.json`, 'utf8'))['packages.conda']), [fn]);
});

test('microdnf is told its cache, and offline that metadata does not age; of what it made, indexes and locks stay away', async () => {
  const keep = await step('m', 'keep', 'dnf-1');
  const script = (supply: StepSupply, behind: string): string => supply.commands.get('microdnf')?.({ program: 'echo', behind }) ?? '';
  const says = (text: string, ...words: readonly string[]): string =>
    spawnSync('sh', ['-c', text, 'sh', ...words], { encoding: 'utf8' }).stdout;
  const behind = '/usr/bin/microdnf';
  assert.is(says(script(keep, behind), '-y', 'install', 'a b'), '--setopt=cachedir=/dev/.tsrun-dnf --setopt=keepcache=1 -y install a b\n');
  assert.is(says(script(keep, behind), 'clean', 'all'), 'clean all\n');
  for (const path of ['metadata/own-1/packages', 'solv', 'lock']) mkdirSync(join(place, 'm/dnf/0', path), { recursive: true });
  writeFileSync(join(place, 'm/dnf/0/metadata/own-1/packages/a-1-1.noarch.rpm'), '');
  const use = await step('m', 'use', 'dnf-2');
  assert.equal(readdirSync(join(place, 'dnf-2/dnf')), ['metadata']);
  const OFFLINE = '--setopt=cachedir=/dev/.tsrun-dnf --setopt=*.metadata_expire=never --setopt=keepcache=1';
  assert.is(says(script(use, behind), '--refresh', 'install', '-y', 'a'), `${OFFLINE} install -y a\n`);
  assert.match(script(use, '/usr/bin/dnf5'), / -C --setopt=system_cachedir=/, 'a name of dnf 5');
});

test.run();
