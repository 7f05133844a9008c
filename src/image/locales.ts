/** Locales the image's C library can find: directories below /usr/lib/locale, and the archive beside them (glibc, locale/locarchive.h). */
import { u32At } from '../util/byte-fields.ts';
import type { ImageFacts } from './facts.ts';
import type { ImageView } from './view.ts';
import { byBytes, findFile, namesIn } from './walk.ts';

const DIRECTORIES = ['/usr/lib/locale', '/usr/lib64/locale'];
const ARCHIVE = 'locale-archive';
const ARCHIVE_MAGIC = 0xde020109;
/** Header, hash of names and names of an archive with all locales of glibc lie within. */
export const MAX_ARCHIVE_HEAD = 1024 * 1024;
const MAX_NAMES = 1024;

export const localesOf = (view: ImageView, libc: ImageFacts['libc']): readonly string[] => {
  if (libc.kind !== 'glibc') return [];
  const [major = 0, minor = 0] = libc.version.split('.').map(Number);
  // glibc brings C.UTF-8 inside the library since 2.35.
  const builtIn = major > 2 || (major === 2 && minor >= 35) ? ['C.UTF-8'] : [];
  const onDisk = DIRECTORIES.flatMap((directory) => [
    ...namesIn(view, directory).filter((name) => isLocale(view, `${directory}/${name}`)),
    ...archiveNames(view, `${directory}/${ARCHIVE}`),
  ]);
  return [...new Set([...builtIn, ...onDisk.map(usualSpelling)])].sort(byBytes).slice(0, MAX_NAMES);
};

const isLocale = (view: ImageView, directory: string): boolean => findFile(view, `${directory}/LC_CTYPE`) !== null;

/** "en_US.utf8" as the archive spells it → "en_US.UTF-8" as people do; the C library takes both. */
const usualSpelling = (name: string): string => {
  const [language, codeset, ...rest] = name.split(/([.@])/).filter((part) => part !== '.');
  if (codeset === undefined || codeset === '@') return name;
  return `${language}.${/^utf-?8$/i.test(codeset) ? 'UTF-8' : codeset}${rest.join('')}`;
};

/** struct locarhead: the names stand one after the other, from the offset at 20, as many bytes as the number at 24 says. */
const archiveNames = (view: ImageView, path: string): readonly string[] => {
  const file = findFile(view, path);
  const head = file === null ? null : view.read(file.path, 56);
  if (file === null || head === null || head.length < 56 || u32At(head, 0) !== ARCHIVE_MAGIC) return [];
  const start = u32At(head, 20);
  const size = Math.min(u32At(head, 24), MAX_ARCHIVE_HEAD - start);
  const names = size <= 0 ? '' : (view.read(file.path, size, start) ?? '');
  return names
    .split('\0')
    .filter((name) => name !== '' && name.length < 64)
    .slice(0, MAX_NAMES);
};
