/** A disk that answers each read some time later, as a parallel file system does that is far away and busy: a loop device over slow_disk.c, which needs no dm-delay. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

export type SlowDisk = {
  /** Where its file system is mounted, read-only. */
  readonly path: string;
  readonly end: () => void;
};

/** As disks have it: loop devices would read ahead 4 MiB. In sectors of 512 bytes. */
const READ_AHEAD = '256';

/**
 * @param directory where the disk's file lies; kept for the next time
 * @param megabytes of its ext4
 * @param fill makes what is on it, once, in the directory that it is given
 * As root.
 */
export const slowDisk = (directory: string, megabytes: number, microseconds: number, fill: (path: string) => void): SlowDisk => {
  const program = join(directory, 'slow_disk');
  const file = join(directory, 'slow.ext4');
  mkdirSync(directory, { recursive: true });
  execFileSync('cc', ['-O2', '-o', program, resolve(import.meta.dirname, 'slow_disk.c'), '-lpthread']);
  if (!existsSync(file)) {
    const fresh = `${file}.new`;
    rmSync(fresh, { force: true });
    execFileSync('truncate', ['-s', `${megabytes}M`, fresh]);
    execFileSync('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', fresh]);
    const disk = attach(program, directory, fresh, 0, []);
    try {
      fill(disk.path);
    } finally {
      disk.end();
    }
    renameSync(fresh, file);
  }
  return attach(program, directory, file, microseconds, ['-r']);
};

const attach = (program: string, directory: string, file: string, microseconds: number, how: readonly string[]): SlowDisk => {
  const below = join(directory, 'below');
  const path = join(directory, 'disk');
  const undo: (readonly string[])[] = [];
  const end = (): void => {
    for (const [command = '', ...args] of undo.splice(0).reverse()) spawnSync(command, args);
  };
  try {
    for (const each of [below, path]) mkdirSync(each, { recursive: true });
    // It stays, with whatever it was given as standard output.
    execFileSync(program, [file, below, String(microseconds)], { stdio: 'ignore' });
    undo.push(['umount', below]);
    const loop = execFileSync('losetup', [...how, '--direct-io=on', '-f', '--show', join(below, 'disk')], { encoding: 'utf8' }).trim();
    undo.push(['losetup', '-d', loop]);
    execFileSync('blockdev', ['--setra', READ_AHEAD, loop]);
    execFileSync('mount', ['-t', 'ext4', '-o', how.length > 0 ? 'ro,noatime' : 'noatime', loop, path]);
    undo.push(['umount', path]);
    return { path, end };
  } catch (error) {
    end();
    throw error;
  }
};
