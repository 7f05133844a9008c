/**
 * YAML recipe → BuildSpec: the short form for people. What a recipe says is done in one order, whatever order it is written in: args, packages, env,
 * workdir, files, run; then what the image keeps; then test. yaml.schema.json has the same keys, for editors.
 */
import { argumentMap, type BuildArgs, isProxyVariable, platformArguments, refuseUnused, unusedOf } from './arguments.ts';
import { shellWords } from './dockerfile-lines.ts';
import { earlierStage, imageReference, type StageNames } from './dockerfile-origin.ts';
import { LIMITS, meant, quote, refuse, refuseArgument, refuseLimit, refuseStage } from './errors.ts';
import type { Base, BuildSpec, Command, ConfigChange, Place, Stage, Step } from './spec.ts';
import { inOneLine } from './text.ts';
import { expandWord, literal, parseWord, variablesOf } from './words.ts';
import { fileSteps } from './yaml-files.ts';
import { packageSteps } from './yaml-packages.ts';
import { entriesOf, readYaml, textOf, textsOf, wordOf, type YamlEntry, type YamlNode } from './yaml-tree.ts';

export type YamlOptions = {
  readonly platform: string;
  readonly buildPlatform?: string | undefined;
  readonly buildArgs?: BuildArgs | undefined;
  readonly target?: string | undefined;
  readonly notest?: boolean | undefined;
};

export const STAGE_KEYS: readonly string[] = [
  'from',
  'packages',
  'files',
  'run',
  'env',
  'workdir',
  'user',
  'entry',
  'cmd',
  'test',
  'labels',
  'help',
];
export const TOP_KEYS: readonly string[] = [...STAGE_KEYS, 'args', 'stages'];

/**
 * @param text byte string
 * @throws TsrunError E_RECIPE, E_RECIPE_ARGUMENT, E_RECIPE_STAGE, E_RECIPE_UNSUPPORTED, E_RECIPE_LIMIT; E_PLATFORM
 */
export const parseYamlRecipe = (text: string, path: string, options: YamlOptions): BuildSpec => {
  const top: Place = { file: path, line: 1 };
  const root = readYaml(text, path);
  if (root.kind !== 'map') refuse(root.at, 'it is not a map of keys and values', 'expected a line from: IMAGE');
  const given = options.buildArgs ?? {};
  const values = readArguments(field(root, 'args'), argumentMap(given));
  refuseUnused(top, unusedOf(given, new Set(values.keys())), [...values.keys()]);
  const bodies = [...stageBodies(root), { name: undefined, node: root, at: root.at }];
  if (bodies.length > LIMITS.stages) refuseLimit(top, `it has more than ${LIMITS.stages} stages`);
  const names: StageNames = bodies.map(({ name }) => name);
  const known = new Map([...platformArguments(options.platform, options.buildPlatform ?? options.platform), ...values]);
  const before = [...argumentSteps(argumentMap(given), isProxyVariable, top), ...argumentSteps(values, () => true, top)];
  const stages = bodies.map(({ name, node, at }, current): Stage => {
    const around: Around = { names, current, known, notest: options.notest === true };
    checkKeys(node, name === undefined ? TOP_KEYS : STAGE_KEYS);
    const steps = [...before, ...stepsOfStage(node, around)];
    if (steps.length > LIMITS.steps) refuseLimit(at, `it has more than ${LIMITS.steps} steps`);
    return { name, base: baseOf(node, around), platform: undefined, steps, at };
  });
  return {
    language: 'yaml',
    recipe: { path, text },
    stages,
    target: targetOf(options.target, names, top),
    unusedArguments: [],
    remarks: [],
  };
};

const field = (node: YamlNode, key: string): YamlNode | undefined => {
  const value = node.kind === 'map' ? node.entries.find((entry) => entry.key === key)?.value : undefined;
  return value?.kind === 'nothing' ? undefined : value;
};

const checkKeys = (node: YamlNode, keys: readonly string[]): void => {
  for (const { key, at } of entriesOf(node, 'a stage')) {
    if (!keys.includes(key)) refuse(at, `there is no key ${quote(key)}`, meant(key, keys, `keys: ${keys.join(', ')}`));
  }
};

const variableName = ({ key, at }: YamlEntry): string =>
  /^[A-Za-z_][A-Za-z0-9_]*$/.test(key) ? key : refuse(at, `${quote(key)} is no name of a variable`, 'expected letters, digits and _');

/** @returns values of all arguments, those of one without value missing */
const readArguments = (node: YamlNode | undefined, given: ReadonlyMap<string, string>): ReadonlyMap<string, string> => {
  const values = new Map<string, string>();
  for (const entry of node === undefined ? [] : entriesOf(node, 'args')) {
    const name = variableName(entry);
    const usual = entry.value.kind === 'nothing' ? undefined : wordOf(textOf(entry.value, name), entry.at);
    const value = given.get(name) ?? (usual === undefined ? undefined : expandWord(usual, (each) => values.get(each), entry.at));
    if (value === undefined) {
      return refuseArgument(entry.at, `the argument ${name} has no value`, `set it with --build-arg ${name}=VALUE`);
    }
    values.set(name, value);
  }
  return values;
};

const argumentSteps = (values: ReadonlyMap<string, string>, wanted: (name: string) => boolean, at: Place): readonly Step[] =>
  [...values]
    .filter(([name]) => wanted(name))
    .map(([name, value]) => ({ kind: 'arg', name, value: literal(value), at, title: `args ${name}` }));

type Body = { readonly name: string | undefined; readonly node: YamlNode; readonly at: Place };

const stageBodies = (root: YamlNode): readonly Body[] => {
  const node = field(root, 'stages');
  return (node === undefined ? [] : entriesOf(node, 'stages')).map(({ key, value, at }) => {
    if (!/^[a-z][a-z0-9._-]*$/.test(key) || key === 'scratch')
      refuse(at, `${quote(key)} cannot be the name of a stage`, 'expected lower-case letters, digits, and . _ -');
    return { name: key, node: value, at };
  });
};

type Around = {
  readonly names: StageNames;
  readonly current: number;
  readonly known: ReadonlyMap<string, string>;
  readonly notest: boolean;
};

const baseOf = (node: YamlNode, { names, current, known }: Around): Base => {
  const from = field(node, 'from');
  if (from === undefined) return refuse(node.at, '"from" is missing', 'expected from: IMAGE, from: STAGE or from: scratch');
  const word = wordOf(textOf(from, 'from'), from.at);
  const unknown = word.find((part) => typeof part !== 'string' && part.operator === undefined && !known.has(part.variable));
  if (unknown !== undefined && typeof unknown !== 'string') {
    const hint = meant(unknown.variable, [...known.keys()], `add it to args: ${unknown.variable}: VALUE`);
    return refuseArgument(from.at, `${unknown.variable} has no value in "from"`, hint);
  }
  const name = expandWord(word, (each) => known.get(each), from.at);
  if (name === '')
    return refuse(
      from.at,
      `"from" is empty${variablesOf(word).length > 0 ? ' once its variables are expanded' : ''}`,
      'expected from: IMAGE',
    );
  if (name === 'scratch') return { kind: 'scratch' };
  const index = earlierStage(name, current, names, from.at);
  return index === undefined ? { kind: 'image', reference: imageReference(name, from.at) } : { kind: 'stage', index };
};

const script = (text: string): Command => ({
  form: 'script',
  interpreter: ['/bin/sh', '-e'],
  text: text.endsWith('\n') ? text : `${text}\n`,
  args: [],
});

const stepsOfStage = (node: YamlNode, { names, current, notest }: Around): readonly Step[] => {
  const make = (key: string, steps: (value: YamlNode) => readonly Step[]): readonly Step[] => {
    const value = field(node, key);
    return value === undefined ? [] : steps(value);
  };
  const config = (change: ConfigChange, at: Place, title: string): Step => ({ kind: 'config', change, at, title });
  const steps: readonly Step[] = [
    { kind: 'user', user: ['root'], at: node.at, title: 'user root' },
    ...make('packages', (value) => packageSteps(value).map(({ command, title, at }) => runStep(command, title, at))),
    ...make('env', (value) => {
      const variables = entriesOf(value, 'env').map((entry) => ({
        name: variableName(entry),
        value: entry.value.kind === 'nothing' ? [] : wordOf(textOf(entry.value, entry.key), entry.at),
      }));
      return [{ kind: 'env', variables, at: value.at, title: `env ${variables.map(({ name }) => name).join(' ')}` }];
    }),
    ...make('workdir', (value) => [
      {
        kind: 'workdir',
        path: wordOf(textOf(value, 'workdir'), value.at),
        at: value.at,
        title: `workdir ${textOf(value, 'workdir')}`,
      },
    ]),
    ...make('files', (value) => fileSteps(value, current, names)),
    ...make('run', (value) => textsOf(value, 'run').map(({ text, at }) => runStep(script(text), `run ${text}`, at))),
    ...make('entry', (value) => [config({ field: 'entrypoint', argv: argvOf(value, 'entry') }, value.at, 'entry')]),
    ...make('cmd', (value) => [config({ field: 'cmd', argv: argvOf(value, 'cmd') }, value.at, 'cmd')]),
    ...make('labels', (value) =>
      entriesOf(value, 'labels').map(({ key, value: text, at }) => {
        const words = text.kind === 'nothing' ? [] : wordOf(textOf(text, key), at);
        return config({ field: 'label', name: literal(key), value: words }, at, `labels ${key}`);
      }),
    ),
    ...make('help', (value) => [fileStep('runscript.help', 0o644, `${textOf(value, 'help').replace(/\n$/, '')}\n`, value.at, 'help')]),
    ...make('user', (value) => [
      { kind: 'user', user: wordOf(textOf(value, 'user'), value.at), at: value.at, title: `user ${textOf(value, 'user')}` },
    ]),
    ...make('test', (value) => testSteps(value, notest)),
  ];
  return steps.map((step) => ({ ...step, title: inOneLine(step.title) }));
};

const runStep = (command: Command, title: string, at: Place): Step => ({ kind: 'run', command, mounts: [], network: 'host', at, title });

const fileStep = (name: string, mode: number, content: string, at: Place, title: string): Step => ({
  kind: 'file',
  path: `/.singularity.d/${name}`,
  mode,
  content,
  append: false,
  at,
  title,
});

/** Also kept in the image, where runtimes look for it. */
const testSteps = (value: YamlNode, notest: boolean): readonly Step[] => {
  const tests = textsOf(value, 'test');
  if (tests.length === 0) return [];
  const kept = fileStep(
    'test',
    0o755,
    `#!/bin/sh -e\n${tests.map(({ text }) => `${text.replace(/\n$/, '')}\n`).join('')}`,
    value.at,
    'test',
  );
  return [kept, ...(notest ? [] : tests.map(({ text, at }): Step => ({ kind: 'test', command: script(text), at, title: `test ${text}` })))];
};

/** A list, or one line of plain words: no shell will see it. */
const argvOf = (node: YamlNode, key: string): readonly string[] => {
  if (node.kind === 'list') return textsOf(node, key).map(({ text }) => text);
  const text = textOf(node, key);
  if (/[$`|&;<>()\n*?#~\\]/.test(text)) {
    refuse(
      node.at,
      `${quote(text)} is for a shell, and "${key}" is run without one`,
      `expected plain words, or ${key}: [/bin/sh, -c, "..."]`,
    );
  }
  const words = shellWords(text, '\\').map((word) => expandWord(parseWord(word, { at: node.at }), () => '', node.at));
  return words.length > 0 ? words : refuse(node.at, `"${key}" is empty`, `expected ${key}: PROGRAM ARGUMENT`);
};

const targetOf = (target: string | undefined, names: StageNames, top: Place): number => {
  if (target === undefined) return names.length - 1;
  const index = names.indexOf(target);
  if (index >= 0) return index;
  const known = names.filter((name) => name !== undefined);
  return refuseStage(
    top,
    `it has no stage ${quote(target)}`,
    meant(target, known, known.length === 0 ? 'it has no stages' : `its stages: ${known.join(', ')}`),
  );
};
