/**
 * The environment of the program, decided variable by variable: the host's where nothing speaks against it, the image's over it, what was asked for
 * explicitly over both, and a few that are tsrun's. Every value keeps its origin.
 */
import { parseEnvFile } from '../request/env-spec.ts';
import { PREFIXES } from '../request/from-env.ts';
import { errnoText } from '../util/errno.ts';
import { EXIT_TSRUN, TsrunError } from '../util/errors.ts';
import { failed, type Host } from '../util/host.ts';
import { isWithin, nameOf, resolveFrom } from '../util/paths.ts';
import { CLEAN_NAMES, namesMatch, spokenOf, type Treatment } from './env-rules.ts';
import { hidesImage } from './image-tree.ts';
import { fitLocale, LOCALE_VARIABLES } from './locale.ts';
import { isHosts, type MountTable, mountAt, put } from './mount-table.ts';
import type { Variable } from './ops.ts';
import type { Situation } from './situation.ts';

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Where libraries of the host's drivers are put, as in Apptainer. */
export const LIBS_DIRECTORY = '/.singularity.d/libs';
const MAX_ENV_FILE = 1024 * 1024;

export type PlannedEnv = {
  /** The host's variables that are not passed as they are: all others are. undefined: none is passed. */
  readonly outside: readonly string[] | undefined;
  /** The host's, in the form that the rules have given them. */
  readonly given: Map<string, Variable>;
  readonly image: ReadonlyMap<string, Variable>;
  /** TSRUNENV_, APPTAINERENV_, --env-file, --env; the strongest of each name. */
  readonly explicit: ReadonlyMap<string, Variable>;
  /** Set by tsrun where nothing above speaks of them. */
  readonly defaults: ReadonlyMap<string, Variable>;
  /** tsrun's own, over everything. */
  readonly own: ReadonlyMap<string, Variable>;
  /** Put in front of and behind PATH and LD_LIBRARY_PATH, whoever set them. */
  readonly around: readonly { readonly name: (typeof AROUND)[number]; readonly before: string; readonly after: string }[];
  /** Host variables that were left out and may matter. */
  readonly leftOut: readonly string[];
  /** Those of them that --host-python would pass. */
  readonly leftOutPython: readonly string[];
};

// --- from the host

type FromHost = {
  readonly given: Map<string, Variable>;
  readonly outside: string[];
  /** Of those that hold a path, the paths that are in the run. */
  readonly shown: string[];
  readonly leftOut: string[];
  readonly leftOutPython: string[];
};

/** What speaks against the host's variables, besides the tables. */
type Against = { readonly table: MountTable; readonly image: ReadonlyMap<string, Variable>; readonly imageHasLocale: boolean };

/** Of fifty variables of a usual login the tables speak of a few, and only those are looked at here. Binds what path variables name. */
const passHost = (situation: Situation, against: Against): FromHost => {
  const { host, environment, request } = situation;
  const from: FromHost = { given: new Map(), outside: [], shown: [], leftOut: [], leftOutPython: [] };
  if (request.cleanEnv) {
    for (const name of CLEAN_NAMES) {
      const value = environment.get(name);
      if (value !== undefined) from.given.set(name, { value, why: 'host (kept by --cleanenv)' });
    }
    return from;
  }
  const { words, treatments } = spokenOf();
  const found = host.environ(words);
  for (let at = 0; at < found.length; at += 3)
    treat(situation, against, from, found[at + 1] as string, found[at + 2] as string, treatments[found[at] as number] as Treatment);
  return from;
};

const treat = (situation: Situation, against: Against, from: FromHost, name: string, value: string, treatment: Treatment): void => {
  switch (treatment.kind) {
    case 'outside': {
      const { rule } = treatment;
      const python = rule.python === true;
      if (isKept(situation, name, python)) {
        from.given.set(name, { value, why: 'host (kept as asked)' });
        return;
      }
      from.outside.push(name);
      if (rule.tell) (python ? from.leftOutPython : from.leftOut).push(name);
      return;
    }
    case 'path':
      if (!(against.image.has(name) || isShown(situation, against.table, from.shown, name, value, treatment.shown)))
        from.outside.push(name);
      return;
    case 'locale': {
      // An image that sets its locale must not have it overruled by the host's LC_ALL.
      const fitting = against.imageHasLocale ? undefined : fitLocale(situation.image.facts, value);
      if (fitting === undefined) from.outside.push(name);
      else if (fitting !== value) from.given.set(name, { value: fitting, why: `host has ${value}, which the image lacks` });
      return;
    }
    case 'passed':
      return;
    case 'given':
      from.given.set(name, { value, why: 'host' });
      return;
  }
};

const isKept = ({ own, request }: Situation, name: string, python: boolean): boolean => {
  if (request.hostEnv === 'none' && !(python && request.hostPython)) return false;
  if (own.has(name)) return false;
  if (python && request.hostPython) return true;
  return request.hostEnv === 'all' || (request.hostEnv !== 'none' && namesMatch(request.hostEnv, name));
};

/**
 * The file or directory of a Kerberos cache name; null: none, and usable in a run; undefined: not usable. Persistent and user keyrings are other
 * ones in a user namespace (keyrings(7)).
 */
const cachePath = (value: string): string | null | undefined => {
  if (/^KEYRING:(persistent|user)/i.test(value)) return undefined;
  const match = /^(?:(FILE|DIR):)?:?(\/.*)$/.exec(value);
  if (match === null) return null;
  // DIR::/path/tkt names one file of the collection in /path.
  return value.startsWith('DIR::') ? (match[2] ?? '').replace(/\/[^/]*$/, '') : match[2];
};

/** Variables that hold a path: visible at the same path, shown there now, or left out. Many name the same file: that is decided once. */
const isShown = (
  situation: Situation,
  table: MountTable,
  shown: string[],
  name: string,
  value: string,
  kind: 'directory' | 'file',
): boolean => {
  const path = name === 'KRB5CCNAME' ? cachePath(value) : value;
  if (path === null || (path !== undefined && shown.includes(path))) return true;
  if (path === undefined || !showPath(situation, table, path, kind, name)) return false;
  shown.push(path);
  return true;
};

/** Where distributions put their own things. */
const SYSTEM = ['/etc', '/usr'];

const showPath = (situation: Situation, table: MountTable, path: string, kind: 'directory' | 'file', name: string): boolean => {
  if (!path.startsWith('/')) return false;
  const clean = resolveFrom('/', path);
  const mount = mountAt(table, clean);
  if (mount !== undefined && isHosts(mount)) return true;
  const { host, image, request } = situation;
  // The image's own certificates are as good as a directory of the distribution's; a single file may be the site's.
  if (kind === 'directory' && SYSTEM.some((directory) => isWithin(clean, directory))) return false;
  if (request.contain || clean === '/' || mount !== undefined || hidesImage(image.facts, clean)) return false;
  const stat = host.stat(clean);
  if (
    failed(stat) ||
    (kind === 'directory' && stat.kind !== 'directory') ||
    (name === 'XDG_RUNTIME_DIR' && stat.uid !== situation.identity.ids.euid)
  )
    return false;
  const isFile = stat.kind !== 'directory';
  // Programs add tickets to a Kerberos cache; certificates are only read.
  const flags = !isFile ? ['recursive', 'optional'] : name === 'KRB5CCNAME' ? ['optional'] : ['ro', 'optional'];
  put(table, { op: 'bind', source: clean, target: clean, flags, why: `$${name} names it` }, isFile);
  return true;
};

// --- from the image

const imageVariables = (situation: Situation): Map<string, Variable> => {
  const variables = new Map<string, Variable>();
  for (const entry of situation.image.facts.env) {
    const equals = entry.indexOf('=');
    if (equals > 0) variables.set(entry.slice(0, equals), { value: entry.slice(equals + 1), why: 'image' });
  }
  return variables;
};

// --- explicit

const explicitVariables = (situation: Situation): Map<string, Variable> => {
  const { environment, own, request } = situation;
  const variables = new Map<string, Variable>();
  const asked: string[] = [];
  own.forEach((_, name) => {
    if (name.includes('ENV_')) asked.push(name);
  });
  if (asked.length + request.configEnv.length + request.envFiles.length + request.env.length === 0) return variables;
  const set = (name: string, value: string | undefined, why: string): void => {
    const actual = value ?? environment.get(name);
    if (actual !== undefined) variables.set(name, { value: actual, why });
  };
  for (const { name, value, origin } of request.configEnv) set(name, value, origin);
  for (const prefix of PREFIXES.toReversed()) {
    const start = `${prefix}ENV_`;
    for (const name of asked) {
      if (name.startsWith(start) && name.length > start.length) set(name.slice(start.length), own.get(name), name);
    }
  }
  for (const { text, origin } of request.envFiles) {
    for (const { name, value } of parseEnvFile(text, readEnvFile(situation, text, origin))) set(name, value, `${origin} ${text}`);
  }
  for (const { name, value, origin } of request.env) set(name, value, origin);
  return variables;
};

const readEnvFile = ({ host }: Situation, path: string, origin: string): string => {
  // The one device people give where a file is asked for.
  const text = path === '/dev/null' ? '' : host.read(path, 0, MAX_ENV_FILE + 1);
  const refuse = (why: string, hint: string): never => {
    throw new TsrunError({ code: 'E_ENV_FILE', what: `cannot read ${path}`, why, hint, exitCode: EXIT_TSRUN });
  };
  if (failed(text))
    return refuse(
      text === -2 ? 'there is no such file' : text === -95 ? 'it is not a regular file' : `it cannot be read (${errnoText(text)})`,
      text === -95 ? 'write the lines to a file first' : `it was asked for with ${origin}`,
    );
  if (text.length > MAX_ENV_FILE) return refuse(`it has more than ${MAX_ENV_FILE} bytes`, 'give a file of NAME=VALUE lines');
  if (text.includes('\0')) return refuse('it holds NUL bytes', 'give a text file of NAME=VALUE lines');
  return text;
};

/** `$PATH` in an explicit PATH means the one it replaces: the only expansion there is, since everybody writes it. */
const expandSelf = (name: string, value: string, before: string): string =>
  value.includes('$') ? value.replaceAll(`\${${name}}`, before).replaceAll(`$${name}`, before) : value;

const AROUND = ['PATH', 'LD_LIBRARY_PATH'] as const;

/** PREPEND_ and APPEND_ variables, which are no variables of the program. */
const takeAround = (explicit: Map<string, Variable>, nv: boolean): PlannedEnv['around'] =>
  AROUND.map((name) => {
    const before = explicit.get(`PREPEND_${name}`)?.value ?? '';
    const after = explicit.get(`APPEND_${name}`)?.value ?? '';
    explicit.delete(`PREPEND_${name}`);
    explicit.delete(`APPEND_${name}`);
    const libs = nv && name === 'LD_LIBRARY_PATH' ? LIBS_DIRECTORY : '';
    return { name, before, after: after !== '' && libs !== '' ? `${after}:${libs}` : after + libs };
  });

// --- all of it

/** Decides every variable; binds what path variables name. `nv`: driver libraries are in LIBS_DIRECTORY. */
export const planEnv = (situation: Situation, table: MountTable, home: string, pwd: string, nv: boolean): PlannedEnv => {
  // Maps are walked by forEach here: a start pays for every pair that a loop over entries makes.
  const { environment, request, image } = situation;
  const fromImage = imageVariables(situation);
  let imageHasLocale = false;
  fromImage.forEach((_, name) => {
    imageHasLocale ||= LOCALE_VARIABLES.includes(name);
  });
  const { given, outside, leftOut, leftOutPython } = passHost(situation, { table, image: fromImage, imageHasLocale });
  const explicit = explicitVariables(situation);

  const around = explicit.size === 0 && !nv ? [] : takeAround(explicit, nv);
  for (let at = 0; explicit.size > 0 && at < AROUND.length; at++) {
    const name = AROUND[at] as (typeof AROUND)[number];
    const variable = explicit.get(name);
    if (variable === undefined) continue;
    const before = fromImage.get(name)?.value ?? (name === 'PATH' ? DEFAULT_PATH : '');
    explicit.set(name, { ...variable, value: expandSelf(name, variable.value, before) });
  }

  const defaults = new Map<string, Variable>([['PATH', { value: DEFAULT_PATH, why: 'default' }]]);
  if (!request.hostPython && request.hostEnv !== 'all')
    defaults.set('PYTHONNOUSERSITE', { value: '1', why: 'packages in ~/.local are not of the image' });
  if (request.cleanEnv && !imageHasLocale) defaults.set('LANG', { value: fitLocale(image.facts, 'C.UTF-8') ?? 'C', why: '--cleanenv' });
  if (request.verb === 'shell') defaults.set('PS1', { value: prompt(image.reference, image.facts.bash !== ''), why: 'names the image' });

  const why = 'tsrun';
  const container = { value: image.path, why };
  const name = { value: nameOf(image.path), why };
  const own = new Map<string, Variable>();
  if (!explicit.has('HOME')) own.set('HOME', { value: home, why });
  own.set('PWD', { value: pwd, why });
  own.set('APPTAINER_CONTAINER', container);
  own.set('APPTAINER_NAME', name);
  own.set('SINGULARITY_CONTAINER', container);
  own.set('SINGULARITY_NAME', name);
  own.set('TSRUN_IMAGE', { value: image.reference, why });
  if (request.app !== undefined) {
    // Scripts of the image look at these, and set what the app wants.
    for (const key of ['APPTAINER_APPNAME', 'SINGULARITY_APPNAME']) own.set(key, { value: request.app.text, why: request.app.origin });
  }
  if (request.hostname !== undefined && !request.cleanEnv && environment.get('HOSTNAME') !== undefined)
    own.set('HOSTNAME', { value: request.hostname.text, why: request.hostname.origin });
  return {
    outside: request.cleanEnv ? undefined : outside,
    given,
    image: fromImage,
    explicit,
    defaults,
    own,
    around,
    leftOut,
    leftOutPython,
  };
};

/** Image names can hold anything; a prompt is expanded by the shell. */
export const prompt = (reference: string, bash: boolean): string => {
  const name = nameOf(reference)
    .replace(/[^A-Za-z0-9._+:@-]/g, '?')
    .slice(0, 40);
  return bash ? `(${name}) \\w\\$ ` : `(${name}) $ `;
};

/** `value` with what goes around it; no empty part, which would mean the current directory. */
export const surround = (value: string, before: string, after: string): string =>
  [before, value, after].filter((part) => part !== '').join(':');

/** All that the plan gives, for programs that are started directly. `given` becomes it. */
export const finalEnv = (env: PlannedEnv): Map<string, Variable> => {
  const all = env.given;
  const add = (variable: Variable, name: string): void => {
    all.set(name, variable);
  };
  env.defaults.forEach((variable, name) => {
    if (!all.has(name)) all.set(name, variable);
  });
  env.image.forEach(add);
  env.explicit.forEach(add);
  env.own.forEach(add);
  for (const { name, before, after } of env.around) {
    if (before === '' && after === '') continue;
    const old = all.get(name) ?? { value: '', why: 'tsrun' };
    const value = surround(old.value, before, after);
    if (value !== old.value)
      all.set(name, { value, why: `${old.why}, with ${[before, after].filter((part) => part !== '').join(' and ')}` });
  }
  return all;
};

/** Of the host's variables those that an `environ` op passes: neither left out nor among what the plan gives. */
export const inherited = (host: Host, leftOut: string, given: ReadonlyMap<string, Variable>): Map<string, Variable> => {
  const outside = leftOut.split('=');
  const passed = new Map<string, Variable>();
  const found = host.environ('');
  for (let at = 0; at < found.length; at += 3) {
    const name = found[at + 1] as string;
    if (!(outside.includes(name) || given.has(name))) passed.set(name, { value: found[at + 2] as string, why: 'host' });
  }
  return passed;
};

/** Names for the one line that says what was left out. */
export const leftOutLine = (env: PlannedEnv): string | undefined => {
  const names = env.leftOutPython.concat(env.leftOut);
  if (names.length === 0) return undefined;
  const shown = names.length > 6 ? `${names.slice(0, 5).join(' ')} and ${names.length - 5} more` : names.join(' ');
  const flags = env.leftOut.length === 0 ? '--host-python' : env.leftOutPython.length === 0 ? '--host-env' : '--host-env, --host-python';
  return `not passed in: ${shown} (keep: ${flags})`;
};

export const isBelowEnvScripts = (target: string): boolean => target.startsWith('/.singularity.d/env/');
