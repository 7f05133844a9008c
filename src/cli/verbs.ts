/**
 * The verbs of the full program and their options: parsing, help, completion and the man page come from this table, as those of `exec`, `run`
 * and `shell` come from request/flags.ts. Names are Apptainer's where Apptainer has the thing.
 */

export type Option = {
  readonly name: string;
  readonly short?: string;
  /** Other long names, understood and not shown. */
  readonly aliases?: readonly string[];
  /** What stands for the value; a switch has none. */
  readonly value?: string;
  /** The only values there are, for completion. */
  readonly choices?: readonly string[];
  readonly help: string;
};

export type Position = {
  /** As shown: "IMAGE". */
  readonly name: string;
  /** Instead of the name, where that is none of one thing. */
  readonly shown?: string;
  readonly optional?: boolean;
  /** Takes all words that are left; only the last one. */
  readonly many?: boolean;
  readonly kind: 'file' | 'directory' | 'text';
  readonly help: string;
};

export type Verb = {
  /** One word, or two for what belongs together: "image ls". */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly positions: readonly Position[];
  readonly options: readonly Option[];
  readonly help: string;
  /** Between the parts of tsrun; shown to nobody. */
  readonly hidden?: boolean;
};

/** Of every verb. */
export const COMMON: readonly Option[] = [
  { name: 'quiet', short: 'q', aliases: ['silent'], help: 'errors only' },
  { name: 'verbose', short: 'v', help: 'say more' },
  { name: 'debug', help: 'show where an error comes from' },
];

const NETWORK: readonly Option[] = [
  { name: 'offline', help: 'ask no registry: what the store has must do' },
  {
    name: 'insecure',
    aliases: ['no-https', 'nohttps'],
    help: 'allow plain http to any registry (certificates of https are checked all the same)',
  },
];

const BUILD: readonly Option[] = [
  {
    name: 'compress',
    value: 'NAME[:LEVEL]',
    choices: ['zstd', 'gzip', 'xz', 'lz4'],
    help: 'zstd (default), gzip (every kernel and tool reads it), xz or lz4; a level after a colon: zstd:19',
  },
  { name: 'block-size', value: 'SIZE', help: 'of the SquashFS, 4K to 1M; default 128K' },
  { name: 'arch', value: 'ARCH', help: 'take the image for this architecture, such as arm64 or arm/v7' },
  {
    name: 'threads',
    value: 'N',
    help: 'compressing threads, up to 4 (default: as many as there are cores, up to 3); the image is the same for any number',
  },
  { name: 'force', short: 'F', help: 'replace an existing file' },
  ...NETWORK,
  { name: 'limit-size', value: 'SIZE', help: 'refuse what unpacks to more, such as 200G; default 1T' },
  { name: 'limit-files', value: 'N', help: 'refuse what has more entries; default 10000000' },
  { name: 'limit-ratio', value: 'N', help: 'refuse layers that unpack to more times their size; default 1000' },
];

/** Of recipes only. */
const RECIPE: readonly Option[] = [
  { name: 'file', short: 'f', value: 'FILE', help: 'the recipe, where SOURCE is the directory that COPY copies from' },
  { name: 'target', value: 'STAGE', help: 'build this stage of the recipe instead of the last' },
  { name: 'build-arg', value: 'NAME=VALUE', help: 'a value for an ARG or %arguments of the recipe; may be given several times' },
  { name: 'build-arg-file', value: 'FILE', help: 'the same, a line NAME=VALUE for each' },
  { name: 'section', value: 'NAMES', help: 'carry out only these sections of a definition file, parted by commas' },
  { name: 'notest', short: 'T', help: 'leave the tests of the recipe out' },
  { name: 'sandbox', short: 's', help: 'write a directory instead of a SIF' },
  { name: 'update', short: 'u', help: 'do the steps of the recipe on a directory made with --sandbox' },
  { name: 'no-cache', help: 'take no results of earlier builds' },
  { name: 'secret', value: 'id=NAME[,src=FILE]', help: 'a file, or a variable of the environment, for RUN --mount=type=secret' },
  { name: 'ssh', value: 'default|ID=SOCKET', help: 'the SSH agent of SSH_AUTH_SOCK, or another one, for RUN --mount=type=ssh' },
  {
    name: 'build-context',
    value: 'NAME=VALUE',
    help: 'a directory, or docker-image://IMAGE, for FROM NAME and --from=NAME of a Dockerfile',
  },
  { name: 'debug-shell', help: 'open a shell where a step fails' },
  { name: 'lock', help: 'write tsrun.lock beside the recipe: digests of the base images, packages found in the image' },
  { name: 'locked', help: 'build what tsrun.lock says, and fail when it comes out otherwise' },
  { name: 'vendor', value: 'DIR', help: 'with --lock: keep base images and packages there; with --locked --offline: build from there' },
  { name: 'check', help: 'build twice and name every file that differs' },
  { name: 'schema', help: 'print the JSON schema of YAML recipes, for editors' },
  { name: 'fakeroot', help: 'accepted: recipes are always built without root' },
];

const IMAGE: Position = { name: 'IMAGE', kind: 'file', help: 'a SIF or SquashFS file' };
const APP: Option = { name: 'app', value: 'NAME', help: 'of this app of the image' };
const JSON_OUTPUT: Option = { name: 'json', short: 'j', help: 'as JSON' };

const VERBS = [
  {
    name: 'build',
    positions: [
      { name: 'OUTPUT', kind: 'file', help: 'the SIF file to write' },
      {
        name: 'SOURCE',
        kind: 'file',
        help: 'a recipe (Dockerfile, definition file, YAML), or docker://, oci:, oci-archive:, docker-archive:, tar:, - (a tar stream), a directory or another image',
      },
    ],
    options: [...BUILD, ...RECIPE],
    help: 'make a SIF image',
  },
  {
    name: 'pull',
    positions: [
      {
        name: 'WORDS',
        shown: '[OUT.sif] REFERENCE',
        many: true,
        kind: 'text',
        help: 'an image in a registry, such as docker://NAME:TAG; the file is named after it when its name is left out',
      },
    ],
    options: [...BUILD, { name: 'dir', value: 'DIRECTORY', help: 'where the file is written' }],
    help: 'the same, with the file named after the image',
  },
  {
    name: 'optimize',
    positions: [
      { name: 'IMAGE', kind: 'file', help: 'a SIF or SquashFS file' },
      { name: 'TARGET', kind: 'file', help: 'the SIF file to write' },
      { name: 'COMMAND', optional: true, many: true, kind: 'text', help: 'behind --: what is run in IMAGE, to see what it reads' },
    ],
    options: [
      { name: 'record', value: 'FILE', help: 'keep the record of what COMMAND reads in FILE' },
      { name: 'replay', value: 'FILE', help: 'take the record that this or exec --record has made; may be repeated' },
      { name: 'force', short: 'F', help: 'replace an existing file' },
      { name: 'threads', value: 'N', help: 'compressing threads, up to 4' },
    ],
    help: 'write an image again so that what a command reads first lies first, and is read ahead',
  },
  {
    name: 'inspect',
    positions: [{ name: 'IMAGE', kind: 'file', help: 'a SIF, SquashFS or directory' }],
    options: [
      { name: 'labels', short: 'l', help: 'labels (the default)' },
      { name: 'deffile', short: 'd', help: 'what it was built from' },
      { name: 'runscript', short: 'r', help: 'what `run` starts' },
      { name: 'startscript', help: 'what an instance starts' },
      { name: 'test', short: 't', help: 'its test script' },
      { name: 'environment', short: 'e', help: 'its environment scripts' },
      { name: 'helpfile', short: 'H', help: 'its help text' },
      APP,
      { name: 'list-apps', help: 'names of its apps' },
      { name: 'all', help: 'all of it, as JSON' },
      JSON_OUTPUT,
    ],
    help: 'labels, definition and scripts of an image',
  },
  {
    name: 'run-help',
    positions: [{ name: 'IMAGE', kind: 'file', help: 'a SIF, SquashFS or directory' }],
    options: [APP],
    help: 'the help text of an image',
  },
  {
    name: 'image ls',
    positions: [IMAGE, { name: 'PATHS', optional: true, many: true, kind: 'text', help: 'paths in the image' }],
    options: [
      { name: 'depth', value: 'N', help: 'levels below each path' },
      // What fingers type.
      { name: 'long', short: 'l', help: 'accepted, as are the next two: all is told of all names' },
      { name: 'all', short: 'a', help: 'accepted' },
      { name: 'recursive', short: 'R', help: 'accepted' },
    ],
    help: 'list names in an image with mode, owner, size and time',
  },
  {
    name: 'image cat',
    positions: [IMAGE, { name: 'PATHS', many: true, kind: 'text', help: 'paths in the image' }],
    options: [],
    help: 'write files of an image to standard output',
  },
  {
    name: 'image extract',
    positions: [IMAGE, { name: 'DIRECTORY', kind: 'directory', help: 'a new directory' }],
    options: [],
    help: 'unpack an image into a new directory',
  },
  {
    name: 'image diff',
    positions: [
      { name: 'FIRST', kind: 'file', help: 'a SIF or SquashFS file' },
      { name: 'SECOND', kind: 'file', help: 'another one' },
    ],
    options: [JSON_OUTPUT],
    help: 'every name that differs between two images, and what of it; exit status 1 when there is one',
  },
  {
    name: 'image packages',
    positions: [IMAGE],
    options: [JSON_OUTPUT],
    help: 'packages in an image, as dpkg, rpm, apk, pip, conda and R left word of them',
  },
  { name: 'image facts', positions: [IMAGE], options: [JSON_OUTPUT], help: 'what tsrun knows of an image' },
  { name: 'image objects', aliases: ['list'], positions: [IMAGE], options: [], help: 'the data objects of a SIF' },
  {
    name: 'image dump',
    positions: [{ name: 'ID', kind: 'text', help: 'number of the object' }, IMAGE],
    options: [],
    help: 'write a data object of a SIF to standard output',
  },
  {
    name: 'image stats',
    positions: [],
    options: [JSON_OUTPUT],
    help: 'what the image servers of this user on this machine have done: requests, cache, memory',
  },
  {
    name: 'cache list',
    positions: [],
    options: [JSON_OUTPUT],
    help: 'what the store holds and builds have kept, and how long it was not used',
  },
  {
    name: 'cache clean',
    positions: [],
    options: [
      { name: 'days', short: 'D', value: 'N', help: 'remove what was not used for so many days; default 30' },
      { name: 'all', short: 'a', help: 'remove everything' },
      { name: 'dry-run', short: 'n', help: 'only list what would be removed' },
    ],
    help: 'remove from the store, and of what builds have kept, what was not used lately',
  },
  {
    name: 'login',
    positions: [{ name: 'REGISTRY', optional: true, kind: 'text', help: 'host; default docker.io' }],
    options: [
      { name: 'username', short: 'u', value: 'NAME', help: 'asked for when left out' },
      { name: 'password-stdin', help: 'the password is the first line of standard input' },
      NETWORK[1] as Option,
    ],
    help: 'keep a password or token for a registry',
  },
  {
    name: 'logout',
    positions: [{ name: 'REGISTRY', optional: true, kind: 'text', help: 'host; default docker.io' }],
    options: [{ name: 'all', help: 'for all registries' }],
    help: 'forget it',
  },
  { name: 'version', positions: [], options: [], help: 'print the version' },
  {
    name: 'help',
    positions: [{ name: 'COMMAND', optional: true, many: true, kind: 'text', help: 'a command' }],
    options: [],
    help: 'print help',
  },
  {
    name: 'completion',
    positions: [{ name: 'SHELL', kind: 'text', help: 'bash, zsh or fish' }],
    options: [],
    help: 'print the completion script of a shell',
  },
  { name: 'man', positions: [], options: [], help: 'print the manual page', hidden: true },
  {
    name: '__prepare',
    positions: [{ name: 'REFERENCES', many: true, kind: 'text', help: 'images to make ready' }],
    options: [],
    help: 'what the planner asks for',
    hidden: true,
  },
] as const satisfies readonly Verb[];

export type VerbName = (typeof VERBS)[number]['name'];

export const ALL_VERBS: readonly (Verb & { readonly name: VerbName })[] = VERBS;

/** First words under which several verbs stand. */
export const GROUPS: Readonly<Record<string, { readonly aliases: readonly string[]; readonly help: string }>> = {
  image: { aliases: ['sif'], help: 'look into an image file' },
  cache: { aliases: [], help: 'look into the store of downloads and converted images, and clean it' },
};

/** "IMAGE [PATHS…]" */
export const usageOf = ({ positions }: Verb): string =>
  positions
    .map(({ name, shown, optional, many }) => shown ?? (optional ? `[${name}${many ? '…' : ''}]` : `${name}${many ? '…' : ''}`))
    .join(' ');
