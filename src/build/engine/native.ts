/** What the native program does for a build outside of a step: unpacking a base, a layer as an archive, removing what only root inside may remove. */
import type { LayerSource } from '../../oci/layer.ts';
import type { StepIds } from '../../plan/step.ts';
import type { TarHandler } from '../../tar/read.ts';
import { nativeProgram } from '../../util/native-program.ts';
import { childOutput } from '../child-stream.ts';
import type { SquashFile } from '../squash-file.ts';
import type { Layer } from './cache.ts';
import type { Engine } from './engine.ts';
import { feedRole, runRole } from './process.ts';

/** The arguments that say whose ids there are; none: the caller's only. */
const idArguments = (ids: StepIds): readonly string[] =>
  ids.kind === 'single' ? [] : ['-u', ids.uidMap, '-g', ids.gidMap, '-U', ids.newuidmap, '-G', ids.newgidmap];

/** A tar stream over what is in the directory, with its owners; whiteouts take away. */
export const unpackArchive = async (engine: Engine, directory: string, archive: AsyncIterable<Uint8Array>, what: string): Promise<void> =>
  feedRole(['@layer', 'unpack', ...idArguments(engine.ids), directory], archive, what, engine.signal);

/** The files of a SquashFS into an empty directory, with their owners. */
export const unpackSquash = async (engine: Engine, { path, offset, size }: SquashFile, directory: string): Promise<number> => {
  await runRole(
    ['@layer', 'unpack-image', ...idArguments(engine.ids), path, String(offset), String(size), directory],
    `cannot unpack ${path}`,
    engine.signal,
  );
  return size;
};

/** What a step changed (or all files of an unpacked base), as a layer of an image. */
export const layerSource = (
  engine: Engine,
  { files, owners }: Pick<Layer, 'files' | 'owners'>,
  label: string,
  through: ((next: TarHandler) => TarHandler) | undefined,
): LayerSource => ({
  label,
  mediaType: undefined,
  digest: undefined,
  size: undefined,
  diffId: undefined,
  reopenable: true,
  through,
  open: () => childOutput([nativeProgram(), '@layer', 'tar', ...idArguments(engine.ids), files, owners], `cannot read ${label}`),
});

/** A directory with all that is in it, whatever the modes and owners. No error where there is none. */
export const removeTree = async (ids: StepIds, path: string): Promise<void> =>
  runRole(['@layer', 'remove', ...idArguments(ids), path], `cannot remove ${path}`, undefined);
