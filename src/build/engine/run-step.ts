/** RUN, %post and the like: a program in the tree of a stage. */
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, statfs, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { StepSupply } from '../../lock/vendor.ts';
import { STEP_FILES, type StepMount, type StepProgram } from '../../plan/step.ts';
import type { Command, RunMount, Step } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';
import { makeDirectories } from '../../util/make-directories.ts';
import { type Account, accountOf } from './accounts.ts';
import type { Workplace } from './cache.ts';
import { type Engine, note } from './engine.ts';
import type { KeyPart } from './key.ts';
import { type HeldCaches, holdCaches } from './mount-caches.ts';
import { placeText } from './names.ts';
import { giveAway } from './native.ts';
import { runPlan } from './process.ts';
import { DEFAULT_PATH, type StageState, variablesOf } from './stage-state.ts';
import { accountsIn, type Tree, withPlan } from './tree.ts';

/** Files for a mount, and the key of what they are. */
export type CopiedFiles = {
  readonly key: string;
  /** May put what the step is shown below its workplace. */
  readonly source: (place: Workplace) => Promise<{ path: string; isFile: boolean }>;
};

/** A mount whose words have been expanded and whose source has been found. */
export type ReadyMount =
  | ({ readonly type: 'bind'; readonly target: string; readonly readWrite: boolean } & CopiedFiles)
  | (Omit<Extract<RunMount, { type: 'cache' }>, 'id' | 'target' | 'from' | 'source'> & {
      readonly id: string;
      readonly target: string;
      /** What a new one holds. */
      readonly begin: CopiedFiles | undefined;
    })
  | (Omit<Extract<RunMount, { type: 'ssh' }>, 'target'> & { readonly target: string })
  | { readonly type: 'tmpfs'; readonly target: string; readonly size: number | undefined }
  | (Extract<RunMount, { type: 'secret' }> & { readonly path: string });

export type RunStep = Extract<Step, { kind: 'run' }>;

const SCRIPT = `${STEP_FILES}/script`;
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

/** Runs it; returns its exit status. */
export const runProgram = async (
  engine: Engine,
  step: RunStep,
  tree: Tree,
  state: StageState,
  epoch: number,
  mounts: readonly ReadyMount[],
  place: Workplace,
  onLine: (stream: 'stdout' | 'stderr', line: string) => void,
): Promise<number> => {
  const caches = await holdCaches(engine, mounts, place);
  try {
    const { ended, ...given } = await givenTo(engine, step, tree, state, epoch, mounts, caches, place);
    const status = await withPlan(engine, tree, { ...given, place, network: networkOf(engine, step) }, (plan) =>
      runPlan(plan, { signal: engine.signal, onLine }),
    ).finally(ended);
    if (status === 0 && networkOf(engine, step) === 'host') await engine.options.supply?.left(place.files, await tree.base.directory());
    return status;
  } finally {
    await caches.release();
  }
};

/** A shell in the terminal, in the state in which the step failed. */
export const debugShell = async (
  engine: Engine,
  step: RunStep,
  tree: Tree,
  state: StageState,
  epoch: number,
  mounts: readonly ReadyMount[],
  place: Workplace,
): Promise<void> => {
  const caches = await holdCaches(engine, mounts, place);
  try {
    const { ended, ...given } = await givenTo(engine, step, tree, state, epoch, mounts, caches, place);
    const term = engine.options.terminal;
    const environment = new Map([
      ...given.program.environment,
      ...(term === undefined ? [] : [['TERM', term] as const]),
      ['PS1', 'tsrun build> '],
    ]);
    const program = { ...given.program, file: '/bin/sh', argv: ['sh', '-i'], environment };
    // What the step has changed is there; the kernel takes the other half of a `volatile` overlay only once.
    const again = { ...place, work: `${place.path}/shell` };
    await makeDirectories(again.work, 0o755);
    await withPlan(engine, tree, { ...given, program, place: again, network: networkOf(engine, step) }, (plan) =>
      runPlan(plan, { signal: engine.signal, onLine: () => {}, terminal: true }),
    ).finally(ended);
  } finally {
    await caches.release();
  }
};

/** Offline it is as if the recipe had said so; the key of the step's result stays the same. */
const networkOf = ({ options }: Engine, step: RunStep): RunStep['network'] => (options.offline === true ? 'none' : step.network);

const stageOf = ({ spec }: Engine, step: RunStep): number => {
  const found = spec.stages.findIndex((stage) => stage.steps.includes(step));
  return found < 0 ? spec.target : found;
};

const givenTo = async (
  engine: Engine,
  step: RunStep,
  tree: Tree,
  state: StageState,
  epoch: number,
  mounts: readonly ReadyMount[],
  caches: HeldCaches,
  workplace: Workplace,
): Promise<{ readonly program: StepProgram; readonly mounts: readonly StepMount[]; readonly ended: () => Promise<void> }> => {
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
  for (const [name, value] of supply?.environment ?? []) environment.set(name, value);
  if (engine.ids.kind === 'single' || supply !== undefined) {
    // apt would become another user for its downloads and then look whether it did; and what is kept is to stay the caller's.
    const content = `APT::Sandbox::User "root";\n${supply?.aptConfig ?? ''}`;
    ready.push({ kind: 'file', target: APT_CONFIG, mode: 0o644, content, why: 'how apt works in a build' });
    if (!environment.has('APT_CONFIG')) environment.set('APT_CONFIG', APT_CONFIG);
  }
  if (step.command.form === 'script') {
    ready.push({ kind: 'file', target: SCRIPT, mode: 0o755, content: step.command.text, why: 'the text of the step' });
  }
  const argv = argvOf(step.command, state.shell);
  const user = account === ROOT ? undefined : { uid: account.uid, gid: account.gid, groups: account.groups };
  const program = { file: argv[0] ?? '', argv, environment, cwd: state.workdir, user };
  return { program, mounts: ready, ended: supply?.ended ?? (async () => {}) };
};

const suppliesOf = async (engine: Engine, step: RunStep, { path }: Workplace): Promise<StepSupply | undefined> => {
  const { supply } = engine.options;
  if (supply === undefined) return undefined;
  const scratch = `${path}/mounts/${randomBytes(4).toString('hex')}`;
  await makeDirectories(scratch, 0o755);
  return supply.given({ stage: stageOf(engine, step), scratch });
};

/** The step's own: it may change owner, mode and content (`chown -R /etc`), which nobody sees afterwards. Undefined: the host has no such file. */
const copyOfHost = async (path: string, { path: workplace }: Workplace): Promise<string | undefined> => {
  const directory = `${workplace}/mounts/${randomBytes(4).toString('hex')}`;
  const content = await readFile(path).catch(() => undefined);
  if (content === undefined) return undefined;
  await makeDirectories(directory, 0o755);
  const copy = `${directory}/${basename(path)}`;
  await writeFile(copy, content);
  await chmod(copy, 0o644);
  return copy;
};

const readyMount = async (
  engine: Engine,
  mount: ReadyMount,
  place: string,
  environment: Map<string, string>,
  caches: HeldCaches,
  workplace: Workplace,
): Promise<readonly StepMount[]> => {
  const target = mount.type === 'secret' ? mount.path : mount.target;
  switch (mount.type) {
    case 'bind': {
      const { path, isFile } = await mount.source(workplace);
      return [{ kind: 'bind', source: path, target, readOnly: !mount.readWrite, isFile, optional: false, why: place }];
    }
    case 'cache': {
      const directory = caches.directories.get(mount) ?? '';
      return [{ kind: 'bind', source: directory, target, readOnly: mount.readOnly, isFile: false, optional: false, why: place }];
    }
    case 'tmpfs':
      return [{ kind: 'tmpfs', target, size: mount.size ?? 0, mode: 0o1777, why: place }];
    case 'ssh':
      return agentMount(engine, mount, place, environment);
    case 'secret':
      return secretMount(engine, mount, target, place, environment, caches);
    default:
      return mount satisfies never;
  }
};

/** Without an agent the step goes on without it, unless it says that it needs one. */
const agentMount = (
  engine: Engine,
  { id, target, required }: Extract<ReadyMount, { type: 'ssh' }>,
  place: string,
  environment: Map<string, string>,
): readonly StepMount[] => {
  const source = engine.options.agents.get(id);
  if (source !== undefined) {
    environment.set('SSH_AUTH_SOCK', target);
    const directory = target.slice(0, target.lastIndexOf('/')) || '/';
    const own: readonly StepMount[] =
      directory === '/run/buildkit' ? [{ kind: 'tmpfs', target: directory, size: 0, mode: 0o755, why: place }] : [];
    return [...own, { kind: 'bind', source, target, readOnly: false, isFile: true, optional: false, why: place }];
  }
  if (!required) return [];
  throw new TsrunError({
    code: 'E_SECRET',
    what: `${place}: cannot give the SSH agent ${JSON.stringify(id)} to the step`,
    why: 'it was not given',
    hint: `add --ssh ${id}, with an agent running (ssh-agent; SSH_AUTH_SOCK)`,
  });
};

const secretMount = async (
  engine: Engine,
  mount: Extract<ReadyMount, { type: 'secret' }>,
  target: string,
  place: string,
  environment: Map<string, string>,
  caches: HeldCaches,
): Promise<readonly StepMount[]> => {
  const secret = engine.options.secrets.get(mount.id);
  if (secret === undefined) {
    if (!mount.required) return [];
    throw new TsrunError({
      code: 'E_SECRET',
      what: `${place}: cannot give the secret ${JSON.stringify(mount.id)} to the step`,
      why: 'it was not given',
      hint: `add --secret id=${mount.id},src=FILE`,
    });
  }
  const content = await engine.readSecret(secret);
  if (mount.env !== undefined) environment.set(mount.env, content.replace(/\n$/, ''));
  if (mount.env !== undefined && mount.target === undefined) return [];
  const directory = target.slice(0, target.lastIndexOf('/')) || '/';
  const owner = { uid: mount.uid, gid: mount.gid };
  const files: StepMount = { kind: 'file', target, mode: mount.mode, content, owner, why: place };
  // Nothing of it reaches a disk, or the image.
  if (directory === '/run/secrets') return [{ kind: 'tmpfs', target: directory, size: 0, mode: 0o755, why: place }, files];
  const source = await inMemory(engine, content, mount, place, caches);
  return [{ kind: 'bind', source, target, readOnly: true, isFile: true, optional: false, why: place }];
};

const MEMORY = '/dev/shm';
/** statfs(2) f_type of a tmpfs. */
const TMPFS = 0x01021994;

/** For the length of the step, a file that only this user can reach. */
const inMemory = async (
  engine: Engine,
  content: string,
  { id, mode, uid, gid }: Extract<ReadyMount, { type: 'secret' }>,
  place: string,
  { temporary }: HeldCaches,
): Promise<string> => {
  const refuse = (why: string): TsrunError =>
    new TsrunError({
      code: 'E_SECRET',
      what: `${place}: cannot show the secret ${JSON.stringify(id)} to the step without writing it to a disk`,
      why,
      hint: 'give it a target right below /run/secrets',
    });
  const kind = await statfs(MEMORY).catch(() => undefined);
  if (kind?.type !== TMPFS) throw refuse(`${MEMORY} is no memory`);
  const directory = await mkdtemp(`${MEMORY}/tsrun-secret-`).catch((error: Error) => {
    throw refuse(error.message);
  });
  temporary.push(directory);
  const path = `${directory}/secret`;
  await writeFile(path, Buffer.from(content, 'latin1'), { mode: 0o600 });
  await chmod(path, mode);
  if (engine.ids.kind === 'ranges' && (uid !== 0 || gid !== 0)) await giveAway(engine.ids, path, uid, gid);
  return path;
};
