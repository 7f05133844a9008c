/**
 * tsrun.lock: what an image was built from, exactly enough to build it again and to see whether that gave the same. JSON in a fixed order, one
 * base or package on each line, so that versions of it can be compared by any tool. docs/reproducible.md describes the fields.
 */
import { TsrunError } from '../util/errors.ts';
import { MANAGERS, type Manager, type Package, packageTitle, sortPackages } from './packages.ts';

export const LOCK_VERSION = 1;
/** Of an installation with a hundred thousand packages. */
const MAX_LOCK = 64 * 1024 * 1024;

export type LockedBase = {
  /** As the recipe names it. */
  readonly reference: string;
  readonly platform: string;
  /** Of the manifest, or of the file: "sha256:…". */
  readonly digest: string;
};

/** What ADD fetched. */
export type LockedDownload = { readonly address: string; readonly digest: string };

export type Lock = {
  readonly version: typeof LOCK_VERSION;
  /** Of tsrun. */
  readonly tsrun: string;
  /** "sha256:…" of the recipe's text. */
  readonly recipe: string;
  /** SOURCE_DATE_EPOCH: seconds since 1970. */
  readonly epoch: number;
  readonly treeDigest: string;
  readonly bases: readonly LockedBase[];
  readonly downloads: readonly LockedDownload[];
  readonly packages: readonly Package[];
  /** With --vendor: packages that steps took from the network and that could not be kept. */
  readonly missing: readonly Package[];
};

export const lockText = (lock: Lock): string => {
  const { version, tsrun, recipe, epoch, treeDigest } = lock;
  const head = JSON.stringify({ version, tsrun, recipe, epoch, treeDigest }, undefined, 2).slice(0, -2);
  const bases = [...lock.bases]
    .sort((a, b) => (baseKey(a) < baseKey(b) ? -1 : 1))
    .map(({ reference, platform, digest }) => ({ reference, platform, digest }));
  const downloads = [...lock.downloads].sort((a, b) => (a.address < b.address ? -1 : 1));
  const packages = (list: readonly Package[]): string => lines(sortPackages(list).map(inOrder));
  const members = [
    head,
    `  "bases": ${lines(bases)}`,
    ...(downloads.length === 0 ? [] : [`  "downloads": ${lines(downloads)}`]),
    `  "packages": ${packages(lock.packages)}`,
    ...(lock.missing.length === 0 ? [] : [`  "missing": ${packages(lock.missing)}`]),
  ];
  return `${members.join(',\n')}\n}\n`;
};

const baseKey = ({ reference, platform }: Pick<LockedBase, 'reference' | 'platform'>): string => `${reference}\0${platform}`;

const lines = (values: readonly object[]): string =>
  values.length === 0 ? '[]' : `[\n${values.map((value) => `    ${JSON.stringify(value)}`).join(',\n')}\n  ]`;

const inOrder = ({ manager, name, version, architecture, place, digest, files, from }: Package): Package => ({
  manager,
  name,
  version,
  architecture,
  place,
  digest,
  files,
  from,
});

/** @param path for messages. @throws TsrunError E_LOCK */
export const parseLock = (text: string, path: string): Lock => {
  const refuse = (why: string): TsrunError =>
    new TsrunError({ code: 'E_LOCK', what: `cannot use ${path}`, why, hint: 'write it anew: tsrun build --lock …' });
  if (text.length > MAX_LOCK) throw refuse(`it is longer than ${MAX_LOCK} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refuse(`it is not JSON: ${(error as Error).message.slice(0, 120)}`);
  }
  const document = objectOf(value);
  if (document === undefined) throw refuse('it is no object');
  if (document['version'] !== LOCK_VERSION)
    throw refuse(`it is of version ${JSON.stringify(document['version'])?.slice(0, 40)}, not ${LOCK_VERSION}`);
  const word = (from: Fields, field: string, pattern: RegExp): string => {
    const found = from[field];
    if (typeof found === 'string' && found.length < 4096 && pattern.test(found)) return found;
    throw refuse(`its ${JSON.stringify(field)} ${found === undefined ? 'is missing' : 'is not what it should be'}`);
  };
  const maybe = (from: Fields, field: string, pattern: RegExp): string | undefined =>
    from[field] === undefined ? undefined : word(from, field, pattern);
  const listOf = (field: string, usual?: readonly never[]): readonly Fields[] => {
    const list = document[field] ?? usual;
    const objects = Array.isArray(list) ? list.map(objectOf) : [undefined];
    if (objects.some((each) => each === undefined)) throw refuse(`its ${JSON.stringify(field)} is no list of objects`);
    return objects as readonly Fields[];
  };
  const packageFrom = (each: Fields): Package => ({
    manager: word(each, 'manager', MANAGER) as Manager,
    name: word(each, 'name', ANY),
    version: word(each, 'version', ANY),
    architecture: maybe(each, 'architecture', ANY),
    place: maybe(each, 'place', ANY),
    digest: maybe(each, 'digest', DIGEST),
    files: maybe(each, 'files', DIGEST),
    from: maybe(each, 'from', ANY),
  });
  const epoch = document['epoch'];
  if (typeof epoch !== 'number' || !Number.isSafeInteger(epoch) || epoch < 0 || epoch > 0xffffffff) throw refuse('its "epoch" is no time');
  return {
    version: LOCK_VERSION,
    tsrun: word(document, 'tsrun', ANY),
    recipe: word(document, 'recipe', DIGEST),
    epoch,
    treeDigest: word(document, 'treeDigest', DIGEST),
    bases: listOf('bases').map((base) => ({
      reference: word(base, 'reference', ANY),
      platform: word(base, 'platform', ANY),
      digest: word(base, 'digest', DIGEST),
    })),
    downloads: listOf('downloads', []).map((each) => ({ address: word(each, 'address', ANY), digest: word(each, 'digest', DIGEST) })),
    packages: listOf('packages').map(packageFrom),
    missing: listOf('missing', []).map(packageFrom),
  };
};

type Fields = Readonly<Record<string, unknown>>;

const objectOf = (value: unknown): Fields | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;

const ANY = /./s;
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|sha1:[0-9a-f]{40}|md5:[0-9a-f]{32})$/;
const MANAGER = new RegExp(`^(?:${MANAGERS.join('|')})$`);

/** The digest to use for what a recipe names. @throws TsrunError E_LOCK_CHANGED when the recipe has a base the lock does not know */
export const lockedBase = ({ bases }: Lock, reference: string, platform: string, path: string): LockedBase => {
  const found = bases.find((base) => base.reference === reference && base.platform === platform);
  if (found !== undefined) return found;
  throw changed(path, `the recipe begins with ${reference} (${platform}), which the lock does not know`);
};

/** @throws TsrunError E_LOCK_CHANGED when the recipe fetches what the lock does not know */
export const lockedDownload = ({ downloads }: Lock, address: string, path: string): LockedDownload => {
  const found = downloads.find((each) => each.address === address);
  if (found !== undefined) return found;
  throw changed(path, `the recipe fetches ${address}, which the lock does not know`);
};

/** @throws TsrunError E_VENDOR: it is better known now than in the middle of a step */
export const requireKept = ({ missing }: Lock, directory: string): void => {
  if (missing.length === 0) return;
  const more = missing.length > SHOWN ? [`  and ${missing.length - SHOWN} more`] : [];
  throw new TsrunError({
    code: 'E_VENDOR',
    what: `cannot build from ${directory}`,
    why: `packages that the build needs were not kept there:\n${[...missing.slice(0, SHOWN).map((each) => `  ${packageTitle(each)}`), ...more].join('\n')}\n`,
    hint: 'tsrun keeps what apt, apk, dnf, zypper, conda, pip, R and ADD fetch. Where the recipe brings these itself (COPY and the like), delete their lines from "missing" in the lock',
  });
};

/** @throws TsrunError E_LOCK_CHANGED */
export const requireRecipe = (lock: Lock, recipe: string, path: string): void => {
  if (lock.recipe !== recipe) throw changed(path, 'the recipe is another one than that which was locked');
};

const SHOWN = 20;

/** @throws TsrunError E_LOCK_CHANGED, naming the packages that are not as they were */
export const requirePackages = (lock: Lock, found: readonly Package[], path: string): void => {
  const differences = packageDifferences(lock.packages, found);
  if (differences.length === 0) return;
  const shown = differences.slice(0, SHOWN).map((line) => `  ${line}`);
  const more = differences.length > SHOWN ? [`  and ${differences.length - SHOWN} more`] : [];
  throw changed(path, `the image has other packages than were locked:\n${[...shown, ...more].join('\n')}\n`);
};

/** "- dpkg curl 7.88.1 amd64", "+ dpkg curl 7.88.2 amd64", "! … digest sha256:…, sha256:…" */
export const packageDifferences = (locked: readonly Package[], found: readonly Package[]): readonly string[] => {
  const before = new Map(locked.map((each) => [packageTitle(each), each]));
  const after = new Map(found.map((each) => [packageTitle(each), each]));
  const lost = [...before.keys()].filter((title) => !after.has(title)).map((title) => `- ${title}`);
  const gained = [...after.keys()].filter((title) => !before.has(title)).map((title) => `+ ${title}`);
  const other = [...before].flatMap(([title, { digest, files }]) => {
    const now = after.get(title);
    // What only one of the two knows is no difference: an archive that was not kept has no digest.
    const unlike = (one: string | undefined, two: string | undefined): boolean => one !== undefined && two !== undefined && one !== two;
    if (now === undefined) return [];
    if (unlike(digest, now.digest)) return [`! ${title}: digest ${digest}, now ${now.digest}`];
    return unlike(files, now.files) ? [`! ${title}: its files have other hashes`] : [];
  });
  return [...lost, ...gained, ...other];
};

const changed = (path: string, why: string): TsrunError =>
  new TsrunError({
    code: 'E_LOCK_CHANGED',
    what: `cannot build as ${path} says`,
    why,
    hint: 'if that is meant, write the lock anew: tsrun build --lock …',
  });
