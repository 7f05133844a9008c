// The base of images made on this machine: its own Debian or Ubuntu, as small as it comes, in a tar file that is made once and kept in build/ until
// the sources change. Whatever is built on it reaches the same mirrors in the same way.
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { machineAptOptions, machineSources } from './apt-sources.mjs';
import { environment, must, root, say, seconds } from './lib.mjs';

const place = join(root, 'build/debian-base');

/** Certificates by which apt knows mirrors of https; a minimal Debian has none. */
const certificatesFor = (lines, options) => {
  if (!lines.some((line) => line.includes('https:'))) return [];
  const named = options.flatMap((line) => /::CaInfo "(.*)";$/.exec(line)?.[1] ?? []);
  return ['/etc/ssl/certs/ca-certificates.crt', ...named].filter(existsSync);
};

/** What of the base tells how this machine reaches its mirrors: nobody's business in an image that leaves it. */
export const machineTraces = () => ['/etc/apt/apt.conf.d/99mmdebstrap', ...certificatesFor(machineSources().lines, machineAptOptions())];

/** The path of the tar file. Throws Stop with what mmdebstrap said. */
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
