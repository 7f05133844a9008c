/**
 * A typical start on an invented machine. It is run when the engine's image is made, so that everything that is made on first use is in it. It has to
 * take the ways usual starts take; what it answers is thrown away.
 */
import { findLine } from '../facts/identity.ts';
import { IMAGE_FACTS_OBJECT, IMAGE_FACTS_VERSION, type ImageFacts } from '../image/facts.ts';
import { readUsualSif } from '../image/usual-sif.ts';
import type { Fields as Strings } from '../plan/encode.ts';
import { newTable } from '../plan/mount-table.ts';
import { parseCommandLine } from '../request/parse.ts';
import { DATA_OFFSET, DATA_TYPES, DESCRIPTOR_SIZE, TABLE_OFFSET, TABLE_SLOTS } from '../sif/format.ts';
import { EINVAL, ENOENT, type Fields, type Host } from '../util/host.ts';
import { jsonMember, jsonMembers, jsonMemberTexts } from '../util/json-members.ts';
import { unpack } from '../util/unpack.ts';
import { keepForms } from './forms.ts';
import { CALLS, environWith } from './host-calls.ts';
import type { HostAnswer, HostCall } from './host-engine.ts';
import { failure, forget, keptOfStart } from './start.ts';

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
  tree: Object.fromEntries([
    ...['/bin', '/sbin', '/lib', '/lib64'].map((path) => [path, `lusr${path}`]),
    ...['/boot', '/dev', '/etc', '/home', '/media', '/mnt', '/opt', '/proc', '/root', '/run', '/srv', '/sys', '/tmp', '/usr', '/var'].map(
      (path) => [path, 'd'],
    ),
    ...['bin', 'include', 'lib', 'lib32', 'libx32', 'local', 'sbin', 'share', 'src'].map((name) => [`/usr/${name}`, 'd']),
    ...['cache', 'lib', 'local', 'log', 'opt', 'spool', 'tmp'].map((name) => [`/var/${name}`, 'd']),
    ...['hosts', 'resolv.conf', 'localtime', 'hostname'].map((name) => [`/etc/${name}`, 'f']),
  ]),
  passwd: 'root:x:0:0:root:/root:/bin/bash\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n',
  group: 'root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n',
  os: { id: 'debian', version: '12', name: 'Debian GNU/Linux 12 (bookworm)' },
  libc: { kind: 'glibc', version: '2.36' },
  locales: ['C.UTF-8'],
  caBundle: '/etc/ssl/certs/ca-certificates.crt',
  mpi: [],
};

/** Of a small image that sets no locale, and has a link where the host's resolv.conf is to be seen. */
const PLAIN_FACTS: ImageFacts = {
  ...FACTS,
  sh: '/bin/sh',
  bash: '',
  passwd: 'root:x:0:0:root:/root:/bin/sh\n',
  env: ['PATH=/usr/bin:/bin'],
  tree: { ...FACTS.tree, '/etc/resolv.conf': 'l../run/resolv.conf' },
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
const invented = (image: ImageFacts): { readonly text: string; readonly size: number } => {
  const facts = JSON.stringify(image);
  const root = Math.ceil((DATA_OFFSET + facts.length) / 4096) * 4096;
  const header =
    '#!/usr/bin/env run-singularity\n'.padEnd(32, '\0') +
    'SIF_MAGIC\0' +
    '01\0' +
    '02\0' +
    '\0'.repeat(16) +
    number(0, 16) +
    number(TABLE_SLOTS - 4, 8) +
    number(TABLE_SLOTS, 8) +
    number(TABLE_OFFSET, 8) +
    number(TABLE_SLOTS * DESCRIPTOR_SIZE, 8) +
    number(DATA_OFFSET, 8) +
    number(4096, 8);
  const table =
    descriptor(DATA_TYPES['generic-json'], 1, DATA_OFFSET, 0, 'oci-config.json', '') +
    descriptor(DATA_TYPES.generic, 2, DATA_OFFSET, 0, 'other', '') +
    descriptor(DATA_TYPES['generic-json'], 3, DATA_OFFSET, facts.length, IMAGE_FACTS_OBJECT, '') +
    descriptor(DATA_TYPES.partition, 4, root, 96, 'root', `${number(1, 4)}${number(2, 4)}02\0`);
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

/** What native/host.def's stat lists. */
const statFields = (type: number, size: number): Fields => [
  type + 0o700,
  1000,
  1000,
  size,
  '1700000000.123456789',
  '1700000000.123456789',
  '2049',
  '131073',
];

/** Answers in the form in which the native program gives them, so that reading them is warm as well. */
const inventedCall = (facts: ImageFacts, cwd: string, environ: readonly string[], args: readonly string[]): HostCall => {
  const image = invented(facts);
  const texts: Readonly<Record<string, string>> = {
    '/etc/resolv.conf': 'nameserver 10.0.0.1\n',
    '/proc/self/cgroup': '0::/system.slice/slurmstepd.scope/job_1/step_0/user/task_0\n',
  };
  const links: Readonly<Record<string, string>> = {
    '/proc/self/ns/user': 'user:[4026531837]',
    '/proc/self/ns/pid': 'pid:[4026531836]',
  };
  const variables = new Map(environ.map((entry) => entry.split(/=(.*)/s).slice(0, 2) as [string, string]));
  const answers = new Map<string, HostAnswer>();
  /** The native program finds these: how it is done here is nothing that a start does. */
  const once = (question: string, make: () => HostAnswer): HostAnswer => {
    const answer = answers.get(question) ?? make();
    answers.set(question, answer);
    return answer;
  };
  return (number, first = '', second = 0, third = 0) => {
    switch (number) {
      case CALLS.args:
        return args;
      case CALLS.getenv:
        return variables.get(String(first)) ?? ENOENT;
      case CALLS.environ:
        return once(`environ ${first}`, () => environWith(variables, String(first)));
      case CALLS.getcwd:
        return cwd;
      case CALLS.ids:
        return [1000, 1000, 1000, 1000, 1000, 2000];
      case CALLS.accounts:
        return ['user', 'User,,,', '/home/user', '/bin/bash', 1, 'user', 'user', 'project'];
      case CALLS.uname:
        return ['Linux', 'node', '6.1.0', 'x86_64'];
      case CALLS.self_exe:
        return '/usr/bin/tsrun';
      case CALLS.stat:
      case CALLS.lstat:
        return statFields(0o040000, 4096);
      case CALLS.fstat:
        return statFields(0o100000, image.size);
      case CALLS.fnv64:
        return '0123456789abcdef';
      case CALLS.same_file:
      case CALLS.access:
      case CALLS.isatty:
      case CALLS.open_keep:
        return 0;
      case CALLS.statfs:
        return 16914836;
      case CALLS.readlink:
        return links[first] ?? EINVAL;
      case CALLS.real_path:
        return first;
      case CALLS.read:
        return texts[first] ?? ENOENT;
      case CALLS.unpack:
        return once(`${third}`, () => unpack(image.text.slice(Number(second)), String(third)));
      case CALLS.json:
        return once(`${second}`, () => jsonMembers(String(first), String(second)));
      case CALLS.find_line:
        return once(`line ${first} ${second} ${third}`, () => findLine(String(first), Number(second), String(third))?.join(':') ?? ENOENT);
      case CALLS.member:
        return once(`member ${second}`, () => jsonMember(String(first), String(second)));
      case CALLS.members:
        return once(`members ${second}`, () => jsonMemberTexts(String(first), String(second)));
      case CALLS.pread:
        return image.text.slice(Number(second), Number(second) + Number(third));
      default:
        return ENOENT;
    }
  };
};

/** mksnapshot's third call of an engine is the one it watches. */
const WATCHED = 3;
const PROBES = 30_000;
let calls = 0;

/** The global object: the program's own door, in whose place the invented answers come, and what the program calls. */
type Global = { __host: HostCall; readonly tsrunStart: (input: string) => readonly Strings[] };

/** Made by the first of the warm-up calls, so that the making is no part of what the later ones touch. */
let typical: readonly HostCall[] | undefined;

/** globalThis.tsrunWarm. Throws when a start did not go as it should: the image would then not be warm. */
export const warm = (host: Host, global: Global): string => {
  typical ??= [
    inventedCall(FACTS, '/data/project', ENVIRON, ['tsrun', 'exec', '-B', '/data:/mnt/data:ro', 'image.sif', 'python3', 'analysis.py']),
    inventedCall(
      PLAIN_FACTS,
      '/home/user',
      ['PATH=/usr/bin:/bin', 'HOME=/home/user', 'USER=user', 'LOGNAME=user', 'LANG=C.UTF-8', 'TSRUN_LINGER=5'],
      ['tsrun', 'exec', '/images/image.sif', '/bin/true'],
    ),
  ];
  const real = global.__host;
  const seen = new Set<unknown>([host]);
  for (const call of typical) {
    global.__host = call;
    // Looked at to the last string, as the native program does.
    const answer = global.tsrunStart('').flat().join(' ');
    if (!answer.startsWith('plan ')) throw new Error(`the warm-up start failed: ${answer}`);
    // What of a start is not in what it keeps, too.
    if (calls === 0)
      keepForms([keptOfStart(), host.stat('/'), parseCommandLine(host.args().slice(1)), readUsualSif(host, 0), newTable()], seen);
  }
  // The call that is watched when the memory is laid out: names that were never seen lead through all names there are, as those of an image will, and
  // objects with one field through all forms of objects.
  if (++calls === WATCHED) {
    const names: Record<string, number> = {};
    for (let at = 0; at < PROBES; at++) {
      if (names[`probe ${at}`] !== undefined) throw new Error('a probe was found');
      (({}) as Record<number, number>)[at] = 0;
    }
  }
  failure(host, '0\0exec\x002\0run the program\0python3: it is in no directory of PATH\0');
  global.__host = real;
  forget();
  return '';
};
