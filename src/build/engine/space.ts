/**
 * Where a build works and keeps finished steps: a directory of this node whose file system an overlay can be made on. Checked before anything is
 * fetched, with an error that names what to set.
 */
import { mkdir, statfs } from 'node:fs/promises';
import { openLocalPlace } from '../../store/open.ts';
import type { Place, StorePlaces } from '../../store/types.ts';
import { TsrunError } from '../../util/errors.ts';
import { makeDirectories } from '../../util/make-directories.ts';

export type WorkSpace = {
  readonly path: string;
  readonly origin: string;
  /** Why the kernel makes no overlay there, nor anywhere else that was tried; undefined: it makes them. */
  readonly plain: string | undefined;
};

/** Bytes and inodes that no build can do without. */
const LEAST_BYTES = 256 * 2 ** 20;
const LEAST_INODES = 10_000;

/** statfs(2) f_type of file systems that no overlay can be written on, or where it would be slow and shared with other nodes. */
const UNSUITED: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB 2'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
  [0x19830326, 'BeeGFS'],
  [0xaad7aaea, 'PanFS'],
  [0x00c36400, 'Ceph'],
  [0x01021997, '9P'],
  [0x65735546, 'FUSE'],
  [0x794c7630, 'overlay'],
]);

/** What else a tree without overlays can lie on. */
const SUITED_PLAIN: ReadonlySet<string> = new Set(['overlay', 'FUSE']);

/** In the order in which they are tried. `asked`: only this one, by somebody who named it for this purpose. */
type Candidate = Place & { readonly asked: boolean };

export const spaceCandidates = (env: Readonly<Record<string, string | undefined>>, places: StorePlaces): readonly Candidate[] => {
  const named = (name: string): readonly Candidate[] => {
    const path = env[name];
    return path === undefined || path === '' ? [] : [{ path, origin: name, asked: name === 'TSRUN_TMPDIR' }];
  };
  return [
    ...named('TSRUN_TMPDIR'),
    ...['APPTAINER_TMPDIR', 'SINGULARITY_TMPDIR', 'TMPDIR'].flatMap(named),
    { ...places.store, origin: `the store (${places.store.origin})`, asked: false },
    { ...places.local, origin: `the node-local directory (${places.local.origin})`, asked: false },
  ];
};

/**
 * Where nothing can be laid over anything, the first place that is otherwise fit serves for builds without overlays.
 * @param tryOut says why the kernel makes no overlay in a directory; undefined: it does
 * @throws TsrunError E_BUILD_SPACE
 */
export const chooseSpace = async (
  env: Readonly<Record<string, string | undefined>>,
  places: StorePlaces,
  tryOut: (directory: string) => Promise<string | undefined>,
): Promise<WorkSpace> => {
  const refusals: string[] = [];
  let fallback: WorkSpace | undefined;
  for (const { path, origin, asked } of spaceCandidates(env, places)) {
    const fit = await fitnessOf(path, places);
    const refusal = fit.kind === 'yes' ? await tryOut(`${path}/build`) : fit.why;
    if (refusal === undefined) return { path, origin, plain: undefined };
    if (fit.kind !== 'no') fallback ??= { path, origin, plain: refusal };
    refusals.push(`${path} (${origin}): ${refusal}`);
    if (asked) break;
  }
  if (fallback !== undefined) return fallback;
  throw new TsrunError({
    code: 'E_BUILD_SPACE',
    what: 'cannot find a place to build in',
    why: refusals.join('; '),
    hint: 'set TSRUN_TMPDIR to a directory of your own on a disk of this node (or in its memory, such as /dev/shm) with some gigabytes free',
  });
};

type Fitness = { readonly kind: 'yes' } | { readonly kind: 'plain' | 'no'; readonly why: string };

const fitnessOf = async (path: string, places: StorePlaces): Promise<Fitness> => {
  const no = (why: string): Fitness => ({ kind: 'no', why });
  if (!path.startsWith('/')) return no('it is no absolute path');
  try {
    if (path === places.local.path) await openLocalPlace(places.local);
    await makeDirectories(path, 0o700);
    await mkdir(`${path}/build`, { recursive: true, mode: 0o700 });
    const { type, bavail, bsize, files, ffree } = await statfs(path);
    if (bavail * bsize < LEAST_BYTES) return no(`only ${Math.floor((bavail * bsize) / 2 ** 20)} MB are free there`);
    // Btrfs and others count none.
    if (files > 0 && ffree < LEAST_INODES) return no(`only ${ffree} inodes are free there`);
    const kind = UNSUITED.get(type >>> 0);
    if (kind === undefined) return { kind: 'yes' };
    return { kind: SUITED_PLAIN.has(kind) ? 'plain' : 'no', why: `its file system (${kind}) cannot hold the layers of a build` };
  } catch (error) {
    return no(error instanceof TsrunError ? error.why : error instanceof Error ? error.message : String(error));
  }
};
