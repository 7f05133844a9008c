/**
 * What the planner may ask of the machine: the same calls as native/host.def. Implemented by the engine (run/host-engine.ts), by Node
 * (run/host-node.ts) and by invented machines in tests. All strings are byte strings. A call that can fail answers with a negative
 * errno instead of its value: what is missing on a machine is nothing exceptional.
 */

/** A negative errno. */
export type Errno = number;

export const failed = (answer: unknown): answer is Errno => typeof answer === 'number' && answer < 0;

export type FileKind = 'file' | 'directory' | 'link' | 'char' | 'block' | 'pipe' | 'socket' | 'other';

export type Stat = {
  readonly kind: FileKind;
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** "seconds.nanoseconds" with nine digits behind the point: compared, never calculated with. */
  readonly mtime: string;
  readonly ctime: string;
  /** Decimal text: both may be above 2^53. */
  readonly dev: string;
  readonly ino: string;
};

export type Ids = {
  readonly uid: number;
  readonly euid: number;
  readonly gid: number;
  readonly egid: number;
  /** Supplementary groups, in the kernel's order. */
  readonly groups: readonly number[];
};

export type DirectoryEntry = { readonly kind: FileKind | 'unknown'; readonly name: string };

/** Values in an order that was asked for. */
export type Fields = readonly (string | number)[];

/** access(2). */
export const MAY_WRITE = 2;
export const MAY_READ = 4;

export const ENOENT = -2;
export const EIO = -5;
export const EACCES = -13;
export const ENOTDIR = -20;
export const EISDIR = -21;
export const EINVAL = -22;
export const ELOOP = -40;

/** Words as Host.environ takes them: of 1 to 255 chars, each behind a char that is its length. */
export const wordsOf = (words: readonly string[]): string => words.map((word) => String.fromCharCode(word.length) + word).join('');

export type Host = {
  /** argv, the program's own name first. */
  args(): readonly string[];
  /** Of a variable that is there twice the first counts, here and in environ(). */
  getenv(name: string): string | undefined;
  /**
   * Number, name, value, number, name, value … of the variables that one of the words names (wordsOf): whole names, or with `*` at the end all that begin so.
   * The number is that of the first such word. Without a word: all variables, with 0.
   */
  environ(words: string): Fields;
  getcwd(): string | Errno;
  ids(): Ids;
  /**
   * Of /etc/passwd: name, gecos, home and shell in the first line of the effective uid; 1 when there is a line for `name`, else 0. Of /etc/group: the name of
   * the effective gid, then of each supplementary group, in the order of ids(). '' where there is none.
   */
  accounts(name: string): Fields;
  /**
   * The first line of a text like /etc/passwd whose field of that number is `value` and has a colon behind; ENOENT. Here because a text is long, and each char of
   * it costs the embedded engine tens of instructions.
   */
  findLine(text: string, field: number, value: string): string | Errno;
  /** `uname -m`. */
  machine(): string;
  hostname(): string;
  /** The path of the running program's file. */
  selfExe(): string | Errno;
  isTerminal(descriptor: 0 | 1 | 2): boolean;

  stat(path: string): Stat | Errno;
  lstat(path: string): Stat | Errno;
  /** Both are there, and one file. */
  sameFile(one: string, other: string): boolean;
  /** 0 when allowed. */
  access(path: string, mode: number): Errno | 0;
  /** The file system's magic number (statfs f_type). */
  fileSystemType(path: string): number | Errno;
  readlink(path: string): string | Errno;
  /** Where an absolute path leads, its symbolic links followed. */
  realPath(path: string): string | Errno;
  /** Unordered; a directory of more than `limit` entries is refused with EOVERFLOW. */
  readdir(path: string, limit: number): readonly DirectoryEntry[] | Errno;
  /** Up to `limit` bytes (at most 4 MiB) of a regular file from `offset`; less only at its end. */
  read(path: string, offset: number, limit: number): string | Errno;

  /** Opens a regular file or directory and keeps it open for the launcher: a handle. */
  openKeep(path: string): number | Errno;
  pread(handle: number, offset: number, length: number): string | Errno;
  fstat(handle: number): Stat | Errno;
  /** Little-endian fields by a layout (native/host.def), at most 64 KiB of them. */
  unpack(handle: number, offset: number, layout: string): Fields | Errno;
  /** The launcher is this process: it has the handles, and the environment. Else (Node) the plan names the path, and every variable. */
  readonly isLauncher: boolean;

  /** One line of getent(1). */
  getent(database: 'passwd' | 'group', key: string): string | Errno;
  /** Members of a JSON object (native/host.def): `names` are lines, a letter for the kind and the name. */
  json(text: string, names: string): Fields | Errno;
  /** A string of a JSON object that factsJson has written, by its name. */
  member(object: string, name: string): string | Errno;
  /** The same of several names, which are lines; 0 stands for one that is not there. */
  members(object: string, names: string): Fields | Errno;
  /** As util/fnv.ts; of a text without NUL. Here because each char of it costs the embedded engine some thousand instructions. */
  fnv64(text: string): string;
  /** One line to stderr. */
  log(line: string): void;
};
