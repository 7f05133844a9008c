/** What the native program does for a build outside of a step: unpacking a base, a layer as an archive, removing what only root inside may remove. */
import { type LayerSource, NOTHING_PROMISED } from '../../oci/layer.ts';
import type { StepIds } from '../../plan/step.ts';
import type { TarHandler } from '../../tar/read.ts';
import { nativeProgram } from '../../util/native-program.ts';
import { childOutput } from '../child-stream.ts';
import type { SquashFile } from '../squash-file.ts';
import type { Layer } from './cache.ts';
import type { Engine } from './engine.ts';
import { runRole } from './process.ts';

/** A command of native/layer.h, with these ids. It ends with this process. */
const layerArguments = (ids: StepIds, verb: string, ...args: readonly string[]): readonly string[] => [
  ...['@layer', '-p', String(process.pid)],
  ...(ids.kind === 'single' ? [] : ['-m', ids.newuidmap, ids.newgidmap, ids.uidMap, ids.gidMap]),
  ...[verb, ...args],
];

/** The files of a SquashFS into an empty directory, with their owners; those that fit on no inode go into the table. */
export const unpackSquash = async (
  { ids, signal }: Pick<Engine, 'ids' | 'signal'>,
  { path, offset, size }: Pick<SquashFile, 'path' | 'offset' | 'size'>,
  directory: string,
  owners: string,
): Promise<void> =>
  runRole(layerArguments(ids, 'unpack', path, String(offset), String(size), directory, owners), `cannot unpack ${path}`, signal);

/** What a step changed (or all files of an unpacked base), as a layer of an image. */
export const layerSource = (
  engine: Engine,
  { files, owners }: Pick<Layer, 'files' | 'owners'>,
  label: string,
  through: ((next: TarHandler) => TarHandler) | undefined,
): LayerSource => ({
  label,
  ...NOTHING_PROMISED,
  through,
  open: () => childOutput([nativeProgram(), ...layerArguments(engine.ids, 'tar', files, owners)], `cannot read ${label}`),
});

/** Makes what is missing in a tree for mounts on these paths (a directory where one ends with "/"). Returns what it has made. Byte strings. */
export const makeMountPoints = async (ids: StepIds, directory: string, paths: readonly string[]): Promise<readonly string[]> => {
  const parts: Uint8Array[] = [];
  const command = [nativeProgram(), ...layerArguments(ids, 'points', directory, ...paths.map(asArgument))];
  for await (const part of childOutput(command, `cannot prepare ${directory}`)) parts.push(part);
  return Buffer.concat(parts).toString('latin1').split('\0').slice(0, -1);
};

/** The file or directory itself belongs to these ids of the build from then on. */
export const giveAway = async (ids: StepIds, path: string, uid: number, gid: number): Promise<void> =>
  runRole(layerArguments(ids, 'own', String(uid), String(gid), path), `cannot give ${path} to ${uid}:${gid}`, undefined);

/** What of it the step has not put to use is taken away. */
export const removeMountPoints = async (ids: StepIds, directory: string, made: readonly string[]): Promise<void> => {
  if (made.length === 0) return;
  await runRole(layerArguments(ids, 'unpoint', directory, ...made.map(asArgument)), `cannot tidy ${directory}`, undefined);
};

/** Node encodes arguments as UTF-8. */
const asArgument = (text: string): string => Buffer.from(text, 'latin1').toString('utf8');

/** A directory with all that is in it, whatever the modes and owners. No error where there is none. */
export const removeTree = async (ids: StepIds, path: string): Promise<void> =>
  runRole(layerArguments(ids, 'remove', path), `cannot remove ${path}`, undefined);

/** Waits until the file system of a directory is on its disk. */
export const syncTree = async (ids: StepIds, path: string): Promise<void> =>
  runRole(layerArguments(ids, 'sync', path), `cannot sync ${path}`, undefined);

export type Probed = {
  /** Why not; undefined: it works. */
  readonly overlay: string | undefined;
  readonly xattrs: string | undefined;
  readonly notifier: string | undefined;
};

/** What the kernel lets steps use in a directory, found out by trying. */
export const probe = async (ids: StepIds, directory: string): Promise<Probed> => {
  let text = '';
  const command = [nativeProgram(), ...layerArguments(ids, 'probe', directory)];
  for await (const chunk of childOutput(command, `cannot work in ${directory}`)) text += Buffer.from(chunk).toString('utf8');
  const fields = text.split('\0');
  const said = new Map<string, string>();
  for (let at = 0; at + 1 < fields.length; at += 2) said.set(fields[at] ?? '', fields[at + 1] ?? '');
  const refusal = (name: string): string | undefined => (said.get(name) === 'yes' ? undefined : (said.get(name) ?? 'it was not tried'));
  return { overlay: refusal('overlay'), xattrs: refusal('xattrs'), notifier: refusal('notifier') };
};
