/**
 * A read-only view of an image's tree, whatever it lies in (a directory, a SquashFS file, layers in memory). Paths are absolute, clean and
 * inside the image; no call follows a symbolic link, neither at the end of a path nor on the way: whoever walks, resolves.
 */
import type { DirectoryEntry } from '../util/host.ts';

export type ImageNode = {
  readonly kind: 'file' | 'directory' | 'link' | 'other';
  /** Permission bits. */
  readonly mode: number;
  readonly size: number;
};

export type ImageView = {
  /** Null: no such file. */
  lstat(path: string): ImageNode | null;
  /** Null when it is no symbolic link. */
  readlink(path: string): string | null;
  /** Null when it is no directory, or one of more than 65,536 entries. */
  readdir(path: string): readonly DirectoryEntry[] | null;
  /** The first `limit` bytes of a regular file, null for anything else or an unreadable one. Byte string. */
  read(path: string, limit: number, offset?: number): string | null;
};
