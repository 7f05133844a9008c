// `npm run dist`: dist/tsrun-VERSION-linux-ARCH.tar.gz, which runs from wherever it is unpacked, with nothing else installed:
//
//   bin/tsrun           launcher, planner, image server: all that a compute node uses
//   lib/cli/main.js     the full command line
//   lib/node/bin/node   what it runs on
//   share/              manual page and completions
//   licenses/           of everything that is inside
//
// native/node.c finds the parts from where bin/tsrun lies.
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { main, makeJobs, must, root, Stop, say } from './lib.mjs';
import { setUp } from './setup.mjs';

const ARCH = { x64: 'x86_64', arm64: 'aarch64' }[process.arch];
const nodePackage = `node_modules/node-linux-${process.arch}`;
/** From the checkout, into the release. */
const PARTS = [
  ['bin/tsrun', 'bin/tsrun'],
  ['build/cli', 'lib/cli'],
  [`${nodePackage}/bin/node`, 'lib/node/bin/node'],
  ['src/recipe/yaml.schema.json', 'share/tsrun/recipe.schema.json'],
  ...['LICENSE', 'NEWS.md', 'README.md', 'SECURITY.md', 'docs'].map((name) => [name, name]),
];
/** Debian packages whose archives are linked into bin/tsrun, or whose code is compiled into it. */
const LINKED = ['libc6-dev', 'liblz4-dev', 'liblzma-dev', 'libzstd-dev', 'wabt', 'zlib1g-dev'];

const licenceFiles = (directory) => readdirSync(directory).filter((name) => /^(licen[cs]e|copying|notice)/i.test(name));

/** npm packages that are in the bundles: all that are not for development, and the engine. */
const bundledPackages = () => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(packages)
    .filter(([path, { dev }]) => path !== '' && existsSync(join(root, path)) && (dev !== true || path === 'node_modules/quickjs-wasi'))
    .map(([path]) => path);
};

const copyLicences = (target) => {
  for (const path of bundledPackages()) {
    const into = join(target, 'npm', path.replaceAll('node_modules/', ''));
    mkdirSync(into, { recursive: true });
    for (const name of licenceFiles(join(root, path))) copyFileSync(join(root, path, name), join(into, name));
    copyFileSync(join(root, path, 'package.json'), join(into, 'package.json'));
  }
  mkdirSync(join(target, 'native'), { recursive: true });
  for (const name of LINKED) {
    const copyright = `/usr/share/doc/${name}/copyright`;
    if (!existsSync(copyright)) throw new Stop(`${copyright} is missing: a release carries the licences of what is in it`);
    copyFileSync(copyright, join(target, 'native', name));
  }
};

/** What the full program prints about itself, where shells and man look for it. */
const PRINTED = [
  ['share/man/man1/tsrun.1', ['man']],
  ['share/bash-completion/completions/tsrun', ['completion', 'bash']],
  ['share/zsh/site-functions/_tsrun', ['completion', 'zsh']],
  ['share/fish/vendor_completions.d/tsrun.fish', ['completion', 'fish']],
];

const printAbout = (top) => {
  for (const [to, words] of PRINTED) {
    mkdirSync(dirname(join(top, to)), { recursive: true });
    writeFileSync(join(top, to), must(`printing ${to}`, 'node', [join(root, 'build/cli/main.js'), ...words]));
  }
};

await main(() => {
  setUp(['build']);
  must('building tsrun', 'make', [makeJobs, 'all']);
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const name = `tsrun-${version}-linux-${ARCH}`;
  const staging = join(root, 'build/dist');
  const top = join(staging, name);
  rmSync(staging, { recursive: true, force: true });
  for (const [from, to] of PARTS) {
    mkdirSync(dirname(join(top, to)), { recursive: true });
    cpSync(join(root, from), join(top, to), { recursive: true });
  }
  printAbout(top);
  copyLicences(join(top, 'licenses'));
  mkdirSync(join(root, 'dist'), { recursive: true });
  const tarball = join(root, 'dist', `${name}.tar.gz`);
  // The same parts give the same tarball: names sorted, no owners, no times, and modes that do not depend on the umask.
  const same = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', '--mode=u=rwX,go=rX', '--format=ustar'];
  must('packing', 'tar', ['-C', staging, ...same, '-I', 'gzip -n', '-cf', tarball, name]);
  rmSync(staging, { recursive: true });
  say(`${tarball} (${(statSync(tarball).size / 1e6).toFixed(0)} MB)`);
});
