/** Build arguments: those that were given, those every recipe knows, and which of them somebody asked for. */
import { parsePlatform } from '../oci/platform.ts';
import { TsrunError } from '../util/errors.ts';
import { printableLine } from '../util/printable.ts';
import { meant, quote, refuseArgument } from './errors.ts';
import type { Place } from './spec.ts';
import { linesOf, trim } from './text.ts';

export type BuildArgs = Readonly<Record<string, string>>;

/**
 * What `--build-arg NAME=VALUE` and `--build-arg-file` give; the flags win. `--build-arg NAME` takes the value from the environment, if there is one.
 * The file has a line `NAME=VALUE` for each; `#` begins a comment line.
 * @throws TsrunError E_RECIPE_ARGUMENT
 */
export const readBuildArgs = (
  flags: readonly string[],
  files: readonly { readonly path: string; readonly text: string }[],
  environment: (name: string) => string | undefined,
): BuildArgs => {
  const given = new Map<string, string>();
  for (const { path, text } of files) {
    for (const [index, line] of linesOf(text).entries()) {
      if (trim(line) === '' || trim(line).startsWith('#')) continue;
      const { name, value } = assignment(trim(line), `${path}:${index + 1}`);
      given.set(name, value ?? refuseGiven(`${path}:${index + 1}`, `there is no "=" in ${quote(line)}`));
    }
  }
  for (const flag of flags) {
    const { name, value } = assignment(flag, `--build-arg ${flag}`);
    const found = value ?? environment(name);
    if (found !== undefined) given.set(name, found);
  }
  return Object.fromEntries(given);
};

const assignment = (text: string, origin: string): { readonly name: string; readonly value: string | undefined } => {
  const equals = text.indexOf('=');
  const name = trim(equals < 0 ? text : text.slice(0, equals));
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name)) refuseGiven(origin, `${quote(name)} is no name of an argument`);
  return { name, value: equals < 0 ? undefined : text.slice(equals + 1) };
};

const refuseGiven: (origin: string, why: string) => never = (origin, why) => {
  throw new TsrunError({
    code: 'E_RECIPE_ARGUMENT',
    what: `cannot use ${printableLine(origin.slice(0, 200))}`,
    why: printableLine(why),
    hint: 'write NAME=VALUE; a name has letters, digits and _',
  });
};

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
