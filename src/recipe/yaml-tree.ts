/**
 * YAML text → a tree of texts, lists and maps that know their lines. Every scalar is text: a version 3.10 stays "3.10", and `no` is a word.
 * Tags are refused; aliases count with all they stand for, so that a few lines cannot stand for millions.
 */
import { EVENT_ID, type Event, getScalarValue, parseEvents, SCALAR_STYLE, type ScalarEvent, YAMLException } from 'js-yaml';
import { decodeUtf8, encodeUtf8 } from '../util/utf8.ts';
import { LIMITS, quote, refuse, refuseLimit } from './errors.ts';
import type { Place, Word } from './spec.ts';
import { parseWord } from './words.ts';

export type YamlNode = { readonly at: Place } & (
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'list'; readonly items: readonly YamlNode[] }
  | { readonly kind: 'map'; readonly entries: readonly YamlEntry[] }
  /** `key:` with nothing behind it. */
  | { readonly kind: 'nothing' }
);
export type YamlEntry = { readonly key: string; readonly value: YamlNode; readonly at: Place };

const MOST_NODES = 20_000;

/** @throws TsrunError E_RECIPE, E_RECIPE_LIMIT */
export const readYaml = (bytes: string, file: string): YamlNode => {
  const top: Place = { file, line: 1 };
  if (bytes.length > LIMITS.bytes) refuseLimit(top, `it is longer than ${LIMITS.bytes} bytes`);
  const text = decodeUtf8(bytes.startsWith('\xef\xbb\xbf') ? bytes.slice(3) : bytes);
  if (text === null) return refuse(top, 'it is not UTF-8 text', 'save it as UTF-8');
  const place = placer(text, file);
  return buildTree(eventsOf(text, file), text, place, top);
};

const eventsOf = (text: string, file: string): readonly Event[] => {
  try {
    return parseEvents(text, { maxDepth: LIMITS.nesting });
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    // What is missing at the end is missing after the last line that says something.
    const last = text.trimEnd().split('\n').length;
    const line = Math.min((error.mark?.line ?? 0) + 1, last);
    return refuse({ file, line }, `it is not YAML: ${encodeUtf8(error.reason)}`, 'check indentation, quotes and colons near this line');
  }
};

/** Offset → line, for offsets that mostly grow. */
const placer = (text: string, file: string): ((offset: number) => Place) => {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return { file, line: low + 1 };
  };
};

type Sized = { readonly node: YamlNode; readonly size: number };
type Open = { readonly event: Event; readonly at: Place; readonly anchor: string | undefined; readonly children: Sized[] };

const buildTree = (events: readonly Event[], text: string, place: (offset: number) => Place, top: Place): YamlNode => {
  const anchors = new Map<string, Sized>();
  const open: Open[] = [];
  let last = top;
  let root: YamlNode | undefined;
  const add = (sized: Sized): void => {
    if (sized.size > MOST_NODES) refuseLimit(sized.node.at, `it stands for more than ${MOST_NODES} values`);
    const parent = open.at(-1);
    if (parent !== undefined && parent.event.type !== EVENT_ID.DOCUMENT) parent.children.push(sized);
    else if (root === undefined) root = sized.node;
    else refuse(sized.node.at, 'it holds more than one YAML document', 'take the lines with --- out');
  };
  const keep = (anchor: string | undefined, sized: Sized): Sized => {
    if (anchor !== undefined) anchors.set(anchor, sized);
    return sized;
  };
  const anchorOf = (event: { readonly anchorStart: number; readonly anchorEnd: number }): string | undefined =>
    event.anchorStart < 0 ? undefined : text.slice(event.anchorStart, event.anchorEnd);
  for (const event of events) {
    switch (event.type) {
      case EVENT_ID.DOCUMENT:
        open.push({ event, at: last, anchor: undefined, children: [] });
        break;
      case EVENT_ID.SEQUENCE:
      case EVENT_ID.MAPPING:
        last = event.start < 0 ? last : place(event.start);
        refuseTag(event, text, last);
        open.push({ event, at: last, anchor: anchorOf(event), children: [] });
        break;
      case EVENT_ID.SCALAR:
        last = event.valueStart < 0 ? last : place(event.valueStart);
        refuseTag(event, text, last);
        add(keep(anchorOf(event), { node: scalar(event, text, last), size: 1 }));
        break;
      case EVENT_ID.ALIAS: {
        last = place(event.anchorStart);
        const name = text.slice(event.anchorStart, event.anchorEnd);
        // Known once its value is complete: so nothing holds itself.
        add(anchors.get(name) ?? refuse(last, `nothing above is called &${encodeUtf8(name)}`, 'expected the name of an anchor'));
        break;
      }
      case EVENT_ID.POP: {
        const closed = open.pop();
        if (closed !== undefined && closed.event.type !== EVENT_ID.DOCUMENT) add(keep(closed.anchor, collection(closed)));
        break;
      }
      default:
        event satisfies never;
    }
  }
  return root ?? { kind: 'nothing', at: top };
};

const refuseTag = (event: { readonly tagStart: number; readonly tagEnd: number }, text: string, at: Place): void => {
  if (event.tagStart >= 0)
    refuse(at, `there is a tag ${quote(encodeUtf8(text.slice(event.tagStart, event.tagEnd)))}`, 'leave it out: plain YAML will do');
};

const scalar = (event: ScalarEvent, text: string, at: Place): YamlNode => {
  const value = event.valueStart < 0 ? '' : getScalarValue(text, event);
  if (event.style === SCALAR_STYLE.PLAIN && /^(?:|~|null)$/i.test(value)) return { kind: 'nothing', at };
  if (value.includes('\0')) refuse(at, 'a text holds a NUL character', 'leave it out');
  return { kind: 'text', text: encodeUtf8(value), at };
};

const collection = ({ event, at, children }: Open): Sized => {
  const size = children.reduce((sum, child) => sum + child.size, 1);
  if (event.type === EVENT_ID.SEQUENCE) return { node: { kind: 'list', items: children.map(({ node }) => node), at }, size };
  const entries: YamlEntry[] = [];
  const seen = new Set<string>();
  for (let index = 0; index < children.length; index += 2) {
    const key = children[index]?.node;
    const value = children[index + 1]?.node;
    if (key?.kind !== 'text' || value === undefined) return refuse(key?.at ?? at, 'a key is not a text', 'expected KEY: VALUE');
    if (seen.has(key.text)) refuse(key.at, `the key ${quote(key.text)} stands there twice`, 'leave one of them out');
    seen.add(key.text);
    entries.push({ key: key.text, value, at: key.at });
  }
  return { node: { kind: 'map', entries, at }, size };
};

// --- taking values out

export const describe = (node: YamlNode): string =>
  ({ text: 'a text', list: 'a list', map: 'a map of keys and values', nothing: 'empty' })[node.kind];

export const textOf = (node: YamlNode, key: string): string =>
  node.kind === 'text' ? node.text : refuse(node.at, `"${key}" is ${describe(node)}`, `expected ${key}: TEXT`);

/** One text, or a list of them. */
export const textsOf = (node: YamlNode, key: string): readonly { readonly text: string; readonly at: Place }[] => {
  if (node.kind === 'nothing') return [];
  if (node.kind === 'text') return [{ text: node.text, at: node.at }];
  if (node.kind === 'map') return refuse(node.at, `"${key}" is ${describe(node)}`, `expected ${key}: TEXT, or a list of texts`);
  return node.items.map((item) => ({ text: textOf(item, key), at: item.at }));
};

export const entriesOf = (node: YamlNode, key: string): readonly YamlEntry[] => {
  if (node.kind === 'nothing') return [];
  return node.kind === 'map'
    ? node.entries
    : refuse(node.at, `"${key}" is ${describe(node)}`, `expected ${key}: and lines NAME: VALUE below it`);
};

/** Variables as in words.ts. YAML has taken its quotes off, so others are text; so is a backslash, but for one before "$". */
export const wordOf = (text: string, at: Place): Word => parseWord(text.replace(/\\(?!\$)/g, '\\\\'), { at, quotes: false });
