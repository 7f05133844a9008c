/**
 * What does a build from a recipe cost?
 *
 *     node benchmarks/build/run.ts [--case whole|cached|install]… [--rounds N] [--data DIR] [--out FILE]
 *
 * whole    a definition file (Bootstrap: debootstrap, which is mmdebstrap's work, too; numpy in %post), beside mmdebstrap alone, which writes a tar file of
 *          the same packages of the same mirror
 * cached   the same recipe again after its last step was changed
 * install  `apt-get install` of twenty packages, once with one id and a record of owners, once with ranges of /etc/subuid
 *
 * Needs mmdebstrap and mirrors that can be reached; run as an ordinary user with ranges in /etc/subuid and /etc/subgid. What the cases stand on
 * (bases with their packages, the finished first build of `cached`) is made once, and stays in DIR.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
// biome-ignore lint/correctness/useImportExtensions: it takes the declarations for the module
import { machineAptOptions, machineSources } from '../../scripts/apt-sources.mjs';
import { machineFacts } from '../lib/machine.ts';
import { median } from '../lib/measure.ts';

const CASES = ['whole', 'cached', 'install'] as const;
type Case = (typeof CASES)[number];

const { values } = parseArgs({
  options: {
    case: { type: 'string', multiple: true, default: [...CASES] },
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
const fresh = (ids?: string): Record<string, string> => inStore(`store${++stores}`, ids);

const inStore = (name: string, ids?: string): Record<string, string> => {
  const own = join(place, name);
  return { TSRUN_STORE: own, TSRUN_TMPDIR: own, ...(ids === undefined ? {} : { TSRUN_BUILD_IDS: ids }) };
};

const build = (recipe: string, env: Readonly<Record<string, string>>, ...more: readonly string[]): Promise<Ran> =>
  timed(tsrun, ['build', '-F', ...more, join(place, 'out.sif'), join(place, recipe)], env);

const cleanUp = (): void => {
  // What was made with ranges of ids belongs to them.
  for (; stores > 0; stores--)
    execFileSync('unshare', ['--user', '--map-root-user', '--map-auto', 'rm', '-rf', join(place, `store${stores}`)]);
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

/** A tar file that is there, or is made; whole or not at all. */
const archive = async (name: string, make: (to: string) => Promise<Ran>): Promise<string> => {
  const path = join(place, name);
  if (existsSync(path)) return path;
  say(`making ${path}`);
  await make(join(place, `new-${name}`));
  renameSync(join(place, `new-${name}`), path);
  return path;
};

/** One that mmdebstrap reaches as it is: what a recipe names has no settings of apt. */
const mirror = (): string => {
  const found = lines.flatMap((line) => new RegExp(`(http://\\S+) ${suite} main$`).exec(line)?.[1] ?? [])[0];
  if (found === undefined) throw new Error('apt has no mirror of http');
  return found;
};

const INSTALL = `apt-get update && apt-get install -y --no-install-recommends ${PACKAGES.join(' ')} && rm -rf /var/lib/apt/lists/*`;

/** From nothing. */
const definition = (): void =>
  writeFileSync(join(place, 'numpy.def'), `Bootstrap: debootstrap\nOSVersion: ${suite}\nMirrorURL: ${mirror()}\n\n%post\n  ${INSTALL}\n`);

const minimal = (): Promise<string> => archive('base.tar', (to) => mmdebstrap(to, []));

/** Downloads are not what is measured: the base brings the packages along. */
const withArchives = (): Promise<string> => {
  const fetch = `chroot "$1" sh -c 'apt-get update && apt-get install -y -d --no-install-recommends ${TWENTY.join(' ')}'`;
  return archive('archives.tar', (to) => mmdebstrap(to, [], ['--skip=cleanup/apt', `--customize-hook=${fetch}`]));
};

const numpyRecipe = async (stamp: number): Promise<string> => {
  const text = `FROM tar:${await minimal()}\nRUN ${INSTALL}\nRUN echo ${stamp} > /stamp\n`;
  writeFileSync(join(place, 'numpy.Dockerfile'), text);
  return 'numpy.Dockerfile';
};

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

type Sample = Readonly<Record<string, number>>;

type Question = {
  readonly name: string;
  readonly goal: number;
  readonly unit: string;
  /** Once, before anything is timed. */
  readonly ready: () => Promise<unknown>;
  /** One after the other; each round begins with another. */
  readonly sides: readonly (() => Promise<Sample>)[];
  readonly value: (sample: Sample) => number;
};

const at = (sample: Sample, name: string): number => sample[name] ?? Number.NaN;

const QUESTIONS: Readonly<Record<Case, Question>> = {
  whole: {
    name: 'Debian and numpy: a base, the packages and a SIF, beside mmdebstrap alone',
    goal: 1.3,
    unit: '×',
    ready: async () => definition(),
    sides: [
      async () => {
        const command = ['--variant=minbase', `--include=${PACKAGES.join(',')}`, suite, join(place, 'numpy.tar'), mirror()];
        return { mmdebstrap: (await timed('mmdebstrap', command)).seconds };
      },
      async () => ({ recipe: (await build('numpy.def', fresh())).seconds }),
    ],
    value: (sample) => at(sample, 'recipe') / at(sample, 'mmdebstrap'),
  },
  cached: {
    name: 'after a change of the last step, without that step',
    goal: 3,
    unit: 's',
    ready: async () => build(await numpyRecipe(0), inStore('kept')),
    sides: [
      async () => {
        const cached = await build(await numpyRecipe(Date.now()), inStore('kept'));
        return { cachedRebuild: cached.seconds, cachedStep: stepSeconds(cached, 2) };
      },
    ],
    value: (sample) => at(sample, 'cachedRebuild') - at(sample, 'cachedStep'),
  },
  install: {
    name: `apt-get install of ${TWENTY.length} packages with a record of owners, beside ranges of ids`,
    goal: 1.1,
    unit: '×',
    ready: async () => {
      const install = `apt-get install -y --no-install-recommends ${TWENTY.join(' ')}`;
      writeFileSync(join(place, 'twenty.Dockerfile'), `FROM tar:${await withArchives()}\nRUN true\nRUN ${install}\n`);
    },
    sides: [
      async () => ({ installRecorded: stepSeconds(await build('twenty.Dockerfile', fresh('single')), 2) }),
      async () => ({ installRanges: stepSeconds(await build('twenty.Dockerfile', fresh('ranges')), 2) }),
    ],
    value: (sample) => at(sample, 'installRecorded') / at(sample, 'installRanges'),
  },
};

const chosen = CASES.filter((name) => values.case.includes(name)).map((name) => QUESTIONS[name]);
if (chosen.length === 0) throw new Error(`no such case; there are ${CASES.join(', ')}`);
mkdirSync(place, { recursive: true });
const machine = machineFacts();
for (const { ready } of chosen) await ready();

const samples: Sample[] = [];
for (let round = 1; round <= rounds; round++) {
  let sample: Sample = {};
  for (const { sides } of chosen) {
    const first = round % sides.length;
    for (const side of [...sides.slice(first), ...sides.slice(0, first)]) sample = { ...sample, ...(await side()) };
  }
  samples.push(sample);
  const told = Object.entries(sample).map(([name, seconds]) => `${name} ${seconds.toFixed(2)} s`);
  say(`${round}/${rounds} ${told.join(', ')}`);
  cleanUp();
}

const results = chosen.map(({ name, goal, unit, value }) => ({ name, value: median(samples.map(value)), goal, unit }));
for (const { name, value, goal, unit } of results)
  process.stdout.write(`${value <= goal ? 'met   ' : 'MISSED'} ${name}: ${value.toFixed(2)} ${unit} (goal: ${goal} ${unit})\n`);
if (values.out !== undefined)
  writeFileSync(values.out, `${JSON.stringify({ question: 'build', machine, rounds, samples, results }, undefined, 2)}\n`);
if (machine.load > machine.cores) say(`the machine was busy (load ${machine.load} on ${machine.cores} cores): times mean little`);
