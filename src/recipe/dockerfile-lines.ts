/**
 * Dockerfile → instructions: parser directives, comments, continued lines and here-documents. Written by us: the one kept parser on npm
 * (dockerfile-ast) is made for editors, takes any text without an error, and reads JSON forms wrongly.
 * Rules: Dockerfile reference, "Parser directives", "Format", "Here-documents".
 */
import { LIMITS, quote, refuse, refuseLimit, refuseUnsupported } from './errors.ts';
import type { Place } from './spec.ts';
import { fields, firstWord, isBlank, linesOf, trim, trimEnd, trimStart } from './text.ts';

export type Heredoc = {
  readonly name: string;
  /** The name was not quoted: variables in it are expanded. */
  readonly expand: boolean;
  /** Each line with its end; leading tabs are off where it was `<<-`. */
  readonly content: string;
  /** As it stands in the file, for the shell to read again. */
  readonly raw: string;
};

export type Instruction = {
  /** In capitals. */
  readonly keyword: string;
  /** What follows the keyword, continued lines joined; blanks at both ends are off. */
  readonly rest: string;
  readonly heredocs: readonly Heredoc[];
  readonly at: Place;
};

export type Lines = { readonly instructions: readonly Instruction[]; readonly escapeChar: string };

/** @throws TsrunError E_RECIPE, E_RECIPE_LIMIT, E_RECIPE_UNSUPPORTED (a language that `# syntax=` names) */
export const readInstructions = (text: string, file: string): Lines => {
  if (text.length > LIMITS.bytes) refuseLimit({ file, line: 1 }, `it is longer than ${LIMITS.bytes} bytes`);
  const lines = linesOf(text);
  const escapeChar = readDirectives(lines, file);
  const instructions: Instruction[] = [];
  for (let index = 0; index < lines.length; ) {
    if (isNothing(lines[index] ?? '')) {
      index++;
      continue;
    }
    const at: Place = { file, line: index + 1 };
    const joined = joinContinued(lines, index, escapeChar);
    const { word, rest } = firstWord(joined.text);
    const keyword = word.toUpperCase();
    const instruction = { keyword, rest: trimEnd(rest), at };
    const documents = readHeredocs(lines, joined.next, heredocMarks(keyword, instruction.rest, escapeChar), at);
    // A line that is only the continuation character says nothing.
    if (word !== '') instructions.push({ ...instruction, heredocs: documents.heredocs });
    if (instructions.length > LIMITS.steps) refuseLimit(at, `it has more than ${LIMITS.steps} instructions`);
    index = documents.next;
  }
  return { instructions, escapeChar };
};

const isNothing = (line: string): boolean => {
  const text = trimStart(line);
  return text === '' || text.startsWith('#');
};

const DIRECTIVES: readonly string[] = ['syntax', 'escape', 'check'];

/** At the very top only. @returns the escape character */
const readDirectives = (lines: readonly string[], file: string): string => {
  const seen = new Set<string>();
  let escapeChar = '\\';
  for (const [index, line] of lines.entries()) {
    if (index === 0 && line.startsWith('#!')) continue;
    const found = /^#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=(.*)$/.exec(trimStart(line));
    const name = found?.[1]?.toLowerCase() ?? '';
    const value = trim(found?.[2] ?? '');
    if (!DIRECTIVES.includes(name) || value === '') break;
    const at = { file, line: index + 1 };
    if (seen.has(name)) refuse(at, `the directive ${name} stands there twice`, 'leave one of them out');
    seen.add(name);
    if (name === 'escape') {
      if (value !== '\\' && value !== '`') refuse(at, `${quote(value)} cannot be the escape character`, 'expected \\ or `');
      escapeChar = value;
    }
    // "docker/dockerfile:1" and mirrors of it: this language. Others are programs that would have to be run to read the file.
    if (name === 'syntax' && !/(?:^|\/)dockerfile(?:-upstream)?(?:[:@].*)?$/.test(value)) {
      refuseUnsupported(at, `it is in the language of ${quote(value)}`, 'tsrun reads Dockerfiles, definition files and YAML recipes');
    }
  }
  return escapeChar;
};

/** Does an escape character, that is not escaped itself, end the line? Blanks after it do not count. */
const continued = (line: string, escapeChar: string): string | undefined => {
  const text = trimEnd(line);
  return text.endsWith(escapeChar) && !text.endsWith(escapeChar + escapeChar) ? text.slice(0, -1) : undefined;
};

const joinContinued = (lines: readonly string[], start: number, escapeChar: string): { readonly text: string; readonly next: number } => {
  const parts: string[] = [];
  let index = start;
  for (; index < lines.length; index++) {
    const line = lines[index] ?? '';
    // Comments and empty lines between continued lines are left out.
    if (index > start && isNothing(line)) continue;
    const before = continued(line, escapeChar);
    parts.push(before ?? line);
    if (before === undefined) {
      index++;
      break;
    }
  }
  return { text: trimStart(parts.join('')), next: index };
};

// --- here-documents

type Mark = { readonly name: string; readonly expand: boolean; readonly tabs: boolean };

const WITH_HEREDOCS: readonly string[] = ['RUN', 'COPY', 'ADD'];

/** A word such as `<<EOF`, `<<-"EOF"`, `3<<EOF`. */
export const heredocMark = (word: string): Mark | undefined => {
  const found = /^[0-9]*<<(-?)(?:"([^"<]+)"|'([^'<]+)'|([^<"' \t]+))$/.exec(word);
  if (found === null) return undefined;
  const bare = found[4];
  return {
    name: (bare ?? found[2] ?? found[3] ?? '').replaceAll('\\', ''),
    expand: bare !== undefined && !bare.includes('\\'),
    tabs: found[1] === '-',
  };
};

const heredocMarks = (keyword: string, rest: string, escapeChar: string): readonly Mark[] => {
  const line = keyword === 'ONBUILD' ? firstWord(rest) : { word: keyword, rest };
  if (!WITH_HEREDOCS.includes(line.word.toUpperCase()) || !line.rest.includes('<<') || line.rest.startsWith('[')) return [];
  return shellWords(line.rest, escapeChar).flatMap((word) => heredocMark(word) ?? []);
};

/** Parted by blanks outside quotes; quotes and escapes stay. Shared with ENV, LABEL and ARG. */
export const shellWords = (text: string, escapeChar: string): readonly string[] => {
  const words: string[] = [];
  let word = '';
  let quoteChar = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? '';
    if (quoteChar === '' && (isBlank(char) || char === '\n')) {
      if (word !== '') words.push(word);
      word = '';
      continue;
    }
    word += char;
    if (char === escapeChar && quoteChar !== "'") word += text[++at] ?? '';
    else if (char === quoteChar) quoteChar = '';
    else if (quoteChar === '' && (char === '"' || char === "'")) quoteChar = char;
  }
  return word === '' ? words : [...words, word];
};

const readHeredocs = (
  lines: readonly string[],
  start: number,
  marks: readonly Mark[],
  at: Place,
): { readonly heredocs: readonly Heredoc[]; readonly next: number } => {
  let index = start;
  const heredocs = marks.map(({ name, expand, tabs }): Heredoc => {
    const own: string[] = [];
    for (; ; index++) {
      const line = lines[index];
      if (line === undefined) return refuse(at, `the here-document ${quote(name)} has no end`, `expected a line ${name}`);
      if ((tabs ? line.replace(/^\t+/, '') : line) === name) break;
      own.push(line);
    }
    const raw = own.map((line) => `${line}\n`).join('');
    const terminator = lines[index++] ?? '';
    const content = tabs ? own.map((line) => `${line.replace(/^\t+/, '')}\n`).join('') : raw;
    return { name, expand, content, raw: `${raw}${terminator}\n` };
  });
  return { heredocs, next: index };
};

export const isFlag = (word: string): boolean => word.startsWith('--') && word.length > 2;

/** `--name=value …` in front of what an instruction is about. */
export const takeFlags = (rest: string): { readonly flags: readonly string[]; readonly rest: string } => {
  const flags: string[] = [];
  let left = rest;
  while (isFlag(firstWord(left).word)) {
    const { word, rest: next } = firstWord(left);
    // A value in quotes may hold blanks.
    const whole = /["']/.test(word) ? (shellWords(left, '\\')[0] ?? word) : word;
    flags.push(whole);
    left = whole === word ? next : trimStart(left.slice(left.indexOf(whole) + whole.length));
  }
  return fields(left)[0] === '--' ? { flags, rest: firstWord(left).rest } : { flags, rest: left };
};
