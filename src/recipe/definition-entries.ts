/** Sections of definition files that are lists: %files and %labels, and those of apps. */
import { entriesOf, type Section } from './definition-text.ts';
import { quote, refuse } from './errors.ts';
import type { Place } from './spec.ts';
import { firstWord } from './text.ts';

export type FileEntry = { readonly source: string; readonly destination: string | undefined; readonly at: Place };

/** `SOURCE [DESTINATION]`; names with blanks stand in quotes. */
export const fileEntries = (section: Section): readonly FileEntry[] =>
  entriesOf(section).map(({ text, at }) => {
    const words = [...text.matchAll(/"([^"]*)"|'([^']*)'|([^ \t"']+)/g)].map((found) => found[1] ?? found[2] ?? found[3] ?? '');
    const comment = words.findIndex((word) => word.startsWith('#'));
    const [source = '', destination, more] = comment < 0 ? words : words.slice(0, comment);
    if (source === '') return refuse(at, `${quote(text)} names no file`, 'expected SOURCE [DESTINATION]');
    if (more !== undefined)
      refuse(at, `${quote(more)} follows the destination`, 'expected SOURCE [DESTINATION]; names with blanks in double quotes');
    return { source, destination: destination === '' ? undefined : destination, at };
  });

/** `NAME VALUE`: all behind the first blank. */
export const labelEntries = (section: Section): readonly { readonly name: string; readonly value: string; readonly at: Place }[] =>
  entriesOf(section).map(({ text, at }) => {
    const { word: name, rest: value } = firstWord(text);
    return { name, value, at };
  });
