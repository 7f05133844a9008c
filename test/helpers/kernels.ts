/**
 * The kernels that users have, as filters: programs run under one are refused every system call that came later (test/native/payload/deny.c has the
 * table, with the version that brought each). What is no call of its own cannot be refused this way: what FUSE's protocol lacks, options of overlays,
 * extended attributes on a tmpfs. For that there is Linux 6.1 in test/e2e/server-kernels.test.ts.
 */
import { spawn } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { helperProgram } from '../e2e/launcher/helpers.ts';
import { userDirectory } from './user.ts';

const top = resolve(import.meta.dirname, '../..');

/** The oldest of each distribution's supported releases. */
export const KERNELS = [
  { version: '4.18', of: 'RHEL 8' },
  { version: '5.14', of: 'RHEL 9, SLES 15 SP4 and SP5' },
  { version: '6.4', of: 'SLES 15 SP6' },
] as const;

export type KernelVersion = (typeof KERNELS)[number]['version'];

/** Whether the tests run as on a kernel before `version` (`5.6`). */
export const isBefore = (version: string): boolean => {
  const [major = 0, minor = 0] = (process.env['TSRUN_TEST_KERNEL'] ?? '999.0').split('.').map(Number);
  const [thanMajor = 0, thanMinor = 0] = version.split('.').map(Number);
  return major < thanMajor || (major === thanMajor && minor < thanMinor);
};

/**
 * Runs test files (paths below the top) as on that kernel; the runner's exit status and what it wrote. Their runtime directory is another: a server of an
 * older kernel has the view of the run that started it, which other tests beside them cannot share.
 */
export const runTestsOn = (version: KernelVersion, files: readonly string[], tell: (text: string) => void): Promise<number | null> =>
  new Promise((done, failed) => {
    const runtime = userDirectory('tsrun-kernel');
    chmodSync(runtime, 0o700);
    const words = [`linux-${version}`, '--', process.execPath, join(top, 'test/run.ts'), ...files];
    const env = { ...process.env, TSRUN_TEST_KERNEL: version, TSRUN_TEST_RUNTIME: runtime };
    const child = spawn(helperProgram('deny'), words, { cwd: top, env, stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.setEncoding('utf8').on('data', tell);
    child.on('error', failed);
    child.on('close', done);
  });
