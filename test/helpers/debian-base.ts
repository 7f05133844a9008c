/** A small Debian (or Ubuntu) made from the machine's own mirrors, as a base for recipes. Undefined where mmdebstrap is missing, or cannot make it. */
import { spawnSync } from 'node:child_process';
// biome-ignore lint/correctness/useImportExtensions: it takes the declarations for the module
import { canOwnFiles, debianBase as made } from '../../scripts/debian-base.mjs';

/** @throws Error with what mmdebstrap said */
export const debianBase = (): string | undefined =>
  spawnSync('mmdebstrap', ['--version']).status === 0 && canOwnFiles() ? made() : undefined;
