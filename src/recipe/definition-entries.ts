/** Sections of definition files that are lists: %files and %labels, and those of apps. */
import { entriesOf, type Section } from './definition-text.ts';
import { quote, refuse, refuseArgument } from './errors.ts';
import type { Place } from './spec.ts';
import { firstWord } from './text.ts';
import { expandWord, type Lookup, parseWord, variablesOf } from './words.ts';

export type FileEntry = { readonly source: string; readonly destination: string | undefined; readonly at: Place };

/** `SOURCE [DESTINATION]`; names with blanks stand in quotes. A source may hold variables of whoever builds, as a shell would take them. */
export const fileEntries = (section: Section, environment: Lookup): readonly FileEntry[] =>
  entriesOf(section).map(({ text, at }) => {
    const open = text.replace(/"[^"]*"|'[^']*'/g, '').match(/["']/)?.[0];
    if (open !== undefined) refuse(at, `a quote is not closed in ${quote(text)}`, `expected ${open}`);
    const words = [...text.matchAll(/"([^"]*)"|'([^']*)'|([^ \t"']+)/g)].map((found) => found[1] ?? found[2] ?? found[3] ?? '');
    const comment = words.findIndex((word) => word.startsWith('#'));
    const [source = '', destination, more] = comment < 0 ? words : words.slice(0, comment);
    if (source === '') return refuse(at, `${quote(text)} names no file`, 'expected SOURCE [DESTINATION]');
    if (more !== undefined)
      refuse(at, `${quote(more)} follows the destination`, 'expected SOURCE [DESTINATION]; names with blanks in double quotes');
    return { source: withVariables(source, environment, at), destination: destination === '' ? undefined : destination, at };
  });

const withVariables = (source: string, environment: Lookup, at: Place): string => {
  if (!source.includes('$')) return source;
  const word = parseWord(source, { at, quotes: false });
  const missing = word.find((part) => typeof part !== 'string' && part.operator === undefined && environment(part.variable) === undefined);
  if (missing !== undefined) {
    refuseArgument(
      at,
      `${variablesOf([missing])[0]} has no value in ${quote(source)}`,
      'it is a variable of your environment: export it, or write the path out',
    );
  }
  return expandWord(word, environment, at);
};

/** `NAME VALUE`: all behind the first blank. */
export const labelEntries = (section: Section): readonly { readonly name: string; readonly value: string; readonly at: Place }[] =>
  entriesOf(section).map(({ text, at }) => {
    const { word: name, rest: value } = firstWord(text);
    return { name, value, at };
  });
