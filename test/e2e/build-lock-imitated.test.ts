// time limit: 600 s
/**
 * What apk, conda, micromamba and microdnf fetch, kept and used again without a network. The programs themselves cannot be had where these tests run:
 * others stand in for them, made after their documentation and source (test/helpers/imitated), with packages and repositories in the real formats.
 */
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Lock, parseLock } from '../../src/lock/lock-file.ts';
import { debianBase } from '../helpers/debian-base.ts';
import { apkIndexOf, apkOf, condaOf, condaRecord, type TestPackage } from '../helpers/foreign-packages.ts';
import { makeTar } from '../helpers/layers.ts';
import { lockedBuilds } from '../helpers/locked-builds.ts';
import { type LoopbackServer, serve } from '../helpers/loopback-server.ts';
import { type Ran, run, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('what imitated tools fetch');
const { place, recipe, within, build, buildMeanwhile } = lockedBuilds('lock-imitated');
const base = join(place, 'base.tar');
/** What the server shows. */
const shown = join(place, 'shown');
const kept = join(place, 'vendor');
const machineBase = debianBase();
const QUICK = ['--compress', 'lz4'];

const write = (...steps: readonly string[]): void => writeFileSync(recipe, `FROM tar:${base}\n${steps.join('\n')}\n`);
const lockOf = (directory: string): Lock => parseLock(readFileSync(join(directory, 'tsrun.lock'), 'utf8'), 'tsrun.lock');
const offline = (name: string): Ran => build(name, 'store', ...QUICK, '--no-cache', '--locked', '--offline', '--vendor', kept);

const put = (path: string, content: string | Uint8Array): void => {
  mkdirSync(join(place, path, '..'), { recursive: true });
  writeFileSync(join(place, path), content);
};

const server = (): Promise<LoopbackServer> =>
  serve(({ path }, response) => {
    const file = join(shown, path.replace(/\?.*/, ''));
    const there = existsSync(file) && statSync(file).isFile();
    response.writeHead(there ? 200 : 404);
    response.end(there ? readFileSync(file) : undefined);
  });

const TOOLS = `FROM tar:${machineBase}
RUN apt-get update && apt-get install -y --no-install-recommends python3 zstd rpm createrepo-c && apt-get clean
RUN mkdir -p /etc/rpm /etc/yum.repos.d /opt/conda/bin && echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros.db
COPY apk microdnf /usr/local/bin/
COPY conda /opt/conda/bin/conda
COPY conda /usr/local/bin/micromamba
COPY test.rsa.pub /etc/apk/keys/
RUN echo 2.14.4 > /etc/apk/imitates
`;

const spec = (name: string, needs: string): string => `Name: ${name}
Version: 1.2
Release: 1
Summary: a package
License: MIT
BuildArch: noarch
${needs}
%description
A package.
%install
mkdir -p %{buildroot}/opt/${name} && echo ${name} > %{buildroot}/opt/${name}/file
%files
/opt/${name}
`;

const packageOf = (name: string, version: string, depends: readonly string[] = [], folder = 'opt'): TestPackage => ({
  ...{ name, version, depends },
  files: [
    { path: `${folder}/`, type: 'dir' },
    { path: `${folder}/${name}`, content: `${name} ${version}\n` },
  ],
});

test('repositories are made in the real formats', () => {
  if (machineBase === undefined) return skip('mmdebstrap is missing');
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  for (const [repository, packages] of Object.entries({
    main: [
      packageOf('tool', '1.0-r0', ['libtool']),
      packageOf('libtool', '2.3-r1'),
      packageOf('compiler', '9-r0'),
      packageOf('late', '3-r0'),
    ],
    edge: [packageOf('newest', '0.1_git20240101-r0')],
  })) {
    put(`shown/alpine/${repository}/x86_64/APKINDEX.tar.gz`, apkIndexOf(packages, privateKey));
    for (const each of packages) put(`shown/alpine/${repository}/x86_64/${each.name}-${each.version}.apk`, apkOf(each, privateKey).bytes);
  }
  const index = { 'linux-64': { packages: {}, 'packages.conda': {} }, noarch: { packages: {}, 'packages.conda': {} } };
  for (const [each, subdir] of [
    [packageOf('aligner', '1.20', ['libalign >=1'], 'bin'), 'linux-64'],
    [packageOf('libalign', '1.1', [], 'lib'), 'linux-64'],
    [packageOf('short-reads', '0.7', [], 'bin'), 'noarch'],
    [packageOf('spare', '1', [], 'bin'), 'noarch'],
  ] as const) {
    const { fn, bytes } = condaOf(each, subdir);
    put(`shown/science/${subdir}/${fn}`, bytes);
    Object.assign(index[subdir]['packages.conda'], { [fn]: condaRecord(each, bytes, subdir) });
  }
  // The older format: a tar, compressed with bzip2.
  const older = packageOf('older', '0.9', [], 'bin');
  const info = {
    path: 'info/index.json',
    content: JSON.stringify({ name: 'older', version: '0.9', build: '0', build_number: 0, depends: [] }),
  };
  const { stdout } = spawnSync('bzip2', ['-c'], { input: makeTar([...older.files, { path: 'info/', type: 'dir' }, info]) });
  put('shown/science/noarch/older-0.9-0.tar.bz2', stdout);
  Object.assign(index.noarch.packages, { 'older-0.9-0.tar.bz2': condaRecord(older, stdout, 'noarch') });
  for (const [subdir, packages] of Object.entries(index))
    put(`shown/science/${subdir}/repodata.json`, JSON.stringify({ info: { subdir }, ...packages }));

  put('sources/rtool.spec', spec('rtool', 'Requires: librtool'));
  put('sources/librtool.spec', spec('librtool', ''));
  put(
    'sources/make',
    'set -e\nfor each in *.spec; do rpmbuild -bb --define "_topdir $PWD/r" "$each"; done\nmkdir ../shown/rpm\ncp r/RPMS/noarch/*.rpm ../shown/rpm\ncreaterepo_c ../shown/rpm\n',
  );
  for (const each of ['apk', 'conda', 'microdnf']) cpSync(join(import.meta.dirname, '../helpers/imitated', each), join(place, each));
  put('tools/Dockerfile', TOOLS);
  for (const each of ['apk', 'conda', 'microdnf']) cpSync(join(place, each), join(place, 'tools', each));
  put('tools/test.rsa.pub', publicKey.export({ type: 'spki', format: 'pem' }));
  const tools = join(place, 'tools.sif');
  run('chown', ['-R', testUser().name, place], { as: 'root' });
  const made = tsrun(['build', ...QUICK, tools, join(place, 'tools')], { cwd: place, env: within('store') });
  assert.is(made.status, 0, made.stderr);
  const ran = run(tsrunPath, ['exec', '--bind', place, '--pwd', join(place, 'sources'), tools, 'sh', 'make'], { env: within('store') });
  assert.is(ran.status, 0, ran.stdout + ran.stderr);
  tsrunOk(['image', 'extract', tools, join(place, 'files')]);
  assert.is(run('tar', ['-C', join(place, 'files'), '-cf', base, '--owner=0', '--group=0', '.']).status, 0);
});

/** As recipes are: they keep no cache, clean, and build with what they remove. */
const recipeOf = (origin: string): readonly string[] => [
  `RUN echo ${origin}/alpine/main > /etc/apk/repositories && apk add --no-cache tool && rm -rf /var/cache/apk/*`,
  'RUN apk --no-cache add --virtual .build-deps compiler && cat /opt/compiler > /compiled && apk del .build-deps',
  `RUN apk -U add --cache-dir /var/cache/apk newest -X ${origin}/alpine/edge && apk cache clean`,
  // As apk 3 has it; and a root of its own.
  'RUN echo 3.0.1 > /etc/apk/imitates && apk update && apk upgrade && apk add late',
  'RUN apk add --no-cache --initdb -p /other --keys-dir /etc/apk/keys --repositories-file /etc/apk/repositories --allow-untrusted late',
  'ENV PATH=/opt/conda/bin:$PATH',
  `RUN conda create -y -n one -c ${origin}/science aligner older && /opt/conda/bin/conda clean -afy`,
  `RUN micromamba install -y -p /env -c ${origin}/science short-reads`,
  `RUN printf '[own]\\nname=own\\nbaseurl=${origin}/rpm/\\ngpgcheck=0\\n' > /etc/yum.repos.d/own.repo`,
  'RUN microdnf install -y rtool && microdnf clean all && rm -rf /var/cache/yum',
];

test('what apk, conda, micromamba and microdnf fetch is kept, though the recipe cleans; the image has none of it', async () => {
  if (!existsSync(base)) return skip('there are no tools');
  const { origin, close } = await server();
  write(...recipeOf(origin));
  const built = await buildMeanwhile('first', 'store', ...QUICK, '--lock', '--vendor', kept).finally(close);
  assert.is(built.status, 0, built.stderr);
  assert.not.match(built.stderr, /could not be kept/);
  const apks = readdirSync(join(kept, 'apk/0'));
  assert.is(apks.filter((name) => /^APKINDEX\.[0-9a-f]{8}\.tar\.gz$/.test(name)).length, 2, apks.join(' '));
  for (const name of ['tool-1.0-r0', 'libtool-2.3-r1', 'compiler-9-r0', 'newest-0.1_git20240101-r0', 'late-3-r0'])
    assert.is(apks.filter((each) => each.startsWith(`${name}.`)).length, 1, apks.join(' '));
  const { packages, missing } = lockOf(kept);
  assert.equal(missing, []);
  const named = packages.filter(({ manager }) => manager !== 'dpkg').map(({ manager, name, version }) => `${manager} ${name} ${version}`);
  assert.equal(named, [
    ...['rpm librtool 1.2-1', 'rpm rtool 1.2-1'],
    ...['apk late 3-r0', 'apk libtool 2.3-r1', 'apk newest 0.1_git20240101-r0', 'apk tool 1.0-r0'],
    ...['conda short-reads 0.7=0', 'conda aligner 1.20=0', 'conda libalign 1.1=0', 'conda older 0.9=0'],
  ]);
  assert.not.match(
    tsrunOk(['image', 'ls', '--depth', '9', join(place, 'first.sif'), '/dev', '/var/cache', '/opt/conda']),
    /\.apk|\.rpm|\.tsrun/,
  );
});

/** Every file in it, as old as what was kept years ago. */
const age = (directory: string): void => {
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) utimesSync(join(entry.parentPath, entry.name), 1.5e9, 1.5e9);
};

test('years later the same image is built from it without a network', () => {
  if (!existsSync(base)) return skip('there are no tools');
  age(kept);
  const again = offline('again');
  assert.is(again.status, 0, again.stderr);
  const files = [
    '/opt/tool',
    '/compiled',
    '/opt/newest',
    '/other/opt/late',
    '/opt/conda/envs/one/lib/libalign',
    '/opt/conda/envs/one/bin/older',
  ];
  assert.is(
    tsrunOk(['exec', join(place, 'again.sif'), 'cat', ...files, '/env/bin/short-reads', '/opt/rtool/file']),
    'tool 1.0-r0\ncompiler 9-r0\nnewest 0.1_git20240101-r0\nlate 3-r0\nlibalign 1.1\nolder 0.9\nshort-reads 0.7\nrtool\n',
  );
  const differs = tsrun(['image', 'diff', join(place, 'first.sif'), join(place, 'again.sif')]);
  // rpm notes when it installed, and what lies below another root is not known for a log.
  const known = /^$|^\/var\/lib\/rpm\/|^\/other\/var\/log\/apk\.log/;
  assert.equal(
    differs.stdout.split('\n').filter((line) => !known.test(line)),
    [],
  );
});

test('what was kept and has been changed is refused by the tool that uses it', () => {
  if (!existsSync(base)) return skip('there are no tools');
  const spoil = (path: string, name: RegExp, step: RegExp): void => {
    const file = join(kept, path, readdirSync(join(kept, path)).find((each) => name.test(each)) ?? '');
    const bytes = readFileSync(file);
    writeFileSync(file, Buffer.concat([bytes.subarray(0, -1), Buffer.from([255 - (bytes.at(-1) ?? 0)])]));
    const refused = offline('spoilt');
    assert.match(refused.stderr, step);
    assert.is(refused.status, 125);
    writeFileSync(file, bytes);
  };
  const [host = ''] = readdirSync(join(kept, 'conda/http'));
  spoil('apk/0', /^libtool-/, /BAD archive|BAD data|RUN echo .*apk add.*E_STEP/s);
  spoil(`conda/http/${host}/science/linux-64`, /^aligner-.*conda$/, /OfflineError: .*aligner.*E_STEP/s);
  spoil(`conda/http/${host}/science/noarch`, /^short-reads-.*conda$/, /OfflineError: .*short-reads.*E_STEP/s);
  const [repository = ''] = readdirSync(join(kept, 'dnf/0/metadata'));
  spoil(`dnf/0/metadata/${repository}/packages`, /^librtool/, /RUN microdnf.*E_STEP/s);
});

test.run();
