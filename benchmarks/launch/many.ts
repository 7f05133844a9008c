/**
 * 256 starts at once on one image, as the ranks of a big step are: how much CPU does each take?
 *
 *     node benchmarks/launch/many.ts [--count N] [--rounds N] [--out FILE]
 *
 * CPU time is that of all started processes and what they waited for, and for tsrun that of the scope's server as well. `cold`: the first of them
 * has to start the server, and the others wait for it.
 */
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { machineFacts } from '../lib/machine.ts';
import { median } from '../lib/measure.ts';
import { callersEnvironment, compile, makePlace } from './place.ts';

const { values } = parseArgs({
  options: { count: { type: 'string', default: '256' }, rounds: { type: 'string', default: '5' }, out: { type: 'string' } },
});
const count = Number(values.count);
const rounds = Number(values.rounds);
const out = resolve(values.out ?? join(import.meta.dirname, '../results/launch-many.json'));

const place = makePlace('launch-many');
const spawner = join(place.path, 'spawn_many');
compile(join(import.meta.dirname, 'spawn_many.c'), spawner);

/** Microseconds of CPU of the user's server processes so far (proc_pid_stat(5): ticks in fields 14 and 15). */
const TICK_US = 10_000;
const serverCpu = (): number => {
  let ticks = 0;
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      if (statSync(`/proc/${pid}`).uid !== place.user.uid) {
        // The server is not dumpable: its files are root's, its uid stands in status.
        if (!new RegExp(`^Uid:\\s+${place.user.uid}\\s`, 'm').test(readFileSync(`/proc/${pid}/status`, 'latin1'))) continue;
      }
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      if (!stat.includes('(tsrun-')) continue;
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It has ended meanwhile.
    }
  }
  return ticks * TICK_US;
};

type Sample = { readonly wallMs: number; readonly cpuMs: number };
let runtimeDirectories = 0;

const measure = (words: readonly string[], cold: boolean): Sample => {
  const runtime = join(place.path, `run${cold ? runtimeDirectories++ : ''}`);
  mkdirSync(runtime, { recursive: true, mode: 0o700 });
  if (process.getuid?.() === 0) chownSync(runtime, place.user.uid, place.user.gid);
  const start = (words: readonly string[], times: number): string => {
    const ran = spawnSync(spawner, [String(times), ...words], {
      env: callersEnvironment({ TSRUN_LINGER: cold ? '0' : '30', XDG_RUNTIME_DIR: runtime }),
      cwd: place.user.home,
      encoding: 'utf8',
      ...(process.getuid?.() === 0 ? { uid: place.user.uid, gid: place.user.gid } : {}),
    });
    if (ran.status !== 0) throw new Error(`${words.join(' ')}: ${ran.stderr}`);
    return ran.stdout;
  };
  if (!cold) start(words, 1);
  const before = serverCpu();
  const [wall = 0, user = 0, system = 0] = start(words, count).split(' ').map(Number);
  const servers = Math.max(0, serverCpu() - before);
  return { wallMs: wall / 1e6 / count, cpuMs: (user + system + servers) / 1000 / count };
};

const BWRAP = 'bwrap, directory';
const cases = [
  { name: 'bare fork and exec', words: place.bare, cold: false },
  { name: 'tsrun, SIF', words: place.tsrun(), cold: false, goal: 1 },
  { name: 'tsrun, SIF, cold', words: place.tsrun(), cold: true },
  { name: 'tsrun, directory', words: place.tsrunDirectory, cold: false },
  { name: BWRAP, words: place.bwrap, cold: false },
  { name: 'ch-run, directory', words: place.chRun, cold: false },
  { name: 'ch-run, SquashFS', words: place.chRunSquash, cold: false },
].flatMap((each) => (each.words === undefined ? [] : [{ ...each, words: each.words, samples: [] as Sample[] }]));

const machine = machineFacts();
if (machine.load > machine.cores)
  process.stderr.write(`the load is ${machine.load} on ${machine.cores} cores: times mean little, ratios some\n`);
for (let round = 0; round < rounds; round++) for (const each of cases) each.samples.push(measure(each.words, each.cold));

const hundredths = (value: number): number => Math.round(value * 100) / 100;
const beside = cases.find(({ name }) => name === BWRAP);
const results = cases.map(({ name, samples, goal }) => {
  const ratio =
    beside === undefined
      ? undefined
      : hundredths(median(samples.map(({ cpuMs }, at) => cpuMs / (beside.samples[at]?.cpuMs ?? Number.NaN))));
  return {
    name,
    cpuMs: hundredths(median(samples.map(({ cpuMs }) => cpuMs))),
    wallMs: hundredths(median(samples.map(({ wallMs }) => wallMs))),
    ...(ratio === undefined ? {} : { besideBwrap: ratio }),
    ...(goal === undefined || ratio === undefined ? {} : { goal, met: ratio <= goal }),
  };
});
process.stdout.write(`${count} starts at once, milliseconds for each: CPU, wall; CPU beside bwrap\n`);
for (const { name, cpuMs, wallMs, besideBwrap, goal, met } of results) {
  const end =
    besideBwrap === undefined ? '' : `${besideBwrap.toFixed(2)} x${goal === undefined ? '' : `  goal ${goal}: ${met ? 'met' : 'NOT met'}`}`;
  process.stdout.write(`  ${name.padEnd(22)}${cpuMs.toFixed(2).padStart(8)}${wallMs.toFixed(2).padStart(8)}  ${end}\n`);
}
mkdirSync(dirname(out), { recursive: true });
writeFileSync(
  out,
  `${JSON.stringify({ benchmark: 'launch-many', machine, count, rounds, results, samples: cases.map(({ name, samples }) => ({ name, samples })) }, undefined, 2)}\n`,
);
