/** `tsrun build OUT SOURCE` and `tsrun pull [OUT] REFERENCE`: the same work under the two names people know. */
import { type Stats, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { buildTwiceAndCompare, requireSame } from '../build/check.ts';
import { type ConvertOptions, convertImage, refuseExisting } from '../build/convert.ts';
import type { BuildListener } from '../build/events.ts';
import { rewrapImage } from '../build/rewrap.ts';
import { openSource, type SourceContext } from '../build/sources.ts';
import { openSquashFile } from '../build/squash-file.ts';
import { withRegistry } from '../build/with-registry.ts';
import type { Platform } from '../oci/descriptor.ts';
import { DEFAULT_LIMITS, type Limits } from '../oci/limits.ts';
import { parsePlatform } from '../oci/platform.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import type { Compressor } from '../squashfs/types.ts';
import { createBuildState, interruptedText } from '../ui/build-view.ts';
import { showBuild } from '../ui/show-build.ts';
import { TsrunError } from '../util/errors.ts';
import { requireDirectory } from '../util/output-file.ts';
import { printableLine } from '../util/printable.ts';
import { encodeUtf8 } from '../util/utf8.ts';
import { buildFromRecipe, type RecipeArguments, recipeOf } from './build-recipe.ts';
import { interruptible, type Tidying } from './interrupt.ts';
import { createProgress } from './progress.ts';
import { note } from './report.ts';
import { loadSettings, type Settings } from './settings.ts';

export type BuildArguments = {
  readonly target: string;
  readonly source: string;
  readonly compress?: string | undefined;
  readonly blockSize?: string | undefined;
  readonly arch?: string | undefined;
  readonly threads?: string | undefined;
  readonly force: boolean;
  readonly offline?: boolean | undefined;
  readonly insecure?: boolean | undefined;
  readonly limitSize?: string | undefined;
  readonly limitFiles?: string | undefined;
  readonly limitRatio?: string | undefined;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly env: Settings['env'];
  /** What only recipes have; absent where none is expected (pull). */
  readonly recipe?: Omit<RecipeArguments, 'recipe' | 'context'> & { readonly file: string | undefined };
};

/** @throws TsrunError */
export const build = async (args: BuildArguments): Promise<void> => {
  const target = targetOf(args.target);
  const found = args.recipe?.file === undefined ? args.recipe && recipeOf(args.source) : { recipe: args.recipe.file, context: args.source };
  if (args.recipe !== undefined && found !== undefined) return carryOut({ ...args.recipe, ...found }, target, args);
  // As with Apptainer: the image as a directory, with its owners.
  if (args.recipe?.sandbox === true && !args.recipe.update) return carryOut({ ...args.recipe, ...onlyFrom(args.source) }, target, args);
  if (args.recipe !== undefined) refuseForImages(args.recipe, args.source);
  const reference = parseReference(args.source);
  const settings = loadSettings(args.env, args);
  const limits = limitsOf(args);
  const platform = platformOf(args.arch);
  const progress = createProgress(args.source, process.stderr, args.quiet);
  const options: Omit<ConvertOptions, 'signal'> = {
    ...compressionOf(args.compress),
    blockSize: blockSizeOf(args.blockSize),
    threads: threadsOf(args.threads),
    limits,
    force: args.force,
    onProgress: progress.converted,
  };
  // What can be known is said before anything is fetched.
  refuseSameFile(reference, target);
  refuseExisting(target, args.force);
  requireDirectory(target);
  const say = (text: string): void => note(text, args.quiet);
  const notes = await interruptible((signal) =>
    withRegistry(settings, { onWarning: say, onProgress: progress.fetched, signal }, (registry) => {
      const context: SourceContext = { platform, limits, scratch: dirname(target), registry, signal };
      const recompress = args.compress !== undefined || args.blockSize !== undefined;
      return convert(reference, target, context, { ...options, signal }, recompress);
    }).finally(progress.end),
  );
  for (const text of notes) say(text);
};

/** Notes are shown by whoever shows the build. */
const carryOut = async (recipe: RecipeArguments, target: string, args: BuildArguments): Promise<void> => {
  const settings = loadSettings(args.env, args);
  const shown = showBuild({ output: process.stderr, quiet: args.quiet, verbose: args.verbose, shared: recipe.debugShell });
  const convert = {
    ...compressionOf(args.compress),
    blockSize: blockSizeOf(args.blockSize),
    threads: threadsOf(args.threads),
    limits: limitsOf(args),
    force: args.force,
  };
  const platform = platformOf(args.arch);
  if (!recipe.sandbox) requireDirectory(target);
  if (recipe.sandbox && (recipe.check || recipe.lock || recipe.locked))
    throw usage('cannot build a sandbox so', 'locks and comparisons are about image files', 'leave --sandbox out');
  const offline = args.offline === true;
  const state = createBuildState();
  const hear: BuildListener = (event) => {
    state.hear(event);
    shown.hear(event);
  };
  const tidying: Tidying = {
    // A step may have written a million files.
    patience: 600_000,
    onSlow: () => {
      const text = 'removing what was begun; Ctrl-C once more leaves that to the next build';
      shown.hear({ kind: 'note', at: performance.now(), text });
    },
    onTidy: () => note(interruptedText(state.view(performance.now())), args.quiet),
  };
  await interruptible(async (signal) => {
    const work = { args: recipe, target, settings, platform, convert, signal, offline };
    await buildFromRecipe({ ...work, hear }).finally(() => shown.end());
    if (!recipe.check) return;
    note('the same once more, without the cache, to compare', args.quiet);
    const siblings = [target, ...(recipe.vendor === undefined ? [] : [resolve(recipe.vendor)])];
    const again = async (path: string): Promise<void> => {
      const second = showBuild({ output: process.stderr, quiet: args.quiet, verbose: args.verbose });
      const anew = { ...recipe, noCache: true, lock: false, vendor: recipe.locked ? recipe.vendor : undefined };
      await buildFromRecipe({ ...work, args: anew, target: path, siblings, hear: second.hear }).finally(() => second.end());
    };
    requireSame(await buildTwiceAndCompare({ target, again, signal }), target);
    note(`two builds of ${printableLine(target)} do not differ`, args.quiet);
  }, tidying);
};

const convert = async (
  reference: Reference,
  target: string,
  context: SourceContext,
  options: ConvertOptions,
  recompress: boolean,
): Promise<readonly string[]> => {
  const source = await openSource(reference, context);
  if (source.kind === 'squashfs') {
    if (recompress) {
      throw usage(
        `cannot give ${source.path} another compression`,
        'the blocks of an existing image are taken as they are',
        'leave --compress and --block-size out; or take it apart, with sqfs2tar of squashfs-tools-ng: sqfs2tar FILE.squashfs | tsrun build --compress … OUT.sif - (tsrun image dump gets the SquashFS out of a SIF)',
      );
    }
    return (await rewrapImage(openSquashFile(source.path), target, options.force, options.signal, options.onProgress)).notes;
  }
  try {
    return (await convertImage(source.image, target, options)).notes;
  } finally {
    await source.image.close();
  }
};

/** A recipe of one line. @throws TsrunError E_USAGE when it names no image */
const onlyFrom = (source: string): Pick<RecipeArguments, 'recipe' | 'text' | 'context'> => {
  parseReference(source);
  const text = `FROM ${encodeUtf8(source).replace(/[\\$]/g, '\\$&')}\n`;
  return { recipe: source, text, context: process.cwd() };
};

/** The new file's absolute path. A source in its place means that the two words were exchanged. */
const targetOf = (text: string): string => {
  if (text === '') throw usage('cannot write the new image', 'its name is empty', 'tsrun build OUT.sif SOURCE');
  if (/^(?:docker|oci|oci-archive|docker-archive|tar):/.test(text)) {
    throw usage(`cannot write ${JSON.stringify(text)}`, 'it is a source, and the new file comes first', `tsrun build OUT.sif ${text}`);
  }
  return resolve(text);
};

/** What a conversion would pass over. */
const refuseForImages = (given: NonNullable<BuildArguments['recipe']>, source: string): void => {
  const options: Readonly<Record<string, boolean>> = {
    '--update': given.update,
    '--sandbox': given.sandbox,
    '--lock': given.lock,
    '--locked': given.locked,
    '--check': given.check,
    '--no-cache': given.noCache,
  };
  const option = Object.keys(options).find((name) => options[name]);
  if (option === undefined) return;
  throw usage(
    `cannot use ${option} for ${source}`,
    'it is no recipe',
    `write one of a line, FROM ${source}, and build that (tsrun image extract gives the files of an image)`,
  );
};

/** The host's architecture unless another one is asked for. */
export const platformOf = (arch: string | undefined): Platform => parsePlatform(arch ?? process.arch);

const usage = (what: string, why: string, hint?: string): TsrunError => new TsrunError({ code: 'E_USAGE', what, why, hint });

const LEVELS: Readonly<Record<Compressor, { readonly default: number | undefined; readonly max: number }>> = {
  zstd: { default: 3, max: 22 },
  gzip: { default: 9, max: 9 },
  xz: { default: undefined, max: 0 },
  lz4: { default: undefined, max: 0 },
};

/** "zstd", "zstd:19". */
export const compressionOf = (text: string | undefined): { readonly compressor: Compressor; readonly level: number | undefined } => {
  const [name = '', levelText] = (text ?? 'zstd').split(':', 2);
  if (!isCompressor(name))
    throw usage(`cannot compress with ${JSON.stringify(text)}`, 'there is no such compressor', 'known: zstd, gzip, xz, lz4');
  const { default: usual, max } = LEVELS[name];
  if (levelText === undefined) return { compressor: name, level: usual };
  const level = /^[0-9]{1,2}$/.test(levelText) ? Number(levelText) : 0;
  if (level < 1 || level > max) {
    throw usage(
      `cannot compress with ${JSON.stringify(text)}`,
      max === 0 ? `${name} has no levels` : `levels of ${name} go from 1 to ${max}`,
    );
  }
  return { compressor: name, level };
};

const isCompressor = (name: string): name is Compressor => Object.hasOwn(LEVELS, name);

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** "128K", "1M", "2T", "131072". */
export const sizeOf = (text: string, option: string): number => {
  const parts = /^([0-9]{1,15})([KMGT]?)i?B?$/i.exec(text);
  const size = parts === null ? Number.NaN : Number(parts[1]) * (UNITS[(parts[2] ?? '').toUpperCase()] ?? 1);
  if (Number.isSafeInteger(size) && size > 0) return size;
  throw usage(`cannot use ${option} ${JSON.stringify(text)}`, 'it is not a size', 'write a number of bytes, or 128K, 1M, 2G, 1T');
};

const blockSizeOf = (text: string | undefined): number => {
  const size = text === undefined ? 128 * 1024 : sizeOf(text, '--block-size');
  if (size >= 4096 && size <= 1024 * 1024 && Number.isInteger(Math.log2(size))) return size;
  throw usage(`cannot use --block-size ${text}`, 'SquashFS takes powers of two from 4K to 1M');
};

/** More are not worth their memory, some 50 MB each: the whole is to stay below 600 MB, and four outrun what decodes gzip layers. */
const USEFUL_THREADS = 4;

export const threadsOf = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Math.min(numberOf(text, '--threads', 1, 64), USEFUL_THREADS);

const limitsOf = ({ limitSize, limitFiles, limitRatio }: BuildArguments): Limits => ({
  bytes: limitSize === undefined ? DEFAULT_LIMITS.bytes : sizeOf(limitSize, '--limit-size'),
  entries: limitFiles === undefined ? DEFAULT_LIMITS.entries : numberOf(limitFiles, '--limit-files', 1, 2 ** 32 - 1),
  ratio: limitRatio === undefined ? DEFAULT_LIMITS.ratio : numberOf(limitRatio, '--limit-ratio', 1, 1e9),
});

/** @throws TsrunError E_USAGE for anything but digits that stand for a number from `least` to `most` */
export const numberOf = (text: string, option: string, least: number, most: number): number => {
  const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw usage(`cannot use ${option} ${JSON.stringify(text)}`, `it is not a number from ${least} to ${most}`);
};

/** Writing an image over its own source would end with neither. */
const refuseSameFile = (reference: Reference, target: string): void => {
  if (!('path' in reference)) return;
  const source = statOrNothing(reference.path);
  const existing = statOrNothing(target);
  if (source === undefined || existing === undefined || source.ino !== existing.ino || source.dev !== existing.dev) return;
  throw usage(`cannot write ${target}`, 'it is the source itself', 'give the new image another name');
};

/** What cannot be looked at is named by whoever opens it. */
const statOrNothing = (path: string): Stats | undefined => {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
};

/** `pull` names its output as Apptainer does: NAME_TAG.sif in the current directory. */
export const pullTarget = (reference: string): string => {
  const parsed = parseReference(reference);
  switch (parsed.kind) {
    case 'registry':
      return `${parsed.repository.slice(parsed.repository.lastIndexOf('/') + 1)}_${parsed.tag ?? parsed.digest?.slice(7, 19) ?? 'latest'}.sif`;
    case 'oci-layout':
    case 'oci-archive':
    case 'docker-archive': {
      const name = parsed.path
        .replace(/\/+$/, '')
        .replace(/^.*\//, '')
        .replace(/\.tar(\.gz|\.zst)?$/, '');
      const tag = parsed.tag?.replace(/^.*[/:]/, '');
      return `${name}_${tag ?? 'latest'}.sif`;
    }
    default:
      throw usage(
        `cannot pull ${JSON.stringify(reference.slice(0, 200))}`,
        'it is not an image of a registry or archive',
        `${/^[a-z0-9][\w./-]*(:[\w.-]+)?$/.test(reference) ? `an image in a registry is written docker://${reference}; for others ` : ''}use tsrun build OUT.sif SOURCE`,
      );
  }
};
