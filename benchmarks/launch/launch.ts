/**
 * What does it cost to start a program in an image? Beside a bare fork and exec of the same program, and what bubblewrap and Charliecloud take for it.
 *
 *     node benchmarks/launch/launch.ts [--rounds N] [--out FILE]
 *
 * Run as root it measures as an ordinary user, and can also measure with 300 more mounts on the host and beside container engines. Needs cc and
 * busybox; bwrap, ch-run, mksquashfs (for ch-run on a SquashFS file), crun, podman and apptainer where there are any.
 */
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { scratch } from '../../test/helpers/product.ts';
import { machineFacts } from '../lib/machine.ts';
import { median } from '../lib/measure.ts';
import { settler } from '../lib/settle.ts';
import { callersEnvironment, compile, makePlace, OWN_TRUE } from './place.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '200' }, out: { type: 'string' } } });
const rounds = Number(values.rounds);
const out = resolve(values.out ?? join(import.meta.dirname, '../results/launch.json'));

const place = makePlace('launch');
const own = makePlace('launch-own', OWN_TRUE);
const { user } = place;
const spawner = join(place.path, 'spawn_times');
const unshare = join(place.path, 'unshare_exec');
compile(join(import.meta.dirname, 'spawn_times.c'), spawner);
compile(join(import.meta.dirname, 'unshare_exec.c'), unshare);

type Goal = { readonly beside: string; readonly times?: number };
type Case = { readonly name: string; readonly words: readonly string[] | undefined; readonly goals?: readonly Goal[] };
type Group = {
  readonly title: string;
  readonly rounds: number;
  readonly cases: readonly Case[];
  /** What root does in a mount namespace made for the group, before the user's starts; and after them, as the user. */
  readonly before?: string;
  readonly after?: readonly string[];
  readonly cold?: true;
};

const BARE = 'bare fork and exec';
const TSRUN = 'tsrun, SIF';
const BWRAP = 'bwrap, directory';
const CH_RUN = 'ch-run, directory';
const CH_RUN_SQUASH = 'ch-run, SquashFS';
const UNSHARE = 'unshare and exec';
const SAME_CALL = 'tsrun, the same call';
const OTHER_CALL = 'tsrun, another call';

const bare: Case = { name: BARE, words: place.bare };
const besideBare = { goals: [{ beside: BARE }] };
/** Where the runtime directories lie: in memory, as a login has its own (systemd makes /run/user/UID so), and on disk, as one in /tmp may. */
const IN_MEMORY = scratch('launch-memory', '/dev/shm');
const ON_DISK = scratch('launch-disk');
/** A runtime directory of each round's own: the scope's first start. env(1) stands between on every side. */
const alone = (runtimes: string, words: readonly string[] | undefined): readonly string[] | undefined =>
  words === undefined ? undefined : ['/usr/bin/env', `XDG_RUNTIME_DIR=${runtimes}/%`, ...words];
const firstStarts = (where: string, runtimes: string): Group => ({
  title: `first start of a scope, runtime directory ${where} (with env in between on all sides)`,
  rounds: Math.min(rounds, 100),
  cold: true,
  cases: [
    { name: BARE, words: alone(runtimes, place.bare) },
    {
      name: TSRUN,
      words: alone(runtimes, place.tsrun()),
      goals: [
        { beside: BARE, times: 8 },
        { beside: CH_RUN_SQUASH, times: 0.5 },
      ],
    },
    { name: CH_RUN_SQUASH, words: alone(runtimes, place.chRunSquash), ...besideBare },
  ],
});
const mountCases = [
  bare,
  { name: UNSHARE, words: [unshare, ...place.bare], ...besideBare },
  { name: TSRUN, words: place.tsrun(), goals: [{ beside: BARE }, { beside: BWRAP }] },
  { name: BWRAP, words: place.bwrap, ...besideBare },
];
/** Mounts below /mnt, which no run shows: what lies in a directory that is shown with its mounts has to be copied again by whoever shows it. */
const moreMounts = (count: number): string => {
  const more = '/mnt/more';
  return `mount -t tmpfs tmpfs /mnt; i=0; while [ $i -lt ${count} ]; do mkdir -p ${more}/$i; mount -t tmpfs -o size=4k more ${more}/$i; i=$((i+1)); done`;
};
/** crun refuses machines that have control groups of both versions. */
const ONE_CGROUP_VERSION = 'umount /sys/fs/cgroup/unified 2>/dev/null';
const DIFFERENT = 'every call another one: bind, environment, directory';
const FEW = 'mounts of the host as they are';
const MANY = '300 more mounts on the host';

const groups: readonly Group[] = [
  {
    title: 'warm',
    rounds,
    cases: [
      bare,
      {
        name: TSRUN,
        words: place.tsrun(),
        goals: [{ beside: BARE, times: 3 }, { beside: BWRAP, times: 0.5 }, { beside: CH_RUN }, { beside: CH_RUN_SQUASH, times: 0.17 }],
      },
      { name: 'tsrun, directory', words: place.tsrunDirectory, goals: [{ beside: BARE }, { beside: BWRAP }] },
      { name: BWRAP, words: place.bwrap, ...besideBare },
      { name: CH_RUN, words: place.chRun, ...besideBare },
      { name: CH_RUN_SQUASH, words: place.chRunSquash, ...besideBare },
    ],
  },
  {
    title: "warm, the machine's own true with its C library",
    rounds,
    cases: [
      { name: BARE, words: own.bare },
      {
        name: TSRUN,
        words: own.tsrun(),
        goals: [{ beside: BARE, times: 3 }, { beside: BWRAP, times: 0.5 }, { beside: CH_RUN }, { beside: CH_RUN_SQUASH, times: 0.17 }],
      },
      { name: BWRAP, words: own.bwrap, ...besideBare },
      { name: CH_RUN, words: own.chRun, ...besideBare },
      { name: CH_RUN_SQUASH, words: own.chRunSquash, ...besideBare },
    ],
  },
  {
    title: DIFFERENT,
    rounds: Math.max(rounds, 500),
    cases: [
      bare,
      { name: UNSHARE, words: [unshare, ...place.bare], ...besideBare },
      {
        name: SAME_CALL,
        words: place.tsrun('-B', '/usr/share:/mnt/same', '--env', 'ROUND=0', '--pwd', '/var'),
        ...besideBare,
      },
      {
        name: OTHER_CALL,
        words: place.tsrun('-B', '/usr/share:/mnt/%', '--env', 'ROUND=%', '--pwd', '/var'),
        goals: [{ beside: SAME_CALL }],
      },
    ],
  },
  firstStarts('in memory', IN_MEMORY),
  firstStarts('on disk', ON_DISK),
  {
    title: 'container engines',
    rounds: Math.min(rounds, 20),
    before: ONE_CGROUP_VERSION,
    ...(place.podman === undefined ? {} : { after: [...place.podman.slice(0, place.podman.indexOf('run')), 'system', 'migrate'] }),
    cases: [
      bare,
      { name: TSRUN, words: place.tsrun(), goals: [{ beside: 'crun' }, { beside: 'podman' }, { beside: 'apptainer' }] },
      { name: 'crun', words: place.crun, ...besideBare },
      { name: 'podman', words: place.podman, ...besideBare },
      { name: 'apptainer', words: place.apptainer, ...besideBare },
    ],
  },
];

/** Measured in turns, since they are compared. */
const mountGroups: readonly Group[] = [
  { title: FEW, rounds, before: ':', cases: mountCases },
  { title: MANY, rounds, before: moreMounts(300), cases: mountCases },
];
const TURNS = 5;
/** Waited in all, at most. */
const SETTLE_SECONDS = 60;
/**
 * A warm start is the last of so many of the same command, as in a loop and as other tools measure (hyperfine): what other programs have left in the processor's
 * caches, and to the kernel as work, is nearly gone by then. The first of them tells what a start takes right after another program.
 */
const IN_A_ROW = 5;

type Start = { readonly wall: number; readonly cpu: number; readonly wallAfterOthers: number };
type Ratio = { readonly beside: string; readonly ratio: number; readonly goal?: number };
type Result = {
  readonly group: string;
  readonly name: string;
  readonly medianMs: number;
  readonly leastMs: number;
  readonly cpuMs: number;
  /** Right after another program. */
  readonly afterOthersMs?: number;
  /** Each the median of the rounds' ratios. */
  readonly ratios: readonly Ratio[];
};

const milliseconds = (nanoseconds: number): number => Math.round(nanoseconds / 1e3) / 1e3;
const hundredths = (value: number): number => Math.round(value * 100) / 100;

/** Below a mount namespace that ends with the group. */
const surrounded = (words: readonly string[], { before = ':', after = ['true'] }: Group): readonly string[] => {
  const asUser = `/usr/bin/setpriv --reuid ${user.uid} --regid ${user.gid} --clear-groups`;
  const script = `${before}; ${asUser} "$@"; status=$?; ${asUser} ${after.join(' ')}; exit $status`;
  return ['/usr/bin/unshare', '--mount', '/bin/sh', '-c', script, 'sh', ...words];
};

const casesOf = (group: Group): readonly Case[] => group.cases.filter(({ words }) => words !== undefined);

/** The starts of each case. */
const runGroup = (group: Group, times: number): readonly (readonly Start[])[] => {
  const cases = casesOf(group);
  const inARow = group.cold === true ? 1 : IN_A_ROW;
  const words = [spawner, String(times), String(inARow), ...cases.flatMap((each) => ['--', ...(each.words ?? [])])];
  const asRoot = process.getuid?.() === 0;
  const own = group.before !== undefined;
  const [program = '', ...args] = own ? surrounded(words, group) : words;
  const ran = spawnSync(program, args, {
    env: callersEnvironment({ TSRUN_LINGER: '5' }),
    cwd: user.home,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...(asRoot && !own ? { uid: user.uid, gid: user.gid } : {}),
  });
  if (ran.status !== 0) throw new Error(`${group.title}: ${ran.stderr}`);
  const starts = cases.map((): Start[] => []);
  let wallAfterOthers = Number.NaN;
  for (const line of ran.stdout.trim().split('\n')) {
    const [index = 0, wall = 0, userTime = 0, system = 0, turn = 0] = line.split(' ').map(Number);
    if (turn === 0) wallAfterOthers = wall;
    if (turn === inARow - 1) starts[index]?.push({ wall, cpu: (userTime + system) * 1000, wallAfterOthers });
  }
  // The first one of each warms caches and, for tsrun, starts the scope.
  return starts.map((each) => (group.cold === true ? each : each.slice(1)));
};

const resultsOf = (group: Group, counted: readonly (readonly Start[])[]): readonly Result[] => {
  const cases = casesOf(group);
  return cases.map(({ name, goals = [] }, at) => {
    const taken = counted[at] ?? [];
    const ofBoth = (other: readonly Start[], time: (start: Start) => number): number =>
      hundredths(median(taken.map((start, round) => time(start) / (other[round] === undefined ? Number.NaN : time(other[round])))));
    const afterOthers = ({ wallAfterOthers }: Start): number => wallAfterOthers;
    return {
      group: group.title,
      name,
      medianMs: milliseconds(median(taken.map(({ wall }) => wall))),
      leastMs: milliseconds(Math.min(...taken.map(({ wall }) => wall))),
      cpuMs: milliseconds(median(taken.map(({ cpu }) => cpu))),
      ...(group.cold === true ? {} : { afterOthersMs: milliseconds(median(taken.map(afterOthers))) }),
      ratios: goals.flatMap(({ beside, times }): Ratio[] => {
        const other = counted[cases.findIndex((each) => each.name === beside)];
        if (other === undefined) return [];
        const ratio = ofBoth(other, ({ wall }) => wall);
        const more = group.cold === true ? {} : { afterOthers: ofBoth(other, afterOthers) };
        return [{ beside, ratio, ...more, ...(times === undefined ? {} : { goal: times }) }];
      }),
    };
  });
};

const verdict = ({ ratio, goal }: Ratio): string => (goal === undefined ? '' : `goal ${goal}: ${ratio <= goal ? 'met' : 'NOT met'}`);

const show = (result: Result): string => {
  const figures = [result.medianMs, result.leastMs, result.cpuMs, result.afterOthersMs]
    .map((value) => (value?.toFixed(2) ?? '').padStart(8))
    .join('');
  const ratios = result.ratios.map((each) => `${each.ratio.toFixed(2)} x ${each.beside}`.padEnd(28) + verdict(each));
  const lines = ratios.length === 0 ? [''] : ratios;
  return lines.map((text, at) => (at === 0 ? `  ${result.name.padEnd(22)}${figures}  ${text}` : `${' '.repeat(58)}${text}`)).join('\n');
};

for (const runtimes of [IN_MEMORY, ON_DISK]) {
  for (let round = 0; round < Math.min(rounds, 100); round++) {
    // With tsrun's own directory in it, which stays there from the user's first start on a machine on.
    const directory = join(runtimes, String(round));
    mkdirSync(join(directory, 'tsrun'), { recursive: true, mode: 0o700 });
    if (process.getuid?.() === 0) for (const path of [directory, join(directory, 'tsrun')]) chownSync(path, user.uid, user.gid);
  }
}

const machine = machineFacts();
if (machine.load > machine.cores)
  process.stderr.write(`the load is ${machine.load} on ${machine.cores} cores: times mean little, ratios some\n`);
process.stdout.write(`  ${'milliseconds'.padEnd(22)}${['median', 'least', 'CPU', 'others'].map((word) => word.padStart(8)).join('')}\n`);
const results: Result[] = [];
const tell = (group: Group, counted: readonly (readonly Start[])[]): void => {
  process.stdout.write(`${group.title}\n`);
  for (const result of resultsOf(group, counted)) {
    results.push(result);
    process.stdout.write(`${show(result)}\n`);
  }
};
/** What a group leaves behind (servers that linger, work for the kernel) is over before the next one begins. */
const settling = settler(SETTLE_SECONDS);
for (const group of groups) {
  await settling.begin();
  if (group.before === undefined || process.getuid?.() === 0) tell(group, runGroup(group, group.rounds));
  else process.stdout.write(`${group.title}: left out, making mounts needs root\n`);
}
await settling.begin();
if (process.getuid?.() === 0) {
  const turns = Array.from({ length: TURNS }, () => mountGroups.map((group) => runGroup(group, Math.ceil(group.rounds / TURNS) + 1)));
  for (const [at, group] of mountGroups.entries())
    tell(
      group,
      casesOf(group).map((_, index) => turns.flatMap((turn) => turn[at]?.[index] ?? [])),
    );
}

const medianOf = (group: string, name: string): number =>
  results.find((each) => each.group === group && each.name === name)?.medianMs ?? Number.NaN;

/** A call with other mounts needs a mount namespace of its own, which the same call does not: what a bare unshare takes is the kernel's share. */
const kernels = medianOf(DIFFERENT, UNSHARE) - medianOf(DIFFERENT, BARE);
const differentCalls: Ratio = {
  beside: SAME_CALL,
  ratio: hundredths((medianOf(DIFFERENT, OTHER_CALL) - kernels) / medianOf(DIFFERENT, SAME_CALL)),
  goal: 1.1,
};
process.stdout.write(
  `  another call, without the ${kernels.toFixed(2)} ms of a bare unshare, beside the same call: ${differentCalls.ratio.toFixed(2)} x  ${verdict(differentCalls)}\n`,
);
const mounts: Ratio = { beside: 'tsrun with few mounts', ratio: hundredths(medianOf(MANY, TSRUN) / medianOf(FEW, TSRUN)), goal: 1.1 };
if (!Number.isNaN(mounts.ratio)) process.stdout.write(`  ${MANY}: ${mounts.ratio.toFixed(2)} x  ${verdict(mounts)}\n`);
mkdirSync(dirname(out), { recursive: true });
writeFileSync(
  out,
  `${JSON.stringify({ benchmark: 'launch', machine, waitedSeconds: settling.result().waitedSeconds, rounds, results, differentCalls, mounts }, undefined, 2)}\n`,
);
