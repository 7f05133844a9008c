/** RUN, %post and the like: a program in the tree of a stage. */
import { randomBytes } from 'node:crypto';
import type { StepSupply } from '../../lock/vendor.ts';
import { STEP_FILES, type StepMount } from '../../plan/step.ts';
import type { Command, Step } from '../../recipe/spec.ts';
import { makeDirectories } from '../../util/make-directories.ts';
import { type Account, accountOf } from './accounts.ts';
import type { Workplace } from './cache.ts';
import { type Engine, note } from './engine.ts';
import type { KeyPart } from './key.ts';
import { type HeldCaches, holdCaches } from './mount-caches.ts';
import { placeText } from './names.ts';
import { runPlan, TOOL } from './process.ts';
import { DEFAULT_PATH, type StageState, variablesOf } from './stage-state.ts';
import { copyOfHost, type ReadyMount, readyMount } from './step-mounts.ts';
import { accountsIn, type InTree, lookAt, type Tree, withPlan } from './tree.ts';

export type RunStep = Extract<Step, { kind: 'run' }>;

const SCRIPT = `${STEP_FILES}/script`;
const COMMANDS = `${STEP_FILES}/bin`;
const APT_CONFIG = `${STEP_FILES}/apt.conf`;

const argvOf = (command: Command, shell: readonly string[]): readonly string[] => {
  switch (command.form) {
    case 'shell':
      return [...shell, command.text];
    case 'argv':
      return command.argv;
    case 'script':
      return [...command.interpreter, ...command.args, SCRIPT];
    default:
      return command satisfies never;
  }
};

/** All that can change what the step leaves behind. */
export const runKey = (
  step: RunStep,
  state: StageState,
  epoch: number,
  mounts: readonly ReadyMount[],
): { readonly [name: string]: KeyPart } => ({
  step: 'run',
  argv: argvOf(step.command, state.shell),
  script: step.command.form === 'script' ? step.command.text : undefined,
  environment: [...variablesOf(state)].map(([name, value]) => `${name}=${value}`),
  cwd: state.workdir,
  user: state.user,
  network: step.network,
  epoch,
  mounts: mounts.map((mount): KeyPart => {
    switch (mount.type) {
      case 'bind':
        return { type: 'bind', target: mount.target, key: mount.key };
      case 'cache':
        return { type: 'cache', id: mount.id, target: mount.target };
      case 'tmpfs':
        return { type: 'tmpfs', target: mount.target };
      case 'ssh':
        return { type: 'ssh', id: mount.id, target: mount.target };
      case 'secret':
        return { type: 'secret', id: mount.id, target: mount.path, env: mount.env };
      default:
        return mount satisfies never;
    }
  }),
});

const ROOT: Account = { uid: 0, gid: 0, name: 'root', home: '/root', groups: [] };

/** A step that is to run, and where. */
export type StepRun = {
  readonly engine: Engine;
  readonly step: RunStep;
  readonly tree: Tree;
  readonly state: StageState;
  readonly epoch: number;
  readonly mounts: readonly ReadyMount[];
  readonly place: Workplace;
};

type Given = Pick<InTree, 'program' | 'mounts' | 'network'>;

/** With its caches held, and what it was supplied with put away in the end. */
const inStep = async <T>(run: StepRun, carryOut: (given: Given) => Promise<T>): Promise<T> => {
  const caches = await holdCaches(run.engine, run.mounts, run.place);
  try {
    const { ended, ...given } = await givenTo(run, caches);
    return await carryOut(given).finally(ended);
  } finally {
    await caches.release();
  }
};

/** Runs it; returns its exit status. */
export const runProgram = async (run: StepRun, onLine: (stream: 'stdout' | 'stderr', line: string) => void): Promise<number> => {
  const { engine, step, tree, place } = run;
  const status = await inStep(run, (given) =>
    withPlan(engine, tree, { ...given, place }, (plan) => runPlan(plan, { signal: engine.signal, onLine })),
  );
  if (status === 0 && networkOf(engine, step) === 'host') await engine.options.supply?.left(place.files, await tree.base.directory());
  return status;
};

/** A shell in the terminal, in the state in which the step failed. */
export const debugShell = (run: StepRun): Promise<void> =>
  inStep(run, async (given) => {
    const { engine, tree, place } = run;
    const term = engine.options.terminal;
    const environment = new Map([
      ...given.program.environment,
      ...(term === undefined ? [] : [['TERM', term] as const]),
      ['PS1', 'tsrun build> '],
    ]);
    const program = { ...given.program, file: TOOL, argv: ['tsrun', '@tree', 'shell', '/bin/sh', '-i'], environment };
    // What the step has changed is there; the kernel takes the other half of a `volatile` overlay only once.
    const again = { ...place, work: `${place.path}/shell` };
    await makeDirectories(again.work, 0o755);
    await withPlan(engine, tree, { ...given, program, place: again }, (plan) =>
      runPlan(plan, { signal: engine.signal, onLine: () => {}, terminal: true }),
    );
  });

/** Offline it is as if the recipe had said so; the key of the step's result stays the same. */
const networkOf = ({ options }: Engine, step: RunStep): RunStep['network'] => (options.offline === true ? 'none' : step.network);

const stageOf = ({ spec }: Engine, step: RunStep): number => {
  const found = spec.stages.findIndex((stage) => stage.steps.includes(step));
  return found < 0 ? spec.target : found;
};

const givenTo = async (
  { engine, step, tree, state, epoch, mounts, place: workplace }: StepRun,
  caches: HeldCaches,
): Promise<Given & { readonly ended: () => Promise<void> }> => {
  const place = placeText(step.at);
  const account =
    state.user === '' || state.user === 'root' || state.user === '0' ? ROOT : accountOf(await accountsIn(engine, tree), state.user, place);
  if (account !== ROOT && engine.ids.kind === 'single' && !engine.count.userNoted) {
    engine.count.userNoted = true;
    note(
      engine,
      `${place}: there is one id only, so this and later steps run as root (with ids in /etc/subuid and /etc/subgid for you they would be others); the image will have the user ${state.user}`,
    );
  }
  const network = networkOf(engine, step);
  const ready: StepMount[] = [];
  const environment = new Map<string, string>([
    ['PATH', DEFAULT_PATH],
    ['HOME', account.home],
    ['SOURCE_DATE_EPOCH', String(epoch)],
    ...(network === 'host' ? engine.options.proxies : []),
    ...variablesOf(state),
  ]);
  for (const mount of mounts) ready.push(...(await readyMount(engine, mount, place, environment, caches, workplace)));
  if (network === 'host') {
    for (const path of ['/etc/resolv.conf', '/etc/hosts']) {
      const source = await copyOfHost(path, workplace);
      if (source !== undefined)
        ready.push({ kind: 'bind', source, target: path, readOnly: false, isFile: true, optional: true, why: "the host's network" });
    }
  }
  const supply = await suppliesOf(engine, step, workplace);
  for (const { source, target, readOnly, why } of supply?.mounts ?? [])
    ready.push({ kind: 'bind', source, target, readOnly, isFile: false, optional: false, why });
  for (const [name, value] of supply?.environment(environment) ?? []) environment.set(name, value);
  const commands = await commandsOf(engine, tree, supply, environment);
  for (const [name, content] of commands)
    ready.push({ kind: 'file', target: `${COMMANDS}/${name}`, mode: 0o755, content, why: 'what it fetches is kept (--vendor)' });
  if (commands.length > 0) environment.set('PATH', `${COMMANDS}:${environment.get('PATH')}`);
  // apt would become another user for its downloads, which one id does not allow, and give that user directories of the image, which is to be the
  // same with any ids. And what is kept of it (--vendor) is to stay the caller's.
  const content = `APT::Sandbox::User "root";\n${supply?.aptConfig ?? ''}`;
  ready.push({ kind: 'file', target: APT_CONFIG, mode: 0o644, content, why: 'how apt works in a build' });
  if (!environment.has('APT_CONFIG')) environment.set('APT_CONFIG', APT_CONFIG);
  if (step.command.form === 'script') {
    ready.push({ kind: 'file', target: SCRIPT, mode: 0o755, content: step.command.text, why: 'the text of the step' });
  }
  const argv = argvOf(step.command, state.shell);
  const user = account === ROOT ? undefined : { uid: account.uid, gid: account.gid, groups: account.groups };
  const program = { file: argv[0] ?? '', argv, environment, cwd: state.workdir, user };
  return { program, mounts: ready, network, ended: supply?.ended ?? (async () => {}) };
};

const suppliesOf = async (engine: Engine, step: RunStep, { path }: Workplace): Promise<StepSupply | undefined> => {
  const { supply } = engine.options;
  if (supply === undefined) return undefined;
  const scratch = `${path}/mounts/${randomBytes(4).toString('hex')}`;
  await makeDirectories(scratch, 0o755);
  return supply.given({ stage: stageOf(engine, step), scratch });
};

/** The text of each command that stands before one which the step's PATH leads to. */
const commandsOf = async (
  engine: Engine,
  tree: Tree,
  supply: StepSupply | undefined,
  environment: ReadonlyMap<string, string>,
): Promise<readonly (readonly [name: string, content: string])[]> => {
  const directories = (environment.get('PATH') ?? '').split(':').filter((path) => path.startsWith('/'));
  const wanted = [...(supply?.commands ?? [])].flatMap(([name, script]) =>
    directories.map((directory) => ({ name, script, program: `${directory}/${name}` })),
  );
  const found = await lookAt(
    engine,
    tree,
    wanted.map(({ program }) => program),
  );
  const commands = new Map<string, string>();
  for (const [at, { name, script, program }] of wanted.entries()) {
    const file = found[at];
    if (file?.type === 'f' && (file.mode & 0o111) !== 0 && !commands.has(name)) commands.set(name, script({ program, behind: file.path }));
  }
  return [...commands];
};
