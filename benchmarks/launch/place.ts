/** What the launch benchmarks start: the same small tree as a SIF, a SquashFS file and a directory, by tsrun and its peers, with the same files shown. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeBusyboxImage, scratch, tsrunPath } from '../../test/helpers/product.ts';
import { type TestUser, testUser } from '../../test/helpers/user.ts';

export type Place = {
  readonly path: string;
  readonly user: TestUser;
  readonly image: string;
  readonly tree: string;
  /** SquashFS of the tree; undefined without mksquashfs. */
  readonly squash: string | undefined;
  /** The program itself, outside of any image. */
  readonly bare: readonly string[];
  /** The words of a start through each tool that is installed; the payload is /bin/true of the tree. */
  readonly tsrun: (...options: string[]) => readonly string[];
  readonly tsrunDirectory: readonly string[];
  readonly bwrap: readonly string[] | undefined;
  readonly chRun: readonly string[] | undefined;
  readonly chRunSquash: readonly string[] | undefined;
};

const must = (program: string, ...args: string[]): void => {
  const ran = spawnSync(program, args, { encoding: 'utf8' });
  if (ran.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${ran.stderr}`);
};

export const compile = (source: string, program: string): void => must('cc', '-O2', '-static', '-o', program, source);

const installed = (program: string): boolean => existsSync(program);

export const makePlace = (name: string): Place => {
  const path = scratch(name);
  const user = testUser();
  const image = makeBusyboxImage(path);
  const tree = join(path, 'tree');
  const squash = installed('/usr/bin/mksquashfs') ? join(path, 'tree.sqfs') : undefined;
  if (squash !== undefined) {
    must('mksquashfs', tree, squash, '-quiet', '-no-progress', '-comp', 'zstd');
    chmodSync(squash, 0o644);
  }
  const { home } = user;
  // Shown by default everywhere, as tsrun does: /dev, /proc, /sys, /tmp, /var/tmp, the home. (ch-run shows /dev, /proc, /sys and /tmp by itself.)
  const binds = ['--dev-bind', '/dev', '/dev', '--bind', '/proc', '/proc', '--ro-bind', '/sys', '/sys', '--bind', '/tmp', '/tmp'];
  const more = ['--bind', '/var/tmp', '/var/tmp', '--tmpfs', '/home', '--bind', home, home];
  const chRun = ['/usr/bin/ch-run', '--home', '--bind', '/var/tmp'];
  return {
    path,
    user,
    image,
    tree,
    squash,
    bare: [join(tree, 'bin/busybox'), 'true'],
    tsrun: (...options) => [tsrunPath, 'exec', ...options, image, '/bin/true'],
    tsrunDirectory: [tsrunPath, 'exec', tree, '/bin/true'],
    bwrap: installed('/usr/bin/bwrap') ? ['/usr/bin/bwrap', '--bind', tree, '/', ...binds, ...more, '/bin/true'] : undefined,
    chRun: installed('/usr/bin/ch-run') ? [...chRun, tree, '/bin/true'] : undefined,
    chRunSquash: installed('/usr/bin/ch-run') && squash !== undefined ? [...chRun, squash, '/bin/true'] : undefined,
  };
};
