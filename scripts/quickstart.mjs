// `npm run quickstart`: installs what is missing, builds tsrun, makes an image with python3 and numpy from the machine's own Debian or
// Ubuntu mirror, and runs recipes/pipeline/analysis.py in it as an ordinary user. What is done already is not done again.
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { allowUserNamespaces } from './apparmor.mjs';
import { machineAptOptions, machineSources } from './apt-sources.mjs.mts';
import { isRoot, main, makeJobs, must, root, runQuiet, runShown, Stop, say, seconds } from './lib.mjs';
import { setUp } from './setup.mjs';

const PACKAGES = ['python3', 'python3-numpy'];
const tsrun = join(root, 'bin/tsrun');
const place = join(root, 'build/quickstart');
const image = join(place, 'pipeline.sif');

const buildTsrun = () => {
  const started = performance.now();
  must('building tsrun', 'make', [makeJobs, 'all']);
  say(`tsrun is built (${seconds(started)})`);
};

/** The image is made again when tsrun's version, the packages or the sources have changed. */
const makeImage = () => {
  const { id, suite, lines } = machineSources();
  const aptOptions = machineAptOptions();
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const inputs = createHash('sha256')
    .update(JSON.stringify([version, suite, lines, PACKAGES]))
    .digest('hex');
  const stamp = join(place, 'pipeline.inputs');
  if (existsSync(image) && existsSync(stamp) && readFileSync(stamp, 'utf8') === inputs) {
    say(`${image} is there`);
    return;
  }
  say(`making ${image}: ${PACKAGES.join(' and ')} of ${id} ${suite} (a minute or so)`);
  const started = performance.now();
  rmSync(stamp, { force: true });
  const mmdebstrap = [
    '--variant=minbase',
    `--include=${PACKAGES.join(',')}`,
    ...aptOptions.map((line) => `--aptopt=${line}`),
    '--dpkgopt=path-exclude=/usr/share/man/*',
    '--dpkgopt=path-exclude=/usr/share/locale/*',
    '--dpkgopt=path-exclude=/usr/share/doc/*',
    '--dpkgopt=path-include=/usr/share/doc/*/copyright',
    // How this machine reaches its mirrors is nobody's business inside the image.
    '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap',
    suite,
    '-',
    ...lines,
  ];
  // The root file system flows from one program into the other; it is never on the disk.
  const pipeline = 'image=$1; tsrun=$2; shift 2; mmdebstrap "$@" | "$tsrun" build "$image" -';
  must('making the image', 'bash', ['-o', 'pipefail', '-c', pipeline, 'bash', image, tsrun, ...mmdebstrap], { cwd: place });
  writeFileSync(stamp, inputs);
  say(`made in ${seconds(started)}`);
};

/** How a command is run as an ordinary user: by whom root acts for, else by nobody; no prefix when the user is an ordinary one. */
const ordinaryUser = () => {
  if (!isRoot) return { prefix: [], uid: process.getuid(), gid: process.getgid() };
  const name = process.env.SUDO_USER !== undefined && process.env.SUDO_USER !== 'root' ? process.env.SUDO_USER : 'nobody';
  const [uid, gid] = ['-u', '-g'].map((which) => Number(must('asking for the user', 'id', [which, name]).trim()));
  const prefix = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--reset-env'];
  if (runQuiet(prefix[0], [...prefix.slice(1), 'test', '-x', tsrun, '-a', '-r', image], { cwd: '/' }).status === 0)
    return { prefix, uid, gid };
  say(`(other users cannot reach ${root}, so the example runs as root)`);
  return { prefix: [], uid: 0, gid: 0 };
};

const runExample = () => {
  const { prefix, uid, gid } = ordinaryUser();
  const directory = join(place, `run-${uid}`);
  mkdirSync(directory, { recursive: true });
  copyFileSync(join(root, 'recipes/pipeline/analysis.py'), join(directory, 'analysis.py'));
  if (isRoot) chownSync(directory, uid, gid);
  say(`\n${directory}$ tsrun exec pipeline.sif python3 analysis.py\n`);
  const [program, ...args] = [...prefix, tsrun, 'exec', image, 'python3', 'analysis.py'];
  const started = performance.now();
  const status = runShown(program, args, { cwd: directory });
  if (status !== 0) throw new Stop(`the example ended with status ${status}`);
  say(`\n(${seconds(started)}; the picture is ${join(directory, 'analysis.svg')})`);
};

await main(() => {
  const started = performance.now();
  setUp(['build', 'quickstart']);
  buildTsrun();
  allowUserNamespaces(tsrun);
  mkdirSync(place, { recursive: true });
  chmodSync(place, 0o755);
  makeImage();
  runExample();
  say(`\nReady in ${seconds(started)}. Any user of this machine can now run:\n\n  ${tsrun} exec ${image} python3\n`);
});
