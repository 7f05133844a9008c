/** --sandbox: the image as a directory that its owner can change and run. Owners that one id cannot have are recorded in it. */
import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, rename, rmdir, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { TsrunError } from '../../util/errors.ts';
import { SANDBOX_OWNERS } from '../sources.ts';
import { openSquashFile } from '../squash-file.ts';
import type { Engine } from './engine.ts';
import { removeTree, unpackSquash } from './native.ts';

/** @throws TsrunError E_EXISTS */
export const refuseSandbox = async (target: string, force: boolean): Promise<void> => {
  const found = await lstat(target).catch(() => undefined);
  if (found === undefined || (found.isDirectory() && (await readdir(target)).length === 0)) return;
  const isImage = found.isDirectory() && (await lstat(`${target}/.singularity.d`).catch(() => undefined)) !== undefined;
  if (force && isImage) return;
  throw new TsrunError({
    code: 'E_EXISTS',
    what: `cannot write the directory ${target}`,
    why: found.isDirectory() ? (isImage ? 'it exists' : 'it exists, and is no image that tsrun has made') : 'a file of that name exists',
    hint: isImage ? 'to replace it, add --force; to change it, use --update' : 'choose another name',
  });
};

/** @param image the finished SIF */
export const writeSandbox = async (engine: Engine, image: string, target: string, force: boolean): Promise<void> => {
  await refuseSandbox(target, force);
  const single: Engine = { ...engine, ids: { kind: 'single' } };
  const beside = `${dirname(target)}/.${basename(target).slice(0, 200)}.${randomBytes(6).toString('hex')}`;
  const owners = `${beside}.owners`;
  try {
    await mkdir(beside, { mode: 0o755 });
    // Root of a namespace of one id makes nothing in a directory of somebody else.
    await writeFile(owners, '', { flag: 'wx', mode: 0o600 });
    await unpackSquash(single, openSquashFile(image), beside, owners);
    await moveInto(single, owners, beside);
    await rmdir(target).catch(() => undefined);
    const old = `${beside}.old`;
    const replaced = await rename(target, old).then(
      () => true,
      () => false,
    );
    await rename(beside, target);
    if (replaced) await removeTree(single.ids, old);
  } finally {
    await removeTree(single.ids, beside).catch(() => undefined);
    await removeTree(single.ids, owners).catch(() => undefined);
  }
};

/** The table of those owners that no xattr holds (links have none) goes to the top of the directory, which stays as the image has it. */
const moveInto = async ({ ids }: Engine, owners: string, directory: string): Promise<void> => {
  const { mode, atime, mtime } = await lstat(directory);
  await chmod(directory, 0o700);
  await removeTree(ids, `${directory}/${SANDBOX_OWNERS}`);
  await rename(owners, `${directory}/${SANDBOX_OWNERS}`);
  await utimes(directory, atime, mtime);
  await chmod(directory, mode & 0o7777);
};
