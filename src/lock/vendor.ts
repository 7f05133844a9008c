/**
 * `--vendor DIR`: what a build took from the network, kept, so that it can be built again without one.
 *
 *     DIR/tsrun.lock          what was built
 *     DIR/base/               base images, an OCI layout; each under the name the recipe gives it
 *     DIR/apt/STAGE/          what apt fetched: vendor-apt.ts
 *     DIR/apk/STAGE/          what apk fetched: vendor-apk.ts
 *     DIR/pip/                what pip fetched: vendor-pip.ts
 *     DIR/conda/              what conda and its kin fetched: vendor-conda.ts
 *     DIR/dnf/STAGE/          what dnf and microdnf fetched: vendor-dnf.ts
 *     DIR/zypp/STAGE/         what zypper fetched: vendor-zypper.ts
 *     DIR/r/                  what R fetched: vendor-r.ts
 *     DIR/files/              what ADD fetched: downloads.ts
 *
 * Each tool keeps by its own means, outside of the image's tree: what a recipe does to /var/cache/apt or to pip's cache touches only the image. What
 * other tools fetched is not kept; the lock names the packages it brought (`missing`), and no build begins without them.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TsrunError } from '../util/errors.ts';
import { keptRpms } from './kept-files.ts';
import type { Package } from './packages.ts';
import { apkSupply, keptApks } from './vendor-apk.ts';
import { aptSupply, keptArchives } from './vendor-apt.ts';
import { type CondaDocument, condaSupply, keepCondaPackages, keptCondas } from './vendor-conda.ts';
import { dnfSupply } from './vendor-dnf.ts';
import { keptDistributions, pipSupply } from './vendor-pip.ts';
import { keptRArchives, rSupply } from './vendor-r.ts';
import { zypperSupply } from './vendor-zypper.ts';

export type Vendor = {
  /** Absolute. */
  readonly directory: string;
  /** `keep`: fetch and keep; `use`: what is there must do. */
  readonly purpose: 'keep' | 'use';
};

/** What a step is given besides; for the engine. */
export type StepSupply = {
  readonly mounts: readonly SupplyMount[];
  /** Lines for the file that APT_CONFIG names. */
  readonly aptConfig: string;
  /** From the variables that the step has: what is set besides. */
  readonly environment: (own: Variables) => Variables;
  /** Programs that the step finds, by their names, in place of the image's own; where that has none of the name, nor does the step. */
  readonly commands: ReadonlyMap<string, CommandScript>;
  /** To be called when the step's program has ended. */
  readonly ended: () => Promise<void>;
};

export type Variables = ReadonlyMap<string, string>;

/** The text of a program that stands before the image's: `program` is that one's path, `behind` the file at the end of its links. */
export type CommandScript = (found: { readonly program: string; readonly behind: string }) => string;

/** What one tool needs. */
export type ToolSupply = Partial<StepSupply>;

export type SupplyMount = { readonly source: string; readonly target: string; readonly readOnly: boolean; readonly why: string };

/** @throws Error of any kind when it cannot be fetched */
export type Fetch = (address: string) => Promise<AsyncIterable<Uint8Array>>;

export type Wanted = {
  /** Index in the recipe: two stages may have different distributions with files of the same name. */
  readonly stage: number;
  /** An empty directory for the length of the step. */
  readonly scratch: string;
};

export type Sources = {
  readonly fetch: Fetch;
  /** Of a package that lay in the image or its build, and needs no network: its name and version. */
  readonly onLocal: (each: Pick<Package, 'manager' | 'name' | 'version'>) => void;
};

/** @throws TsrunError E_VENDOR, as does its `ended` */
export const supplyOf = ({ directory, purpose }: Vendor, { stage, scratch }: Wanted, sources: Sources): Promise<StepSupply> =>
  inVendor(directory, async () => {
    const tools: readonly ToolSupply[] = [
      await aptSupply(purpose, join(directory, 'apt', String(stage)), scratch),
      await apkSupply(purpose, join(directory, 'apk', String(stage)), scratch),
      await pipSupply(purpose, join(directory, 'pip'), scratch, sources),
      await condaSupply(purpose, join(directory, 'conda'), scratch),
      await dnfSupply(purpose, join(directory, 'dnf', String(stage)), scratch),
      await zypperSupply(purpose, join(directory, 'zypp', String(stage)), scratch),
      await rSupply(purpose, join(directory, 'r'), scratch),
    ];
    return {
      mounts: tools.flatMap(({ mounts = [] }) => mounts),
      aptConfig: tools.map(({ aptConfig = '' }) => aptConfig).join(''),
      environment: (own) => new Map(tools.flatMap(({ environment }) => [...(environment?.(own) ?? [])])),
      commands: new Map(tools.flatMap(({ commands = [] }) => [...commands])),
      ended: () =>
        inVendor(directory, async () => {
          for (const { ended } of tools) await ended?.();
        }),
    };
  });

/** After a step that had a network: what it installed and noted itself. @throws TsrunError E_VENDOR */
export const keepInstalled = async ({ directory, purpose }: Vendor, conda: readonly CondaDocument[], fetch: Fetch): Promise<void> => {
  if (purpose === 'keep') await inVendor(directory, () => keepCondaPackages(join(directory, 'conda'), conda, fetch));
};

const inVendor = async <T>(directory: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (error) {
    throw new TsrunError({
      code: 'E_VENDOR',
      what: `cannot keep packages in ${directory}`,
      why: error instanceof Error ? error.message : String(error),
      hint: 'give --vendor a directory that you may write to, with room for what is fetched',
      cause: error,
    });
  }
};

/** @throws TsrunError E_VENDOR when DIR does not hold what --vendor writes */
export const requireVendored = async (directory: string): Promise<void> => {
  const found = await stat(join(directory, 'base/index.json')).catch(() => undefined);
  if (found?.isFile() === true) return;
  throw new TsrunError({
    code: 'E_VENDOR',
    what: `cannot build from ${directory}`,
    why: 'it holds no base images: it is no directory that --vendor made',
    hint: `make it with a network: tsrun build --lock --vendor ${directory} OUT RECIPE`,
  });
};

/** "sha256:…" by which a package that was kept is known; undefined: it was not. */
export type Kept = (each: Package) => string | undefined;

export const keptIn = async (directory: string): Promise<Kept> => {
  const archives = await keptArchives(join(directory, 'apt'));
  const apks = await keptApks(join(directory, 'apk'));
  const condas = await keptCondas(join(directory, 'conda'));
  const distributions = await keptDistributions(join(directory, 'pip'));
  const rpms = await keptRpms([join(directory, 'dnf'), join(directory, 'zypp')]);
  const sources = await keptRArchives(join(directory, 'r'));
  return (each) => {
    switch (each.manager) {
      case 'dpkg':
        return archives(each);
      case 'pip':
        return distributions(each);
      case 'rpm':
        return rpms(each) ? each.digest : undefined;
      case 'r':
        return sources(each);
      case 'apk':
        return apks(each) ? each.digest : undefined;
      case 'conda':
        return condas(each);
      default:
        return each.manager satisfies never;
    }
  };
};

/** `packages` with the digests of their archives where they were kept; others stay as they are. */
export const withArchiveDigests = (kept: Kept, packages: readonly Package[]): readonly Package[] =>
  packages.map((each) => {
    const digest = kept(each);
    return digest === undefined ? each : { ...each, digest };
  });
