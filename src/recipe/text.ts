/**
 * Text work on byte strings. JavaScript's own `trim` and `\s` take byte 0xA0 for a blank, which is a part of many letters in UTF-8; so blanks are
 * named here.
 */

const BLANK = /[ \t\r\v\f]/;

export const isBlank = (char: string | undefined): boolean => char !== undefined && char !== '' && BLANK.test(char);

/** Without blanks and line ends at both ends. */
export const trim = (text: string): string => trimEnd(trimStart(text));

export const trimStart = (text: string): string => {
  let at = 0;
  while (at < text.length && (text[at] === '\n' || isBlank(text[at]))) at++;
  return text.slice(at);
};

export const trimEnd = (text: string): string => {
  let end = text.length;
  while (end > 0 && (text[end - 1] === '\n' || isBlank(text[end - 1]))) end--;
  return text.slice(0, end);
};

/** Parted by blanks and line ends; no empty words. */
export const fields = (text: string): readonly string[] => text.split(/[ \t\r\v\f\n]+/).filter((word) => word !== '');

/** The first word, and what follows the blanks after it. */
export const firstWord = (text: string): { readonly word: string; readonly rest: string } => {
  let end = 0;
  while (end < text.length && text[end] !== '\n' && !isBlank(text[end])) end++;
  return { word: text.slice(0, end), rest: trimStart(text.slice(end)) };
};

/** Without a byte order mark; lines end with LF or CR LF. */
export const linesOf = (text: string): readonly string[] => {
  const body = text.startsWith('\xef\xbb\xbf') ? text.slice(3) : text;
  const lines = body.split('\n').map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
  if (lines.at(-1) === '') lines.pop();
  return lines;
};

/** For titles and messages: one line, not too long. */
export const inOneLine = (text: string, most = 200): string => {
  const line = trim(text.slice(0, 4 * most)).replace(/[ \t\r\v\f\n]+/g, ' ');
  return line.length > most || text.length > 4 * most ? `${line.slice(0, most - 3)}...` : line;
};
