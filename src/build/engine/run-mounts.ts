/** RUN --mount: words expanded, sources found. What comes from another stage or image is copied for the step, since a tree of layers has no place on the host. */
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { excludeRules } from '../../recipe/ignore.ts';
import { type Origin, PLAIN_COPY, type RunMount, type Word } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';
import { makeDirectories } from '../../util/make-directories.ts';
import { cleanPath } from '../../util/paths.ts';
import { scratchBase } from './base.ts';
import type { Workplace } from './cache.ts';
import { type CopyStep, contextOf, copyFiles, type OtherTree, readyCopy } from './copy-step.ts';
import type { Engine } from './engine.ts';
import { digestOfSources, type Finding, findSources } from './host-files.ts';
import { keyOf } from './key.ts';
import { placeText } from './names.ts';
import type { RunStep } from './run-step.ts';
import type { CopiedFiles, ReadyMount } from './step-mounts.ts';

export const readyMounts = (
  engine: Engine,
  step: RunStep,
  workdir: string,
  expand: (word: Word) => string,
  other: OtherTree,
): Promise<readonly ReadyMount[]> =>
  Promise.all(
    step.mounts.map(async (mount): Promise<ReadyMount> => {
      const at = (word: Word): string => {
        const text = expand(word);
        return cleanPath(text.startsWith('/') ? text : `${workdir}/${text}`);
      };
      switch (mount.type) {
        case 'bind':
          return bindMount(engine, step, mount, at(mount.target), expand, other);
        case 'cache': {
          const { from, source, ...rest } = mount;
          const begin = from === undefined ? undefined : await copied(engine, step, { from, source }, expand, other);
          // What a cache began with stays with its name: from another beginning another one comes.
          const id = `${expand(mount.id)}${begin === undefined ? '' : `@${begin.key.slice(0, 16)}`}`;
          return { ...rest, id, begin, target: at(mount.target) };
        }
        case 'ssh':
          return { ...mount, target: at(mount.target) };
        case 'tmpfs':
          return { type: 'tmpfs', target: at(mount.target), size: mount.size };
        case 'secret':
          return { ...mount, path: mount.target === undefined ? `/run/secrets/${mount.id}` : at(mount.target) };
        default:
          return mount satisfies never;
      }
    }),
  );

const bindMount = async (
  engine: Engine,
  step: RunStep,
  mount: Extract<RunMount, { type: 'bind' }>,
  target: string,
  expand: (word: Word) => string,
  other: OtherTree,
): Promise<ReadyMount> => {
  const source = expand(mount.source);
  // What is shown as it lies: read-only files of the context. All else is copied for the step, which may then change it.
  if (mount.from.kind !== 'context' || mount.readWrite)
    return { type: 'bind', target, readWrite: mount.readWrite, ...(await copied(engine, step, mount, expand, other)) };
  const finding: Finding = {
    ...contextOf(engine, mount.from),
    start: engine.options.context,
    manner: 'docker',
    outputs: engine.options.outputs,
    exclude: excludeRules([]),
    place: placeText(step.at),
    onNothing: () => {
      throw nothing(step, source);
    },
  };
  const sources = await findSources([source === '' ? '.' : source], finding);
  const absolute = sources[0]?.files[0]?.absolute ?? finding.root;
  const isFile = !(await stat(Buffer.from(absolute, 'latin1'))).isDirectory();
  return {
    type: 'bind',
    target,
    readWrite: false,
    key: await digestOfSources(sources, finding, engine.signal),
    source: async () => ({ path: absolute, isFile }),
  };
};

const COPIED = 'copied';

const copied = async (
  engine: Engine,
  { at, title }: RunStep,
  mount: { readonly from: Origin; readonly source: Word },
  expand: (word: Word) => string,
  other: OtherTree,
): Promise<CopiedFiles> => {
  const source = expand(mount.source);
  const copy: CopyStep = {
    kind: 'copy',
    at,
    title,
    from: mount.from,
    sources: [[source === '' ? '/' : source]],
    destination: [`/${COPIED}`],
    manner: 'docker',
    ...PLAIN_COPY,
  };
  const ready = await readyCopy(engine, copy, '/', expand, other);
  return {
    key: keyOf(ready.key),
    source: async (place) => {
      const own = `${place.path}/mounts/${randomBytes(4).toString('hex')}`;
      const into: Workplace = { ...place, files: `${own}/files`, work: `${own}/work`, owners: `${own}/owners` };
      for (const directory of [into.files, into.work]) await makeDirectories(directory, 0o755);
      await copyFiles(engine, ready, { base: scratchBase(engine), layers: [] }, into, 0);
      const path = `${into.files}/${COPIED}`;
      const found = await stat(path).catch(() => undefined);
      if (found === undefined) throw nothing({ at }, source);
      return { path, isFile: !found.isDirectory() };
    },
  };
};

/** COPY may go without what a pattern does not match; a mount may not. */
const nothing = ({ at }: Pick<RunStep, 'at'>, source: string): TsrunError =>
  new TsrunError({
    code: 'E_COPY_SOURCE',
    what: `${placeText(at)}: cannot mount ${JSON.stringify(source)}`,
    why: 'there is no such file in what it is taken from',
    hint: 'check the name after source=',
  });
