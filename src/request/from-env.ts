/** Flags from the environment: TSRUN_KEY, then APPTAINER_KEY, then SINGULARITY_KEY. An empty value counts as not given. */
import { ALL_FLAGS } from './flags.ts';
import { type Given, switchText } from './parse.ts';

export type Environment = ReadonlyMap<string, string>;

/** The prefixes, the strongest first. */
export const PREFIXES = ['TSRUN', 'APPTAINER', 'SINGULARITY'] as const;

/** @param entries name, value, name, value …; the first of a doubled name counts, as it does for getenv. */
export const parseEnviron = (entries: readonly string[]): Map<string, string> => {
  const environment = new Map<string, string>();
  for (let at = 0; at < entries.length; at += 2) {
    const name = entries[at] as string;
    if (!environment.has(name)) environment.set(name, entries[at + 1] as string);
  }
  return environment;
};

/** Of the same entries, all names that begin as variables of ours and of Apptainer do; usually none, so nothing more is looked for. */
export const ownNames = (entries: readonly string[]): string[] => {
  const names: string[] = [];
  for (let at = 0; at < entries.length; at += 2) {
    const name = entries[at] as string;
    // For all others two comparisons, which are cheaper than calls.
    const near =
      name < 'SINGULARITY' ? name < 'APPTAINES' && name >= 'APPTAINER' : name < 'TSRUO' && (name < 'SINGULARITZ' || name >= 'TSRUN');
    if (near && PREFIXES.some((prefix) => name.startsWith(prefix))) names.push(name);
  }
  return names;
};

/** Positions in the flag table by environment key, made at the first use and kept. */
let positions: Map<string, number> | undefined;

/** The flags that these variables may speak of, in the table's order: usually none, so that the table is not walked. */
const flagsNamed = (names: readonly string[]): readonly (typeof ALL_FLAGS)[number][] => {
  if (positions === undefined) {
    positions = new Map();
    for (let at = 0; at < ALL_FLAGS.length; at++) for (const key of ALL_FLAGS[at]?.env ?? []) positions.set(key, at);
  }
  const found: number[] = [];
  for (const name of names) {
    const at = positions.get(name.slice(name.indexOf('_') + 1));
    if (at !== undefined && !found.includes(at)) found.push(at);
  }
  return found.sort((a, b) => a - b).flatMap((at) => ALL_FLAGS[at] ?? []);
};

/**
 * The weakest first. SINGULARITY_ values count only where no APPTAINER_ value is given for the same flag; TSRUN_ ones win over both,
 * and add to them in lists. @param names ownNames() of it
 * Errors: E_USAGE for a switch that is neither yes nor no.
 */
export const givenByEnvironment = (environment: Environment, names: readonly string[]): Given[] => {
  if (names.length === 0) return [];
  const given: Given[] = [];
  for (const flag of flagsNamed(names)) {
    const found = PREFIXES.map((prefix) =>
      (flag.env ?? []).map((key) => `${prefix}_${key}`).filter((name) => names.includes(name) && environment.get(name) !== ''),
    );
    const [own = [], apptainer = [], singularity = []] = found;
    const foreign = apptainer.length > 0 ? apptainer : singularity;
    // In one prefix the earlier key is the stronger one.
    for (const name of [...foreign.toReversed(), ...own.toReversed()]) {
      const text = environment.get(name) ?? '';
      // In MOUNT variables specs are lines.
      const texts = flag.name === 'mount' ? text.split('\n').filter((line) => line !== '') : [text];
      for (const each of texts) {
        given.push({ flag: flag.name, text: flag.kind === 'switch' ? switchText(name, each) : each, from: 'environment', origin: name });
      }
    }
  }
  return given;
};
