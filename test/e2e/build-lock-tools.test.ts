// time limit: 900 s
/** What pip, dnf, zypper, R and ADD fetch, kept and used again without a network: the real tools, and small repositories of each on loopback. */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Lock, parseLock } from '../../src/lock/lock-file.ts';
import { debianBase } from '../helpers/debian-base.ts';
import { lockedBuilds } from '../helpers/locked-builds.ts';
import { type LoopbackServer, serve } from '../helpers/loopback-server.ts';
import { type Ran, run, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';
import { wheelOf } from '../helpers/wheel.ts';

const test = suite('what tools fetch');
const { place, recipe, within, build, buildMeanwhile } = lockedBuilds('lock-tools');
const base = join(place, 'base.tar');
/** What the server shows. */
const shown = join(place, 'shown');
const machineBase = debianBase();

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const lockOf = (kept: string): Lock => parseLock(readFileSync(join(kept, 'tsrun.lock'), 'utf8'), 'tsrun.lock');
const write = (...steps: readonly string[]): void => writeFileSync(recipe, `FROM tar:${base}\n${steps.join('\n')}\n`);

/** Files of the directory, "/" at the end of a path for its index.html. */
const server = (): Promise<LoopbackServer> =>
  serve(({ path }, response) => {
    const name = path.replace(/\?.*/, '');
    const file = join(shown, name.endsWith('/') ? `${name}index.html` : name);
    const there = existsSync(file) && statSync(file).isFile();
    response.writeHead(there ? 200 : 404, file.endsWith('.html') ? { 'content-type': 'text/html' } : {});
    response.end(there ? readFileSync(file) : undefined);
  });

/** Where the image is only looked into: compressed in the quickest way. */
const QUICK = ['--compress', 'lz4'];

/** Lines of `image diff`. */
const differences = (one: string, two: string): readonly string[] => {
  const { status, stdout, stderr } = tsrun(['image', 'diff', join(place, `${one}.sif`), join(place, `${two}.sif`)]);
  assert.ok(status === 0 || status === 1, stderr);
  return stdout.split('\n').filter((line) => line !== '');
};

const offline = (name: string, kept: string): Ran =>
  build(name, 'store', ...QUICK, '--no-cache', '--locked', '--offline', '--vendor', kept);

// Stands in for the macros of a distribution of rpm's own; Debian's rpm keeps its database in the home of whoever calls it.
const TOOLS = `FROM tar:${machineBase}
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip dnf zypper gpg rpm createrepo-c r-base-core && apt-get clean
RUN mkdir -p /etc/rpm /etc/yum.repos.d /etc/zypp/repos.d /var/lib/YaST2 && echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros.db && ln -s dnf-3 /usr/bin/yum
`;

/** The specification of a package with one file. */
const spec = (name: string, version: string, needs: string): string => `Name: ${name}
Version: ${version}
Release: 1
Summary: a package
License: MIT
BuildArch: noarch
${needs === '' ? '' : `Requires: ${needs}`}
%description
A package.
%install
mkdir -p %{buildroot}/opt/${name} && echo ${name} ${version} > %{buildroot}/opt/${name}/file
%files
/opt/${name}
`;

const put = (path: string, content: string | Uint8Array): void => {
  mkdirSync(join(place, path, '..'), { recursive: true });
  writeFileSync(join(place, path), content);
};

const greeting = wheelOf('tsrun-greeting', '1.5', { 'tsrun_greeting.py': 'WORD = "hello"\n' });
const WHEEL = 'tsrun_greeting-1.5-py3-none-any.whl';
const LOCAL = 'tsrun_local-2-py3-none-any.whl';

test('repositories are made with the tools themselves', () => {
  if (machineBase === undefined) return skip('mmdebstrap is missing');
  put(LOCAL, wheelOf('tsrun-local', '2', { 'tsrun_local.py': '' }));
  put(`shown/files/${WHEEL}`, greeting);
  put('shown/simple/tsrun-greeting/index.html', `<a href="/files/${WHEEL}#${sha256(greeting).replace(':', '=')}">${WHEEL}</a>`);
  put('shown/data.csv', '1,2,3\n');
  for (const [name, version, needs] of [
    ['tool', '1.2', 'libtool-x'],
    ['libtool-x', '0.3', ''],
    ['given', '7', ''],
    ['lizard', '2.0', 'liblizard'],
    ['liblizard', '2.0', ''],
    ['handed', '1', ''],
  ] as const)
    put(`sources/${name}.spec`, spec(name, version, needs));
  for (const [name, more, code] of [
    ['tsrunone', '', 'word <- function() "hello"'],
    ['tsruntwo', 'Imports: tsrunone\n', 'word <- function() paste(tsrunone::word(), "again")'],
  ] as const) {
    const fields = `Package: ${name}\nVersion: 1.5\nTitle: T\nDescription: D.\nAuthor: A\nMaintainer: A <a@example.org>\nLicense: MIT\n${more}`;
    put(`sources/${name}/DESCRIPTION`, fields);
    put(`sources/${name}/NAMESPACE`, 'export(word)\n');
    put(`sources/${name}/R/word.R`, `${code}\n`);
  }
  mkdirSync(join(shown, 'cran/src/contrib'), { recursive: true });
  for (const each of ['rpm', 'zypp/noarch']) mkdirSync(join(shown, each), { recursive: true });
  const script = `set -e
for each in *.spec; do rpmbuild -bb --define "_topdir $PWD/r" "$each"; done
cp r/RPMS/noarch/*.rpm ../shown/rpm
mv ../shown/rpm/*lizard-* ../shown/rpm/handed-* ../shown/zypp/noarch
createrepo_c --excludes 'given-*' ../shown/rpm
createrepo_c --excludes 'handed-*' ../shown/zypp
export GNUPGHOME=$PWD/keys && mkdir -m 700 keys
gpg --batch --passphrase '' --quick-gen-key 'A <a@example.org>' rsa2048 sign never
gpg --batch --detach-sign --armor ../shown/zypp/repodata/repomd.xml
gpg --armor --export > ../shown/zypp/repodata/repomd.xml.key
cd ../shown/cran/src/contrib
R CMD build ../../../../sources/tsrunone ../../../../sources/tsruntwo
Rscript -e 'tools::write_PACKAGES(type = "source")'`;
  put('sources/make', script);
  const tools = join(place, 'tools.sif');
  put('tools/Dockerfile', TOOLS);
  run('chown', ['-R', testUser().name, place], { as: 'root' });
  const made = tsrun(['build', '--compress', 'lz4', tools, join(place, 'tools')], { cwd: place, env: within('store') });
  assert.is(made.status, 0, made.stderr);
  const ran = run(tsrunPath, ['exec', '--bind', place, '--pwd', join(place, 'sources'), tools, 'sh', 'make'], { env: within('store') });
  assert.is(ran.status, 0, ran.stdout + ran.stderr);
  // An image file cannot be kept as a base; its files as a layer can.
  tsrunOk(['image', 'extract', tools, join(place, 'files')]);
  assert.is(run('tar', ['-C', join(place, 'files'), '-cf', base, '--owner=0', '--group=0', '.']).status, 0);
});

/** Every file in it, as old as what was kept years ago. */
const age = (directory: string): void => {
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) utimesSync(join(entry.parentPath, entry.name), 1.5e9, 1.5e9);
};

const kept = join(place, 'vendor');

/** The recipe cleans, and goes other ways than the usual ones. */
const recipeOf = (origin: string): readonly string[] => [
  // dnf
  `RUN printf '[own]\\nname=own\\nbaseurl=${origin}/rpm/\\ngpgcheck=0\\n' > /etc/yum.repos.d/own.repo`,
  'RUN dnf makecache && dnf install -y libtool-x && dnf clean all',
  'RUN yum install -y tool && yum clean all && rm -rf /var/cache/dnf',
  // zypper: a signed repository, whose key is imported
  `RUN zypper addrepo --refresh ${origin}/zypp signed && zypper -n --gpg-auto-import-keys refresh && zypper -n install liblizard && zypper clean -a`,
  'RUN zypper -n in lizard && rpm -q gpg-pubkey && rm -rf /var/cache/zypp',
  // What a recipe makes or brings itself needs no network.
  "RUN mkdir -p /s/DEBIAN && printf 'Package: stands-in\\nVersion: 1\\nArchitecture: all\\nMaintainer: m\\nDescription: d\\n' > /s/DEBIAN/control && dpkg-deb -b /s s.deb && dpkg -i s.deb",
  `COPY ${LOCAL} /wheels/`,
  'ENV PIP_FIND_LINKS=/wheels',
  'RUN pip install --break-system-packages --no-index tsrun-local',
  `ADD ${origin}/data.csv /data.csv`,
  `RUN pip install --break-system-packages --no-cache-dir -i ${origin}/simple tsrun-greeting`,
  // R reads the site's profile, and then a profile of the recipe's own.
  'RUN echo \'options(own = "read")\' >> /etc/R/Rprofile.site',
  `RUN Rscript -e 'stopifnot(getOption("own") == "read"); install.packages("tsruntwo", repos = "${origin}/cran", INSTALL_opts = "--built-timestamp=1970-01-01")'`,
  'ENV R_PROFILE=/profile',
  'RUN echo \'options(own = "another")\' > /profile',
  `RUN Rscript -e 'stopifnot(getOption("own") == "another"); download.file("${origin}/data.csv", "/fetched.csv", quiet = TRUE)'`,
];

test('what pip, dnf, yum, zypper, R and ADD fetch is kept, though the recipe cleans; rpm lists what the lock does', async () => {
  if (!existsSync(base)) return skip('there are no tools');
  const { origin, asked, close } = await server();
  write(...recipeOf(origin));
  const built = await buildMeanwhile('first', 'store', ...QUICK, '--lock', '--vendor', kept).finally(close);
  assert.is(built.status, 0, built.stderr);
  assert.not.match(built.stderr, /could not be kept/);
  assert.is(asked.filter(({ path }) => path.endsWith('.rpm')).length, 4);
  const image = join(place, 'first.sif');
  const format = '%{NAME} %{VERSION}-%{RELEASE} %{ARCH} sha256:%{SHA256HEADER}\n';
  const listed = tsrunOk(['exec', image, 'rpm', '--dbpath', '/var/lib/rpm', '-qa', '--qf', format]);
  const { packages, downloads, missing } = lockOf(kept);
  const rpms = packages.filter(({ manager }) => manager === 'rpm');
  const keys = /^gpg-pubkey .*\n/m;
  assert.match(listed, keys);
  assert.equal(
    rpms.map(({ name, version, architecture, digest }) => `${name} ${version} ${architecture} ${digest}`).sort(),
    listed.replace(keys, '').trim().split('\n').sort(),
  );
  assert.is(rpms.length, 4);
  assert.is(packages.find(({ name }) => name === 'tsrun-greeting')?.digest, sha256(greeting));
  assert.equal(
    downloads.map(({ address }) => address),
    [`${origin}/data.csv`],
  );
  assert.equal(
    packages.filter(({ manager }) => manager === 'r').map(({ name, digest }) => [name, digest]),
    ['tsrunone', 'tsruntwo'].map((name) => [name, sha256(rArchive(name))]),
  );
  assert.equal(missing, []);
  assert.not.match(tsrunOk(['image', 'ls', '--depth', '9', image, '/dev', '/var/cache']), /\.rpm|repodata|tsrun/);
});

const rArchive = (name: string): Buffer => readFileSync(join(shown, `cran/src/contrib/${name}_1.5.tar.gz`));

test('years later the same image is built from it without a network', () => {
  if (!existsSync(base)) return skip('there are no tools');
  for (const tool of ['dnf', 'zypp']) age(join(kept, tool));
  const again = offline('again', kept);
  assert.is(again.status, 0, again.stderr);
  const says = (...command: readonly string[]): string => tsrunOk(['exec', join(place, 'again.sif'), ...command]);
  assert.is(says('cat', '/opt/tool/file', '/opt/libtool-x/file', '/opt/lizard/file'), 'tool 1.2\nlibtool-x 0.3\nlizard 2.0\n');
  assert.is(says('python3', '-c', 'import tsrun_greeting as g; print(g.WORD)'), 'hello\n');
  assert.is(says('Rscript', '-e', 'cat(tsruntwo::word(), readLines("/fetched.csv"))'), 'hello again 1,2,3');
  // dnf's own history holds times, and R notes how long the path was in which it built; nothing else differs.
  const known = /^\/var\/lib\/dnf\/history\.sqlite|\/help\/paths\.rds:/;
  assert.equal(
    differences('first', 'again').filter((line) => !known.test(line)),
    [],
  );
});

test('what was kept and has been changed is refused: by dnf and zypper, and for R by the lock', () => {
  if (!existsSync(base)) return skip('there are no tools');
  const changed = readdirSync(join(kept, 'r')).find((name) => name.endsWith('tsrunone_1.5.tar.gz')) ?? '';
  writeFileSync(join(kept, 'r', changed), gzipSync(gunzipSync(rArchive('tsrunone')), { level: 1 }));
  assert.match(offline('r-changed', kept).stderr, /! r tsrunone 1\.5 in \S+: digest sha256:.*E_LOCK_CHANGED/s);

  cpSync(join(shown, 'zypp/noarch/handed-1-1.noarch.rpm'), join(kept, 'zypp/0/packages/signed/noarch/lizard-2.0-1.noarch.rpm'));
  assert.match(offline('zypper-changed', kept).stderr, /RUN zypper -n in lizard.*E_STEP/s);

  const [repository = ''] = readdirSync(join(kept, 'dnf/0')).filter((name) => /^own-[0-9a-f]+$/.test(name));
  cpSync(join(shown, 'rpm/given-7-1.noarch.rpm'), join(kept, 'dnf/0', repository, 'packages/tool-1.2-1.noarch.rpm'));
  assert.match(offline('dnf-changed', kept).stderr, /RUN yum install -y tool.*E_STEP/s);
});

test('packages that dnf and zypper were given by their addresses are named as missing', async () => {
  if (!existsSync(base)) return skip('there are no tools');
  const { origin, close } = await server();
  write(
    `RUN dnf install -y ${origin}/rpm/given-7-1.noarch.rpm`,
    `RUN zypper -n --no-gpg-checks in ${origin}/zypp/noarch/handed-1-1.noarch.rpm`,
  );
  const given = join(place, 'vendor-given');
  const built = await buildMeanwhile('given', 'store', ...QUICK, '--lock', '--vendor', given).finally(close);
  assert.is(built.status, 0, built.stderr);
  assert.match(built.stderr, /could not be kept.*: rpm given 7-1 noarch, rpm handed 1-1 noarch \("missing" in the lock\)/);
  assert.match(offline('given-offline', given).stderr, /were not kept there:\n {2}rpm given 7-1 noarch\n {2}rpm handed 1-1 noarch\n/);
});

test('what other users of a step fetch with R is kept where they leave it readable', async () => {
  if (!existsSync(base)) return skip('there are no tools');
  const ranges = lockedBuilds('lock-users', 'ranges');
  const { origin, close } = await server();
  const vendor = join(ranges.place, 'vendor');
  const fetch = (to: string): string => `Rscript -e 'download.file("${origin}/data.csv?${to}", "/home/app/${to}", quiet = TRUE)'`;
  const steps = ['RUN useradd -m app', 'USER app', `RUN ${fetch('shared')} && umask 077 && ${fetch('closed')}`];
  writeFileSync(ranges.recipe, `FROM tar:${base}\n${steps.join('\n')}\n`);
  const built = await ranges.buildMeanwhile('users', 'store', ...QUICK, '--lock', '--vendor', vendor).finally(close);
  assert.is(built.status, 0, built.stderr);
  assert.equal(
    readdirSync(join(vendor, 'r')).map((name) => decodeURIComponent(name)),
    [`${origin}/data.csv?shared`],
  );
});

test.run();
