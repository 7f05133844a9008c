/** Commands and options of Apptainer, Docker, Podman, Charliecloud and Enroot that people's fingers know, and what to write here instead. */

const NO_INSTANCES =
  'there are no instances: start the program in the background (tsrun run IMAGE &), in a batch job, or as a service: systemd-run --user tsrun run IMAGE';
const FILES =
  'images are files: ls, cp, mv, rm; those fetched for docker:// names are shown by tsrun cache list and removed by tsrun cache clean';
const UNSIGNED = 'images carry no signatures yet: keep a checksum beside the file (sha256sum IMAGE)';
const RIGHTS = 'leave it out: programs run with your own rights and no capabilities';
const SETTINGS = 'settings are lines of ~/.config/tsrun/config.yaml; tsrun exec --explain IMAGE COMMAND shows what holds, and from where';
const SOURCES =
  'tsrun build OUT.sif SOURCE: docker://NAME, docker-archive:FILE.tar, oci:DIRECTORY, tar:FILE, a recipe, a directory or an image';

const COMMANDS: Readonly<Record<string, string>> = {
  apptainer: 'leave the word out: tsrun exec, run, shell, build, pull and inspect are spelled as there',
  attach: NO_INSTANCES,
  bundle: SOURCES,
  capability: RIGHTS,
  'ch-run': 'tsrun exec IMAGE COMMAND',
  clean: 'tsrun cache clean',
  commit: 'write a recipe, and build it: tsrun build OUT.sif Dockerfile',
  config: SETTINGS,
  convert: SOURCES,
  cp: 'tsrun image cat IMAGE PATH > FILE, or --bind what the run needs',
  create: SOURCES,
  delete: FILES,
  docker: 'leave the word out: tsrun run docker://NAME',
  doctor:
    'tsrun exec --explain IMAGE COMMAND shows what a run does here and why; what this machine lacks is said by the run, with the cure',
  export: 'tsrun image extract IMAGE DIRECTORY; to copy an image, copy its file',
  history: 'tsrun inspect --deffile IMAGE shows what it was built from',
  images: FILES,
  import: SOURCES,
  info: SETTINGS,
  instance: NO_INSTANCES,
  key: UNSIGNED,
  kill: 'a run is an ordinary process of yours: kill PID, or pkill',
  load: SOURCES,
  logs: 'what a run writes goes where its standard output goes: tsrun run IMAGE > FILE',
  mount: 'tsrun exec IMAGE COMMAND; tsrun image ls, cat and extract look into an image',
  network: "leave it out: programs use the host's network",
  oci: 'tsrun run IMAGE, tsrun build OUT.sif oci:DIRECTORY',
  overlay: '--writable-tmpfs for writes that may be lost, --bind DIR:PATH for those that stay',
  plugin: 'there are none',
  podman: 'leave the word out: tsrun run docker://NAME',
  ps: 'a run is an ordinary process of yours: ps, top, pgrep; tsrun image stats shows the servers behind runs',
  push: 'images are files: copy them, or hand them to a registry with oras push',
  registry: 'tsrun login REGISTRY; mirrors are lines of ~/.config/tsrun/config.yaml',
  remote: 'tsrun login REGISTRY; mirrors are lines of ~/.config/tsrun/config.yaml',
  rename: FILES,
  rm: FILES,
  rmi: FILES,
  save: FILES,
  search: "look for it on the registry's own pages, then tsrun pull docker://NAME:TAG",
  sign: UNSIGNED,
  singularity: 'leave the word out: tsrun exec, run, shell, build, pull and inspect are spelled as there',
  start: NO_INSTANCES,
  stop: NO_INSTANCES,
  tag: FILES,
  verify: UNSIGNED,
  volume: '--bind DIR:PATH for files that stay',
};

const FILE_FIRST = 'the file comes first, without an option: tsrun build NAME.sif SOURCE';

const OPTIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  build: {
    '-B': 'COPY, or RUN --mount=type=bind, in the recipe',
    '-o': FILE_FIRST,
    '-t': FILE_FIRST,
    '--bind': 'COPY, or RUN --mount=type=bind, in the recipe',
    '--disable-cache': '--no-cache',
    '--encrypt': 'leave it out: there are no encrypted images yet',
    '--fix-perms': 'leave it out: your own files can be removed, whatever their modes',
    '--isolated': 'leave it out',
    '--network': 'RUN --network=none in a Dockerfile; else steps have the network of the host',
    '--output': FILE_FIRST,
    '--platform': '--arch ARCH',
    '--progress': 'leave it out: without a terminal there are plain lines',
    '--pull': '--no-cache',
    '--remote': 'leave it out: images are built here, without root',
    '--rm': 'leave it out: nothing of a build is left but its cache',
    '--tag': FILE_FIRST,
  },
};

/** What to write in place of a command that tsrun does not know. */
export const insteadOfCommand = (word: string): string | undefined => (Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined);

/** What to write in place of an option that the verb does not know. */
export const insteadOfOption = (verb: string, option: string): string | undefined => OPTIONS[verb]?.[option];
