/** ImageView (and the OCI config, where there is one) → ImageFacts. Pure: the same code at build time, for images made by others, and in the planner. */
import type { RunConfig } from '../oci/config.ts';
import { IMAGE_FACTS_VERSION, type ImageFacts } from './facts.ts';
import { localesOf } from './locales.ts';
import { programFacts } from './programs.ts';
import { scriptFacts } from './scripts.ts';
import type { ImageView } from './view.ts';
import { byBytes, findFile, readText } from './walk.ts';

const MAX_ACCOUNTS = 64 * 1024;
const MAX_OS_RELEASE = 64 * 1024;
/** Directories and links of two levels; a home with ten thousand users need not be listed. */
const MAX_TREE = 8000;
const MAX_TREE_BYTES = 256 * 1024;

/** Whose content says nothing of the image. */
const NOT_LISTED: ReadonlySet<string> = new Set(['/proc', '/sys', '/dev', '/tmp', '/home', '/root', '/run', '/scratch', '/.singularity.d']);

const CA_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/ca-bundle.pem',
  '/var/lib/ca-certificates/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** @param arch what the image says of itself, for trees without a program to look at */
export const computeFacts = (view: ImageView, config?: RunConfig, arch = ''): ImageFacts => {
  const scripts = scriptFacts(view, config !== undefined);
  const entrypoint = config?.entrypoint ?? [];
  const cmd = config?.cmd ?? [];
  const programs = programFacts(
    view,
    [...entrypoint.slice(0, 1), ...cmd.slice(0, 1)].filter((word) => word.startsWith('/')),
  );
  return {
    version: IMAGE_FACTS_VERSION,
    arch: programs.arch || arch,
    env: config?.env ?? scripts.env,
    entrypoint,
    cmd,
    workingDir: config?.workingDir ?? '',
    user: config?.user ?? '',
    runscript: scripts.runscript,
    envScripts: scripts.envScripts,
    sh: program(view, ['/bin/sh', '/usr/bin/sh']),
    bash: program(view, ['/bin/bash', '/usr/bin/bash', '/usr/local/bin/bash']),
    tree: listTree(view),
    passwd: readText(view, '/etc/passwd', MAX_ACCOUNTS),
    group: readText(view, '/etc/group', MAX_ACCOUNTS),
    os: osRelease(view),
    libc: programs.libc,
    locales: localesOf(view, programs.libc),
    caBundle: CA_BUNDLES.find((path) => (findFile(view, path)?.node.size ?? 0) > 0) ?? '',
    mpi: programs.mpi,
  };
};

/** Byte strings as JSON text that is ASCII: bytes from 0x80 on are written \u00XX. */
export const factsJson = (facts: ImageFacts): string =>
  `${JSON.stringify(facts).replace(/[\u007f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;

const program = (view: ImageView, candidates: readonly string[]): string => {
  for (const path of candidates) {
    const found = findFile(view, path);
    if (found !== null && (found.node.mode & 0o111) !== 0) return found.path;
  }
  return '';
};

const listTree = (view: ImageView): Readonly<Record<string, string>> => {
  const tree: Record<string, string> = {};
  let entries = 0;
  let bytes = 0;
  const add = (path: string, what: string): void => {
    bytes += path.length + what.length + 6;
    if (entries++ < MAX_TREE && bytes < MAX_TREE_BYTES) tree[path] = what;
  };
  const first = sortedEntries(view, '/');
  for (const { path, what } of first) add(path, what);
  for (const { path, what } of first) {
    if (what !== 'd' || NOT_LISTED.has(path)) continue;
    for (const inner of sortedEntries(view, path)) add(inner.path, inner.what);
  }
  for (const { path, what } of etcFiles(view)) add(path, what);
  return tree;
};

type Listed = { readonly path: string; readonly what: string };

/** Directories ("d") and symbolic links ("l" and the target); all else is left out. */
const sortedEntries = (view: ImageView, directory: string): readonly Listed[] => {
  const prefix = directory === '/' ? '/' : `${directory}/`;
  const entries = [...(view.readdir(directory) ?? [])].sort((a, b) => byBytes(a.name, b.name));
  return entries.flatMap(({ name, kind }): Listed[] => {
    const path = prefix + name;
    const real = kind === 'unknown' ? view.lstat(path)?.kind : kind;
    if (real === 'directory') return [{ path, what: 'd' }];
    const target = real === 'link' ? view.readlink(path) : null;
    return target === null ? [] : [{ path, what: `l${target}` }];
  });
};

/** Files of /etc that runs mount over. */
const ETC_FILES = [
  'group',
  'gshadow',
  'hostname',
  'hosts',
  'localtime',
  'machine-id',
  'mtab',
  'nsswitch.conf',
  'passwd',
  'resolv.conf',
  'shadow',
  'timezone',
];

const etcFiles = (view: ImageView): readonly Listed[] =>
  ETC_FILES.map((name) => `/etc/${name}`)
    .filter((path) => view.lstat(path)?.kind === 'file')
    .map((path) => ({ path, what: 'f' }));

const osRelease = (view: ImageView): ImageFacts['os'] => {
  const text = readText(view, '/etc/os-release', MAX_OS_RELEASE) || readText(view, '/usr/lib/os-release', MAX_OS_RELEASE);
  const value = (key: string): string => {
    const found = new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1]?.trim() ?? '';
    const quoted = /^(["'])(.*)\1$/.exec(found)?.[2];
    return quoted === undefined ? found : quoted.replace(/\\([\\"'`$])/g, '$1');
  };
  return { id: value('ID'), version: value('VERSION_ID'), name: value('PRETTY_NAME') };
};
