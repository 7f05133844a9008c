/** What the user asked: command line, environment and config files as one value, with the origin of everything kept. */
import { TsrunError } from '../util/errors.ts';
import { isTooLong } from '../util/paths.ts';
import { type EnvSpec, parseEnv } from './env-spec.ts';
import type { FlagName, RunVerb } from './flags.ts';
import type { Config } from './from-config.ts';
import { type BindSpec, parseBinds, parseHome, parseMount } from './mount-spec.ts';
import type { CommandLine, Given } from './parse.ts';

export type RequestedBind = BindSpec & {
  readonly origin: string;
  /** From a config file: what is not there is left out with a warning. */
  readonly optional: boolean;
};

export type Asked = { readonly text: string; readonly origin: string };

export type Request = {
  readonly verb: RunVerb;
  readonly image: string;
  readonly args: readonly string[];
  /** In the order in which they are to win: the last bind at a target counts. */
  readonly binds: readonly RequestedBind[];
  readonly pwd: Asked | undefined;
  readonly home: { readonly source: string; readonly target: string | undefined; readonly origin: string } | undefined;
  readonly noHome: boolean;
  /** Default mounts to leave out: names of NO_MOUNT_NAMES, or absolute paths. */
  readonly noMount: readonly string[];
  readonly writableTmpfs: boolean;
  /** Weakest first. */
  readonly env: readonly (EnvSpec & { readonly origin: string })[];
  readonly configEnv: readonly (EnvSpec & { readonly origin: string })[];
  readonly envFiles: readonly Asked[];
  readonly cleanEnv: boolean;
  /** Host variables to keep though they are left out by default; `*` at the end stands for the rest of a name. */
  readonly hostEnv: 'none' | 'all' | readonly string[];
  readonly hostPython: boolean;
  readonly contain: boolean;
  readonly pid: boolean;
  readonly ipc: boolean;
  readonly hostname: Asked | undefined;
  readonly nv: boolean;
  readonly shell: Asked | undefined;
  /** Of the image's apps, the one that is meant: a name in /scif/apps. */
  readonly app: Asked | undefined;
  /** Where the image is copied first. */
  readonly stage: 'no' | 'local' | 'memory';
  /** Where what is touched of the image is written. */
  readonly record: Asked | undefined;
  readonly explain: 'no' | 'text' | 'json';
  readonly verbosity: 'quiet' | 'normal' | 'verbose' | 'debug';
  readonly site: SiteSettings;
  /** Everything that was given, the weakest first, for --explain. */
  readonly given: readonly Given[];
};

/** Config values that are not flags. */
export type SiteSettings = {
  readonly store: string | undefined;
  readonly local: string | undefined;
  /** Milliseconds an image server stays after the last run. */
  readonly lingerMs: number;
  /** Bytes an image server may keep of decompressed blocks. */
  readonly cacheBytes: number;
};

const NO_MOUNT_NAMES = ['home', 'cwd', 'tmp', 'dev', 'proc', 'sys', 'bind-paths', 'devpts', 'hostfs'] as const;
/** More than any site or workflow has; each costs a few system calls, and the kernel's table of mounts has an end (fs.mount-max). */
const MAX_BINDS = 5000;
const DEFAULT_LINGER_MS = 10_000;
/** Of linger_ms in native/plan_fields.c. */
const MAX_LINGER_MS = 2 ** 31 - 1;
/** The image server decides, by the memory there is. */
const DEFAULT_CACHE_BYTES = 0;
/** One name of a directory: anything else would lead out of /scif/apps. */
const isAppName = (text: string): boolean => /^(?!\.{1,2}$)[^/]{1,255}$/.test(text);
const HOST_NAME = /^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$/;

const refuse: (code: 'E_USAGE' | 'E_CONFIG', what: string, why: string, hint: string) => never = (code, what, why, hint) => {
  throw new TsrunError({ code, what, why, hint });
};

/** The command line's words, with a name for help only. */
const shown = (given: Given): string => `${given.origin} ${given.text}`;

const pathIn = (rest: Config['rest'], key: 'store' | 'local'): string | undefined => {
  const entry = rest[key];
  if (entry === undefined || entry.value === null) return undefined;
  if (typeof entry.value === 'string' && entry.value.startsWith('/')) return entry.value;
  return refuse(
    'E_CONFIG',
    `cannot use the config file ${entry.origin}`,
    `the value of "${key}" is not an absolute path`,
    `write ${key}: /path (~ and variables are not expanded there)`,
  );
};

/** What a text stands for; -1: nothing. */
const seconds = (text: string): number => (/^\d+(\.\d+)?$/.test(text) ? Math.round(Number(text) * 1000) : -1);
const bytes = (text: string): number => {
  const match = /^(\d{1,12})([KMG]?)(?:i?B)?$/i.exec(text);
  return match === null ? -1 : Number(match[1]) * 1024 ** ' KMG'.indexOf((match[2] || ' ').toUpperCase());
};

const amountIn = (
  rest: Config['rest'],
  key: 'linger' | 'cache-memory',
  usual: number,
  most: number,
  meaning: (text: string) => number,
): number => {
  const entry = rest[key];
  if (entry === undefined || entry.value === null) return usual;
  const value = meaning(String(entry.value));
  const isAmount = Number.isSafeInteger(value) && value >= 0;
  if (isAmount && value <= most) return value;
  const file = entry.origin.startsWith('/');
  return refuse(
    'E_CONFIG',
    file ? `cannot use the config file ${entry.origin}` : `cannot use ${entry.origin}=${String(entry.value)}`,
    `${file ? `the value of "${key}"` : 'it'} is ${isAmount ? 'too large' : 'no amount'}`,
    `write ${file ? `${key}: ` : `${entry.origin}=`}${key === 'linger' ? '10 (seconds)' : '64M'}`,
  );
};

const siteSettings = (rest: Config['rest']): SiteSettings => ({
  store: pathIn(rest, 'store'),
  local: pathIn(rest, 'local'),
  lingerMs: amountIn(rest, 'linger', DEFAULT_LINGER_MS, MAX_LINGER_MS, seconds),
  cacheBytes: amountIn(rest, 'cache-memory', DEFAULT_CACHE_BYTES, Number.MAX_SAFE_INTEGER, bytes),
});

const bindsOf = (given: Given): RequestedBind[] => {
  const specs = given.flag === 'mount' ? [parseMount(given.origin, given.text)] : parseBinds(given.origin, given.text);
  return specs.map((spec) => ({ ...spec, origin: given.origin, optional: given.from === 'config' }));
};

const noMountOf = (given: Given): string[] => {
  const names = given.text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  for (const name of names) {
    if (name.startsWith('/') || (NO_MOUNT_NAMES as readonly string[]).includes(name)) continue;
    refuse(
      'E_USAGE',
      `cannot use ${shown(given)}`,
      `there is no default mount "${name}"`,
      `known are ${NO_MOUNT_NAMES.join(' ')} and absolute paths`,
    );
  }
  return names;
};

/** Switch-like words too: that is how variables and config files say yes and no. */
const stageOf = (given: Given | undefined): Request['stage'] => {
  if (given === undefined || /^(?:false|no|off|0)$/i.test(given.text)) return 'no';
  if (given.text === 'memory') return 'memory';
  if (given.text === 'local' || /^(?:|true|yes|on|1)$/i.test(given.text)) return 'local';
  return refuse(
    'E_USAGE',
    `cannot use ${given.origin}=${given.text}`,
    'there is no such place',
    'write --stage, --stage=local or --stage=memory',
  );
};

const recordOf = (given: Given | undefined): Asked | undefined => {
  if (given === undefined) return undefined;
  if (given.text === '' || isTooLong(given.text))
    refuse('E_USAGE', `cannot use ${given.origin} ${given.text.slice(0, 80)}`, 'it is no name of a file', 'write --record FILE');
  return { text: given.text, origin: given.origin };
};

const appOf = (given: Given | undefined): Asked | undefined => {
  if (given === undefined) return undefined;
  if (!isAppName(given.text))
    refuse(
      'E_USAGE',
      `cannot use ${given.origin} ${given.text.slice(0, 80)}`,
      'it is no name of an app',
      'tsrun inspect --list-apps IMAGE shows them',
    );
  return { text: given.text, origin: given.origin };
};

const explainOf = (given: Given | undefined): Request['explain'] => {
  if (given === undefined) return 'no';
  if (given.text === 'json') return 'json';
  if (given.text === '' || given.text === 'text') return 'text';
  return refuse('E_USAGE', `cannot use ${given.origin}=${given.text}`, 'there is no such form', 'write --explain or --explain=json');
};

type Flags = Omit<Request, 'verb' | 'image' | 'args' | 'site' | 'given'>;

/** Where no flag is given, as in most starts: made at the first use and kept. */
let noFlags: Flags | undefined;

/**
 * @param given from config, environment and command line, in this order: the last of a flag counts, lists add up.
 * Errors: E_USAGE, E_BIND_SPEC, E_ENV_SPEC, E_CONFIG.
 */
export const makeRequest = ({ verb, image, args }: CommandLine, given: readonly Given[], rest: Config['rest']): Request => {
  const site = siteSettings(rest);
  if (given.length > 0) return { ...readFlags(given), verb, image, args, site, given };
  noFlags ??= readFlags([]);
  // Inherited, not copied: a start pays for each property.
  return { __proto__: noFlags, verb, image, args, site, given } as unknown as Request;
};

const readFlags = (given: readonly Given[]): Flags => {
  const latest = new Map<FlagName, Given>();
  for (const each of given) latest.set(each.flag, each);
  const last = (flag: FlagName): Given | undefined => latest.get(flag);
  const isOn = (flag: FlagName): boolean => latest.get(flag)?.text === 'true';
  const all = (...flags: FlagName[]): Given[] => given.filter((each) => flags.includes(each.flag));

  const binds = all('bind', 'mount').flatMap(bindsOf);
  if (binds.length > MAX_BINDS)
    refuse('E_USAGE', `cannot use ${binds.length} binds`, `more than ${MAX_BINDS} are not possible`, 'bind a directory above them');
  const home = last('home');
  if (home?.from === 'config' && !home.text.startsWith('/')) {
    refuse(
      'E_CONFIG',
      `cannot use the config file ${home.origin}`,
      `home ${home.text} is not an absolute path`,
      'begin it with /; ~ and variables are not expanded there',
    );
  }
  const hostname = last('hostname');
  const pwd = last('pwd');
  const hostEnv = last('host-env');
  const containAll = isOn('containall');
  if (pwd !== undefined && !pwd.text.startsWith('/')) {
    refuse(
      'E_USAGE',
      `cannot use ${shown(pwd)}`,
      'it is not an absolute path',
      `write ${pwd.origin} /DIR, a directory as the program sees it`,
    );
  }
  if (pwd !== undefined && isTooLong(pwd.text)) {
    refuse(
      'E_USAGE',
      `cannot use ${pwd.origin} ${pwd.text.slice(0, 80)}...`,
      'the path or a name in it is too long',
      'choose another directory',
    );
  }
  if (hostname !== undefined && !HOST_NAME.test(hostname.text)) {
    refuse('E_USAGE', `cannot use ${shown(hostname)}`, 'it is not a host name', 'use at most 64 letters, digits, dots and hyphens');
  }
  const envOf = (each: Given): (EnvSpec & { origin: string })[] =>
    parseEnv(each.origin, each.text).map((spec) => ({ ...spec, origin: each.origin }));

  return {
    binds,
    pwd: pwd === undefined ? undefined : { text: pwd.text, origin: pwd.origin },
    home: home === undefined ? undefined : { ...parseHome(home.origin, home.text), origin: home.origin },
    noHome: isOn('no-home'),
    noMount: all('no-mount').flatMap(noMountOf),
    writableTmpfs: isOn('writable-tmpfs'),
    env: all('env')
      .filter((each) => each.from !== 'config')
      .flatMap(envOf),
    configEnv: all('env')
      .filter((each) => each.from === 'config')
      .flatMap(envOf),
    envFiles: all('env-file').flatMap((each) =>
      each.text
        .split(',')
        .filter((path) => path !== '')
        .map((text) => ({ text, origin: each.origin })),
    ),
    cleanEnv: containAll || isOn('cleanenv'),
    hostEnv: hostEnv === undefined ? 'none' : hostEnv.text === '' ? 'all' : hostEnv.text.split(',').map((name) => name.trim()),
    hostPython: isOn('host-python'),
    contain: containAll || isOn('contain'),
    pid: containAll || isOn('pid'),
    ipc: containAll || isOn('ipc'),
    hostname: hostname === undefined ? undefined : { text: hostname.text, origin: hostname.origin },
    nv: isOn('nv'),
    shell: last('shell'),
    app: appOf(last('app')),
    stage: stageOf(last('stage')),
    record: recordOf(last('record')),
    explain: explainOf(last('explain')),
    verbosity: isOn('debug') ? 'debug' : isOn('quiet') || isOn('silent') ? 'quiet' : isOn('verbose') ? 'verbose' : 'normal',
  };
};
