/** Build arguments: those that were given, those every recipe knows, and which of them somebody asked for. */
import { parsePlatform } from '../oci/platform.ts';
import { meant, quote, refuseArgument } from './errors.ts';
import type { Place } from './spec.ts';

export type BuildArgs = Readonly<Record<string, string>>;

/** They say how the network is reached; a RUN step sees them without an ARG (Dockerfile reference, "Predefined ARGs"). */
const PROXY = /^(?:https?|ftp|all|no)_proxy$/i;

export const isProxyVariable = (name: string): boolean => PROXY.test(name);

/** Switches of BuildKit, not of the recipe. */
const isBuilderSwitch = (name: string): boolean => name.startsWith('BUILDKIT_') || name === 'SOURCE_DATE_EPOCH';

/** `--build-arg` values by name; own names only, so that a recipe cannot ask for `constructor`. */
export const argumentMap = (given: BuildArgs): ReadonlyMap<string, string> => new Map(Object.entries(given));

/** Names that were given and are neither in `used` nor of a kind that needs no asking. */
export const unusedOf = (given: BuildArgs, used: ReadonlySet<string>): readonly string[] =>
  Object.keys(given).filter((name) => !used.has(name) && !isProxyVariable(name) && !isBuilderSwitch(name));

/** Of languages in which such an argument can only be a slip. */
export const refuseUnused = (at: Place, unused: readonly string[], known: readonly string[]): void => {
  const [name] = unused;
  if (name === undefined) return;
  const list = known.length === 0 ? 'it has no arguments' : `its arguments: ${known.join(', ')}`;
  refuseArgument(at, `nothing in it uses the build argument ${quote(name)}`, meant(name, known, list));
};

/** TARGETPLATFORM and its kin, for "linux/arm64/v8" built on `build`. @throws TsrunError E_PLATFORM */
export const platformArguments = (target: string, build: string): ReadonlyMap<string, string> => {
  const of = (prefix: string, text: string): readonly [string, string][] => {
    const { os, architecture, variant } = parsePlatform(text);
    return [
      [`${prefix}PLATFORM`, [os, architecture, ...(variant === undefined ? [] : [variant])].join('/')],
      [`${prefix}OS`, os],
      [`${prefix}ARCH`, architecture],
      [`${prefix}VARIANT`, variant ?? ''],
    ];
  };
  return new Map([...of('TARGET', target), ...of('BUILD', build), ['TARGETSTAGE', '']]);
};
