/** Flags from the environment: TSRUN_KEY, then APPTAINER_KEY, then SINGULARITY_KEY. An empty value counts as not given. */
import { type Host, wordsOf } from '../util/host.ts';
import { ALL_FLAGS } from './flags.ts';
import { type Given, switchText } from './parse.ts';

/** The caller's variables, by name. */
export type Environment = { readonly get: (name: string) => string | undefined };

/** The prefixes, the strongest first. */
export const PREFIXES = ['TSRUN', 'APPTAINER', 'SINGULARITY'] as const;
const OWN_WORDS = wordsOf(PREFIXES.map((prefix) => `${prefix}*`));

/** All variables that begin as ours and Apptainer's do; usually none, so nothing more is looked for. */
export const ownVariables = (host: Host): ReadonlyMap<string, string> => {
  const found = host.environ(OWN_WORDS);
  const own = new Map<string, string>();
  for (let at = 0; at < found.length; at += 3) own.set(found[at + 1] as string, found[at + 2] as string);
  return own;
};

/** Positions in the flag table by environment key, made at the first use and kept. */
let positions: Map<string, number> | undefined;

const NO_FLAGS: typeof ALL_FLAGS = [];

/** The flags that these variables may speak of, in the table's order: usually none, so that the table is not walked. */
const flagsNamed = (names: Iterable<string>): readonly (typeof ALL_FLAGS)[number][] => {
  if (positions === undefined) {
    positions = new Map();
    for (let at = 0; at < ALL_FLAGS.length; at++) for (const key of ALL_FLAGS[at]?.env ?? []) positions.set(key, at);
  }
  const found: number[] = [];
  for (const name of names) {
    const at = positions.get(name.slice(name.indexOf('_') + 1));
    if (at !== undefined && !found.includes(at)) found.push(at);
  }
  return found.length === 0 ? NO_FLAGS : found.sort((a, b) => a - b).flatMap((at) => ALL_FLAGS[at] ?? []);
};

/**
 * The weakest first. SINGULARITY_ values count only where no APPTAINER_ value is given for the same flag; TSRUN_ ones win over both,
 * and add to them in lists. @param variables ownVariables()
 * Errors: E_USAGE for a switch that is neither yes nor no.
 */
export const givenByEnvironment = (variables: ReadonlyMap<string, string>): Given[] => {
  if (variables.size === 0) return [];
  const given: Given[] = [];
  for (const flag of flagsNamed(variables.keys())) {
    const found = PREFIXES.map((prefix) =>
      (flag.env ?? []).map((key) => `${prefix}_${key}`).filter((name) => (variables.get(name) ?? '') !== ''),
    );
    const [own = [], apptainer = [], singularity = []] = found;
    const foreign = apptainer.length > 0 ? apptainer : singularity;
    // In one prefix the earlier key is the stronger one.
    for (const name of [...foreign.toReversed(), ...own.toReversed()]) {
      const text = variables.get(name) ?? '';
      // In MOUNT variables specs are lines.
      const texts = flag.name === 'mount' ? text.split('\n').filter((line) => line !== '') : [text];
      for (const each of texts) {
        given.push({ flag: flag.name, text: flag.kind === 'switch' ? switchText(name, each) : each, from: 'environment', origin: name });
      }
    }
  }
  return given;
};
