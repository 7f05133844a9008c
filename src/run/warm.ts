/**
 * A typical start on an invented machine. It is run when the engine's image is made, so that everything that is made on first use is in it. It has to
 * take the ways usual starts take; what it answers is thrown away.
 */
import { IMAGE_FACTS_OBJECT, IMAGE_FACTS_VERSION, type ImageFacts } from '../image/facts.ts';
import { DATA_OFFSET, DATA_TYPES, DESCRIPTOR_SIZE, TABLE_OFFSET, TABLE_SLOTS } from '../sif/format.ts';
import { EINVAL, ENOENT, type Host, type Stat } from '../util/host.ts';
import { failure, start } from './start.ts';

const FACTS: ImageFacts = {
  version: IMAGE_FACTS_VERSION,
  arch: 'amd64',
  env: ['PATH=/usr/local/bin:/usr/bin:/bin', 'LANG=C.UTF-8'],
  entrypoint: ['/usr/bin/python3'],
  cmd: ['-i'],
  workingDir: '',
  user: '',
  runscript: false,
  envScripts: [],
  sh: '/usr/bin/dash',
  bash: '/usr/bin/bash',
  tree: {
    '/bin': 'lusr/bin',
    '/etc': 'd',
    '/home': 'd',
    '/tmp': 'd',
    '/usr': 'd',
    '/usr/bin': 'd',
    '/usr/lib': 'd',
    '/var': 'd',
    '/var/tmp': 'd',
    '/etc/hosts': 'f',
  },
  passwd: 'root:x:0:0:root:/root:/bin/bash\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n',
  group: 'root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n',
  os: { id: 'debian', version: '12', name: 'Debian GNU/Linux 12 (bookworm)' },
  libc: { kind: 'glibc', version: '2.36' },
  locales: ['C.UTF-8'],
  caBundle: '/etc/ssl/certs/ca-certificates.crt',
  mpi: [],
};

/** Little-endian fields as byte strings. */
const number = (value: number, bytes: number): string => {
  let text = '';
  for (let rest = value, at = 0; at < bytes; at++, rest = Math.floor(rest / 256)) text += String.fromCharCode(rest % 256);
  return text;
};

const descriptor = (type: number, id: number, offset: number, size: number, name: string, extra: string): string =>
  number(type, 4) +
  '\x01' +
  number(id, 4) +
  number(0xf0000001, 4) +
  number(0, 4) +
  number(offset, 8) +
  number(size, 8) +
  number(size, 8) +
  number(0, 32) +
  name.padEnd(128, '\0') +
  extra.padEnd(384, '\0');

/** A SIF file's first part; the root file system needs only its superblock. */
const invented = (): { readonly text: string; readonly size: number } => {
  const facts = JSON.stringify(FACTS);
  const root = Math.ceil((DATA_OFFSET + facts.length) / 4096) * 4096;
  const header =
    '#!/usr/bin/env run-singularity\n'.padEnd(32, '\0') +
    'SIF_MAGIC\0' +
    '01\0' +
    '02\0' +
    '\0'.repeat(16) +
    number(0, 16) +
    number(TABLE_SLOTS - 2, 8) +
    number(TABLE_SLOTS, 8) +
    number(TABLE_OFFSET, 8) +
    number(TABLE_SLOTS * DESCRIPTOR_SIZE, 8) +
    number(DATA_OFFSET, 8) +
    number(4096, 8);
  const table =
    descriptor(DATA_TYPES['generic-json'], 1, DATA_OFFSET, facts.length, IMAGE_FACTS_OBJECT, '') +
    descriptor(DATA_TYPES.partition, 2, root, 96, 'root', number(1, 4) + number(2, 4) + '02\0');
  const superblock = `hsqs${number(0, 24)}${number(4, 2)}${number(0, 2)}${number(0, 8)}${number(96, 8)}`.padEnd(96, '\0');
  const parts = `${header.padEnd(TABLE_OFFSET, '\0')}${table}`;
  const text = (parts.padEnd(DATA_OFFSET, '\0') + facts).padEnd(root, '\0').concat(superblock);
  return { text, size: text.length };
};

const ENVIRON = [
  'SHELL=/bin/bash',
  'PWD=/data/project',
  'LOGNAME=user',
  'HOME=/home/user',
  'LANG=en_US.UTF-8',
  'LC_TIME=de_DE.UTF-8',
  'TERM=xterm-256color',
  'USER=user',
  'XDG_RUNTIME_DIR=/run/user/1000',
  'PATH=/usr/local/bin:/usr/bin:/bin',
  'LD_LIBRARY_PATH=/opt/lib',
  'PYTHONPATH=/opt/python',
  'CONDA_PREFIX=/opt/conda',
  'SLURM_JOB_ID=1',
  'SLURM_PROCID=0',
  'OMP_NUM_THREADS=1',
  'TMPDIR=/tmp/job',
  'DISPLAY=:0',
  'SSH_AUTH_SOCK=/tmp/ssh/agent',
  'MODULEPATH=/opt/modules',
  '_=/usr/bin/tsrun',
];

const directory: Stat = {
  kind: 'directory',
  mode: 0o700,
  uid: 1000,
  gid: 1000,
  size: 4096,
  mtime: '1.000000000',
  ctime: '1.000000000',
  dev: '1',
  ino: '2',
};

const inventedHost = (args: readonly string[]): Host => {
  const image = invented();
  const texts: Readonly<Record<string, string>> = {
    '/etc/passwd': 'root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000:User,,,:/home/user:/bin/bash\n',
    '/etc/group': 'root:x:0:\nuser:x:1000:\nproject:x:2000:user\n',
    '/proc/self/cgroup': '0::/system.slice/slurmstepd.scope/job_1/step_0/user/task_0\n',
  };
  const links: Readonly<Record<string, string>> = {
    '/proc/self/ns/user': 'user:[4026531837]',
    '/proc/self/ns/pid': 'pid:[4026531836]',
    '/etc/localtime': '/usr/share/zoneinfo/Europe/Berlin',
  };
  return {
    args: () => args,
    environ: () => ENVIRON,
    getcwd: () => '/data/project',
    ids: () => ({ uid: 1000, euid: 1000, gid: 1000, egid: 1000, groups: [1000, 2000] }),
    machine: () => 'x86_64',
    hostname: () => 'node',
    selfExe: () => '/usr/bin/tsrun',
    isTerminal: () => true,
    stat: () => directory,
    lstat: () => directory,
    access: () => 0,
    fileSystemType: () => 0x01021994,
    readlink: (path) => links[path] ?? EINVAL,
    readdir: () => [],
    read: (path, offset, limit) => texts[path]?.slice(offset, offset + limit) ?? ENOENT,
    openKeep: () => 0,
    pread: (_, offset, length) => image.text.slice(offset, offset + length),
    fstat: () => ({ ...directory, kind: 'file', size: image.size }),
    keepsHandles: true,
    getent: () => ENOENT,
    log: () => undefined,
  };
};

/** Made by the first of the warm-up calls, so that the making is no part of what the later ones touch. */
let typical: Host | undefined;

/** globalThis.tsrunWarm. Throws when the start did not go as it should: the image would then not be warm. */
export const warm = (): string => {
  typical ??= inventedHost(['tsrun', 'exec', '-B', '/data:/mnt/data:ro', 'image.sif', 'python3', 'analysis.py']);
  const answer = start(typical, '');
  if (!answer.startsWith('plan\0')) throw new Error(`the warm-up start failed: ${answer}`);
  failure(typical, '0\0exec\x002\0run the program\0python3: it is in no directory of PATH\0');
  return '';
};
