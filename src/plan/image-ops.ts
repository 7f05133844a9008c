/** Where the image's files come from: served over FUSE by the scope's server; without a usable /dev/fuse extracted once; directories as they are. */
import { runtimeDirectory, scopeKey, userNamespace } from '../facts/scope.ts';
import { storePlaces } from '../store/places.ts';
import { errnoText } from '../util/errno.ts';
import { TsrunError } from '../util/errors.ts';
import { failed, MAY_READ, MAY_WRITE } from '../util/host.ts';
import type { Op } from './ops.ts';
import type { Situation } from './situation.ts';
import { stageOps } from './stage.ts';

const ASKED_BY_STORE = ['TSRUN_STORE', 'TSRUN_LOCAL', 'APPTAINER_CACHEDIR', 'SINGULARITY_CACHEDIR', 'XDG_CACHE_HOME', 'HOME'];

/** Store and node-local place of this caller. Errors: E_STORE_PLACE. */
export const placesOf = ({ environment, request, identity }: Pick<Situation, 'environment' | 'request' | 'identity'>) =>
  storePlaces(
    Object.fromEntries(ASKED_BY_STORE.map((name) => [name, environment.get(name)])),
    request.site,
    identity.ids.euid,
    identity.home === '' ? undefined : identity.home,
  );

const recordError = (path: string, why: string, hint: string): TsrunError =>
  new TsrunError({ code: 'E_RECORD', what: `cannot record to ${path}`, why, hint });

const absoluteIn = ({ cwd }: Situation, path: string): string => {
  if (path.startsWith('/')) return path;
  return cwd.kind === 'known' ? `${cwd.path === '/' ? '' : cwd.path}/${path}` : `/proc/self/cwd/${path}`;
};

/** The namespace op, the image op and what it needs. */
export const planImage = (situation: Situation): Op[] => {
  const { host, image, identity, environment, request, fuseRefused } = situation;
  const { euid: uid, egid: gid } = identity.ids;
  const alone: Op = { op: 'userns', uid, gid, why: 'a user namespace of its own' };
  if (request.record !== undefined && image.kind === 'directory')
    throw recordError(request.record.text, 'the image is a directory, which is not served', 'record what is read of a SIF file');
  if (image.kind === 'directory') return [alone, { op: 'image_directory', path: image.path, why: 'the image is a directory' }];

  const { handle, path, offset, size } = image;
  const where = image.container === 'SIF' ? 'SquashFS in the SIF' : 'the SquashFS file';
  const noFuse = host.access('/dev/fuse', MAY_READ + MAY_WRITE);
  if (failed(noFuse) || fuseRefused) {
    const refusal = failed(noFuse) ? `/dev/fuse cannot be used (${errnoText(noFuse)})` : 'the kernel refused to mount it by FUSE';
    if (request.record !== undefined)
      throw recordError(request.record.text, refusal, 'record on a machine where the image is served over FUSE');
    const directory = `${placesOf(situation).local.path}/extracted/${image.identity().key}`;
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
  const record = request.record === undefined ? undefined : absoluteIn(situation, request.record.text);
  const user = userNamespace(host);
  const key = scopeKey(host, identity.ids, user);
  const ops: Op[] = [
    {
      op: 'scope',
      dir: runtimeDirectory(host, environment, identity.ids, user),
      // A server that has run before is not asked again for what the kernel keeps.
      key: record === undefined ? key : `record.${host.fnv64(`${key}\n${record}`)}`,
      uid,
      gid,
      lingerMs: record === undefined ? request.site.lingerMs : 0,
      cacheBytes: request.site.cacheBytes,
      why: 'runs of one job share a user namespace and an image server',
    },
  ];
  if (record !== undefined) ops.push({ op: 'record', path: record, why: '--record: what is touched of the image is written there' });
  else if (image.hot !== undefined)
    ops.push({ op: 'hot', offset: image.hot.offset, size: image.hot.size, why: 'the image says what a run wants first' });
  if (request.stage !== 'no') ops.push(...stageOps(request.stage, situation, image, placesOf(situation).local.path));
  ops.push({ op: 'image_mount', handle, path, offset, size, why: `${where}, served over FUSE` });
  return ops;
};
