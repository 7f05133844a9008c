/** Starts a soak in PID and mount namespaces of its own: so nobody else's processes and mounts are taken for what it leaves, and all that it leaves is ended. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Caller } from './place.ts';

/** `kernel`: as on a kernel of that version; empty: as on this one. */
export type Soak = { readonly seed: number; readonly seconds: number; readonly as: Caller; readonly kernel: string };

/** Needs root. Resolves to the exit status: 0 when nothing was left. */
export const soak = ({ seed, seconds, as, kernel }: Soak, tell: (text: string) => void): Promise<number | null> =>
  new Promise((done, failed) => {
    // The shell is the namespace's PID 1, and buries whoever lost its parent.
    const script = 'mount -t tmpfs -o mode=1777 none /dev/shm && "$@"; exit $?';
    const settings = ['--seed', String(seed), '--seconds', String(seconds), '--as', as, '--kernel', kernel];
    const round = [process.execPath, join(import.meta.dirname, 'round.ts'), ...settings];
    const words = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', script, 'sh', ...round];
    const child = spawn('unshare', words, { stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.setEncoding('utf8').on('data', tell);
    child.on('error', failed);
    child.on('close', done);
  });
