// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
/**
 * Text with variables in it: `$NAME`, `${NAME}`, and with `-` `:-` `+` `:+` `?` `:?` `#` `##` `%` `%%` `/` `//` as in shells. Parsed when the recipe
 * is read, expanded when its step begins. Rules where shells differ: those of BuildKit (Dockerfile reference, "Environment replacement"); so
 * `$1` and `$@` are names like any other, and a name without value is nothing.
 */
import { LIMITS, quote, refuse, refuseArgument, refuseLimit } from './errors.ts';
import { type Glob, matchEnds, reversed, textGlob } from './glob.ts';
import type { Operator, Place, Variable, Word, WordPart } from './spec.ts';

export type WordOptions = {
  readonly at: Place;
  /** The `escape` directive of Dockerfiles; a backslash. */
  readonly escapeChar?: string;
  /** `quotes: false`: quotes are text (heredocs). */
  readonly quotes?: boolean;
};

export const literal = (text: string): Word => (text === '' ? [] : [text]);

/** The text of a word without variables; undefined when it has any. */
export const literalText = (word: Word): string | undefined => (word.every((part) => typeof part === 'string') ? word.join('') : undefined);

/** Every name in it, also those in operands. */
export const variablesOf = (word: Word): readonly string[] =>
  word.flatMap((part) =>
    typeof part === 'string' ? [] : [part.variable, ...variablesOf(part.operand), ...variablesOf(part.replacement ?? [])],
  );

type Cursor = { readonly text: string; index: number; readonly options: Required<WordOptions> };

/**
 * Takes quotes and escapes off and finds the variables.
 * @throws TsrunError E_RECIPE for quotes and braces that are not closed, and for operators that are none
 */
export const parseWord = (text: string, options: WordOptions): Word =>
  parseUntil({ text, index: 0, options: { escapeChar: '\\', quotes: true, ...options } }, undefined, false, 0);

/** Grows a word; neighbouring texts become one. */
const adder = (): { readonly parts: WordPart[]; readonly text: (text: string) => void; readonly all: (word: Word) => void } => {
  const parts: WordPart[] = [];
  let open = '';
  const close = (): void => {
    if (open !== '') parts.push(open);
    open = '';
  };
  return {
    get parts() {
      close();
      return parts;
    },
    text: (text) => {
      open += text;
    },
    all: (word) => {
      for (const part of word) {
        if (typeof part === 'string') open += part;
        else {
          close();
          parts.push(part);
        }
      }
    },
  };
};

/** @param rawEscapes escapes stay in the text: it is a pattern */
const parseUntil = (cursor: Cursor, stop: string | undefined, rawEscapes: boolean, depth: number): Word => {
  const { text, options } = cursor;
  const word = adder();
  while (cursor.index < text.length) {
    const char = text[cursor.index] ?? '';
    if (char === stop) {
      cursor.index++;
      return word.parts;
    }
    if (char === '$') word.all(parseVariable(cursor, depth));
    else if (options.quotes && char === "'") word.text(parseSingle(cursor));
    else if (options.quotes && char === '"') word.all(parseDouble(cursor, rawEscapes, depth));
    else if (char === options.escapeChar) {
      if (rawEscapes) word.text('\\');
      word.text(text[cursor.index + 1] ?? '');
      cursor.index += 2;
    } else {
      word.text(char);
      cursor.index++;
    }
  }
  if (stop !== undefined) refuse(options.at, `"${stop}" is missing after \${ in ${quote(text)}`, `expected ${stop}`);
  return word.parts;
};

const parseSingle = (cursor: Cursor): string => {
  const end = cursor.text.indexOf("'", cursor.index + 1);
  if (end < 0) refuse(cursor.options.at, `a single quote is not closed in ${quote(cursor.text)}`, "expected '");
  const inside = cursor.text.slice(cursor.index + 1, end);
  cursor.index = end + 1;
  return inside;
};

const parseDouble = (cursor: Cursor, rawEscapes: boolean, depth: number): Word => {
  const { text, options } = cursor;
  const word = adder();
  cursor.index++;
  while (cursor.index < text.length) {
    const char = text[cursor.index] ?? '';
    if (char === '"') {
      cursor.index++;
      return word.parts;
    }
    if (char === '$') {
      word.all(parseVariable(cursor, depth));
      continue;
    }
    const next = text[cursor.index + 1] ?? '';
    if (char === options.escapeChar && (next === '"' || next === '$' || next === options.escapeChar)) {
      word.text(rawEscapes ? `\\${next}` : next);
      cursor.index += 2;
    } else {
      word.text(char);
      cursor.index++;
    }
  }
  return refuse(options.at, `a double quote is not closed in ${quote(text)}`, 'expected "');
};

const parseName = (cursor: Cursor): string => {
  const name = /^(?:[0-9]+|[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*|[@*#?$!-])/.exec(
    cursor.text.slice(cursor.index, cursor.index + 1000),
  )?.[0];
  cursor.index += name?.length ?? 0;
  return name ?? '';
};

const parseVariable = (cursor: Cursor, depth: number): Word => {
  const { text, options } = cursor;
  if (depth >= LIMITS.nesting) refuseLimit(options.at, `variables are nested more than ${LIMITS.nesting} deep in ${quote(text)}`);
  cursor.index++;
  if (text[cursor.index] !== '{') {
    const variable = parseName(cursor);
    return variable === '' ? ['$'] : [{ variable, operator: undefined, operand: [] }];
  }
  cursor.index++;
  const variable = parseName(cursor);
  if (variable === '') refuse(options.at, `the name of a variable is missing in ${quote(text)}`, 'expected ${NAME}');
  const next = text[cursor.index];
  if (next === '}') {
    cursor.index++;
    return [{ variable, operator: undefined, operand: [] }];
  }
  if (next === undefined) return refuse(options.at, `"}" is missing after \${${variable} in ${quote(text)}`, 'expected }');
  return [parseOperator(cursor, variable, depth + 1)];
};

const parseOperator = (cursor: Cursor, variable: string, depth: number): Variable => {
  const { text, options } = cursor;
  const operator = /^(?::[-+?]|[-+?]|##?|%%?|\/\/?)/.exec(text.slice(cursor.index, cursor.index + 2))?.[0] as Operator | undefined;
  if (operator === undefined) {
    return refuse(
      options.at,
      `${quote(text.slice(cursor.index, cursor.index + 2))} follows \${${variable} in ${quote(text)}`,
      'expected } or one of :- - :+ + :? ? # ## % %% / //',
    );
  }
  cursor.index += operator.length;
  if (operator === '/' || operator === '//') {
    const operand = parseUntil(cursor, '/', true, depth);
    return { variable, operator, operand, replacement: parseUntil(cursor, '}', false, depth) };
  }
  return { variable, operator, operand: parseUntil(cursor, '}', '#%'.includes(operator[0] ?? ''), depth) };
};

// --- expansion

/** A variable's value; undefined: it has none. */
export type Lookup = (name: string) => string | undefined;

/** Values that patterns are tried on: the time grows with the square of their length. */
const LONGEST_FOR_PATTERNS = 16 * 1024;
const LONGEST = 1024 * 1024;

/** @throws TsrunError E_RECIPE_ARGUMENT where `?` asks for a value that is not there; E_RECIPE_LIMIT */
export const expandWord = (word: Word, lookup: Lookup, at: Place): string => {
  let text = '';
  for (const part of word) {
    text += typeof part === 'string' ? part : expandVariable(part, lookup, at);
    if (text.length > LONGEST) refuseLimit(at, `a text grows beyond ${LONGEST} bytes when its variables are expanded`);
  }
  return text;
};

const expandVariable = (part: Variable, lookup: Lookup, at: Place): string => {
  const { variable, operator, operand, replacement } = part;
  const value = lookup(variable);
  const given = operator?.startsWith(':') === true ? value !== undefined && value !== '' : value !== undefined;
  switch (operator) {
    case undefined:
      return value ?? '';
    case '-':
    case ':-':
      return given ? (value ?? '') : expandWord(operand, lookup, at);
    case '+':
    case ':+':
      return given ? expandWord(operand, lookup, at) : '';
    case '?':
    case ':?': {
      if (given) return value ?? '';
      const message = expandWord(operand, lookup, at);
      const why = value === undefined ? 'has no value' : 'is empty';
      return refuseArgument(
        at,
        `${variable} ${why}${message === '' ? '' : `: ${quote(message, 300)}`}`,
        `set it with ENV, or with ARG and --build-arg ${variable}=VALUE`,
      );
    }
    default: {
      if (value === undefined || value === '') return '';
      if (value.length > LONGEST_FOR_PATTERNS) refuseLimit(at, `the value of ${variable} is too long for \${${variable}${operator}…}`);
      const glob = textGlob(expandWord(operand, lookup, at));
      return cut(value, operator, glob, () => expandWord(replacement ?? [], lookup, at));
    }
  }
};

type Cutting = Exclude<Operator, '-' | ':-' | '+' | ':+' | '?' | ':?'>;

const cut = (value: string, operator: Cutting, glob: Glob, replacement: () => string): string => {
  switch (operator) {
    case '#':
      return value.slice(first(matchEnds(glob, value)) ?? 0);
    case '##':
      return value.slice(last(matchEnds(glob, value)) ?? 0);
    case '%':
    case '%%': {
      const ends = matchEnds(reversed(glob), [...value].reverse().join(''));
      return value.slice(0, value.length - ((operator === '%' ? first(ends) : last(ends)) ?? 0));
    }
    case '/':
    case '//':
      return replace(value, glob, replacement(), operator === '//');
    default:
      return operator satisfies never;
  }
};

const first = (ends: Generator<number>): number | undefined => ends.next().value ?? undefined;

const last = (ends: Generator<number>): number | undefined => {
  let found: number | undefined;
  for (const end of ends) found = end;
  return found;
};

/** The longest match that begins earliest; an empty one replaces nothing. */
const replace = (value: string, glob: Glob, replacement: string, all: boolean): string => {
  if (glob.length === 0) return value;
  let text = '';
  let at = 0;
  while (at < value.length) {
    const end = last(matchEnds(glob, value, at));
    if (end === undefined || end === at) text += value[at++];
    else {
      text += replacement;
      at = end;
      if (!all) break;
    }
  }
  return text + value.slice(at);
};
