/** `--lock`, `--locked`, `--vendor`, `--check` of `tsrun build`: what stands around a build of a recipe. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Built } from '../build/engine/build.ts';
import type { Supply } from '../build/engine/engine.ts';
import { type Bases, createBases } from '../build/locked-bases.ts';
import { packagesIn, packagesOf } from '../build/packages-of.ts';
import { openSquashFile } from '../build/squash-file.ts';
import { hostView } from '../image/host-view.ts';
import { createDownloads } from '../lock/downloads.ts';
import { condaNotes } from '../lock/inventory.ts';
import { LOCK_VERSION, type Lock, lockText, parseLock, requireKept, requirePackages, requireRecipe } from '../lock/lock-file.ts';
import { type Package, packageTitle } from '../lock/packages.ts';
import { type Fetch, keepInstalled, keptIn, requireVendored, supplyOf, type Vendor, withArchiveDigests } from '../lock/vendor.ts';
import type { BuildSpec } from '../recipe/spec.ts';
import { neededStages } from '../recipe/stages.ts';
import { TsrunError } from '../util/errors.ts';
import type { Host } from '../util/host.ts';
import { VERSION } from '../util/version.ts';

export type LockArguments = {
  readonly lock: boolean;
  readonly locked: boolean;
  readonly vendor: string | undefined;
  readonly check: boolean;
};

export type LockedBuild = {
  readonly bases: Bases;
  /** What is written besides the image, and may lie beside the recipe's own files. */
  readonly outputs: readonly string[];
  readonly supply: Supply | undefined;
  /** What ADD asks for, instead of the network itself. */
  readonly fetch: Fetch;
  /** Of the lock. */
  readonly epoch: number | undefined;
  /** Packages pass by only while steps run. */
  readonly noCache: boolean;
  /** After the build: writes the lock, or compares with it. Returns notes. */
  readonly finish: (built: Built, target: string) => Promise<readonly string[]>;
};

const usage = (what: string, why: string, hint: string): TsrunError => new TsrunError({ code: 'E_USAGE', what, why, hint });

export type LockSituation = {
  /** Absolute. */
  readonly path: string;
  readonly spec: BuildSpec;
  readonly offline: boolean;
  readonly host: Host;
  /** From the network. */
  readonly fetch: Fetch;
};

/** @throws TsrunError E_USAGE, E_LOCK, E_LOCK_CHANGED, E_VENDOR */
export const prepareLock = async (args: LockArguments, situation: LockSituation): Promise<LockedBuild> => {
  const { path, spec, offline, host } = situation;
  if (args.lock && args.locked) throw usage('cannot both write and obey the lock', '--lock and --locked were given', 'give one of them');
  if (args.vendor !== undefined && !args.lock && !args.locked) {
    throw usage(
      'cannot use --vendor',
      'it needs a lock',
      'keep with --lock --vendor DIR, build from it with --locked --offline --vendor DIR',
    );
  }
  const vendor = vendorOf(args);
  const beside = join(dirname(path), 'tsrun.lock');
  const recipeDigest = `sha256:${createHash('sha256').update(spec.recipe.text, 'latin1').digest('hex')}`;
  const lock = args.locked ? readLock(beside, vendor) : undefined;
  if (lock !== undefined) requireRecipe(lock.lock, recipeDigest, lock.path);
  if (vendor?.purpose === 'use' && !offline)
    throw usage('cannot use --locked --vendor', 'it builds without a network', 'add --offline, or leave --vendor out');
  if (vendor?.purpose === 'use') {
    await requireVendored(vendor.directory);
    if (lock !== undefined) requireKept(lock.lock, vendor.directory);
  }
  if (vendor !== undefined) refuseDebootstrap(spec, vendor.directory);
  const downloads = createDownloads({ lock, vendor, offline }, situation.fetch);
  const brought = createBrought(host, async (files, isNew) => {
    const conda = condaNotes(hostView(host, files)).filter((note) => isNew(note.package));
    if (vendor !== undefined)
      await keepInstalled(
        vendor,
        conda.map(({ document }) => document),
        situation.fetch,
      );
  });
  const bases = createBases({ lock, vendor, writes: args.lock });
  return {
    bases,
    outputs: [beside, ...(vendor === undefined ? [] : [vendor.directory])],
    supply:
      vendor === undefined
        ? undefined
        : { given: (wanted) => supplyOf(vendor, wanted, { fetch: situation.fetch, onLocal: brought.local }), left: brought.left },
    fetch: downloads.fetch,
    epoch: lock?.lock.epoch,
    noCache: vendor?.purpose === 'keep',
    finish: async (built, target) => {
      if (!args.lock && lock === undefined) return [];
      const { packages: found, notes } = await packagesOf(openSquashFile(target));
      const kept = vendor === undefined ? (): undefined => undefined : await keptIn(vendor.directory);
      const packages = withArchiveDigests(kept, found);
      if (lock !== undefined) {
        requirePackages(lock.lock, packages, lock.path);
        return notes;
      }
      const { treeDigest, epoch } = built;
      const missing = vendor === undefined ? [] : brought.packages().filter((each) => kept(each) === undefined);
      const text = lockText({
        version: LOCK_VERSION,
        tsrun: VERSION,
        recipe: recipeDigest,
        epoch,
        treeDigest,
        bases: bases.opened,
        downloads: downloads.fetched,
        packages,
        missing,
      });
      await writeLock(beside, text);
      if (vendor !== undefined) await writeLock(join(vendor.directory, 'tsrun.lock'), text);
      return missing.length === 0 ? notes : [...notes, notKept(missing)];
    },
  };
};

const SHOWN = 5;

const notKept = (missing: readonly Package[]): string => {
  const more = missing.length > SHOWN ? ` and ${missing.length - SHOWN} more` : '';
  const names = missing.slice(0, SHOWN).map(packageTitle).join(', ');
  return `these packages could not be kept, so the image cannot be built offline: ${names}${more} ("missing" in the lock)`;
};

type Brought = Pick<Supply, 'left'> & {
  readonly local: (each: Pick<Package, 'manager' | 'name' | 'version'>) => void;
  readonly packages: () => readonly Package[];
};

/**
 * What steps with a network have brought: packages that their files have and their base has not. dpkg's are not among them: what apt fetches is
 * kept, so others were installed from files that a step had.
 * @param keep after each of those steps, with the directory of its files
 */
const createBrought = (host: Host, keep: (files: string, isNew: (each: Package) => boolean) => Promise<void>): Brought => {
  const brought = new Map<string, Package>();
  const local = new Set<string>();
  const nameOf = ({ manager, name, version }: Pick<Package, 'manager' | 'name' | 'version'>): string => `${manager} ${name} ${version}`;
  const bases = new Map<string, Promise<ReadonlySet<string>>>();
  const titlesOf = async (base: string): Promise<ReadonlySet<string>> => new Set((await packagesIn(host, base)).map(packageTitle));
  return {
    local: (each) => void local.add(nameOf(each)),
    packages: () => [...brought.values()].filter((each) => each.manager !== 'dpkg' && !local.has(nameOf(each))),
    left: async (files, base) => {
      const before = bases.get(base) ?? titlesOf(base);
      bases.set(base, before);
      const known = await before;
      await keep(files, (each) => !known.has(packageTitle(each)));
      for (const each of await packagesIn(host, files)) if (!known.has(packageTitle(each))) brought.set(packageTitle(each), each);
    },
  };
};

const refuseDebootstrap = (spec: BuildSpec, directory: string): void => {
  if (!neededStages(spec).some((index) => spec.stages[index]?.base.kind === 'debootstrap')) return;
  throw new TsrunError({
    code: 'E_VENDOR',
    what: `cannot keep in ${directory} what the recipe begins with`,
    why: 'debootstrap fetches it package by package',
    hint: 'begin the recipe with an image (From: debian:12), or use --lock without --vendor',
  });
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
