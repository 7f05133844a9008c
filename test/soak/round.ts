/** One soak, as the first program of PID and mount namespaces of its own: whatever is in them at the end was left behind. Started by start.ts. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { allProcesses } from '../helpers/processes.ts';
import { type Call, callOf, make, plainCall } from './calls.ts';
import { type Chance, chanceOf } from './chance.ts';
import { doHarm } from './harm.ts';
import { processesLeft, rolesNow, tooMuchOpen, whatIsLeft } from './left.ts';
import { type Caller, makePlace, type Place } from './place.ts';

const LANES = 6;
const BURST_MS = 4000;
/** The longest daemon, then the longest linger time, on a machine where others want the processor, too. */
const QUIET_MS = 40_000;

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** Calls and harm for a while; what was wrong. */
const burst = async (chance: Chance, place: Place): Promise<{ readonly calls: number; readonly wrong: readonly string[] }> => {
  const end = Date.now() + BURST_MS;
  const wrong: string[] = [];
  let calls = 0;
  const lane = async (own: Chance): Promise<void> => {
    for (let call: Call; Date.now() < end; calls++) {
      call = callOf(own, place);
      const why = await make(call, place);
      if (why !== undefined) wrong.push(why);
    }
  };
  const harm = async (own: Chance): Promise<void> => {
    while (Date.now() < end) await doHarm(own, place);
  };
  await Promise.all([...Array.from({ length: LANES }, (_, i) => lane(chance.fork(`lane ${i}`))), harm(chance.fork('harm'))]);
  return { calls, wrong };
};

/** Waits until there is nothing of that; what there is at the end. */
const untilNothing = async (left: () => readonly string[]): Promise<readonly string[]> => {
  for (const end = Date.now() + QUIET_MS; left().length > 0 && Date.now() < end; ) await sleep(100);
  return left();
};

const main = async (): Promise<number> => {
  const { values } = parseArgs({
    options: { seed: { type: 'string' }, seconds: { type: 'string' }, as: { type: 'string' }, kernel: { type: 'string', default: '' } },
  });
  const seed = Number(values.seed);
  const place = makePlace(values.as as Caller, values.kernel);
  const before = new Set(allProcesses());
  const mounts = readFileSync('/proc/self/mountinfo', 'latin1');
  const end = Date.now() + Number(values.seconds) * 1000;
  let calls = 0;
  for (let number = 0; number === 0 || Date.now() < end; number++) {
    const done = await burst(chanceOf(seed + number), place);
    calls += done.calls;
    const roles = rolesNow();
    // Most servers are still there; what they have let go of just now may take them a moment to unmount.
    const open = await untilNothing(tooMuchOpen);
    const left = [...(await untilNothing(() => processesLeft(before)))];
    // What killed servers have left is removed by the next ones.
    const last = await Promise.all(place.runtimes.map((scope) => make(plainCall(scope, place), place)));
    left.push(...last.filter((why) => why !== undefined), ...(await untilNothing(() => whatIsLeft(place, before, mounts))));
    console.log(`burst ${number}: ${done.calls} calls; then ${roles}`);
    for (const [what, lines] of Object.entries({ wrong: done.wrong, 'open without need': open, left })) {
      for (const line of lines) console.log(`${what}: ${line}`);
    }
    if (done.wrong.length + open.length + left.length > 0) {
      for (const directory of place.runtimes.map((runtime) => join(runtime, 'tsrun')).filter(existsSync)) {
        for (const name of readdirSync(directory)) if (name.endsWith('.log')) console.log(readFileSync(join(directory, name), 'utf8'));
      }
      console.log(`FAILED with --seed ${seed + number}`);
      return 1;
    }
  }
  console.log(`${calls} calls, nothing left`);
  return 0;
};

process.exitCode = await main();
