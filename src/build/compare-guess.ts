/** What usually makes two builds of one file differ, guessed from its name and from where the two contents part. */

export type TwoContents = { readonly one: Buffer; readonly other: Buffer };

/** By name, where that says enough. */
const BY_NAME: readonly (readonly [RegExp, string])[] = [
  [
    /^\/etc\/ssh\/ssh_host_|^\/etc\/ssl\/private\/|\.(?:key|pem)$/,
    'a key or certificate that the installation made; it is in every copy of the image',
  ],
  [/^\/var\/lib\/rpm\/|^\/usr\/lib\/sysimage\/rpm\//, "rpm's database holds the time of installation"],
  [/^\/var\/lib\/(?:dnf|yum)\/|^\/var\/cache\/(?:dnf|yum|libdnf5|zypp)\//, 'history and downloads of the package manager'],
  [/^\/var\/lib\/apt\/lists\//, "the archive's package lists have changed; apt-get update fetches the newest (--lock --vendor keeps them)"],
  [/\/cacerts$/, 'a Java key store holds the time of each entry'],
];

const CONTEXT = 96;

/** A sentence's worth, or undefined. `contents` are missing when a file is too long to look at. */
export const sniff = (path: string, contents: TwoContents | undefined): string | undefined => {
  const named = BY_NAME.find(([name]) => name.test(path))?.[1];
  if (named !== undefined || contents === undefined) return named;
  return byFormat(path, contents) ?? byText(contents);
};

const byFormat = (path: string, { one, other }: TwoContents): string | undefined => {
  const at = firstDifference(one, other);
  const magic = one.toString('latin1', 0, 16);
  if (magic.startsWith('\x1f\x8b') && at >= 4 && at < 8) return "gzip's time stamp: gzip -n leaves it out";
  if (magic.startsWith('SQLite format 3')) return 'a database: its rows or their order hold times';
  if (magic.startsWith('!<arch>')) return 'members of the archive carry times: ar with D, ranlib -D';
  if (magic.startsWith('PK\x03\x04')) return 'members of the zip or jar carry times: zip -X with clamped files, or strip-nondeterminism';
  if (path.endsWith('.pyc')) return 'Python ordered a set by its hash seed: PYTHONHASHSEED=0';
  if (magic.startsWith('\x7fELF')) return byText({ one, other }) ?? 'compiled anew: __DATE__, a build path or the order of object files';
  if (one.includes('-----BEGIN ') && other.includes('-----BEGIN ')) return 'a key or certificate that the installation made';
  return undefined;
};

const DATES =
  /\b(?:19|20)\d\d[-/.]?[01]\d[-/.]?[0-3]\d|\b[0-2]\d:[0-5]\d:[0-5]\d\b|\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* +[0-3]?\d\b/g;
/** With parts of a second, in whatever unit: two builds may meet in one second. */
const UNIX_TIME = /(?<!\d)1[5-9]\d{8}(?:\d{3}){0,3}(?:\.\d+)?(?!\d)/g;
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi;
const TEMPORARY = /\/(?:tmp|var\/tmp|build|root\/\.cache)\/[\w.-]+/g;

const byText = ({ one, other }: TwoContents): string | undefined => {
  const at = firstDifference(one, other);
  const [x, y] = [around(one, at), around(other, at)];
  const both = (pattern: RegExp): boolean => {
    const [mine, its] = [x, y].map((text) => [...text.matchAll(pattern)].join(' '));
    return mine !== '' && its !== '' && mine !== its;
  };
  if (both(UUID)) return 'a random identifier';
  if (both(DATES)) return 'a date or time of day';
  if (both(UNIX_TIME)) return 'a time in seconds since 1970';
  if (both(TEMPORARY)) return 'the path of a temporary or build directory';
  if (sameLines(one, other)) return 'the same lines in another order: a hash seed, or the order of a directory; sort them';
  return undefined;
};

const firstDifference = (one: Buffer, other: Buffer): number => {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) if (one[at] !== other[at]) return at;
  return length;
};

/** The line (or so) in which the two part. */
const around = (bytes: Buffer, at: number): string => {
  const before = bytes.toString('latin1', Math.max(0, at - CONTEXT), at);
  const after = bytes.toString('latin1', at, at + CONTEXT);
  return before.slice(before.lastIndexOf('\n') + 1) + after.split('\n', 1)[0];
};

const sameLines = (one: Buffer, other: Buffer): boolean => {
  if (one.length !== other.length) return false;
  const sorted = (bytes: Buffer): string => bytes.toString('latin1').split('\n').sort().join('\n');
  return sorted(one) === sorted(other);
};
