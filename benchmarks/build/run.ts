/**
 * What does a build from a recipe cost?
 *
 *     node benchmarks/build/run.ts [--rounds N] [--data DIR] [--out FILE]
 *
 * 1. A Debian with numpy, beside mmdebstrap alone, which only writes a tar file of the same packages.
 * 2. The same recipe again after its last step was changed.
 * 3. `apt-get install` of twenty packages, once with one id and a record of owners, once with ranges of /etc/subuid.
 *
 * Needs mmdebstrap and mirrors that can be reached; run as an ordinary user with ranges in /etc/subuid and /etc/subgid.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
// biome-ignore lint/correctness/useImportExtensions: it takes the declarations for the module
import { machineAptOptions, machineSources } from '../../scripts/apt-sources.mjs';
import { machineFacts } from '../lib/machine.ts';
import { median } from '../lib/measure.ts';

const GOALS = { besideMmdebstrap: 1.3, cachedSeconds: 3, recording: 1.1 } as const;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    data: { type: 'string', default: join(tmpdir(), 'tsrun-bench-build') },
    out: { type: 'string' },
  },
});

const rounds = Number(values.rounds);
const place = resolve(values.data);
const tsrun = resolve(import.meta.dirname, '../../bin/tsrun');
const say = (text: string): boolean => process.stderr.write(`${text}\n`);

type Line = { readonly text: string; readonly seconds: number };
/** `lines`: of stderr, with the time since the start at which each came. */
type Ran = { readonly seconds: number; readonly lines: readonly Line[] };

/** @throws Error when it fails */
const timed = async (program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> => {
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  const child = spawn(program, args, { cwd: place, stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } });
  const lines: Line[] = [];
  createInterface(child.stderr).on('line', (text) => lines.push({ text, seconds: seconds() }));
  const status = await new Promise<number | null>((done) => child.on('close', done));
  if (status !== 0)
    throw new Error(
      `${program} ${args.join(' ')} ended with ${status}\n${lines
        .slice(-50)
        .map(({ text }) => text)
        .join('\n')}`,
    );
  return { seconds: seconds(), lines };
};

let stores = 0;
/** Nothing of an earlier build; `ids`: "single" or "ranges". */
const fresh = (ids?: string): Record<string, string> => {
  const own = join(place, `store${++stores}`);
  return { TSRUN_STORE: own, TSRUN_TMPDIR: own, ...(ids === undefined ? {} : { TSRUN_BUILD_IDS: ids }) };
};

const build = (recipe: string, env: Readonly<Record<string, string>>, ...more: readonly string[]): Promise<Ran> =>
  timed(tsrun, ['build', '-F', ...more, join(place, 'out.sif'), join(place, recipe)], env);

const cleanUp = (): void => {
  // What was made with ranges of ids belongs to them.
  for (let at = 1; at <= stores; at++)
    if (existsSync(join(place, `store${at}`)))
      execFileSync('unshare', ['--user', '--map-root-user', '--map-auto', 'rm', '-rf', join(place, `store${at}`)]);
};

const { suite, lines } = machineSources();
const options = machineAptOptions();
const PACKAGES = ['python3', 'python3-numpy'];
const TWENTY = 'bc bzip2 dc ed figlet file gawk jq less libarchive-tools m4 make nano patch psmisc rsync time tree unzip vim-tiny zip'
  .split(' ')
  .slice(0, 20);

const mmdebstrap = (to: string, include: readonly string[], hook: readonly string[] = []): Promise<Ran> =>
  timed('mmdebstrap', [
    '--variant=minbase',
    ...(include.length === 0 ? [] : [`--include=${include.join(',')}`]),
    ...options.map((line) => `--aptopt=${line}`),
    ...hook,
    suite,
    to,
    ...lines,
  ]);

mkdirSync(place, { recursive: true });
const base = join(place, 'base.tar');
if (!existsSync(base)) await mmdebstrap(base, []);
const full = join(place, 'archives.tar');
// Downloads are not what is measured: the base brings the packages along.
if (!existsSync(full)) {
  const fetch = `chroot "$1" sh -c 'apt-get update && apt-get install -y -d --no-install-recommends ${TWENTY.join(' ')}'`;
  await mmdebstrap(full, [], ['--skip=cleanup/apt', `--customize-hook=${fetch}`]);
}

const install = `apt-get update && apt-get install -y --no-install-recommends ${PACKAGES.join(' ')} && rm -rf /var/lib/apt/lists/*`;
const stamp = (number: number): void =>
  writeFileSync(join(place, 'numpy.Dockerfile'), `FROM tar:${base}\nRUN ${install}\nRUN echo ${number} > /stamp\n`);
writeFileSync(
  join(place, 'twenty.Dockerfile'),
  `FROM tar:${full}\nRUN true\nRUN apt-get install -y --no-install-recommends ${TWENTY.join(' ')}\n`,
);

type Sample = Readonly<Record<string, number>>;

/** How long step `number` took, the keeping of what it made included: from the line of the step before to its own. */
const stepSeconds = ({ lines: told }: Ran, number: number): number => {
  const over = (step: number): number => {
    // The last line of a step is the one that tells its end; those before it tell what is under way.
    const line = told.findLast(({ text }) => text.startsWith(`tsrun: [${step}/`));
    if (line === undefined) throw new Error(`no word of step ${step} in\n${told.map(({ text }) => text).join('\n')}`);
    return line.seconds;
  };
  return over(number) - over(number - 1);
};

const samples: Sample[] = [];
const machine = machineFacts();
for (let round = 1; round <= rounds; round++) {
  const alone = await mmdebstrap(join(place, 'numpy.tar'), PACKAGES);
  const env = fresh();
  stamp(2 * round);
  const whole = await build('numpy.Dockerfile', env);
  const bootstrap = await timed('mmdebstrap', [
    '--variant=minbase',
    ...options.map((line) => `--aptopt=${line}`),
    suite,
    join(place, 'again.tar'),
    ...lines,
  ]);
  stamp(2 * round + 1);
  const cached = await build('numpy.Dockerfile', env);
  const recorded = await build('twenty.Dockerfile', fresh('single'), '--no-cache');
  const ranges = await build('twenty.Dockerfile', fresh('ranges'), '--no-cache');
  const sample = {
    mmdebstrap: alone.seconds,
    // The base is made by mmdebstrap: its time belongs to the recipe's.
    recipe: bootstrap.seconds + whole.seconds,
    cachedRebuild: cached.seconds,
    cachedStep: stepSeconds(cached, 2),
    installRecorded: stepSeconds(recorded, 2),
    installRanges: stepSeconds(ranges, 2),
  };
  samples.push(sample);
  say(
    `${round}/${rounds} ${Object.entries(sample)
      .map(([name, seconds]) => `${name} ${seconds.toFixed(2)} s`)
      .join(', ')}`,
  );
  cleanUp();
}

const of = (pick: (sample: Sample) => number): number => median(samples.map(pick));
const number = (sample: Sample, name: string): number => sample[name] ?? Number.NaN;
const results = [
  {
    name: 'Debian and numpy: a base, the packages and a SIF, beside mmdebstrap alone',
    value: of((each) => number(each, 'recipe') / number(each, 'mmdebstrap')),
    goal: GOALS.besideMmdebstrap,
    unit: '×',
  },
  {
    name: 'after a change of the last step, without that step',
    value: of((each) => number(each, 'cachedRebuild') - number(each, 'cachedStep')),
    goal: GOALS.cachedSeconds,
    unit: 's',
  },
  {
    name: `apt-get install of ${TWENTY.length} packages with a record of owners, beside ranges of ids`,
    value: of((each) => number(each, 'installRecorded') / number(each, 'installRanges')),
    goal: GOALS.recording,
    unit: '×',
  },
];
for (const { name, value, goal, unit } of results)
  process.stdout.write(`${value <= goal ? 'met   ' : 'MISSED'} ${name}: ${value.toFixed(2)} ${unit} (goal: ${goal} ${unit})\n`);
if (values.out !== undefined)
  writeFileSync(values.out, `${JSON.stringify({ question: 'build', machine, rounds, samples, results }, undefined, 2)}\n`);
if (machine.load > machine.cores) say(`the machine was busy (load ${machine.load} on ${machine.cores} cores): times mean little`);
