// `npm run quickstart`: installs what is missing, builds tsrun, builds recipes/pipeline on a small Debian or Ubuntu from the
// machine's own mirror, and runs recipes/pipeline/analysis.py in the image as an ordinary user. What is done already is not done again.
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { allowUserNamespaces } from './apparmor.mjs';
import { baseReference, machineTraces } from './debian-base.mjs';
import { isRoot, main, makeJobs, must, root, runQuiet, runShown, Stop, say, seconds } from './lib.mjs';
import { setUp } from './setup.mjs';

const tsrun = join(root, 'bin/tsrun');
const place = join(root, 'build/quickstart');
const recipe = join(root, 'recipes/pipeline');
const image = join(place, 'pipeline.sif');

const buildTsrun = () => {
  const started = performance.now();
  must('building tsrun', 'make', [makeJobs, 'all']);
  say(`tsrun is built (${seconds(started)})`);
};

/** The recipe, and behind it the removal of what the base has of this machine's ways to its mirrors. */
const recipeText = () => `${readFileSync(join(recipe, 'Dockerfile'), 'utf8')}\nRUN rm -f ${machineTraces().join(' ')}\n`;

/** The image is made again when tsrun's version, the recipe or the sources have changed. */
const makeImage = () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const base = baseReference(tsrun);
  const text = recipeText();
  const inputs = createHash('sha256')
    .update(JSON.stringify([version, base, text, readFileSync(join(recipe, 'check.py'), 'utf8')]))
    .digest('hex');
  const stamp = join(place, 'pipeline.inputs');
  if (existsSync(image) && existsSync(stamp) && readFileSync(stamp, 'utf8') === inputs) {
    say(`${image} is there`);
    return;
  }
  const started = performance.now();
  rmSync(stamp, { force: true });
  const file = join(place, 'Dockerfile');
  writeFileSync(file, text);
  const args = ['build', '--force', '--file', file, '--build-arg', `BASE=${base}`, image, recipe];
  say(`\n$ tsrun ${args.join(' ')}\n`);
  const status = runShown(tsrun, args, { cwd: place });
  if (status !== 0) throw new Stop(`making the image ended with status ${status}`);
  writeFileSync(stamp, inputs);
  say(`${image} is made (${seconds(started)})`);
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
  copyFileSync(join(recipe, 'analysis.py'), join(directory, 'analysis.py'));
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
  say(`\nReady in ${seconds(started)}. ${isRoot ? 'Any user of this machine' : 'You'} can now run:\n\n  ${tsrun} exec ${image} python3\n`);
});
