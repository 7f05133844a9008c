/** What a step is shown besides its tree: mounts of the recipe, secrets, files of the host. */
import { randomBytes } from 'node:crypto';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { STEP_FILES, type StepMount } from '../../plan/step.ts';
import type { RunMount } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';
import { makeDirectories } from '../../util/make-directories.ts';
import type { Workplace } from './cache.ts';
import type { Engine } from './engine.ts';
import type { HeldCaches } from './mount-caches.ts';

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

/** Variables that a secret or an agent sets are added to `environment`. */
export const readyMount = async (
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
      return secretMount(engine, mount, target, place, environment);
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
  // In memory of the run's own: nothing of it reaches a disk, or the image, and nothing is left of it, however the run ends.
  if (directory === '/run/secrets') {
    const files: StepMount = { kind: 'file', target, mode: mount.mode, content, owner, why: place };
    return [{ kind: 'tmpfs', target: directory, size: 0, mode: 0o755, why: place }, files];
  }
  const file = `${STEP_FILES}/secret-${randomBytes(4).toString('hex')}`;
  return [
    { kind: 'file', target: file, mode: mount.mode, content, owner, why: place },
    { kind: 'shown', file, target, why: place },
  ];
};

/** The step's own: it may change owner, mode and content (`chown -R /etc`), which nobody sees afterwards. Undefined: the host has no such file. */
export const copyOfHost = async (path: string, { path: workplace }: Workplace): Promise<string | undefined> => {
  const directory = `${workplace}/mounts/${randomBytes(4).toString('hex')}`;
  const content = await readFile(path).catch(() => undefined);
  if (content === undefined) return undefined;
  await makeDirectories(directory, 0o755);
  const copy = `${directory}/${basename(path)}`;
  await writeFile(copy, content);
  await chmod(copy, 0o644);
  return copy;
};
