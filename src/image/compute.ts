/** ImageView (and the OCI config, where there is one) → ImageFacts. Pure: the same code at build time, for images made by others, and in the planner. */
import type { RunConfig } from '../oci/config.ts';
import { asciiJson } from '../util/json-members.ts';
import { IMAGE_FACTS_VERSION, type ImageFacts } from './facts.ts';
import { localesOf } from './locales.ts';
import { programFacts } from './programs.ts';
import { scriptFacts } from './scripts.ts';
import { listTree, treeOnDemand } from './tree.ts';
import type { ImageView } from './view.ts';
import { findFile, readText } from './walk.ts';

const MAX_ACCOUNTS = 64 * 1024;
const MAX_OS_RELEASE = 64 * 1024;

const CA_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/ca-bundle.pem',
  '/var/lib/ca-certificates/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** `make` at the first call, then what it made. */
const once = <T>(make: () => T): (() => T) => {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
};

/**
 * Facts that are found out when they are asked for: a run from a directory needs few of them, and each costs calls on its file system.
 * @param arch what the image says of itself, for trees without a program to look at
 */
export const lazyFacts = (view: ImageView, config?: RunConfig, arch = ''): ImageFacts => {
  const entrypoint = config?.entrypoint ?? [];
  const cmd = config?.cmd ?? [];
  const scripts = scriptFacts(view, config !== undefined);
  const programs = programFacts(
    view,
    [...entrypoint.slice(0, 1), ...cmd.slice(0, 1)].filter((word) => word.startsWith('/')),
  );
  const sh = once(() => program(view, ['/bin/sh', '/usr/bin/sh']));
  const bash = once(() => program(view, ['/bin/bash', '/usr/bin/bash', '/usr/local/bin/bash']));
  const passwd = once(() => readText(view, '/etc/passwd', MAX_ACCOUNTS));
  const group = once(() => readText(view, '/etc/group', MAX_ACCOUNTS));
  const os = once(() => osRelease(view));
  const libc = once(() => programs.libc());
  const locales = once(() => localesOf(view, libc()));
  const env = once(() => config?.env ?? scripts.env());
  const runscript = once(() => scripts.runscript());
  const envScripts = once(() => scripts.envScripts());
  return {
    version: IMAGE_FACTS_VERSION,
    get arch() {
      return programs.arch() || arch;
    },
    get env() {
      return env();
    },
    entrypoint,
    cmd,
    workingDir: config?.workingDir ?? '',
    user: config?.user ?? '',
    get runscript() {
      return runscript();
    },
    get envScripts() {
      return envScripts();
    },
    get sh() {
      return sh();
    },
    get bash() {
      return bash();
    },
    tree: treeOnDemand(view),
    get passwd() {
      return passwd();
    },
    get group() {
      return group();
    },
    get os() {
      return os();
    },
    get libc() {
      return libc();
    },
    get locales() {
      return locales();
    },
    get caBundle() {
      return CA_BUNDLES.find((path) => (findFile(view, path)?.node.size ?? 0) > 0) ?? '';
    },
    get mpi() {
      return programs.mpi();
    },
  };
};

/** All facts, as they are kept. @param arch as above */
export const computeFacts = (view: ImageView, config?: RunConfig, arch = ''): ImageFacts => ({
  ...lazyFacts(view, config, arch),
  tree: listTree(view),
});

/** Byte strings as JSON text that is ASCII: bytes from 0x80 on are written \u00XX. */
export const factsJson = (facts: ImageFacts): string => `${asciiJson(facts)}\n`;

const program = (view: ImageView, candidates: readonly string[]): string => {
  for (const path of candidates) {
    const found = findFile(view, path);
    if (found !== null && (found.node.mode & 0o111) !== 0) return found.path;
  }
  return '';
};

const osRelease = (view: ImageView): ImageFacts['os'] => {
  const text = readText(view, '/etc/os-release', MAX_OS_RELEASE) || readText(view, '/usr/lib/os-release', MAX_OS_RELEASE);
  const value = (key: string): string => {
    const found = new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1]?.trim() ?? '';
    const quoted = /^(["'])(.*)\1$/.exec(found)?.[2];
    return quoted === undefined ? found : quoted.replace(/\\([\\"'`$])/g, '$1');
  };
  return { id: value('ID'), version: value('VERSION_ID'), name: value('PRETTY_NAME') };
};
