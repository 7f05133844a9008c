// The base of images made on this machine: its own Debian or Ubuntu, as small as it comes, in a tar file that is made once and kept in build/ until
// the sources change. Whatever is built on it reaches the same mirrors in the same way.
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { machineAptOptions, machineSources } from './apt-sources.mjs';
import { environment, isRoot, must, root, runQuiet, Stop, say, seconds } from './lib.mjs';

const place = join(root, 'build/debian-base');

/** Certificates by which apt knows mirrors of https; a minimal Debian has none. */
const certificatesFor = (lines, options) => {
  if (!lines.some((line) => line.includes('https:'))) return [];
  const named = options.flatMap((line) => /::CaInfo "(.*)";$/.exec(line)?.[1] ?? []);
  return ['/etc/ssl/certs/ca-certificates.crt', ...named].filter(existsSync);
};

/** What of the base tells how this machine reaches its mirrors: nobody's business in an image that leaves it. */
export const machineTraces = () => ['/etc/apt/apt.conf.d/99mmdebstrap', ...certificatesFor(machineSources().lines, machineAptOptions())];

const rangeEnds = (path) =>
  existsSync(path)
    ? [...readFileSync(path, 'utf8').matchAll(/^[^:\n]*:(\d+):(\d+)$/gm)].map(([, first, count]) => Number(first) + Number(count))
    : [];

/** Without root, mmdebstrap unpacks a Debian with the ids that an administrator has set aside for its user. */
const needRanges = () => {
  if (isRoot) return;
  const name = userInfo().username;
  const { status, output } = runQuiet('getsubids', [name]);
  if (status === 0 || output.includes('ENOENT')) return; // (older systems have no getsubids)
  const first = Math.max(100_000, ...rangeEnds('/etc/subuid'), ...rangeEnds('/etc/subgid'));
  const range = `${first}-${first + 65_535}`;
  throw new Stop(
    `${name} has no subordinate ids, which mmdebstrap needs. Run this once, then the same command again:\n\n` +
      `  sudo usermod --add-subuids ${range} --add-subgids ${range} ${name}\n`,
  );
};

/** The path of the tar file. Throws Stop with what mmdebstrap said, or what it lacks. */
export const debianBase = () => {
  const { id, suite, lines } = machineSources();
  const options = machineAptOptions();
  const args = [
    '--variant=minbase',
    ...options.map((line) => `--aptopt=${line}`),
    '--dpkgopt=path-exclude=/usr/share/man/*',
    '--dpkgopt=path-exclude=/usr/share/locale/*',
    '--dpkgopt=path-exclude=/usr/share/doc/*',
    '--dpkgopt=path-include=/usr/share/doc/*/copyright',
    ...certificatesFor(lines, options).map((path) => `--customize-hook=mkdir -p "$1"'${join(path, '..')}' && cp '${path}' "$1"'${path}'`),
  ];
  const key = createHash('sha256')
    .update(JSON.stringify([suite, lines, args]))
    .digest('hex');
  const path = join(place, `${suite}-${key.slice(0, 16)}.tar`);
  if (existsSync(path)) return path;
  needRanges();
  say(`making a small ${id} ${suite} with mmdebstrap`);
  const started = performance.now();
  mkdirSync(place, { recursive: true });
  const fresh = join(place, `${process.pid}.tar`);
  must('making a base', 'mmdebstrap', [...args, suite, fresh, ...lines], { env: { ...environment, SOURCE_DATE_EPOCH: '1700000000' } });
  chmodSync(fresh, 0o644);
  renameSync(fresh, path);
  say(`made in ${seconds(started)}`);
  return path;
};
