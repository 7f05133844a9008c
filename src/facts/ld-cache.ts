/**
 * /etc/ld.so.cache of the host, in the format of glibc 2.2 and later (sysdeps/generic/dl-cache.h): "glibc-ld.so.cache1.1", a header of 48 bytes, then
 * 24 bytes for each library with the offsets of its soname and path. Older caches have the same behind one of another format.
 */
import { failed, type Host } from '../util/host.ts';

const MAGIC = 'glibc-ld.so.cache1.1';
const HEADER = 48;
const ENTRY = 24;
const MAX_BYTES = 4 * 1024 * 1024;
const MAX_PATH = 4096;

const u32 = (text: string, at: number): number =>
  text.charCodeAt(at) + text.charCodeAt(at + 1) * 0x100 + text.charCodeAt(at + 2) * 0x10000 + text.charCodeAt(at + 3) * 0x1000000;

/** Paths for a soname in the order of the cache: of every architecture the host has. Nothing for a damaged cache. */
export const pathsInCache = (cache: string, soname: string): string[] => {
  const base = cache.indexOf(MAGIC);
  if (base < 0 || cache.length < base + HEADER) return [];
  const count = u32(cache, base + 20);
  if (base + HEADER + count * ENTRY > cache.length) return [];
  const wanted = `${soname}\0`;
  const paths: string[] = [];
  for (let entry = 0; entry < count; entry++) {
    const at = base + HEADER + entry * ENTRY;
    const key = u32(cache, at + 4);
    if (!cache.startsWith(wanted, base + key)) continue;
    const start = base + u32(cache, at + 8);
    const end = cache.indexOf('\0', start);
    const path = end < 0 || end - start > MAX_PATH ? '' : cache.slice(start, end);
    if (path.startsWith('/') && !paths.includes(path)) paths.push(path);
  }
  return paths;
};

/** The cache's bytes; '' where there is none (musl hosts, NixOS). */
export const readLdCache = (host: Host): string => {
  const text = host.read('/etc/ld.so.cache', 0, MAX_BYTES);
  return failed(text) ? '' : text;
};
