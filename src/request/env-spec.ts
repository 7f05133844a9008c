/** What people write after --env and in env files. Values are literal: no shell ever looks at them. Byte strings. */
import { TsrunError } from '../util/errors.ts';

/** `value` undefined: the host's value, if it has one. */
export type EnvSpec = { readonly name: string; readonly value: string | undefined };

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

export const isVariableName = (name: string): boolean => NAME.test(name);

const refuse: (what: string, why: string, hint: string) => never = (what, why, hint) => {
  throw new TsrunError({ code: 'E_ENV_SPEC', what, why, hint });
};

/**
 * `A=1`, `A=1,B=2`, `A`. A comma parts two assignments only where a name and `=` follow, so most values may hold commas; `\,` is always a comma.
 * Errors: E_ENV_SPEC.
 */
export const parseEnv = (origin: string, text: string): EnvSpec[] => {
  const parts = text.split(/(?<!\\),(?=[A-Za-z_][A-Za-z0-9_]*=)/);
  return parts.map((part) => {
    const equals = part.indexOf('=');
    const name = equals < 0 ? part : part.slice(0, equals);
    if (!isVariableName(name)) {
      refuse(`cannot use ${origin} ${text}`, `"${name}" is not a variable name`, 'write NAME=VALUE; a name has letters, digits and _');
    }
    return { name, value: equals < 0 ? undefined : part.slice(equals + 1).replace(/\\([\\,])/g, '$1') };
  });
};

/** The text in quotes that begins at `text[at]`, and where it ends; null when it is not closed. */
const quoted = (text: string, at: number): { readonly value: string; readonly next: number } | null => {
  const quote = text[at];
  let value = '';
  for (let i = at + 1; i < text.length; i++) {
    const char = text[i] ?? '';
    if (char === quote) return { value, next: i + 1 };
    if (char === '\\' && quote === '"' && '\\"$`\n'.includes(text[i + 1] ?? ' ')) {
      i++;
      if (text[i] !== '\n') value += text[i];
    } else value += char;
  }
  return null;
};

/**
 * Lines of `NAME=VALUE`, `export NAME=VALUE` or `NAME` (the host's value); `#` begins a comment line. Values may be quoted as in a shell, also over
 * several lines; nothing is expanded: `$HOME` stays `$HOME`.
 * Errors: E_ENV_SPEC with file and line.
 */
export const parseEnvFile = (file: string, text: string): EnvSpec[] => {
  const specs: EnvSpec[] = [];
  let line = 1;
  // Editors of other systems begin UTF-8 text with a mark.
  for (let at = text.startsWith('\xef\xbb\xbf') ? 3 : 0; at < text.length; ) {
    const end = text.indexOf('\n', at) < 0 ? text.length : text.indexOf('\n', at);
    const words = text.slice(at, end);
    const start = /^[ \t]*(?:export[ \t]+)?([^=]*)(=?)/.exec(words);
    const name = (start?.[1] ?? '').trim();
    const bad = (why: string): never =>
      refuse(`cannot use ${file} line ${line}`, why, 'write NAME=VALUE, with quotes around values that hold quotes or line ends');
    let next = end + 1;
    if (name !== '' && !name.startsWith('#')) {
      if (!isVariableName(name)) bad(`"${name.slice(0, 80)}" is not a variable name`);
      const valueAt = at + (start?.[0].length ?? 0);
      const first = text[valueAt] ?? '';
      if (start?.[2] === '') specs.push({ name, value: undefined });
      else if (first === '"' || first === "'") {
        const found = quoted(text, valueAt) ?? bad('a quote is not closed');
        const lineEnd = text.indexOf('\n', found.next) < 0 ? text.length : text.indexOf('\n', found.next);
        if (!/^[ \t\r]*(#.*)?$/.test(text.slice(found.next, lineEnd))) bad('something follows the closing quote');
        specs.push({ name, value: found.value });
        next = lineEnd + 1;
      } else specs.push({ name, value: text.slice(valueAt, end).replace(/[ \t\r]+$/, '') });
    }
    for (let i = text.indexOf('\n', at); i >= 0 && i < next; i = text.indexOf('\n', i + 1)) line++;
    at = next;
  }
  return specs;
};
