/**
 * What does it cost to start a program in an image? Beside a bare fork and exec of the same program, and bubblewrap on the same tree.
 *
 *     node benchmarks/launch/launch.ts [--rounds N] [--out FILE]
 *
 * Run as root it measures as an ordinary user, and can also measure with 300 more mounts on the host. Needs cc, busybox, bwrap (left out when missing).
 */
import { spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { environmentOf, makeBusyboxImage, scratch, tsrunPath } from '../../test/helpers/product.ts';
import { testUser } from '../../test/helpers/user.ts';
import { machineFacts } from '../lib/machine.ts';
import { median } from '../lib/measure.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '200' }, out: { type: 'string' } } });
const rounds = Number(values.rounds);
const top = resolve(import.meta.dirname, '../..');
const out = resolve(values.out ?? join(top, 'benchmarks/results/launch.json'));

const place = scratch('launch');
const user = testUser();
const image = makeBusyboxImage(place);
const tree = join(place, 'tree');
const spawner = join(place, 'spawn_times');

type Case = {
  readonly name: string;
  readonly words: readonly string[];
  /** What it is compared with; a case of the same group. */
  readonly beside?: string;
  /** At most this many times as long. */
  readonly goal?: number;
};

type Group = { readonly title: string; readonly rounds: number; readonly cases: readonly Case[]; readonly mounts?: number };

const bare: Case = { name: 'bare fork and exec', words: [join(tree, 'bin/busybox'), 'true'] };
const exec = (...options: string[]): readonly string[] => [tsrunPath, 'exec', ...options, image, '/bin/true'];

const bwrap = ['/usr/bin/bwrap', '--bind', tree, '/', '--dev-bind', '/dev', '/dev', '--proc', '/proc', '--ro-bind', '/sys', '/sys'];
const bubblewrap: Case = {
  name: 'bwrap, directory',
  words: [
    ...bwrap,
    '--bind',
    '/tmp',
    '/tmp',
    '--bind',
    '/var/tmp',
    '/var/tmp',
    '--tmpfs',
    '/home',
    '--bind',
    user.home,
    user.home,
    '/bin/true',
  ],
  beside: bare.name,
};

const inRuntimeDirectory = (...words: string[]): readonly string[] => ['/usr/bin/env', `XDG_RUNTIME_DIR=${place}/run/%`, ...words];

const groups: readonly Group[] = [
  {
    title: 'warm',
    rounds,
    cases: [
      bare,
      { name: 'tsrun, SIF', words: exec(), beside: bare.name, goal: 3 },
      { name: 'tsrun, directory', words: [tsrunPath, 'exec', tree, '/bin/true'], beside: bare.name },
      ...(existsSync(bwrap[0] ?? '') ? [bubblewrap] : []),
    ],
  },
  {
    title: 'every call another one: bind, environment, directory',
    rounds: Math.max(rounds, 500),
    cases: [
      bare,
      {
        name: 'tsrun, SIF, the same call',
        words: exec('-B', '/usr/share:/mnt/same', '--env', 'ROUND=0', '--pwd', '/var'),
        beside: bare.name,
      },
      {
        name: 'tsrun, SIF, another call',
        words: exec('-B', '/usr/share:/mnt/%', '--env', 'ROUND=%', '--pwd', '/var'),
        beside: 'tsrun, SIF, the same call',
        goal: 1.1,
      },
    ],
  },
  {
    title: 'first start of a scope (with env in between on both sides)',
    rounds: Math.min(rounds, 100),
    cases: [
      { name: 'bare, through env', words: inRuntimeDirectory(...bare.words) },
      { name: 'tsrun, SIF, first', words: inRuntimeDirectory(...exec()), beside: 'bare, through env', goal: 8 },
    ],
  },
  {
    title: '300 more mounts on the host',
    rounds,
    mounts: 300,
    cases: [
      bare,
      { name: 'unshare --user --mount', words: ['/usr/bin/unshare', '--user', '--mount', ...bare.words], beside: bare.name },
      { name: 'tsrun, SIF', words: exec(), beside: bare.name },
    ],
  },
];

type Start = { readonly wall: number; readonly cpu: number };
type Result = {
  readonly group: string;
  readonly name: string;
  readonly medianMs: number;
  readonly leastMs: number;
  readonly cpuMs: number;
  /** Median of each round's ratio. */
  readonly ratio?: number;
  readonly beside?: string;
  readonly goal?: number;
};

const milliseconds = (nanoseconds: number): number => Math.round(nanoseconds / 1e3) / 1e3;

/** Mounts of the group's own, in a mount namespace that ends with it. */
const surrounded = (words: readonly string[], mounts: number): readonly string[] => {
  const make = `i=0; while [ $i -lt ${mounts} ]; do mkdir -p ${place}/mounts/$i; mount -t tmpfs -o size=4k more ${place}/mounts/$i; i=$((i+1)); done`;
  const drop = ['/usr/bin/setpriv', '--reuid', String(user.uid), '--regid', String(user.gid), '--clear-groups'];
  return ['/usr/bin/unshare', '--mount', '/bin/sh', '-c', `${make}; exec "$@"`, 'sh', ...drop, ...words];
};

const runGroup = (group: Group): readonly Result[] => {
  const words = [spawner, String(group.rounds), ...group.cases.flatMap((each) => ['--', ...each.words])];
  const asRoot = process.getuid?.() === 0;
  const mounts = group.mounts ?? 0;
  const [program = '', ...args] = mounts > 0 ? surrounded(words, mounts) : words;
  const ran = spawnSync(program, args, {
    env: environmentOf({ env: { TSRUN_LINGER: '5' } }),
    cwd: user.home,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...(asRoot && mounts === 0 ? { uid: user.uid, gid: user.gid } : {}),
  });
  if (ran.status !== 0) throw new Error(`${group.title}: ${ran.stderr}`);
  const starts = group.cases.map((): Start[] => []);
  for (const line of ran.stdout.trim().split('\n')) {
    const [index = 0, wall = 0, userTime = 0, system = 0] = line.split(' ').map(Number);
    starts[index]?.push({ wall, cpu: (userTime + system) * 1000 });
  }
  // The first one of each warms caches and, for tsrun, starts the scope.
  const warm = starts.map((each) => (group.title.startsWith('first') ? each : each.slice(1)));
  return group.cases.map(({ name, beside, goal }, at) => {
    const own = warm[at] ?? [];
    const other = warm[group.cases.findIndex((each) => each.name === beside)];
    const ratio = other === undefined ? undefined : median(own.map(({ wall }, round) => wall / (other[round]?.wall ?? Number.NaN)));
    return {
      group: group.title,
      name,
      medianMs: milliseconds(median(own.map(({ wall }) => wall))),
      leastMs: milliseconds(Math.min(...own.map(({ wall }) => wall))),
      cpuMs: milliseconds(median(own.map(({ cpu }) => cpu))),
      ...(ratio === undefined ? {} : { ratio: Math.round(ratio * 100) / 100 }),
      ...(beside === undefined ? {} : { beside }),
      ...(goal === undefined ? {} : { goal }),
    };
  });
};

const show = (result: Result): string => {
  const verdict = result.goal === undefined || result.ratio === undefined ? '' : result.ratio <= result.goal ? 'met' : 'NOT met';
  const ratio = result.ratio === undefined ? '' : `${result.ratio.toFixed(2)} x ${result.beside}`;
  const goal = result.goal === undefined ? '' : `goal ${result.goal}: ${verdict}`;
  const figures = [result.medianMs, result.leastMs, result.cpuMs].map((value) => value.toFixed(2).padStart(8)).join('');
  return `  ${result.name.padEnd(28)}${figures}  ${ratio.padEnd(36)}${goal}`;
};

const compiled = spawnSync('cc', ['-O2', '-o', spawner, join(import.meta.dirname, 'spawn_times.c')], { encoding: 'utf8' });
if (compiled.status !== 0) throw new Error(compiled.stderr);
mkdirSync(join(place, 'run'));
for (let round = 0; round < Math.min(rounds, 100); round++) {
  const directory = join(place, 'run', String(round));
  mkdirSync(directory, { mode: 0o700 });
  if (process.getuid?.() === 0) chownSync(directory, user.uid, user.gid);
}

const machine = machineFacts();
if (machine.load > machine.cores)
  process.stderr.write(`the load is ${machine.load} on ${machine.cores} cores: times mean little, ratios some\n`);
process.stdout.write(`  ${'milliseconds'.padEnd(28)}${['median', 'least', 'CPU'].map((word) => word.padStart(8)).join('')}\n`);
const results: Result[] = [];
for (const group of groups) {
  if (group.mounts !== undefined && process.getuid?.() !== 0) {
    process.stdout.write(`${group.title}: left out, making mounts needs root\n`);
    continue;
  }
  process.stdout.write(`${group.title}\n`);
  for (const result of runGroup(group)) {
    results.push(result);
    process.stdout.write(`${show(result)}\n`);
  }
}
mkdirSync(dirname(out), { recursive: true });
writeFileSync(out, `${JSON.stringify({ benchmark: 'launch', machine, rounds, results }, undefined, 2)}\n`);
