/** Members of a JSON object by name, as native/host.def says it of `json`: for hosts that are not the native program. */
import { ENOENT, type Errno } from './host.ts';

const EBADMSG = -74;

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
      return typeof value === 'object' && value !== null && !Array.isArray(value) ? JSON.stringify(value) : undefined;
    default:
      return undefined;
  }
};

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const within = (name: string, value: unknown): [string, unknown][] =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.entries(value).map(([inner, each]) => [`${name}.${inner}`, each])
    : [];

export const jsonMember = (text: string, name: string): string | Errno => {
  const value = Object.entries(parsed(text) ?? {}).find(([each]) => each === name)?.[1];
  return isText(value) ? value : ENOENT;
};

/** @param names `sname` lines: a letter for the kind, and the name. */
export const jsonMembers = (text: string, names: string): (string | number)[] | Errno => {
  const object = parsed(text);
  if (typeof object !== 'object' || object === null || Array.isArray(object)) return EBADMSG;
  const members = new Map(Object.entries(object).flatMap(([name, value]) => [[name, value], ...within(name, value)]));
  const found: (string | number)[] = [];
  for (const line of names.split('\n')) {
    const name = line.slice(1);
    if (!members.has(name)) return ENOENT;
    const value = memberAs(line[0] ?? '', members.get(name));
    if (value === undefined) return EBADMSG;
    found.push(value);
  }
  return found;
};
