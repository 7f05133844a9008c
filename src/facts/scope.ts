/** Which runs share a user namespace and an image server, and where the server's socket lies. Never decided by the environment alone. */
import type { Environment } from '../request/from-env.ts';
import { contains } from '../util/contains.ts';
import { type Errno, failed, type Host, type Ids } from '../util/host.ts';
import { networkFileSystem } from './file-systems.ts';

const MAX_CGROUP_BYTES = 64 * 1024;

/**
 * /proc/self/cgroup, each path cut behind the Slurm step: tasks of a step are in cgroups of their own below it. The kernel lists its hierarchies in one
 * order for everybody; lines of version 1 and 2 look alike.
 */
export const cgroupOf = (text: string): string => (contains(text, '/job_') ? text.replace(/(\/job_\d+\/step_[^/\n]+).*/g, '$1') : text);

/** "user:[4026531837]". Asked once for all that depends on it. */
export const userNamespace = (host: Host): string | Errno => host.readlink('/proc/self/ns/user');

const inode = (namespace: string | Errno): string =>
  failed(namespace) ? '0' : Number(namespace.slice(namespace.indexOf('[') + 1, -1)).toString(36);

/** `[a-z0-9.-]`, at most 80 characters. `user`: userNamespace(). */
export const scopeKey = (host: Host, ids: Ids, user: string | Errno): string => {
  const cgroup = host.read('/proc/self/cgroup', 0, MAX_CGROUP_BYTES);
  const groups = ids.groups.length > 1 ? host.fnv64([...ids.groups].sort((a, b) => a - b).join(' ')) : String(ids.groups[0] ?? 'none');
  return `${ids.euid}.${ids.egid}.${groups}.${inode(user)}-${inode(host.readlink('/proc/self/ns/pid'))}.${host.fnv64(failed(cgroup) ? '' : cgroupOf(cgroup))}`;
};

/** A directory for sockets: the login's own where that is what it should be, else one in /tmp, which the launcher makes and checks. */
export const runtimeDirectory = (host: Host, environment: Environment, ids: Ids, user: string | Errno): string => {
  const own = environment.get('XDG_RUNTIME_DIR') ?? '';
  if (own.startsWith('/')) {
    const stat = host.stat(own);
    const fits = !failed(stat) && stat.kind === 'directory' && stat.uid === ids.euid && (stat.mode & 0o777) === 0o700;
    const type = fits ? host.fileSystemType(own) : -1;
    if (fits && !failed(type) && networkFileSystem(type) === undefined) return `${own}/tsrun`;
  }
  return sharedRuntimeDirectory(host, ids, user);
};

/** The one in /tmp. */
export const sharedRuntimeDirectory = (host: Host, ids: Ids, user: string | Errno): string => `/tmp/tsrun-${outerUid(host, ids, user)}`;

const FIRST_USER_NAMESPACE = 'user:[4026531837]';

/**
 * In a user namespace of its own (rootless containers, unshare -r, bwrap --uid) people have other ids; their directories are told apart by the id behind
 * it, which is also who owns them. uid_map is relative to the namespace around.
 */
const outerUid = (host: Host, ids: Ids, user: string | Errno): number => {
  if (user === FIRST_USER_NAMESPACE) return ids.euid;
  const map = host.read('/proc/self/uid_map', 0, 4096);
  for (const line of failed(map) ? [] : map.split('\n')) {
    const [inside = Number.NaN, outside = Number.NaN, count = 0] = line.trim().split(/\s+/).map(Number);
    if (ids.euid >= inside && ids.euid < inside + count) return outside + ids.euid - inside;
  }
  return ids.euid;
};
