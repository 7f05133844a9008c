// The base of images made on this machine: its own Debian or Ubuntu, as small as it comes, in a tar file that is made once and kept in build/ until
// the sources change. Whatever is built on it reaches the same mirrors in the same way.
import { createHash } from 'node:crypto';
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { machineAptOptions, machineSources } from './apt-sources.mjs';
import { environment, isRoot, must, root, runQuiet, say, seconds } from './lib.mjs';

const place = join(root, 'build/debian-base');

/** Certificates by which apt knows mirrors of https; a minimal Debian has none. */
const certificatesFor = (lines, options) => {
  if (!lines.some((line) => line.includes('https:'))) return [];
  const named = options.flatMap((line) => /::CaInfo "(.*)";$/.exec(line)?.[1] ?? []);
  return ['/etc/ssl/certs/ca-certificates.crt', ...named].filter(existsSync);
};

/** What of the base tells how this machine reaches its mirrors: nobody's business in an image that leaves it. */
export const machineTraces = () => ['/etc/apt/apt.conf.d/99mmdebstrap', ...certificatesFor(machineSources().lines, machineAptOptions())];

/** Whether mmdebstrap alone can unpack a Debian with its owners: as root, or with ids that an administrator has set aside for its user. */
export const canOwnFiles = () => {
  if (isRoot) return true;
  const { username, uid } = userInfo();
  const isMine = (line) => [username, String(uid)].includes(line.split(':')[0]);
  const hasRange = (path) => existsSync(path) && readFileSync(path, 'utf8').split('\n').some(isMine);
  return hasRange('/etc/subuid') && hasRange('/etc/subgid') && !runQuiet('newuidmap', []).output.includes('ENOENT');
};

/** What mmdebstrap is told in either case. */
const baseArguments = () => {
  const { lines } = machineSources();
  const options = machineAptOptions();
  return [
    '--variant=minbase',
    ...options.map((line) => `--aptopt=${line}`),
    '--dpkgopt=path-exclude=/usr/share/man/*',
    '--dpkgopt=path-exclude=/usr/share/locale/*',
    '--dpkgopt=path-exclude=/usr/share/doc/*',
    '--dpkgopt=path-include=/usr/share/doc/*/copyright',
    ...certificatesFor(lines, options).map((path) => `--customize-hook=mkdir -p "$1"'${join(path, '..')}' && cp '${path}' "$1"'${path}'`),
  ];
};

/** Made once: `make` is given the path of a file to write, which becomes PLACE/SUITE-KEY.ENDING. */
const keptBase = (args, ending, how, make) => {
  const { id, suite, lines } = machineSources();
  const key = createHash('sha256')
    .update(JSON.stringify([suite, lines, args]))
    .digest('hex');
  const path = join(place, `${suite}-${key.slice(0, 16)}.${ending}`);
  if (existsSync(path)) return path;
  mkdirSync(place, { recursive: true });
  // The lock of what two processes have open is held until both have closed it.
  const lock = openSync(join(place, 'lock'), 'w');
  must('waiting for whoever makes it', 'flock', ['3'], { stdio: ['ignore', 'pipe', 'pipe', lock] });
  if (existsSync(path)) return path;
  say(`making a small ${id} ${suite} with ${how}`);
  const started = performance.now();
  const fresh = join(place, `${process.pid}.${ending}`);
  make(fresh, { suite, lines });
  chmodSync(fresh, 0o644);
  renameSync(fresh, path);
  closeSync(lock);
  say(`made in ${seconds(started)}`);
  return path;
};

const SOURCE_DATE_EPOCH = '1700000000';

/** The path of the tar file. Throws Stop with what mmdebstrap said, or what it lacks. */
export const debianBase = () => {
  const args = baseArguments();
  return keptBase(args, 'tar', 'mmdebstrap', (fresh, { suite, lines }) =>
    must('making a base', 'mmdebstrap', [...args, suite, fresh, ...lines], { env: { ...environment, SOURCE_DATE_EPOCH } }),
  );
};

/**
 * The same as an image, made by whoever has one id only: mmdebstrap works as root of a step of tsrun, which records the owners. What it cannot make
 * there, devices, it finds in a /dev that is gone when the step ends.
 */
const SETUP = `Bootstrap: scratch
%setup
  cd / && target=$APPTAINER_ROOTFS
  mkdir -p "$target/dev" && mount -t tmpfs -o mode=755 none "$target/dev" && mkdir "$target/dev/pts" "$target/dev/shm"
  ln -s pts/ptmx "$target/dev/ptmx"
  for name in null zero full random urandom tty; do
    : > "$target/dev/$name" && mount --bind "/dev/$name" "$target/dev/$name"
  done
  mmdebstrap --mode=root --format=directory --skip=check/empty,chroot/mount/dev`;

const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;

const imageBase = (tsrun) => {
  const args = baseArguments();
  return keptBase(args, 'sif', 'mmdebstrap and tsrun', (fresh, { suite, lines }) => {
    const recipe = `${fresh}.def`;
    writeFileSync(recipe, `${SETUP} ${[...args, suite].map(quoted).join(' ')} "$target" ${lines.map(quoted).join(' ')}\n`);
    must('making a base', tsrun, ['build', fresh, recipe], { env: { ...environment, SOURCE_DATE_EPOCH } });
    rmSync(recipe);
  });
};

/** As FROM takes it. `tsrun` is the path of a built one, needed where mmdebstrap cannot do it alone. */
export const baseReference = (tsrun) => (canOwnFiles() ? `tar:${debianBase()}` : imageBase(tsrun));
