/** Where the caller stands. */
import type { Environment } from '../request/from-env.ts';
import { failed, type Host } from '../util/host.ts';
import { isClean } from '../util/paths.ts';

export type Cwd =
  | {
      readonly kind: 'known';
      /** As the kernel says it: no symbolic link in it. */
      readonly path: string;
      /** $PWD, where that is another spelling of the same directory; else `path`. */
      readonly spelled: string;
    }
  | { readonly kind: 'lost'; readonly errno: number };

export const findCwd = (host: Host, environment: Environment): Cwd => {
  const path = host.getcwd();
  if (failed(path)) return { kind: 'lost', errno: path };
  // Kernels put "(unreachable)" in front of a directory that is outside of the root.
  if (!path.startsWith('/')) return { kind: 'lost', errno: -2 };
  const spelled = environment.get('PWD') ?? '';
  if (spelled === path || !isClean(spelled)) return { kind: 'known', path, spelled: path };
  return { kind: 'known', path, spelled: host.sameFile('.', spelled) ? spelled : path };
};
