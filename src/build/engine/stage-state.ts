/** What a stage has said so far besides its files: environment, arguments, working directory, user, shell, and the changes to its image's config. */
import type { ConfigChange, Word } from '../../recipe/spec.ts';
import { decodeUtf8, encodeUtf8 } from '../../util/utf8.ts';

/** The image config (image-spec config.md); members unknown here are passed on. All text is byte strings, as in the recipe. */
export type ConfigJson = { readonly [name: string]: unknown };

export type StageState = {
  /** In the order of the image's Env. */
  readonly env: ReadonlyMap<string, string>;
  /** Values that the stage's ARGs have; names without a value are not in here. */
  readonly args: ReadonlyMap<string, string>;
  readonly workdir: string;
  readonly user: string;
  readonly shell: readonly string[];
  readonly config: ConfigJson;
  /** This stage has set CMD: an ENTRYPOINT after it leaves it alone. */
  readonly ownCmd: boolean;
};

export const DEFAULT_SHELL: readonly string[] = ['/bin/sh', '-c'];
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Every text in it, names too. */
const mapTexts = (value: unknown, map: (text: string) => string): unknown => {
  if (typeof value === 'string') return map(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, map));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [map(name), mapTexts(member, map)]));
};

/** As it stands in the file, where text is UTF-8. */
export const parseConfig = (bytes: Uint8Array | string): ConfigJson => {
  try {
    return record(mapTexts(JSON.parse(typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('utf8')), encodeUtf8));
  } catch {
    return {};
  }
};

const record = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
const texts = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : [];
const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** @param json the base image's config; an empty object for scratch */
export const stateOf = (json: ConfigJson): StageState => {
  const config = record(json['config']);
  const env = new Map<string, string>();
  for (const entry of texts(config['Env'])) {
    const equals = entry.indexOf('=');
    if (equals > 0) env.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  // As in Docker: what adds to PATH adds to this.
  if (!env.has('PATH')) env.set('PATH', DEFAULT_PATH);
  const shell = texts(config['Shell']);
  const { Env: _env, WorkingDir: workdir, User: user, ...rest } = config;
  return {
    env,
    args: new Map(),
    workdir: text(workdir) === '' ? '/' : text(workdir),
    user: text(user),
    shell: shell.length > 0 ? shell : DEFAULT_SHELL,
    config: { ...json, config: rest },
    ownCmd: false,
  };
};

/** A stage built on another one begins where that ended, with its arguments too (Docker's manual, "Build variables", scoping); its CMD is the base's. */
export const inherit = (state: StageState): StageState => ({ ...state, ownCmd: false });

export const withEnv = (state: StageState, name: string, value: string): StageState => ({
  ...state,
  env: new Map([...state.env, [name, value]]),
});

export const withArg = (state: StageState, name: string, value: string): StageState => ({
  ...state,
  args: new Map([...state.args, [name, value]]),
});

/** ENV wins over ARG, as in Docker. */
export const variablesOf = ({ env, args }: StageState): ReadonlyMap<string, string> => new Map([...args, ...env]);

/** A config change whose words have been expanded. */
export type PlainChange =
  | { readonly field: 'entrypoint' | 'cmd'; readonly argv: readonly string[] | { readonly shell: string } }
  | { readonly field: 'label'; readonly name: string; readonly value: string }
  | { readonly field: 'expose'; readonly ports: readonly string[] }
  | { readonly field: 'volume'; readonly paths: readonly string[] }
  | { readonly field: 'stopsignal'; readonly signal: string }
  | { readonly field: 'author'; readonly name: string }
  | Extract<ConfigChange, { readonly field: 'label-file' | 'build-labels' | 'onbuild' | 'healthcheck' }>;

export const plainChange = (change: ConfigChange, expand: (word: Word) => string): PlainChange => {
  switch (change.field) {
    case 'entrypoint':
    case 'cmd':
      return { field: change.field, argv: change.argv };
    case 'label':
      return { field: 'label', name: expand(change.name), value: expand(change.value) };
    case 'expose':
      return { field: 'expose', ports: change.ports.flatMap((port) => expand(port).split(/[ \t\n]+/)).filter((port) => port !== '') };
    case 'volume':
      return { field: 'volume', paths: change.paths.map(expand) };
    case 'stopsignal':
      return { field: 'stopsignal', signal: expand(change.signal) };
    case 'author':
      return { field: 'author', name: expand(change.name) };
    case 'label-file':
    case 'build-labels':
    case 'onbuild':
    case 'healthcheck':
      return change;
    default:
      return change satisfies never;
  }
};

export const applyChange = (state: StageState, change: PlainChange): StageState => {
  const config = record(state.config['config']);
  const set = (name: string, value: unknown): StageState => ({
    ...state,
    config: { ...state.config, config: { ...config, [name]: value } },
  });
  const add = (name: string, keys: readonly string[]): StageState =>
    set(name, { ...record(config[name]), ...Object.fromEntries(keys.map((key) => [key, {}])) });
  switch (change.field) {
    case 'entrypoint': {
      // What the base image starts by default was meant for its own entry point.
      const { Cmd: _cmd, ...rest } = config;
      const kept = state.ownCmd ? config : rest;
      return { ...state, config: { ...state.config, config: { ...kept, Entrypoint: argvOf(change.argv, state.shell) } } };
    }
    case 'cmd':
      return { ...set('Cmd', argvOf(change.argv, state.shell)), ownCmd: true };
    case 'label':
      return withLabel(state, change.name, change.value);
    case 'expose':
      return add(
        'ExposedPorts',
        change.ports.map((port) => (port.includes('/') ? port : `${port}/tcp`)),
      );
    case 'volume':
      return add('Volumes', change.paths);
    case 'stopsignal':
      return set('StopSignal', change.signal);
    case 'author':
      return { ...state, config: { ...state.config, author: change.name } };
    case 'onbuild':
      return set('OnBuild', [...texts(config['OnBuild']), change.instruction]);
    case 'healthcheck':
      return set('Healthcheck', healthcheck(change));
    case 'label-file':
    case 'build-labels':
      // Known only to who can read the file, and knows the build.
      return state;
    default:
      return change satisfies never;
  }
};

/** `OnBuild`: instructions that the base's author has left for whoever builds on it. */
export const triggersOf = ({ config }: StageState): readonly string[] => texts(record(config['config'])['OnBuild']);

/** They are carried out once: what is built on the result does not see them. */
export const withoutTriggers = (state: StageState): StageState => {
  const { OnBuild: _triggers, ...config } = record(state.config['config']);
  return { ...state, config: { ...state.config, config } };
};

/** @param value undefined: the label is taken away */
export const withLabel = (state: StageState, name: string, value: string | undefined): StageState => {
  const config = record(state.config['config']);
  const { [name]: _before, ...labels } = record(config['Labels']);
  const Labels = value === undefined ? labels : { ...labels, [name]: value };
  return { ...state, config: { ...state.config, config: { ...config, Labels } } };
};

/** Labels that the config does not have are added. */
export const withInheritedLabels = (state: StageState, labels: Readonly<Record<string, string>>): StageState => {
  const config = record(state.config['config']);
  const merged = { ...labels, ...record(config['Labels']) };
  return Object.keys(merged).length === 0 ? state : { ...state, config: { ...state.config, config: { ...config, Labels: merged } } };
};

/** As Docker writes it: what is zero is left out. */
const healthcheck = (change: Extract<PlainChange, { readonly field: 'healthcheck' }>): Readonly<Record<string, unknown>> => {
  const { test, interval, timeout, startPeriod, startInterval, retries } = change;
  const numbers = { Interval: interval, Timeout: timeout, StartPeriod: startPeriod, StartInterval: startInterval, Retries: retries };
  return { Test: test, ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== 0)) };
};

const argvOf = (argv: readonly string[] | { readonly shell: string }, shell: readonly string[]): readonly string[] =>
  'shell' in argv ? [...shell, argv.shell] : argv;

/**
 * The image's config in the end. Layers and history of the base are no longer what the image is made of, and are left out.
 * @param created seconds since 1970
 */
export const configBytes = (state: StageState, architecture: string, created: number): Uint8Array => {
  const { rootfs: _rootfs, history: _history, config, ...json } = state.config;
  const env = [...state.env].map(([name, value]) => `${name}=${value}`);
  const out = {
    architecture,
    os: 'linux',
    ...json,
    created: new Date(created * 1000).toISOString().replace('.000Z', 'Z'),
    config: {
      ...(state.user === '' ? {} : { User: state.user }),
      ...record(config),
      ...(env.length === 0 ? {} : { Env: env }),
      ...(state.workdir === '/' ? {} : { WorkingDir: state.workdir }),
      ...(state.shell.join('\0') === DEFAULT_SHELL.join('\0') ? {} : { Shell: state.shell }),
    },
    rootfs: { type: 'layers', diff_ids: [] },
  };
  return Buffer.from(JSON.stringify(mapTexts(out, (text) => decodeUtf8(text) ?? text)));
};
