/**
 * The flag table of `exec`, `run` and `shell`: parsing, help, environment names, config keys and the reference in docs/ come from it, and
 * nothing about a flag is written down anywhere else. Names and environment keys are Apptainer's where Apptainer has the flag
 * (its cmd/internal/cli/action_flags.go), so that command lines and site settings carry over.
 */

export const RUN_VERBS = ['exec', 'run', 'shell', 'test'] as const;
export type RunVerb = (typeof RUN_VERBS)[number];

/**
 * switch: no value (but `--flag=false`). value: one, the last given wins. list: may be repeated, values add up over command line, environment and
 * config. optional: a value only in the form `--flag=value`.
 */
export type FlagKind = 'switch' | 'value' | 'list' | 'optional';

export type Flag = {
  readonly name: string;
  readonly short?: string;
  /** Other long names, understood and not shown. */
  readonly aliases?: readonly string[];
  readonly kind: FlagKind;
  /** What stands for the value in help. */
  readonly value?: string;
  /** Keys read from the environment as TSRUN_KEY, APPTAINER_KEY and SINGULARITY_KEY, in this order. */
  readonly env?: readonly string[];
  /** Key in the config files. */
  readonly config?: string;
  readonly verbs?: readonly RunVerb[];
  /** May stand before the verb. */
  readonly global?: boolean;
  readonly group: 'files' | 'environment' | 'isolation' | 'devices' | 'messages';
  readonly help: string;
};

export const FLAGS = [
  {
    name: 'bind',
    short: 'B',
    kind: 'list',
    value: 'SRC[:DST[:ro|rw]]',
    env: ['BIND', 'BINDPATH'],
    config: 'bind',
    group: 'files',
    help: 'show the host\'s SRC at DST (default: the same path); several with commas, "\\" before , or : takes it literally',
  },
  {
    name: 'mount',
    kind: 'list',
    value: 'type=bind,source=SRC,target=DST[,readonly]',
    env: ['MOUNT'],
    config: 'mount',
    group: 'files',
    help: 'the same in words; fields with commas are put in double quotes',
  },
  {
    name: 'pwd',
    aliases: ['cwd'],
    kind: 'value',
    value: 'DIR',
    env: ['PWD', 'CWD', 'TARGET_PWD', 'TARGET_CWD'],
    group: 'files',
    help: 'start in DIR of the image (default: the current directory, at the same path)',
  },
  {
    name: 'home',
    short: 'H',
    kind: 'value',
    value: 'SRC[:DST]',
    env: ['HOME'],
    config: 'home',
    group: 'files',
    help: 'use SRC as home directory, at DST',
  },
  { name: 'no-home', kind: 'switch', env: ['NO_HOME'], config: 'no-home', group: 'files', help: 'leave the home directory out' },
  {
    name: 'no-mount',
    kind: 'list',
    value: 'NAME,...',
    env: ['NO_MOUNT'],
    config: 'no-mount',
    group: 'files',
    help: 'leave default mounts out: home cwd tmp dev proc sys bind-paths, or a path such as /etc/hosts',
  },
  {
    name: 'writable-tmpfs',
    kind: 'switch',
    env: ['WRITABLE_TMPFS'],
    config: 'writable-tmpfs',
    group: 'files',
    help: 'let the program write everywhere in the image; what it wrote is kept in memory and gone at the end',
  },
  {
    name: 'env',
    kind: 'list',
    value: 'NAME=VALUE',
    config: 'env',
    group: 'environment',
    help: "set a variable (NAME alone: take the host's value); several as A=1,B=2",
  },
  {
    name: 'env-file',
    kind: 'list',
    value: 'FILE',
    env: ['ENV_FILE'],
    group: 'environment',
    help: 'read NAME=VALUE lines from FILE; --env wins over it',
  },
  {
    name: 'cleanenv',
    short: 'e',
    kind: 'switch',
    env: ['CLEANENV'],
    config: 'cleanenv',
    group: 'environment',
    help: 'pass no host variables in but TERM and the proxies',
  },
  {
    name: 'host-env',
    kind: 'optional',
    value: 'NAME,...',
    env: ['KEEP_HOST_ENV'],
    config: 'host-env',
    group: 'environment',
    help: 'pass in also the host variables that are left out by default; with names (CONDA_* for many), only those',
  },
  {
    name: 'host-python',
    kind: 'switch',
    env: ['HOST_PYTHON'],
    config: 'host-python',
    group: 'environment',
    help: 'pass in PYTHONPATH and its kin, and let Python see the packages in ~/.local',
  },
  {
    name: 'no-eval',
    kind: 'switch',
    env: ['NO_EVAL'],
    group: 'environment',
    help: 'accepted for Apptainer: tsrun never lets a shell evaluate values',
  },
  {
    name: 'contain',
    short: 'c',
    kind: 'switch',
    env: ['CONTAIN'],
    config: 'contain',
    group: 'isolation',
    help: 'an empty home, /tmp and /var/tmp in memory and a minimal /dev; no current directory, no binds from the config files',
  },
  {
    name: 'containall',
    short: 'C',
    kind: 'switch',
    env: ['CONTAINALL'],
    config: 'containall',
    group: 'isolation',
    help: '--contain --cleanenv --pid --ipc',
  },
  {
    name: 'pid',
    short: 'p',
    kind: 'switch',
    env: ['PID', 'UNSHARE_PID'],
    config: 'pid',
    group: 'isolation',
    help: 'a process list of its own',
  },
  {
    name: 'ipc',
    short: 'i',
    kind: 'switch',
    env: ['IPC', 'UNSHARE_IPC'],
    config: 'ipc',
    group: 'isolation',
    help: 'shared memory and message queues of its own',
  },
  { name: 'hostname', kind: 'value', value: 'NAME', env: ['HOSTNAME'], group: 'isolation', help: 'a host name of its own' },
  {
    name: 'userns',
    short: 'u',
    kind: 'switch',
    env: ['USERNS', 'UNSHARE_USERNS'],
    group: 'isolation',
    help: 'accepted for Apptainer: tsrun always runs in a user namespace',
  },
  {
    name: 'nv',
    kind: 'switch',
    env: ['NV'],
    config: 'nv',
    group: 'devices',
    help: "NVIDIA GPUs: the host's driver libraries, tools and devices",
  },
  {
    name: 'shell',
    short: 's',
    kind: 'value',
    value: 'PROGRAM',
    env: ['SHELL'],
    verbs: ['shell'],
    group: 'environment',
    help: "the shell to start (default: the image's bash, else its sh)",
  },
  {
    name: 'app',
    kind: 'value',
    value: 'NAME',
    env: ['APP', 'APPNAME'],
    group: 'environment',
    help: "an app of the image (SCIF, /scif/apps/NAME): its environment, and in place of the image's its runscript and test",
  },
  {
    name: 'stage',
    kind: 'optional',
    value: 'memory|local',
    env: ['STAGE'],
    config: 'stage',
    group: 'files',
    help: 'copy the image to this node first, once for all runs of yours: to the node-local place, or to memory',
  },
  {
    name: 'record',
    kind: 'value',
    value: 'FILE',
    group: 'files',
    help: 'write to FILE what is read of the image, for tsrun optimize --replay; a file that is there is gone on with',
  },
  { name: 'explain', kind: 'optional', value: 'json', group: 'messages', help: 'print what would be done, and why, and do nothing' },
  { name: 'quiet', short: 'q', kind: 'switch', env: ['QUIET'], config: 'quiet', global: true, group: 'messages', help: 'errors only' },
  {
    name: 'silent',
    short: 's',
    kind: 'switch',
    env: ['SILENT'],
    global: true,
    group: 'messages',
    help: 'the same as --quiet',
  },
  { name: 'verbose', short: 'v', kind: 'switch', env: ['VERBOSE'], global: true, group: 'messages', help: 'say more' },
  {
    name: 'debug',
    short: 'd',
    kind: 'switch',
    env: ['DEBUG'],
    global: true,
    group: 'messages',
    help: 'say everything: print the plan, then run it',
  },
  {
    name: 'nocolor',
    kind: 'switch',
    env: ['NOCOLOR'],
    global: true,
    group: 'messages',
    help: 'accepted for Apptainer: tsrun run messages have no colours',
  },
] as const satisfies readonly Flag[];

export type FlagName = (typeof FLAGS)[number]['name'];

/** The same table without literal types, for code that walks it. */
export const ALL_FLAGS: readonly (Flag & { readonly name: FlagName })[] = FLAGS;

/** Apptainer's flags that tsrun does not have yet, and what to do today. `value`: one follows. */
type LaterFlag = { readonly name: string; readonly short?: string; readonly value?: true; readonly today: string };

const LIMITS = 'set limits with Slurm (sbatch --mem, --cpus-per-task) or systemd-run --user --scope -p MemoryMax=...';
const RIGHTS = 'leave it out: programs run with your own rights and no capabilities';
const NETWORK = "leave it out: programs use the host's network";

export const LATER_FLAGS: readonly LaterFlag[] = [
  { name: 'overlay', short: 'o', value: true, today: '--writable-tmpfs for writes that may be lost, --bind DIR:PATH for those that stay' },
  {
    name: 'writable',
    short: 'w',
    today: '--writable-tmpfs, or --bind DIR:PATH for what has to stay (for the directory to start in: --pwd DIR)',
  },
  { name: 'scratch', short: 'S', value: true, today: '--bind "$(mktemp -d)":PATH' },
  {
    name: 'workdir',
    short: 'W',
    value: true,
    today: '--bind DIR/tmp:/tmp --bind DIR/var_tmp:/var/tmp --home DIR/home (for the directory to start in: --pwd DIR)',
  },
  { name: 'compat', today: '--containall --writable-tmpfs' },
  { name: 'fakeroot', short: 'f', today: 'leave it out: files of the image belong to you in a run' },
  { name: 'unsquash', today: 'leave it out: without a usable /dev/fuse the image is extracted by itself' },
  { name: 'underlay', today: 'leave it out: missing mount points are made by themselves' },
  { name: 'net', short: 'n', today: NETWORK },
  { name: 'network', value: true, today: NETWORK },
  { name: 'network-args', value: true, today: NETWORK },
  { name: 'netns-path', value: true, today: NETWORK },
  { name: 'dns', value: true, today: '--bind FILE:/etc/resolv.conf' },
  { name: 'uts', today: '--hostname NAME' },
  { name: 'no-pid', today: '--contain --cleanenv in place of --containall' },
  { name: 'no-init', today: 'leave it out' },
  { name: 'no-umask', today: 'umask 0022 before the command' },
  { name: 'no-env', value: true, today: 'env -u NAME tsrun ...' },
  { name: 'rocm', today: '--bind /opt/rocm; devices are in /dev unless --contain is given' },
  { name: 'nvccli', today: '--nv' },
  { name: 'compat32', today: '--bind with the 32-bit libraries' },
  { name: 'device', value: true, today: '--nv, or no --contain: all devices are in /dev then' },
  { name: 'cdi-dirs', value: true, today: '--nv' },
  { name: 'intel-hpu', today: 'leave --contain out: all devices are in /dev then' },
  { name: 'sharens', today: 'leave it out: runs of one job share a user namespace by themselves' },
  { name: 'fusemount', value: true, today: 'mount it on the host and --bind it' },
  { name: 'security', value: true, today: RIGHTS },
  { name: 'add-caps', value: true, today: RIGHTS },
  { name: 'drop-caps', value: true, today: RIGHTS },
  { name: 'keep-privs', today: RIGHTS },
  { name: 'allow-setuid', today: RIGHTS },
  { name: 'no-privs', today: RIGHTS },
  { name: 'apply-cgroups', value: true, today: LIMITS },
  { name: 'blkio-weight', value: true, today: LIMITS },
  { name: 'blkio-weight-device', value: true, today: LIMITS },
  { name: 'cpu-shares', value: true, today: LIMITS },
  { name: 'cpus', value: true, today: LIMITS },
  { name: 'cpuset-cpus', value: true, today: 'taskset -c LIST tsrun ...' },
  { name: 'cpuset-mems', value: true, today: 'numactl --membind=LIST tsrun ...' },
  { name: 'memory', value: true, today: LIMITS },
  { name: 'memory-reservation', value: true, today: LIMITS },
  { name: 'memory-swap', value: true, today: LIMITS },
  { name: 'oom-kill-disable', today: LIMITS },
  { name: 'pids-limit', value: true, today: LIMITS },
  { name: 'passphrase', today: 'decrypt the image with Apptainer first' },
  { name: 'pem-path', value: true, today: 'decrypt the image with Apptainer first' },
  { name: 'docker-login', today: 'tsrun login REGISTRY' },
  { name: 'authfile', value: true, today: 'tsrun login REGISTRY, or REGISTRY_AUTH_FILE=FILE tsrun ...' },
  { name: 'no-https', today: 'name the registry under "insecure" in the config file' },
  { name: 'disable-cache', today: 'TSRUN_STORE=DIR for another store' },
  { name: 'oci', today: 'leave it out' },
  { name: 'no-oci', today: 'leave it out' },
];

/** Where two flags share a letter, the earlier one of the table has it. */
export const flagsOf = (verb: RunVerb): readonly (Flag & { readonly name: FlagName })[] =>
  ALL_FLAGS.filter((flag) => flag.verbs === undefined || flag.verbs.includes(verb));

/** Other keys of the config files; `flags` have theirs in the table above. Read by store, registry and converter. */
export const CONFIG_ONLY_KEYS = [
  'store',
  'local',
  'linger',
  'cache-memory',
  'mirrors',
  'insecure',
  'offline',
  'ca-file',
  'timeouts',
  'limits',
] as const;
