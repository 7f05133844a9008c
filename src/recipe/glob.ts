/**
 * Patterns of shells and of .dockerignore. They are walked as sets of states, not handed to a regular expression engine: the time is
 * bounded by length of pattern times length of text, whatever somebody wrote.
 */

export type Token =
  | { readonly kind: 'char'; readonly char: string }
  /** `?`; `slash`: also takes "/". */
  | { readonly kind: 'any'; readonly slash: boolean }
  | { readonly kind: 'class'; readonly negated: boolean; readonly ranges: readonly (readonly [string, string])[] }
  /** `*`; `slash`: also over "/". */
  | { readonly kind: 'star'; readonly slash: boolean }
  /** `**` and "/": nothing, or directories with the slash after the last. */
  | { readonly kind: 'directories' };

export type Glob = readonly Token[];

/**
 * As Go's filepath.Match, and `**` for any number of directories: what .dockerignore and `--exclude` hold.
 * @returns null when a class is not closed or a backslash ends the pattern
 */
export const pathGlob = (pattern: string): Glob | null => {
  const tokens: Token[] = [];
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at] ?? '';
    if (char === '*' && pattern[at + 1] === '*') {
      while (pattern[at + 1] === '*') at++;
      if (pattern[at + 1] === '/') {
        at++;
        tokens.push({ kind: 'directories' });
      } else tokens.push({ kind: 'star', slash: true });
    } else if (char === '*') tokens.push({ kind: 'star', slash: false });
    else if (char === '?') tokens.push({ kind: 'any', slash: false });
    else if (char === '[') {
      const found = classAt(pattern, at);
      if (found === null) return null;
      tokens.push(found.token);
      at = found.last;
    } else if (char === '\\') {
      at++;
      if (at === pattern.length) return null;
      tokens.push({ kind: 'char', char: pattern[at] ?? '' });
    } else tokens.push({ kind: 'char', char });
  }
  return tokens;
};

const classAt = (pattern: string, start: number): { readonly token: Token; readonly last: number } | null => {
  let at = start + 1;
  const negated = pattern[at] === '^' || pattern[at] === '!';
  if (negated) at++;
  const ranges: [string, string][] = [];
  const charAt = (): string | undefined => {
    if (pattern[at] === '\\') at++;
    return pattern[at++];
  };
  while (at < pattern.length && (pattern[at] !== ']' || ranges.length === 0)) {
    const low = charAt();
    let high = low;
    if (pattern[at] === '-' && pattern[at + 1] !== ']' && pattern[at + 1] !== undefined) {
      at++;
      high = charAt();
    }
    if (low === undefined || high === undefined) return null;
    ranges.push([low, high]);
  }
  return at < pattern.length ? { token: { kind: 'class', negated, ranges }, last: at } : null;
};

/** Of shells' `${x#…}`: `*` and `?` take any character, also "/"; a backslash takes the meaning from what follows. */
export const textGlob = (pattern: string): Glob => {
  const tokens: Token[] = [];
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at] ?? '';
    if (char === '*') tokens.push({ kind: 'star', slash: true });
    else if (char === '?') tokens.push({ kind: 'any', slash: true });
    else if (char === '\\' && at + 1 < pattern.length) tokens.push({ kind: 'char', char: pattern[++at] ?? '' });
    else tokens.push({ kind: 'char', char });
  }
  return tokens;
};

const takes = (token: Token, char: string): boolean => {
  switch (token.kind) {
    case 'char':
      return token.char === char;
    case 'any':
    case 'star':
      return token.slash || char !== '/';
    case 'class':
      return char !== '/' && token.ranges.some(([low, high]) => char >= low && char <= high) !== token.negated;
    case 'directories':
      return true;
    default:
      return token satisfies never;
  }
};

/**
 * Ends of all beginnings of `text.slice(from)` that the pattern takes, rising.
 * A state is the number of tokens done. Inside `directories` a state may be left only after a slash, which `open` keeps apart.
 */
export function* matchEnds(glob: Glob, text: string, from = 0): Generator<number> {
  const done = glob.length;
  let states = new Uint8Array(done + 1);
  let inside = new Uint8Array(done + 1);
  const enter = (set: Uint8Array, state: number): void => {
    for (let at = state; at <= done && set[at] !== 1; at++) {
      set[at] = 1;
      const kind = glob[at]?.kind;
      if (kind !== 'star' && kind !== 'directories') return;
    }
  };
  enter(states, 0);
  for (let at = from; ; at++) {
    if (states[done] === 1) yield at;
    if (at >= text.length) return;
    const char = text[at] ?? '';
    const next = new Uint8Array(done + 1);
    const nextInside = new Uint8Array(done + 1);
    let alive = false;
    for (let state = 0; state < done; state++) {
      const token = glob[state];
      if (token === undefined) break;
      if (token.kind === 'directories') {
        if (states[state] !== 1 && inside[state] !== 1) continue;
        nextInside[state] = 1;
        if (char === '/') enter(next, state + 1);
        alive = true;
      } else if (states[state] === 1 && takes(token, char)) {
        enter(next, token.kind === 'star' ? state : state + 1);
        alive = true;
      }
    }
    if (!alive) return;
    states = next;
    inside = nextInside;
  }
}

export const matches = (glob: Glob, text: string): boolean => {
  for (const end of matchEnds(glob, text)) if (end === text.length) return true;
  return false;
};

/** The pattern read from its end, for what stands at the end of a text. */
export const reversed = (glob: Glob): Glob => [...glob].reverse();
