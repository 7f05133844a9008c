/** RUN --mount: words expanded, sources found. What comes from another stage or image is unpacked for the step, since a tree of layers has no place on the host. */
import { stat } from 'node:fs/promises';
import { excludeRules } from '../../recipe/ignore.ts';
import type { RunMount, Word } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';
import { cleanPath } from '../../util/paths.ts';
import type { OtherTree } from './copy-step.ts';
import type { Engine } from './engine.ts';
import { digestOfSources, type Finding, findSources } from './host-files.ts';
import { placeText } from './names.ts';
import type { ReadyMount, RunStep } from './run-step.ts';

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
        case 'cache':
          return { type: 'cache', id: expand(mount.id), target: at(mount.target), readOnly: mount.readOnly, mode: mount.mode };
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
  _other: OtherTree,
): Promise<ReadyMount> => {
  const source = expand(mount.source);
  if (mount.from.kind !== 'context' || mount.readWrite) {
    throw new TsrunError({
      code: 'E_RECIPE_UNSUPPORTED',
      what: `${placeText(step.at)}: cannot mount ${JSON.stringify(source)}`,
      why: mount.readWrite ? 'writable mounts of the context are not supported' : 'only files of the context can be mounted',
      hint: 'copy the files with COPY first',
    });
  }
  const finding: Finding = {
    root: engine.options.context,
    start: engine.options.context,
    manner: 'docker',
    ignore: engine.options.ignore,
    exclude: excludeRules([]),
    place: placeText(step.at),
  };
  const sources = await findSources([source === '' ? '.' : source], finding);
  const absolute = sources[0]?.files[0]?.absolute ?? engine.options.context;
  const isFile = !(await stat(Buffer.from(absolute, 'latin1'))).isDirectory();
  return {
    type: 'bind',
    target,
    readWrite: false,
    key: await digestOfSources(sources, finding, engine.signal),
    source: async () => ({ path: absolute, isFile }),
  };
};
