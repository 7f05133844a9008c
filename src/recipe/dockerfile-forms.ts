/** The forms in which instructions of Dockerfiles take what they are about: JSON, assignments, flags. */
import { decodeUtf8, encodeUtf8 } from '../util/utf8.ts';
import { heredocMark, type Instruction, shellWords } from './dockerfile-lines.ts';
import { meant, quote, refuse } from './errors.ts';
import type { Command, Place, Word } from './spec.ts';
import { firstWord, trim } from './text.ts';
import { parseWord } from './words.ts';

/**
 * `["a", "b"]`; undefined: the text is for a shell.
 * What looks like it and is no JSON is refused: Docker hands it to the shell, which then fails when the image is run.
 */
export const jsonForm = (text: string, at: Place): readonly string[] | undefined => {
  if (!text.startsWith('[')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(decodeUtf8(text) ?? '');
  } catch {
    if (!/^\[[ \t]*['"]/.test(text) || !text.endsWith(']')) return undefined;
    return refuse(at, `${quote(text)} is not JSON`, 'expected ["PROGRAM", "ARGUMENT"], with double quotes and no comma at the end');
  }
  if (!Array.isArray(value)) return undefined;
  return value.map((each) => {
    if (typeof each !== 'string') return refuse(at, `${quote(text)} holds something else than texts`, 'put each word in double quotes');
    if (each.includes('\0')) return refuse(at, `${quote(text)} holds a NUL character`, 'leave \\u0000 out');
    return encodeUtf8(each);
  });
};

export type Assignment = { readonly name: string; readonly value: string | undefined };

/** `A=1 B="x y"`, of ENV and LABEL also `A the whole rest`. Names and values still hold quotes and variables. */
export const assignments = ({ keyword, rest, at }: Instruction, escapeChar: string): readonly Assignment[] => {
  const words = shellWords(rest, escapeChar);
  if (words.length === 0) refuse(at, `${keyword} says nothing`, `expected ${keyword} NAME=VALUE`);
  if (keyword !== 'ARG' && !(words[0] ?? '').includes('=')) {
    const { word: name, rest: value } = firstWord(rest);
    if (value === '') refuse(at, `${keyword} ${quote(name)} has no value`, `expected ${keyword} ${name}=VALUE`);
    return [{ name, value }];
  }
  return words.map((word) => {
    const equals = word.indexOf('=');
    if (equals < 0 && keyword !== 'ARG') {
      refuse(at, `there is no "=" in ${quote(word)}`, `expected ${keyword} NAME=VALUE; a value with blanks goes in double quotes`);
    }
    return equals < 0 ? { name: word, value: undefined } : { name: word.slice(0, equals), value: word.slice(equals + 1) };
  });
};

/** `switch`: true where it has no value. `list`: may come more than once. */
export type FlagKind = 'text' | 'switch' | 'list';

export type Flags = {
  readonly text: (name: string) => string | undefined;
  readonly on: (name: string) => boolean;
  readonly list: (name: string) => readonly string[];
};

/** @throws TsrunError E_RECIPE for flags the instruction does not have */
export const readFlags = (given: readonly string[], known: Readonly<Record<string, FlagKind>>, keyword: string, at: Place): Flags => {
  const values = new Map<string, string[]>();
  for (const flag of given) {
    const equals = flag.indexOf('=');
    const name = equals < 0 ? flag.slice(2) : flag.slice(2, equals);
    const kind = Object.hasOwn(known, name) ? known[name] : undefined;
    if (kind === undefined) {
      const names = Object.keys(known);
      const all = names.length === 0 ? `${keyword} has no flags` : `flags of ${keyword}: ${names.map((each) => `--${each}`).join(' ')}`;
      return refuse(
        at,
        `${keyword} has no flag ${quote(`--${name}`)}`,
        meant(name, names, all).replace(/^did you mean /, 'did you mean --'),
      );
    }
    if (equals < 0 && kind !== 'switch') refuse(at, `--${name} has no value`, `expected --${name}=VALUE`);
    const before = values.get(name) ?? [];
    if (before.length > 0 && kind !== 'list') refuse(at, `--${name} stands there twice`, 'leave one of them out');
    values.set(name, [...before, equals < 0 ? 'true' : flag.slice(equals + 1)]);
  }
  return {
    text: (name) => values.get(name)?.[0],
    on: (name) => values.has(name) && yesOrNo(values.get(name)?.[0] ?? '', `--${name}`, at),
    list: (name) => values.get(name) ?? [],
  };
};

export const yesOrNo = (text: string, what: string, at: Place): boolean => {
  if (/^(?:true|1|t|yes)$/i.test(text)) return true;
  if (/^(?:false|0|f|no)$/i.test(text)) return false;
  return refuse(at, `${quote(text)} is no value of ${what}`, 'expected true or false');
};

/** Octal digits. */
export const fileMode = (text: string, what: string, at: Place): number =>
  /^0?o?[0-7]{1,5}$/.test(text)
    ? Number.parseInt(text.replace('o', ''), 8)
    : refuse(at, `${quote(text)} is no value of ${what}`, 'expected octal digits, such as 0644');

/** What follows RUN (without flags), CMD or ENTRYPOINT in one of its forms. */
export const commandOf = ({ heredocs, at, keyword }: Instruction, text: string): Command => {
  if (trim(text) === '') return refuse(at, `${keyword} says nothing`, `expected ${keyword} and a command`);
  const [document] = heredocs;
  if (document !== undefined && heredocs.length === 1 && heredocMark(text) !== undefined) {
    const interpreter = interpreterOf(document.content);
    if (interpreter !== undefined) return { form: 'script', interpreter, text: document.content, args: [] };
    return { form: 'shell', text: document.content };
  }
  if (heredocs.length > 0) return { form: 'shell', text: `${text}\n${heredocs.map(({ raw }) => raw).join('')}` };
  const argv = jsonForm(text, at);
  if (argv === undefined) return { form: 'shell', text };
  if (keyword === 'RUN' && argv.length === 0) refuse(at, 'RUN [] runs nothing', 'expected RUN ["PROGRAM", "ARGUMENT"]');
  return { form: 'argv', argv };
};

/** Of a first line `#!PROGRAM ARGUMENT`, as the kernel reads it: all that follows the program is one argument. */
export const interpreterOf = (script: string): readonly string[] | undefined => {
  if (!script.startsWith('#!')) return undefined;
  const { word, rest } = firstWord(trim(script.slice(2).split('\n')[0] ?? ''));
  return word === '' ? undefined : rest === '' ? [word] : [word, rest];
};

/** JSON form, or words parted by blanks; each may hold variables. */
export const wordList = (text: string, escapeChar: string, at: Place): readonly Word[] =>
  (jsonForm(text, at) ?? shellWords(text, escapeChar)).map((each) => parseWord(each, { at, escapeChar }));
