/** A start on an invented machine in one call, and questions about the plan that comes out. */

import { factsJson } from '../../src/image/compute.ts';
import { IMAGE_FACTS_VERSION, type ImageFacts } from '../../src/image/facts.ts';
import { fileKey } from '../../src/image/identity.ts';
import { inherited } from '../../src/plan/env.ts';
import type { Op, OpName, OpOf } from '../../src/plan/ops.ts';
import { plan } from '../../src/run/start.ts';
import { failed } from '../../src/util/host.ts';
import { device, directory, type Entry, file, link, type Machine, type MachineOptions, machine, type Tree } from './machine.ts';

/** Facts of a usual Debian image. */
export const facts = (changes: Partial<ImageFacts> = {}): ImageFacts => ({
  version: IMAGE_FACTS_VERSION,
  arch: 'amd64',
  env: [],
  entrypoint: [],
  cmd: [],
  workingDir: '',
  user: '',
  runscript: false,
  envScripts: [],
  sh: '/usr/bin/dash',
  bash: '/usr/bin/bash',
  tree: {
    '/bin': 'lusr/bin',
    '/etc': 'd',
    '/etc/hosts': 'f',
    '/home': 'd',
    '/lib': 'lusr/lib',
    '/mnt': 'd',
    '/opt': 'd',
    '/opt/conda': 'd',
    '/proc': 'd',
    '/root': 'd',
    '/srv': 'd',
    '/sys': 'd',
    '/tmp': 'd',
    '/usr': 'd',
    '/usr/bin': 'd',
    '/usr/lib': 'd',
    '/usr/local': 'd',
    '/var': 'd',
    '/var/lib': 'd',
    '/var/tmp': 'd',
  },
  passwd: 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n',
  group: 'root:x:0:\nnogroup:x:65534:\n',
  os: { id: 'debian', version: '12', name: 'Debian GNU/Linux 12' },
  libc: { kind: 'glibc', version: '2.36' },
  locales: ['C.UTF-8'],
  caBundle: '/etc/ssl/certs/ca-certificates.crt',
  mpi: [],
  ...changes,
});

const le = (value: number, bytes: number): string => {
  let text = '';
  for (let at = 0, rest = value; at < bytes; at++, rest = Math.floor(rest / 256)) text += String.fromCharCode(rest % 256);
  return text;
};

/** The first bytes of a SquashFS 4.0 file of `size` bytes, and zeros up to there. */
export const squash = (size = 4096): string =>
  `hsqs${'\0'.repeat(16)}${le(6, 2)}${'\0'.repeat(6)}${le(4, 2)}${le(0, 2)}${'\0'.repeat(8)}${le(size, 8)}`.padEnd(size, '\0');

/** What every host has. */
const HOST_FILES: Tree = {
  '/etc/passwd': 'root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000:Me Myself:/home/me:/bin/bash\n',
  '/etc/group': 'root:x:0:\nme:x:1000:\nproject:x:2000:me\n',
  '/etc/hosts': '127.0.0.1 localhost\n',
  '/etc/resolv.conf': 'nameserver 192.0.2.1\n',
  '/etc/localtime': link('/usr/share/zoneinfo/Europe/Berlin'),
  '/usr/share/zoneinfo/Europe/Berlin': 'TZif',
  '/home/me': directory(0o700, 1000),
  '/tmp': directory(0o1777),
  '/var/tmp': directory(0o1777),
  '/dev/fuse': device(),
  '/dev/null': device(),
  '/proc/self/cgroup': '0::/user.slice/session-1.scope\n',
  '/proc/self/ns/user': link('user:[4026531837]'),
  '/proc/self/ns/pid': link('pid:[4026531836]'),
};

export type World = Omit<MachineOptions, 'files' | 'args'> & {
  /** Added to what every host has; undefined takes something away. */
  readonly files?: Readonly<Record<string, string | Entry | undefined>>;
  readonly facts?: Partial<ImageFacts>;
  /** 'prepared' when asked again. */
  readonly input?: string;
};

/** The machine of a start; the image is /images/x.sqfs, with its facts in the store. */
export const worldOf = (command: string | readonly string[], world: World = {}): Machine => {
  const words = typeof command === 'string' ? command.split(' ') : command;
  const chosen: [string, string | Entry | undefined][] = Object.entries({ ...HOST_FILES, '/images/x.sqfs': squash(), ...world.files });
  const files = Object.fromEntries(chosen.flatMap(([path, entry]) => (entry === undefined ? [] : [[path, entry] as const])));
  const env = { HOME: '/home/me', TSRUN_STORE: '/store', ...world.env };
  const options = { ...world, args: ['tsrun', ...words], env, cwd: world.cwd === undefined ? '/home/me' : world.cwd };
  const stat = machine({ ...options, files }).stat('/images/x.sqfs');
  if (failed(stat)) return machine({ ...options, files });
  // An entry that is added last does not change the inode numbers of the others.
  const key = fileKey(stat);
  const text = file(factsJson(facts(world.facts)));
  const stored = Object.fromEntries(['/store', '/home/me/.cache/tsrun'].map((store) => [`${store}/facts/${key}.json`, text]));
  return machine({ ...options, files: { ...files, ...stored } });
};

export type Planned = {
  readonly ops: readonly Op[];
  readonly machine: Machine;
};

/** Plans `tsrun COMMAND`; throws what planning throws. `IMG` in the command stands for the image. */
export const planned = (command: string | readonly string[], world: World = {}): Planned => {
  const words = (typeof command === 'string' ? command.split(' ') : command).map((word) => (word === 'IMG' ? '/images/x.sqfs' : word));
  const host = worldOf(words, world);
  const answer = plan(host, world.input ?? '');
  if (answer.kind !== 'plan') throw new Error(`no plan but ${JSON.stringify(answer)}`);
  return { ops: answer.plan.ops, machine: host };
};

export const opsOf = <Name extends OpName>({ ops }: Planned, name: Name): readonly OpOf<Name>[] =>
  ops.filter((op) => op.op === name) as unknown as readonly OpOf<Name>[];

export const only = <Name extends OpName>(run: Planned, name: Name): OpOf<Name> => {
  const [first, ...more] = opsOf(run, name);
  if (first === undefined || more.length > 0) throw new Error(`${more.length + (first === undefined ? 0 : 1)} ops "${name}"`);
  return first;
};

/** "source -> target flags" of the op with this target, but for the advice "own"; undefined when nothing is mounted there. */
export const mountedAt = (run: Planned, target: string): string | undefined => {
  const names: readonly OpName[] = ['bind', 'bind_cwd', 'tmpfs', 'proc', 'sysfs', 'devpts', 'mqueue'];
  const op = run.ops.find((each) => names.includes(each.op) && 'target' in each && each.target === target);
  if (op === undefined) return undefined;
  if (op.op === 'bind') return `${op.source} ${op.flags.filter((flag) => flag !== 'own').join(',')}`.trim();
  return op.op;
};

export const fileAt = (run: Planned, target: string): string | undefined => opsOf(run, 'file').find((op) => op.target === target)?.content;

/** Of the program that is started, with what the launcher passes of its own. */
export const envOf = (run: Planned): Readonly<Record<string, string>> => {
  const { variables } = only(run, 'env');
  const passed = opsOf(run, 'environ').flatMap(({ leftOut }) => [...inherited(run.machine, leftOut, variables)]);
  return Object.fromEntries([...passed, ...variables].map(([name, { value }]) => [name, value]));
};

export const argsOf = (run: Planned): readonly string[] => opsOf(run, 'arg').map((op) => op.text);

export const noticesOf = (run: Planned): readonly string[] => opsOf(run, 'notice').map((op) => op.text);

/** The code of the TsrunError that `work` throws. */
export const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof Error && 'code' in error) return String(error.code);
    throw error;
  }
  return 'no error';
};

/** Its whole text. */
export const errorOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof Error && 'why' in error) return `${error.message} | ${String('hint' in error ? error.hint : '')}`;
    throw error;
  }
  return 'no error';
};
