/** Members of a JSON object by name, as native/host.def says it of `json` and `member`: for hosts that are not the native program. */
import { ENOENT, type Errno } from './host.ts';

const EBADMSG = -74;
const DEPTH_MAX = 17;

/** In ASCII: the rest escaped. */
export const asciiJson = (value: unknown): string =>
  JSON.stringify(value).replace(/[\u007f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** Bytes, and no NUL. */
const isText = (value: unknown): value is string => typeof value === 'string' && ![...value].some((char) => char === '\0' || char > '\xff');

const memberAs = (kind: string, value: unknown): string | number | undefined => {
  switch (kind) {
    case 'n':
      return Number.isSafeInteger(value) && Number(value) >= 0 ? Number(value) : undefined;
    case 'b':
      return typeof value === 'boolean' ? Number(value) : undefined;
    case 's':
      return isText(value) ? value : undefined;
    case 'l':
      return Array.isArray(value) && value.every(isText) ? value.map((each) => `${each}\0`).join('') : undefined;
    case 'o':
      return isObject(value) ? asciiJson(value) : undefined;
    default:
      return undefined;
  }
};

type Members = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Members => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Undefined for what is no JSON. */
const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** Undefined: there is none. */
const valueAt = (object: Members, name: string): unknown => {
  if (Object.hasOwn(object, name)) return object[name];
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
    const outer = Object.hasOwn(object, name.slice(0, dot)) ? object[name.slice(0, dot)] : undefined;
    const value = isObject(outer) ? valueAt(outer, name.slice(dot + 1)) : undefined;
    if (value !== undefined) return value;
  }
  return undefined;
};

/**
 * The names of all members of an object and of those in them, in the order of the text, which is JSON: JSON.parse forgets all but the last of each.
 * Undefined where it is nested deeper than the native program goes.
 */
const namesIn = (text: string): readonly string[] | undefined => {
  const names: string[] = [];
  const around: string[] = [];
  let name = '';
  for (const [token, colon] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[[\]{}]/g)) {
    if (token === '{') around.push(around.length === 0 ? '' : `${name}.`);
    else if (token === '}' || token === ']') around.pop();
    else if (token === '[') {
      name += '[]';
      around.push(name);
    } else if (colon !== undefined) {
      name = `${around.at(-1)}${JSON.parse(token.slice(0, -colon.length))}`;
      names.push(name);
    }
    if (around.length > DEPTH_MAX) return undefined;
  }
  return names;
};

/** A name that is asked for, or one of an object around it. */
const isTwice = (names: readonly string[], asked: string): boolean =>
  asked.split('.').some((_, at, parts) => {
    const name = parts.slice(0, at + 1).join('.');
    return names.indexOf(name) !== names.lastIndexOf(name);
  });

/** @param names `sname` lines: a letter for the kind, and the name. */
export const jsonMembers = (text: string, names: string): (string | number)[] | Errno => {
  const object = parsed(text);
  if (!isObject(object)) return EBADMSG;
  const asked = names.split('\n');
  const there = namesIn(text);
  if (there === undefined || asked.some((line) => isTwice(there, line.slice(1)))) return EBADMSG;
  const values = asked.map((line) => valueAt(object, line.slice(1)));
  if (values.includes(undefined)) return ENOENT;
  const members = values.map((value, at) => memberAs(asked[at]?.[0] ?? '', value));
  return members.every((member) => member !== undefined) ? members : EBADMSG;
};

/** Found in the text, like the native program does it: so both find the same, whatever else the text is. */
export const jsonMember = (text: string, name: string): string | Errno => {
  const start = `${asciiJson(name)}:"`;
  let at = text.indexOf(start);
  while (at >= 0 && !'{,'.includes(text[at - 1] ?? ' ')) at = text.indexOf(start, at + 1);
  if (at < 0) return ENOENT;
  const value = parsed(/^"(?:[^"\\]|\\.)*"/s.exec(text.slice(at + start.length - 1))?.[0] ?? '');
  return isText(value) ? value : EBADMSG;
};

/** Of several names, which are lines; 0 stands for one that is not there. */
export const jsonMemberTexts = (text: string, names: string): (string | number)[] | Errno => {
  const found = names.split('\n').map((name) => jsonMember(text, name));
  return found.includes(EBADMSG) ? EBADMSG : found.map((each) => (each === ENOENT ? 0 : each));
};
