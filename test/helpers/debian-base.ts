/**
 * A small Debian (or Ubuntu) made from the machine's own mirrors, as a base for recipes: a tar file of the test user's, made once and kept in
 * build/ until the sources change. Undefined where mmdebstrap is missing.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join, resolve } from 'node:path';
// biome-ignore lint/correctness/useImportExtensions: it takes the declarations for the module
import { machineAptOptions, machineSources } from '../../scripts/apt-sources.mjs';

const place = resolve(import.meta.dirname, '../../build/test-base');

/** @throws Error with what mmdebstrap said */
export const debianBase = (): string | undefined => {
  if (spawnSync('mmdebstrap', ['--version']).status !== 0) return undefined;
  const { suite, lines } = machineSources();
  const options = [
    '--variant=minbase',
    ...machineAptOptions().map((line) => `--aptopt=${line}`),
    '--dpkgopt=path-exclude=/usr/share/man/*',
  ];
  const key = createHash('sha256')
    .update(JSON.stringify([suite, lines, options]))
    .digest('hex')
    .slice(0, 16);
  const path = join(place, `${suite}-${key}.tar`);
  if (existsSync(path)) return path;
  mkdirSync(place, { recursive: true });
  const fresh = join(place, `${process.pid}.tar`);
  const done = spawnSync('mmdebstrap', [...options, suite, fresh, ...lines], {
    encoding: 'utf8',
    env: { ...process.env, SOURCE_DATE_EPOCH: '1700000000' },
  });
  if (done.status !== 0) throw new Error(`mmdebstrap: ${done.stderr.slice(-2000)}`);
  renameSync(fresh, path);
  return path;
};
