/**
 * What does tsrun keep in memory, and what does it cost when nobody asks it anything? Processes left beside the payload, the memory of a scope's server after an import and a
 * walk through everything, and a job on one core beside an idle server.
 *
 *     node benchmarks/read/memory.ts [--short] [--rounds N] [--out FILE]
 *
 * As root, see import.ts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { nameOf, neighboursOf, textOf, ticksOf } from '../../test/helpers/processes.ts';
import { environmentOf } from '../../test/helpers/product.ts';
import { testUser } from '../../test/helpers/user.ts';
import { openBench, type Question } from './report.ts';
import { directory, IMPORT, leave, makePlace, timeWithin, tsrun } from './sides.ts';

const bench = await openBench('memory', { warm: 9, cold: 0 }, { warm: 3, cold: 0 });
const place = makePlace(bench.data, 'memory');
const served = tsrun(place);
const beside = directory(place);
const user = testUser();

/** Runs a script in the image; resolves when it has said "ready", and then waits for its standard input. */
const start = async (script: string): Promise<ChildProcess> => {
  const [program = '', ...args] = served.enter(['/bin/sh', '-c', `${script}; echo ready; read line`]);
  const env = environmentOf({ env: served.env() });
  const child = spawn(program, args, { uid: user.uid, gid: user.gid, cwd: '/tmp', env, stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise<void>((done, fail) => {
    child.stdout?.on('data', (chunk) => String(chunk).includes('ready') && done());
    child.on('exit', (status) => fail(new Error(`the run ended with ${status}`)));
  });
  return child;
};

/** Shared pages counted in parts. */
const megabytesOf = (pid: number): number => Number(/^Pss:\s+(\d+)/m.exec(textOf(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) / 1e3;
const question = (
  title: string,
  unit: string,
  values: Readonly<Record<string, number>>,
  goal?: { of: string; beside: string; atMost: number },
): Question => ({
  title,
  unit,
  measured: Object.entries(values).map(([side, value]) => ({ side, samples: [value] })),
  goals: goal === undefined ? [] : [goal],
});

served.renew();
const fresh = await start('true');
const servers = neighboursOf(fresh.pid ?? 0);
const strangers = servers.filter((pid) => !nameOf(pid).startsWith('tsrun-'));
bench.tell(question('processes beside one payload', 'count', { server: servers.length - strangers.length, other: strangers.length }));
const sum = (): number => servers.reduce((total, pid) => total + megabytesOf(pid), 0);
const atRest = sum();
const quoted = IMPORT.map((word) => `'${word}'`).join(' ');
const second = await start(
  `${quoted}; find /usr -size +100000k; cat /usr/lib/python3/dist-packages/*/*.py >/dev/null; cat /opt/large >/dev/null`,
);
bench.tell(
  question(
    'memory of the server',
    'MB',
    { 'at rest': atRest, 'after reading everything': sum(), 'goal: 16 MiB and the cache': 16.8 + 67.1 },
    { of: 'after reading everything', beside: 'goal: 16 MiB and the cache', atMost: 1 },
  ),
);

const JOB = ['/usr/bin/python3', '-I', '-S', '-c', 'sum(i * i for i in range(6_000_000))'];
const before = servers.reduce((total, pid) => total + ticksOf(pid), 0);
await bench.ask({
  title: 'a one-core job beside an idle server',
  unit: 's',
  sides: [{ ...beside, name: 'job, with an idle server' }],
  rounds: bench.rounds.warm,
  once: (side) => timeWithin(side, JOB),
  goals: [],
});
const ticks = servers.reduce((total, pid) => total + ticksOf(pid), 0) - before;
for (const run of [fresh, second]) {
  const ended = new Promise((done) => run.on('exit', done));
  run.removeAllListeners('exit');
  run.on('exit', () => undefined);
  run.stdin?.end('\n');
  void ended;
}
bench.tell(question('CPU time of the idle server meanwhile', 'hundredths of a second', { server: ticks }));

leave(place, [served, beside]);
bench.finish();
