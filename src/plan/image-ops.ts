/** Where the image's files come from: served over FUSE by the scope's server; without a usable /dev/fuse extracted once; directories as they are. */
import { runtimeDirectory, scopeKey } from '../facts/scope.ts';
import { storePlaces } from '../store/places.ts';
import { errnoText } from '../util/errno.ts';
import { failed, MAY_READ, MAY_WRITE } from '../util/host.ts';
import type { Op } from './ops.ts';
import type { Situation } from './situation.ts';

const ASKED_BY_STORE = ['TSRUN_STORE', 'TSRUN_LOCAL', 'APPTAINER_CACHEDIR', 'SINGULARITY_CACHEDIR', 'XDG_CACHE_HOME', 'HOME'];

/** Store and node-local place of this caller. Errors: E_STORE_PLACE. */
export const placesOf = ({ environment, request, identity }: Pick<Situation, 'environment' | 'request' | 'identity'>) =>
  storePlaces(
    Object.fromEntries(ASKED_BY_STORE.map((name) => [name, environment.get(name)])),
    request.site,
    identity.ids.euid,
    identity.home === '' ? undefined : identity.home,
  );

/** The namespace op and the image op. */
export const planImage = (situation: Situation): Op[] => {
  const { host, image, identity, environment, request, fuseRefused } = situation;
  const { euid: uid, egid: gid } = identity.ids;
  const alone: Op = { op: 'userns', uid, gid, why: 'a user namespace of its own' };
  if (image.kind === 'directory') return [alone, { op: 'image_directory', path: image.path, why: 'the image is a directory' }];

  const { handle, path, offset, size } = image;
  const where = image.container === 'SIF' ? 'SquashFS in the SIF' : 'the SquashFS file';
  const noFuse = host.access('/dev/fuse', MAY_READ + MAY_WRITE);
  if (failed(noFuse) || fuseRefused) {
    const refusal = failed(noFuse) ? `/dev/fuse cannot be used (${errnoText(noFuse)})` : 'the kernel refused to mount it by FUSE';
    const directory = `${placesOf(situation).local.path}/extracted/${image.key}`;
    return [
      alone,
      {
        op: 'image_extracted',
        handle,
        path,
        offset,
        size,
        directory,
        why: `${where}, extracted once: ${refusal}`,
      },
    ];
  }
  return [
    {
      op: 'scope',
      dir: runtimeDirectory(host, environment, identity.ids),
      key: scopeKey(host, identity.ids),
      uid,
      gid,
      lingerMs: request.site.lingerMs,
      cacheBytes: request.site.cacheBytes,
      why: 'runs of one job share a user namespace and an image server',
    },
    { op: 'image_mount', handle, path, offset, size, why: `${where}, served over FUSE` },
  ];
};
