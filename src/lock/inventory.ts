/** Which packages an image has, read from what each package manager keeps in it. Nothing of the image is run. */
import { createHash } from 'node:crypto';
import type { ImageView } from '../image/view.ts';
import { type FoundFile, findFile, namesIn } from '../image/walk.ts';
import { decodeUtf8 } from '../util/utf8.ts';
import { parseStanza, parseStanzas, type Stanza } from './control.ts';
import { type Package, sortPackages } from './packages.ts';

const MAX_DATABASE = 16 * 1024 * 1024;
const MAX_DOCUMENT = 4 * 1024 * 1024;
/** Environments and libraries that are looked into, per manager. */
const MAX_PLACES = 200;

/** What view files hold; rpm's database is not among them: see rpm.ts. @returns sorted */
export const findPackages = (view: ImageView): readonly Package[] =>
  sortPackages([...dpkgPackages(view), ...apkPackages(view), ...condaPackages(view), ...pipPackages(view), ...rPackages(view)]);

const textAt = (view: ImageView, path: string, limit: number): string => {
  const file = findFile(view, path);
  const bytes = file === null ? undefined : wholeFile(view, file, limit);
  return bytes === undefined ? '' : (decodeUtf8(bytes) ?? bytes);
};

/** No view gives more at once. */
const PIECE = 1024 * 1024;

/** A byte string; undefined when it is longer than `limit`, or cannot be read. */
const wholeFile = (view: ImageView, { path, node }: FoundFile, limit: number): string | undefined => {
  if (node.size > limit) return undefined;
  let bytes = '';
  while (bytes.length < node.size) {
    const piece = view.read(path, PIECE, bytes.length);
    if (piece === null || piece === '') return undefined;
    bytes += piece;
  }
  return bytes;
};

/** "sha256:…" of a file; undefined when there is none, or a very long one. */
const digestOf = (view: ImageView, path: string): string | undefined => {
  const file = findFile(view, path);
  const bytes = file === null ? undefined : wholeFile(view, file, MAX_DATABASE);
  return bytes === undefined ? undefined : `sha256:${createHash('sha256').update(Buffer.from(bytes, 'latin1')).digest('hex')}`;
};

const directoriesIn = (view: ImageView, path: string): readonly string[] => namesIn(view, path).map((name) => `${path}/${name}`);

const given = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

// --- dpkg: one file with a stanza for each; images without a package manager ("distroless") have a file for each in status.d

const DPKG = '/var/lib/dpkg';

const dpkgPackages = (view: ImageView): readonly Package[] => {
  const info = new Set(namesIn(view, `${DPKG}/info`));
  const installed = parseStanzas(textAt(view, `${DPKG}/status`, MAX_DATABASE)).filter((stanza) =>
    / installed$/.test(stanza.get('Status') ?? ''),
  );
  const single = namesIn(view, `${DPKG}/status.d`).filter((name) => !name.endsWith('.md5sums'));
  return [
    ...installed.flatMap((stanza) => {
      const [name, architecture] = [stanza.get('Package'), stanza.get('Architecture')];
      const list = [`${name}:${architecture}.md5sums`, `${name}.md5sums`].find((each) => info.has(each));
      return dpkgPackage(stanza, list === undefined ? undefined : digestOf(view, `${DPKG}/info/${list}`));
    }),
    ...single.flatMap((name) =>
      dpkgPackage(parseStanza(textAt(view, `${DPKG}/status.d/${name}`, MAX_DOCUMENT)), digestOf(view, `${DPKG}/status.d/${name}.md5sums`)),
    ),
  ];
};

const dpkgPackage = (stanza: Stanza, files: string | undefined): readonly Package[] => {
  const [name, version] = [stanza.get('Package'), stanza.get('Version')];
  if (name === undefined || version === undefined) return [];
  return [{ manager: 'dpkg', name, version, architecture: stanza.get('Architecture'), files }];
};

// --- apk: lines of one letter; C is a checksum, base64 with Q1 (SHA-1) or Q2 (SHA-256) before it

const apkPackages = (view: ImageView): readonly Package[] => {
  const path = ['/lib/apk/db/installed', '/usr/lib/apk/db/installed'].find((each) => findFile(view, each) !== null);
  if (path === undefined) return [];
  return parseStanzas(textAt(view, path, MAX_DATABASE)).flatMap((stanza): readonly Package[] => {
    const [name, version] = [stanza.get('P'), stanza.get('V')];
    // `apk add --virtual` makes a name for packages, with the time as its version: no repository has it.
    if (name === undefined || version === undefined || stanza.get('T') === 'virtual meta package') return [];
    return [{ manager: 'apk', name, version, architecture: stanza.get('A'), digest: apkDigest(stanza.get('C') ?? '') }];
  });
};

const apkDigest = (text: string): string | undefined => {
  const algorithm = { Q1: 'sha1', Q2: 'sha256' }[text.slice(0, 2)];
  return algorithm === undefined ? undefined : `${algorithm}:${Buffer.from(text.slice(2), 'base64').toString('hex')}`;
};

// --- where environments of Python, conda and R usually are

const MOUNTED: ReadonlySet<string> = new Set(['/dev', '/proc', '/sys', '/run', '/tmp']);

const prefixes = (view: ImageView): readonly string[] => {
  const opt = directoriesIn(view, '/opt');
  const homes = ['/root', ...directoriesIn(view, '/home')];
  const inHomes = homes.flatMap((home) => [...directoriesIn(view, home), `${home}/.local`, `${home}/.local/share/mamba`]);
  const top = namesIn(view, '/')
    .map((name) => `/${name}`)
    .filter((path) => !MOUNTED.has(path));
  const conda = [...top, '/usr/local', ...opt, ...inHomes];
  const environments = [...conda, ...conda.map((path) => `${path}/.pixi`)].flatMap((path) => directoriesIn(view, `${path}/envs`));
  const all = [...conda, ...environments, ...[...top, ...inHomes].map((path) => `${path}/.venv`)];
  const real = all.filter((path) => view.lstat(path)?.kind === 'directory');
  return [...new Set(real)].slice(0, MAX_PLACES);
};

// --- conda: a document for each package

export type CondaNote = { readonly document: Readonly<Record<string, unknown>>; readonly package: Package };

/** What conda and its kin have noted in each environment. */
export const condaNotes = (view: ImageView): readonly CondaNote[] =>
  prefixes(view).flatMap((place) =>
    namesIn(view, `${place}/conda-meta`)
      .filter((name) => name.endsWith('.json'))
      .map((name) => parseObject(textAt(view, `${place}/conda-meta/${name}`, MAX_DOCUMENT)))
      .flatMap((document) => condaPackage(document, place).map((each) => ({ document, package: each }))),
  );

const condaPackages = (view: ImageView): readonly Package[] => condaNotes(view).map((note) => note.package);

const condaPackage = (document: CondaNote['document'], place: string): readonly Package[] => {
  const field = (name: string): string | undefined => (typeof document[name] === 'string' ? given(document[name]) : undefined);
  const [name, version, build] = [field('name'), field('version'), field('build') ?? field('build_string')];
  if (name === undefined || version === undefined) return [];
  const [sha256, md5] = [field('sha256'), field('md5')];
  const digest = sha256 !== undefined ? `sha256:${sha256}` : md5 !== undefined ? `md5:${md5}` : undefined;
  const whole = build === undefined ? version : `${version}=${build}`;
  return [{ manager: 'conda', name, version: whole, architecture: field('subdir'), place, digest, from: field('url') }];
};

const parseObject = (text: string): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
};

// --- pip and its kin: *.dist-info (PEP 376, 610, 627); what dpkg or conda installed is theirs

const OTHERS = new Set(['conda', 'debian', 'dpkg', 'rpm', 'apk']);

const pipPackages = (view: ImageView): readonly Package[] =>
  prefixes(view)
    .flatMap((prefix) => ['lib', 'lib64'].flatMap((lib) => pythonLibraries(view, `${prefix}/${lib}`)))
    .slice(0, MAX_PLACES)
    .flatMap((place) =>
      namesIn(view, place)
        .filter((name) => name.endsWith('.dist-info'))
        .flatMap((name) => pipPackage(view, `${place}/${name}`, place)),
    );

const pythonLibraries = (view: ImageView, lib: string): readonly string[] => {
  if (view.lstat(lib)?.kind !== 'directory') return [];
  return namesIn(view, lib)
    .filter((name) => /^(?:python|pypy)[0-9.]*$/.test(name))
    .flatMap((name) => [`${lib}/${name}/site-packages`, `${lib}/${name}/dist-packages`])
    .filter((path) => view.lstat(path)?.kind === 'directory');
};

const pipPackage = (view: ImageView, directory: string, place: string): readonly Package[] => {
  const installer = textAt(view, `${directory}/INSTALLER`, MAX_DOCUMENT).trim();
  if (installer === '' || OTHERS.has(installer)) return [];
  const metadata = parseStanza(textAt(view, `${directory}/METADATA`, MAX_DOCUMENT).split('\n\n', 1)[0] ?? '');
  const [name, version] = [metadata.get('Name'), metadata.get('Version')];
  if (name === undefined || version === undefined) return [];
  const direct = parseObject(textAt(view, `${directory}/direct_url.json`, MAX_DOCUMENT));
  const from = typeof direct['url'] === 'string' ? direct['url'] : undefined;
  return [{ manager: 'pip', name, version, place, digest: directDigest(direct), files: digestOf(view, `${directory}/RECORD`), from }];
};

/** PEP 610: archive_info has "hash" ("sha256=…") or "hashes". */
const directDigest = (direct: Readonly<Record<string, unknown>>): string | undefined => {
  const info = direct['archive_info'];
  if (typeof info !== 'object' || info === null) return undefined;
  const hash = 'hash' in info && typeof info.hash === 'string' ? /^sha256=([0-9a-f]{64})$/.exec(info.hash)?.[1] : undefined;
  return hash === undefined ? undefined : `sha256:${hash}`;
};

// --- R: a directory with a DESCRIPTION for each; what comes with R, or from dpkg or conda, is theirs

const rPackages = (view: ImageView): readonly Package[] =>
  ['/usr/local', ...directoriesIn(view, '/opt'), ...directoriesIn(view, '/opt/R'), ...prefixes(view).filter((path) => path !== '/usr')]
    .flatMap((prefix) => [`${prefix}/lib/R/site-library`, `${prefix}/lib/R/library`])
    .filter((path, at, all) => all.indexOf(path) === at && view.lstat(path)?.kind === 'directory')
    .slice(0, MAX_PLACES)
    .flatMap((place) => {
      const conda = condaNames(view, place.replace(/\/lib\/R\/[^/]*$/, ''));
      return namesIn(view, place)
        .filter((name) => !conda.has(`r-${name.toLowerCase()}`) && !conda.has(`bioconductor-${name.toLowerCase()}`))
        .flatMap((name) => rPackage(view, `${place}/${name}`, place));
    });

/** Names of what conda installed there: NAME-VERSION-BUILD.json. */
const condaNames = (view: ImageView, prefix: string): ReadonlySet<string> =>
  new Set(namesIn(view, `${prefix}/conda-meta`).map((file) => file.replace(/-[^-]*-[^-]*\.json$/, '')));

const rPackage = (view: ImageView, directory: string, place: string): readonly Package[] => {
  const description = parseStanza(textAt(view, `${directory}/DESCRIPTION`, MAX_DOCUMENT));
  const [name, version] = [description.get('Package'), description.get('Version')];
  if (name === undefined || version === undefined || description.get('Priority') === 'base') return [];
  const commit = description.get('RemoteSha');
  const from = [description.get('RemoteUrl') ?? description.get('RemoteRepo') ?? description.get('Repository'), commit]
    .filter((part) => part !== undefined)
    .join('@');
  return [{ manager: 'r', name, version, place, files: digestOf(view, `${directory}/MD5`), from: given(from) }];
};
