/** `files:` → copy steps. */
import { originOf, type StageNames } from './dockerfile-origin.ts';
import { meant, quote, refuse } from './errors.ts';
import { type Origin, PLAIN_COPY, type Place, type Step, type Word } from './spec.ts';
import { literal } from './words.ts';
import { describe, entriesOf, textOf, textsOf, wordOf, type YamlEntry, type YamlNode } from './yaml-tree.ts';

export const FILE_KEYS: readonly string[] = ['src', 'dst', 'text', 'from', 'owner', 'mode'];

/**
 * `SOURCE: DESTINATION` lines, or a list of maps with src, dst, from, owner, mode; or text, dst, owner, mode.
 * @throws TsrunError E_RECIPE, E_RECIPE_STAGE
 */
export const fileSteps = (node: YamlNode, current: number, stages: StageNames): readonly Step[] => {
  if (node.kind !== 'list') {
    return entriesOf(node, 'files').map(({ key, value, at }) =>
      copyStep({ from: { kind: 'context' }, sources: [wordOf(key, at)], destination: textOf(value, 'files'), title: key, at }),
    );
  }
  return node.items.map((item) => {
    if (item.kind !== 'map')
      return refuse(
        item.at,
        `an entry of files is ${describe(item)}`,
        'expected - src: SOURCE and dst: DESTINATION, or SOURCE: DESTINATION without a dash',
      );
    return entryStep(item.entries, item.at, current, stages);
  });
};

const entryStep = (entries: readonly YamlEntry[], at: Place, current: number, stages: StageNames): Step => {
  const wrong = entries.find(({ key }) => !FILE_KEYS.includes(key));
  if (wrong !== undefined)
    refuse(wrong.at, `files has no key ${quote(wrong.key)}`, meant(wrong.key, FILE_KEYS, `its keys: ${FILE_KEYS.join(', ')}`));
  const find = (key: string): YamlNode | undefined => entries.find((entry) => entry.key === key)?.value;
  const word = (key: string): Word | undefined => {
    const value = find(key);
    return value === undefined ? undefined : wordOf(textOf(value, key), value.at);
  };
  const to = find('dst');
  if (to === undefined) return refuse(at, 'an entry of files has no dst', 'expected dst: DESTINATION');
  const mode = find('mode');
  if (mode !== undefined && !/^[0-7]{3,5}$/.test(textOf(mode, 'mode')))
    refuse(mode.at, `${quote(textOf(mode, 'mode'))} is no mode`, 'expected octal digits, such as 0644');
  const common = { destination: textOf(to, 'dst'), owner: word('owner'), mode: word('mode'), at };
  const text = find('text');
  const src = find('src');
  if ((text === undefined) === (src === undefined))
    return refuse(at, 'an entry of files needs either src or text', 'expected src: SOURCE, or text: |');
  if (text !== undefined) {
    if (find('from') !== undefined) refuse(at, 'an entry of files has both text and from', 'leave one of them out');
    const name = common.destination.replace(/\/+$/, '').replace(/^.*\//, '') || 'text';
    const from: Origin = { kind: 'inline', files: [{ name, content: literal(textOf(text, 'text')) }] };
    return copyStep({ ...common, from, sources: [literal(name)], title: common.destination });
  }
  const names = src === undefined ? [] : textsOf(src, 'src');
  if (names.length === 0) refuse(at, 'an entry of files has an empty src', 'expected src: SOURCE');
  const stage = find('from');
  const from: Origin = stage === undefined ? { kind: 'context' } : originOf(textOf(stage, 'from'), current, stages, stage.at);
  const sources = names.map((each) => wordOf(each.text, each.at));
  return copyStep({ ...common, from, sources, title: names.map(({ text: name }) => name).join(' ') });
};

type Copy = {
  readonly from: Origin;
  readonly sources: readonly Word[];
  readonly destination: string;
  readonly owner?: Word | undefined;
  readonly mode?: Word | undefined;
  readonly title: string;
  readonly at: Place;
};

const copyStep = ({ from, sources, destination, owner, mode, title, at }: Copy): Step => ({
  kind: 'copy',
  from,
  sources,
  destination: wordOf(destination, at),
  manner: 'cp',
  ...PLAIN_COPY,
  owner,
  mode,
  at,
  title: `files ${title}`,
});
