/** Packages as their managers left word of them. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hostView } from '../../src/image/host-view.ts';
import { findPackages } from '../../src/lock/inventory.ts';
import { type Package, packageTitle } from '../../src/lock/packages.ts';
import { nodeHost } from '../../src/run/host-node.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('inventory');
const place = mkdtempSync(join(tmpdir(), 'tsrun-inventory-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

let trees = 0;
const packagesOf = (files: Readonly<Record<string, string>>): readonly Package[] => {
  const root = join(place, String(++trees));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return findPackages(hostView(nodeHost({ args: [] }), root));
};

const sha = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const known = (each: Package): object => Object.fromEntries(Object.entries(each).filter(([, value]) => value !== undefined));

test("dpkg's packages of this machine are those that dpkg-query lists", () => {
  if (!existsSync('/usr/bin/dpkg-query')) return skip('no dpkg on this machine');
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own
  const format = '${db:Status-Status} ${Package} ${Version} ${Architecture}\n';
  const listed = execFileSync('dpkg-query', ['-W', '-f', format], { encoding: 'utf8' });
  const expected = listed
    .split('\n')
    .filter((line) => line.startsWith('installed '))
    .map((line) => `dpkg ${line.slice(10)}`)
    .sort();
  const found = findPackages(hostView(nodeHost({ args: [] }), '/')).filter(({ manager }) => manager === 'dpkg');
  assert.equal(found.map(packageTitle).sort(), expected);
  assert.ok(found.filter(({ files }) => files !== undefined).length > expected.length / 2);
});

test('of dpkg only what is installed counts, and each package of an image without dpkg', () => {
  const status = [
    'Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.0-1\nDescription: x\n Package: no\n .\n',
    'Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 3\n',
    'Package: lib\nStatus: hold ok installed\nMulti-Arch: same\nArchitecture: i386\nVersion: 4\n',
  ].join('\n');
  const found = packagesOf({
    'var/lib/dpkg/status': status,
    'var/lib/dpkg/info/a.md5sums': 'd41d8 usr/bin/a\n',
    'var/lib/dpkg/info/lib:i386.md5sums': 'ffff usr/lib/l\n',
    'var/lib/dpkg/status.d/base': 'Package: base-files\nVersion: 12\nArchitecture: amd64\n',
    'var/lib/dpkg/status.d/base.md5sums': '00 etc/x\n',
  });
  assert.equal(found.map(known), [
    { manager: 'dpkg', name: 'a', version: '1:2.0-1', architecture: 'amd64', files: sha('d41d8 usr/bin/a\n') },
    { manager: 'dpkg', name: 'base-files', version: '12', architecture: 'amd64', files: sha('00 etc/x\n') },
    { manager: 'dpkg', name: 'lib', version: '4', architecture: 'i386', files: sha('ffff usr/lib/l\n') },
  ]);
});

test('apk keeps a checksum of each package', () => {
  const sum = Buffer.from('00112233445566778899aabbccddeeff00112233', 'hex');
  const installed = `C:Q1${sum.toString('base64')}\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:libc.so\n\nP:nosum\nV:1\n`
    // What `apk add --virtual` makes is no package of a repository, and has the time as its version.
    .concat('\nP:.build-deps\nV:20240101.120000\nA:noarch\nS:0\nI:0\nT:virtual meta package\nD:gcc\n');
  for (const path of ['lib/apk/db/installed', 'usr/lib/apk/db/installed']) {
    assert.equal(packagesOf({ [path]: installed }).map(known), [
      { manager: 'apk', name: 'musl', version: '1.2.5-r0', architecture: 'x86_64', digest: `sha1:${sum.toString('hex')}` },
      { manager: 'apk', name: 'nosum', version: '1' },
    ]);
  }
});

test("pip's packages are found wherever environments are, without those that dpkg or conda brought", () => {
  const dist = (path: string, name: string, installer: string, more: Readonly<Record<string, string>> = {}): Record<string, string> => ({
    [`${path}/${name}-1.dist-info/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: 1.5\n\nName: no\n`,
    [`${path}/${name}-1.dist-info/INSTALLER`]: `${installer}\n`,
    [`${path}/${name}-1.dist-info/RECORD`]: `${name}.py,sha256=x,1\n`,
    ...Object.fromEntries(Object.entries(more).map(([file, text]) => [`${path}/${name}-1.dist-info/${file}`, text])),
  });
  const hex = 'ab'.repeat(32);
  const found = packagesOf({
    ...dist('usr/local/lib/python3.11/dist-packages', 'numpy', 'pip'),
    ...dist('usr/lib/python3/dist-packages', 'debs', ''),
    ...dist('opt/conda/lib/python3.12/site-packages', 'mine', 'conda'),
    ...dist('opt/venv/lib/python3.9/site-packages', 'tool', 'uv', {
      'direct_url.json': `{"url":"https://x.example/tool.whl","archive_info":{"hash":"sha256=${hex}"}}`,
    }),
    ...dist('root/.local/lib/pypy3.9/site-packages', 'own', 'pip', { 'direct_url.json': 'not json' }),
  });
  assert.equal(found.map(known), [
    {
      manager: 'pip',
      name: 'tool',
      version: '1.5',
      place: '/opt/venv/lib/python3.9/site-packages',
      digest: `sha256:${hex}`,
      files: sha('tool.py,sha256=x,1\n'),
      from: 'https://x.example/tool.whl',
    },
    { manager: 'pip', name: 'own', version: '1.5', place: '/root/.local/lib/pypy3.9/site-packages', files: sha('own.py,sha256=x,1\n') },
    {
      manager: 'pip',
      name: 'numpy',
      version: '1.5',
      place: '/usr/local/lib/python3.11/dist-packages',
      files: sha('numpy.py,sha256=x,1\n'),
    },
  ]);
});

test('conda and R tell version, place and origin', () => {
  const hex = 'cd'.repeat(32);
  const found = packagesOf({
    'opt/conda/conda-meta/zlib-1.2-h1.json': `{"name":"zlib","version":"1.2","build":"h1","subdir":"linux-64","sha256":"${hex}","url":"https://c.example/zlib.conda"}`,
    'opt/conda/conda-meta/history': 'x',
    'opt/conda/conda-meta/broken.json': '{',
    'opt/conda/envs/e/conda-meta/a.json': '{"name":"a","version":"1"}',
    'usr/local/lib/R/site-library/dplyr/DESCRIPTION': 'Package: dplyr\nVersion: 1.1.4\nRepository: CRAN\nRemoteSha: 1.1.4\n',
    'usr/local/lib/R/site-library/dplyr/MD5': 'x *y\n',
    'usr/local/lib/R/library/base/DESCRIPTION': 'Package: base\nVersion: 4.3\nPriority: base\n',
  });
  assert.equal(found.map(known), [
    {
      manager: 'conda',
      name: 'zlib',
      version: '1.2=h1',
      architecture: 'linux-64',
      place: '/opt/conda',
      digest: `sha256:${hex}`,
      from: 'https://c.example/zlib.conda',
    },
    { manager: 'conda', name: 'a', version: '1', place: '/opt/conda/envs/e' },
    { manager: 'r', name: 'dplyr', version: '1.1.4', place: '/usr/local/lib/R/site-library', files: sha('x *y\n'), from: 'CRAN@1.1.4' },
  ]);
});

test('an image without packages has none', () => assert.equal(packagesOf({ 'etc/passwd': '' }), []));

test("environments are found at the top of the image, in homes and of pixi; what conda brought of R is conda's", () => {
  const meta = (name: string): string => `{"name":"${name}","version":"1","build":"h0"}`;
  const found = packagesOf({
    'env/conda-meta/r-dplyr-1-h0.json': meta('r-dplyr'),
    'env/lib/R/library/dplyr/DESCRIPTION': 'Package: dplyr\nVersion: 1\n',
    'env/lib/R/library/mine/DESCRIPTION': 'Package: mine\nVersion: 2\n',
    'root/.local/share/mamba/envs/one/conda-meta/a-1-h0.json': meta('a'),
    'app/.pixi/envs/default/conda-meta/b-1-h0.json': meta('b'),
    'srv/.venv/lib/python3.11/site-packages/c-1.dist-info/METADATA': 'Name: c\nVersion: 1\n',
    'srv/.venv/lib/python3.11/site-packages/c-1.dist-info/INSTALLER': 'pip\n',
  });
  assert.equal(found.map(packageTitle), [
    'pip c 1 in /srv/.venv/lib/python3.11/site-packages',
    'conda b 1=h0 in /app/.pixi/envs/default',
    'conda r-dplyr 1=h0 in /env',
    'conda a 1=h0 in /root/.local/share/mamba/envs/one',
    'r mine 2 in /env/lib/R/library',
  ]);
});

test.run();
