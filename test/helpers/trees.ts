/** What lies in a directory, in a form that can be compared: one line for each name. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

export type ListOptions = {
  /** Names at the top to leave out. */
  readonly without?: ReadonlySet<string>;
  readonly directoryTimes?: boolean;
};

/** Every name below `root` with mode, owner, time, device, content digest, link target and its group of hard links; names as byte strings. */
export const listTree = (root: string, { without = new Set(), directoryTimes = false }: ListOptions = {}): string[] => {
  const lines: string[] = [];
  const firstNames = new Map<string, string>();
  const visit = (path: Buffer, name: string): void => {
    const stat = lstatSync(path);
    const kind = stat.isDirectory()
      ? 'd'
      : stat.isSymbolicLink()
        ? 'l'
        : stat.isFile()
          ? 'f'
          : stat.isFIFO()
            ? 'p'
            : stat.isCharacterDevice()
              ? 'c'
              : 'b';
    const what =
      kind === 'f'
        ? createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 16)
        : kind === 'l'
          ? readlinkSync(path, 'latin1')
          : kind === 'c' || kind === 'b'
            ? `${(stat.rdev >> 8) & 0xfff}:${(stat.rdev & 0xff) | ((stat.rdev >> 12) & 0xfff00)}`
            : '';
    const inode = `${stat.dev}:${stat.ino}`;
    const first = kind === 'd' || stat.nlink === 1 ? '' : (firstNames.get(inode) ?? name);
    if (first === name) firstNames.set(inode, name);
    const time = kind === 'd' && !directoryTimes ? '' : String(Math.floor(stat.mtimeMs / 1000));
    const mode = kind === 'l' ? '' : (stat.mode & 0o7777).toString(8);
    lines.push(`${name} ${kind} ${mode} ${stat.uid}:${stat.gid} ${time} ${what} ${first === '' ? '' : `=${first}`}`);
    if (kind !== 'd') return;
    for (const child of (readdirSync(path, { encoding: 'buffer' }) as Buffer[]).sort(Buffer.compare)) {
      const childName = child.toString('latin1');
      if (name === '/' && without.has(childName)) continue;
      visit(Buffer.concat([path, Buffer.from('/'), child]), name === '/' ? `/${childName}` : `${name}/${childName}`);
    }
  };
  visit(Buffer.from(root), '/');
  return lines;
};

/** Runs a program of the machine and insists on its success. */
export const must = (program: string, args: readonly string[], input?: Buffer): Buffer => {
  const done = spawnSync(program, args, { input, maxBuffer: 1 << 30 });
  if (done.error !== undefined) throw done.error;
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.status ?? done.signal}\n${done.stdout}${done.stderr}`);
  return done.stdout;
};
