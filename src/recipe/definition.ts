/**
 * Definition file (`.def`, `Singularity`) → BuildSpec. What stands where in the image, and in which order steps come, is as Apptainer has it.
 * Two things are different: labels of the recipe win over those of the base, and so does its help.
 */
import { argumentMap, type BuildArgs, refuseUnused, unusedOf } from './arguments.ts';
import { appInstalls, appSteps } from './definition-apps.ts';
import { fileEntries, labelEntries } from './definition-entries.ts';
import { baseOfHeader, type Header, readHeader } from './definition-header.ts';
import { remarksOf } from './definition-remarks.ts';
import { scriptFile, stepCommand } from './definition-scripts.ts';
import { APP_SECTIONS, bodyOf, isEmpty, joined, readStages, SECTIONS, type Section, type StageText } from './definition-text.ts';
import { meant, quote, refuse, refuseStage } from './errors.ts';
import { type BuildSpec, type ConfigChange, type Origin, PLAIN_COPY, type Place, type Stage, type Step } from './spec.ts';
import { fields } from './text.ts';
import { type Lookup, literal } from './words.ts';

export type DefinitionOptions = {
  readonly buildArgs?: BuildArgs | undefined;
  /** Only these sections (`--section`); "all", "none". */
  readonly sections?: readonly string[] | undefined;
  readonly notest?: boolean | undefined;
  /** The variables of whoever builds: sources of %files may hold them (`$PWD/x`). */
  readonly environment?: Lookup | undefined;
  /** Name or number of the stage that becomes the image; the last when absent. */
  readonly target?: string | undefined;
};

/** Does a section count? */
type Chosen = (section: string) => boolean;

/**
 * @param text byte string
 * @throws TsrunError E_RECIPE, E_RECIPE_ARGUMENT, E_RECIPE_STAGE, E_RECIPE_UNSUPPORTED, E_RECIPE_LIMIT
 */
export const parseDefinition = (text: string, path: string, options: DefinitionOptions = {}): BuildSpec => {
  const top: Place = { file: path, line: 1 };
  const given = options.buildArgs ?? {};
  const templates = { given: argumentMap(given), used: new Set<string>(), known: new Set<string>() };
  const texts = readStages(text, path, templates);
  const headers = texts.map(({ header }) => readHeader(header));
  refuseSameNames(headers);
  const names = headers.map((header) => header.get('stage')?.value);
  const chosen = chosenSections(options.sections, top);
  const stages = texts.map((stage, index): Stage => {
    const header = headers[index] ?? new Map();
    const environment = options.environment ?? (() => undefined);
    const steps = stepsOfStage({ stage, header, names, index, chosen, text, notest: options.notest === true, environment });
    return { name: names[index], base: baseOfHeader(header, stage.at), platform: undefined, steps, at: stage.at };
  });
  refuseUnused(top, unusedOf(given, templates.used), [...templates.known, ...templates.used]);
  return {
    language: 'definition',
    recipe: { path, text },
    stages,
    target: targetOf(options.target, names, top),
    unusedArguments: [],
    remarks: remarksOf(texts),
  };
};

/** Apptainer would take from the first of them, Docker from the last. */
const refuseSameNames = (headers: readonly Header[]): void => {
  const seen = new Map<string, Place>();
  for (const header of headers) {
    const { value, at } = header.get('stage') ?? {};
    if (value === undefined || at === undefined) continue;
    const before = seen.get(value);
    if (before !== undefined) refuseStage(at, `the stage of line ${before.line} is called ${quote(value)}, too`, 'give it another name');
    seen.set(value, at);
  }
};

const chosenSections = (sections: readonly string[] | undefined, top: Place): Chosen => {
  const names = sections?.map((name) => name.toLowerCase().replace(/^%/, '')) ?? ['all'];
  const known = [...SECTIONS, ...APP_SECTIONS, 'all', 'none'];
  const wrong = names.find((name) => !known.includes(name));
  if (wrong !== undefined)
    refuse(top, `there is no section ${quote(wrong)} to choose`, meant(wrong, known, `sections: ${known.join(', ')}`));
  if (names.includes('none')) return () => false;
  return (name) => names.includes('all') || names.includes(name);
};

const targetOf = (target: string | undefined, names: readonly (string | undefined)[], top: Place): number => {
  if (target === undefined) return names.length - 1;
  const index = names.lastIndexOf(target);
  if (index >= 0) return index;
  if (/^[0-9]{1,9}$/.test(target) && Number(target) < names.length) return Number(target);
  const known = names.filter((name) => name !== undefined);
  return refuseStage(top, `it has no stage ${quote(target)}`, meant(target, known, `its stages: ${known.join(', ')}`));
};

type Around = {
  readonly stage: StageText;
  readonly header: Header;
  readonly names: readonly (string | undefined)[];
  readonly index: number;
  readonly chosen: Chosen;
  readonly text: string;
  readonly notest: boolean;
  readonly environment: Lookup;
};

const ENVIRONMENT_FILE = '/.singularity.d/env/91-environment.sh';
const LABEL_FILE = '/.build.labels';

const stepsOfStage = (around: Around): readonly Step[] => {
  const { stage, chosen, header, text, notest, environment } = around;
  const { at } = stage;
  const sections = stage.sections.filter(({ name }) => chosen(name));
  const find = (name: string): Section | undefined => {
    const section = joined(sections, name);
    return section === undefined || isEmpty(section) ? undefined : section;
  };
  const make = <Out>(name: string, body: (section: Section) => readonly Out[]): readonly Out[] => {
    const section = find(name);
    return section === undefined ? [] : body(section);
  };
  const onHost = (name: string, beforeBase: boolean): readonly Step[] =>
    make(name, (section) => [{ kind: 'host-run', command: stepCommand(section), beforeBase, at: section.at, title: `%${name}` }]);
  const files = sections.filter(({ name }) => name === 'files');
  return [
    ...onHost('pre', true),
    { kind: 'layout', at, title: '/.singularity.d' },
    ...appSteps(sections, environment),
    ...files.flatMap((section) => (section.args === '' ? [] : copies(section, originOfFiles(section, around), environment))),
    ...onHost('setup', false),
    ...files.flatMap((section) => (section.args === '' ? copies(section, { kind: 'context' }, environment) : [])),
    ...postSteps(find('post'), sections, at),
    ...make('help', (section) => [
      ...fileStep('runscript.help', 0o644, bodyOf(section), section),
      ...['usage', 'usage.apptainer.runscript.help'].map((name) =>
        label(`org.label-schema.${name}`, '/.singularity.d/runscript.help', section.at),
      ),
    ]),
    config({ field: 'build-labels' }, at, '%labels org.label-schema'),
    ...[...header].map(([key, { value }]) => label(`org.label-schema.usage.singularity.deffile.${key}`, value, at)),
    ...make('labels', (section) => labelEntries(section).map(({ name, value, at: place }) => label(name, value, place))),
    ...make('environment', (section) => fileStep('env/90-environment.sh', 0o755, `\n${bodyOf(section)}`, section, true)),
    ...make('startscript', (section) => fileStep('startscript', 0o755, scriptFile(section), section)),
    ...make('runscript', (section) => fileStep('runscript', 0o755, scriptFile(section), section)),
    ...make('test', (section) => fileStep('test', 0o755, scriptFile(section), section)),
    { kind: 'file', path: '/.singularity.d/Singularity', mode: 0o644, content: text, append: false, at, title: 'definition' },
    ...(notest
      ? []
      : make('test', (section): readonly Step[] => [
          { kind: 'test', command: { form: 'argv', argv: ['/.singularity.d/test'] }, at: section.at, title: '%test' },
        ])),
  ];
};

const fileStep = (name: string, mode: number, content: string, { at, name: section }: Section, append = false): readonly Step[] => [
  { kind: 'file', path: `/.singularity.d/${name}`, mode, content, append, at, title: `%${section}` },
];

const config = (change: ConfigChange, at: Place, title: string): Step => ({ kind: 'config', change, at, title });

const label = (name: string, value: string, at: Place): Step =>
  config({ field: 'label', name: literal(name), value: literal(value) }, at, `%labels ${name}`);

/** %post and the apps' installation, as one script: variables of the one are seen by the other. */
const postSteps = (post: Section | undefined, sections: readonly Section[], at: Place): readonly Step[] => {
  const installs = appInstalls(sections);
  if (post === undefined && installs === '') return [];
  const section = post ?? { name: 'post', args: '', app: undefined, lines: [], at };
  const variables = ['APPTAINER', 'SINGULARITY'].flatMap((name) => [
    [`${name}_ENVIRONMENT`, ENVIRONMENT_FILE],
    [`${name}_LABELS`, LABEL_FILE],
  ]) as readonly (readonly [string, string])[];
  return [
    ...variables.map(([name, value]): Step => ({ kind: 'arg', name, value: literal(value), at: section.at, title: '%post' })),
    { kind: 'run', command: stepCommand(section, installs), mounts: [], network: 'host', at: section.at, title: '%post' },
    config({ field: 'label-file', path: LABEL_FILE }, section.at, '%post'),
  ];
};

/** `%files from STAGE`. */
const originOfFiles = ({ args, at }: Section, { names, index }: Around): Origin => {
  const [from, name, more] = fields(args);
  if (from !== 'from' || name === undefined || more !== undefined) {
    return refuse(at, `${quote(args)} follows %files`, 'expected %files, or %files from STAGE');
  }
  const found = index === 0 ? -1 : names.lastIndexOf(name, index - 1);
  if (found >= 0) return { kind: 'stage', index: found };
  const known = names.slice(0, index).filter((each) => each !== undefined);
  if (names.includes(name)) {
    const why = names[index] === name ? `the stage ${quote(name)} takes from itself` : `the stage ${quote(name)} comes later`;
    return refuseStage(at, why, 'a stage can take from those above it; move it up');
  }
  const all = known.length === 0 ? 'no stage above has a name: write Stage: NAME in its header' : `stages above: ${known.join(', ')}`;
  return refuseStage(at, `there is no stage ${quote(name)}`, meant(name, known, all));
};

const copies = (section: Section, from: Origin, environment: Lookup): readonly Step[] =>
  fileEntries(section, environment).map(
    ({ source, destination, at }): Step => ({
      kind: 'copy',
      from,
      sources: [literal(source)],
      destination: literal(destination ?? source),
      manner: 'cp',
      ...PLAIN_COPY,
      at,
      title: `%files ${source}${destination === undefined ? '' : ` ${destination}`}`,
    }),
  );
