/** A mount namespace where nobody else mounts anything: what is mounted on the host keeps runs of it from sharing what they have mounted. */
import { spawn } from 'node:child_process';
import { nameOf } from './processes.ts';
import { environmentOf, type Ran, type RunOptions, run } from './product.ts';
import { until } from './servers.ts';
import { isRoot, testUser } from './user.ts';

/**
 * Runs a program as the test user in a namespace that lasts as long as the test. Without root it is that of everybody else.
 * @param prepare a script that root runs there first: what it mounts, only these runs see.
 */
export const runsInOwnMounts = async (prepare = ':'): Promise<(program: string, args: readonly string[], options?: RunOptions) => Ran> => {
  if (!isRoot()) return run;
  // Ends with this process, which holds its input open.
  const holder = spawn('unshare', ['-m', 'sh', '-ec', `${prepare}\nexec cat`], { stdio: ['pipe', 'ignore', 'inherit'] });
  holder.unref();
  await until(() => nameOf(holder.pid ?? 0) === 'cat', 'a mount namespace');
  const user = testUser();
  const become = ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
  return (program, args, { cwd = '/tmp', ...options } = {}) => {
    const there = ['-m', '-t', String(holder.pid), ...become, 'sh', '-c', 'cd "$0" && exec "$@"', cwd];
    return run('nsenter', [...there, program, ...args], { as: 'root', env: environmentOf(options) });
  };
};
