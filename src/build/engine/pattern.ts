/**
 * Wildcards of COPY and ADD (Go's filepath.Match: `*` and `?` do not match a slash, `[a-z]`, `[^a-z]`, backslash) and of .dockerignore (the same
 * with `**`, `!` and comments; docs.docker.com/build/concepts/context, ".dockerignore files"). Over byte strings.
 */

export const hasWildcard = (path: string): boolean => /[*?[\\]/.test(path);

/** `undefined` for a pattern that is none: an open bracket, a backslash at the end. */
export const patternExpression = (pattern: string): RegExp | undefined => {
  let out = '';
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern.charAt(at);
    if (char === '*') {
      if (pattern.charAt(at + 1) !== '*') {
        out += '[^/]*';
        continue;
      }
      at++;
      // A double star with its slash stands for any number of directories, none among them.
      if (pattern.charAt(at + 1) === '/') {
        at++;
        out += '(?:[^]*/)?';
      } else out += '[^]*';
    } else if (char === '?') out += '[^/]';
    else if (char === '\\') {
      at++;
      if (at === pattern.length) return undefined;
      out += literal(pattern.charAt(at));
    } else if (char === '[') {
      const set = bracket(pattern, at);
      if (set === undefined) return undefined;
      out += set.text;
      at = set.end;
    } else out += literal(char);
  }
  return new RegExp(`^${out}$`);
};

const literal = (char: string): string => char.replace(/[\\^$.*+?()[\]{}|/-]/, '\\$&');

const bracket = (pattern: string, start: number): { readonly text: string; readonly end: number } | undefined => {
  let at = start + 1;
  const not = pattern.charAt(at) === '^';
  if (not) at++;
  let text = '';
  for (let first = true; ; first = false, at++) {
    let char = pattern.charAt(at);
    if (char === '') return undefined;
    if (char === ']' && !first) return { text: `(?!/)[${not ? '^' : ''}${text}]`, end: at };
    if (char === '-' && !first && pattern.charAt(at + 1) !== ']') {
      text += '-';
      continue;
    }
    if (char === '\\') char = pattern.charAt(++at);
    if (char === '') return undefined;
    text += literal(char);
  }
};

/** Tells whether a path of the context (clean, relative) is left out. */
export type Ignore = {
  readonly ignores: (path: string) => boolean;
  /** False: nothing below this ignored directory is taken back, so it need not be looked into. */
  readonly mayHoldWanted: (path: string) => boolean;
};

export const NOTHING_IGNORED: Ignore = { ignores: () => false, mayHoldWanted: () => true };

/** @param text of .dockerignore, as byte string. Lines that are no pattern count as names that no file has. */
export const parseIgnore = (text: string): Ignore =>
  ignoreOf(
    text
      .replace(/^\xef\xbb\xbf/, '')
      .split(/\r?\n/)
      .filter((line) => !line.startsWith('#')),
  );

/** @param lines patterns, later ones win; a leading `!` takes back. */
export const ignoreOf = (lines: readonly string[]): Ignore => {
  const rules = lines.flatMap((line) => {
    const trimmed = line.trim();
    const back = trimmed.startsWith('!');
    const pattern = cleanPattern(back ? trimmed.slice(1).trim() : trimmed);
    const expression = pattern === '' ? undefined : patternExpression(pattern);
    return expression === undefined ? [] : [{ back, pattern, expression }];
  });
  if (rules.length === 0) return NOTHING_IGNORED;
  const backs = rules.filter((rule) => rule.back);
  const parents = (path: string): readonly string[] => {
    const parts = path.split('/');
    return parts.map((_, at) => parts.slice(0, at + 1).join('/'));
  };
  return {
    ignores: (path) => {
      const names = parents(path);
      let ignored = false;
      for (const { back, expression } of rules) if (back === ignored && names.some((name) => expression.test(name))) ignored = !back;
      return ignored;
    },
    mayHoldWanted: (path) =>
      backs.some(({ pattern }) => /[*?[\\]/.test(pattern) || pattern.startsWith(`${path}/`) || path.startsWith(pattern)),
  };
};

/** As Go's filepath.Clean on a path made relative. */
const cleanPattern = (pattern: string): string => {
  const kept: string[] = [];
  for (const part of pattern.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') kept.pop();
    else kept.push(part);
  }
  return kept.join('/');
};
