/** `--lock`, `--locked`, `--vendor`, `--check` of `tsrun build`: what stands around a build of a recipe. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Built } from '../build/engine/build.ts';
import { type Bases, createBases } from '../build/locked-bases.ts';
import { packagesOf } from '../build/packages-of.ts';
import { openSquashFile } from '../build/squash-file.ts';
import { LOCK_VERSION, type Lock, lockText, parseLock, requirePackages, requireRecipe } from '../lock/lock-file.ts';
import { requireVendored, type StepSupply, supplyOf, type Vendor, withArchiveDigests } from '../lock/vendor.ts';
import { TsrunError } from '../util/errors.ts';
import { VERSION } from '../util/version.ts';

export type LockArguments = {
  readonly lock: boolean;
  readonly locked: boolean;
  readonly vendor: string | undefined;
  readonly check: boolean;
};

export type LockedBuild = {
  readonly bases: Bases;
  readonly supply: ((stage: number) => Promise<StepSupply>) | undefined;
  /** Of the lock. */
  readonly epoch: number | undefined;
  /** Packages pass by only while steps run. */
  readonly noCache: boolean;
  /** After the build: writes the lock, or compares with it. Returns notes. */
  readonly finish: (built: Built, target: string) => Promise<readonly string[]>;
};

const usage = (what: string, why: string, hint: string): TsrunError => new TsrunError({ code: 'E_USAGE', what, why, hint });

/** @param recipe absolute path and text. @throws TsrunError E_USAGE, E_LOCK, E_LOCK_CHANGED, E_VENDOR */
export const prepareLock = async (
  args: LockArguments,
  recipe: { readonly path: string; readonly text: string },
  offline: boolean,
): Promise<LockedBuild> => {
  if (args.lock && args.locked) throw usage('cannot both write and obey the lock', '--lock and --locked were given', 'give one of them');
  if (args.vendor !== undefined && !args.lock && !args.locked) {
    throw usage(
      'cannot use --vendor',
      'it needs a lock',
      'keep with --lock --vendor DIR, build from it with --locked --offline --vendor DIR',
    );
  }
  const vendor = vendorOf(args);
  const beside = join(dirname(recipe.path), 'tsrun.lock');
  const recipeDigest = `sha256:${createHash('sha256').update(recipe.text, 'latin1').digest('hex')}`;
  const lock = args.locked ? readLock(beside, vendor) : undefined;
  if (lock !== undefined) requireRecipe(lock.lock, recipeDigest, lock.path);
  if (vendor?.purpose === 'use') await requireVendored(vendor.directory);
  if (vendor?.purpose === 'use' && !offline)
    throw usage('cannot use --locked --vendor', 'it builds without a network', 'add --offline, or leave --vendor out');
  const bases = createBases({ lock, vendor, writes: args.lock });
  return {
    bases,
    supply: vendor === undefined ? undefined : (stage) => supplyOf(vendor, stage),
    epoch: lock?.lock.epoch,
    noCache: vendor?.purpose === 'keep',
    finish: async (built, target) => {
      if (!args.lock && lock === undefined) return [];
      const { packages: found, notes } = await packagesOf(openSquashFile(target));
      const packages = vendor === undefined ? found : await withArchiveDigests(vendor.directory, found);
      if (lock !== undefined) {
        requirePackages(lock.lock, packages, lock.path);
        return notes;
      }
      const { treeDigest, epoch } = built;
      const text = lockText({
        version: LOCK_VERSION,
        tsrun: VERSION,
        recipe: recipeDigest,
        epoch,
        treeDigest,
        bases: bases.opened,
        packages,
      });
      await writeLock(beside, text);
      if (vendor !== undefined) await writeLock(join(vendor.directory, 'tsrun.lock'), text);
      return notes;
    },
  };
};

const vendorOf = ({ vendor, locked }: LockArguments): Vendor | undefined =>
  vendor === undefined ? undefined : { directory: resolve(vendor), purpose: locked ? 'use' : 'keep' };

const readLock = (beside: string, vendor: Vendor | undefined): { readonly lock: Lock; readonly path: string } => {
  const path = [beside, ...(vendor === undefined ? [] : [join(vendor.directory, 'tsrun.lock')])].find((each) => existsSync(each));
  if (path === undefined) {
    throw new TsrunError({
      code: 'E_LOCK',
      what: 'cannot build --locked',
      why: `there is no ${beside}`,
      hint: 'write it first: tsrun build --lock …',
    });
  }
  return { lock: parseLock(readFileSync(path, 'utf8'), path), path };
};

const writeLock = async (path: string, text: string): Promise<void> => {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  } catch (error) {
    throw new TsrunError({
      code: 'E_LOCK',
      what: `cannot write ${path}`,
      why: error instanceof Error ? error.message : String(error),
      hint: 'the image was written; copy the recipe to a directory of your own and build with --lock again',
    });
  }
};
