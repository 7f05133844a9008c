/** Locales the image's C library can find: directories below /usr/lib/locale, and the archive beside them (glibc, locale/locarchive.h). */
import { bytesOf, viewOf } from '../util/bytes.ts';
import type { ImageFacts } from './facts.ts';
import type { ImageView } from './view.ts';
import { byBytes, findFile, namesIn } from './walk.ts';

const DIRECTORIES = ['/usr/lib/locale', '/usr/share/locale', '/usr/lib64/locale'];
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

/** /usr/share/locale also holds translations, which are no locales. */
const isLocale = (view: ImageView, directory: string): boolean => findFile(view, `${directory}/LC_CTYPE`) !== null;

/** "en_US.utf8" as the archive spells it → "en_US.UTF-8" as people do; the C library takes both. */
const usualSpelling = (name: string): string => {
  const [language, codeset, ...rest] = name.split(/([.@])/).filter((part) => part !== '.');
  if (codeset === undefined || codeset === '@') return name;
  return `${language}.${/^utf-?8$/i.test(codeset) ? 'UTF-8' : codeset}${rest.join('')}`;
};

const archiveNames = (view: ImageView, path: string): readonly string[] => {
  const file = findFile(view, path);
  const text = file === null ? null : view.read(file.path, MAX_ARCHIVE_HEAD);
  if (text === null || text.length < 56) return [];
  const fields = viewOf(bytesOf(text.slice(0, 56)));
  if (fields.getUint32(0, true) !== ARCHIVE_MAGIC) return [];
  const hashAt = fields.getUint32(8, true);
  const hashSize = Math.min(fields.getUint32(16, true), 64 * 1024);
  const names: string[] = [];
  const hash = viewOf(bytesOf(text.slice(hashAt, hashAt + hashSize * 12)));
  for (let at = 0; at + 12 <= hash.byteLength && names.length < MAX_NAMES; at += 12) {
    const nameAt = hash.getUint32(at + 4, true);
    const end = nameAt === 0 ? -1 : text.indexOf('\0', nameAt);
    if (end > nameAt && end - nameAt < 64) names.push(text.slice(nameAt, end));
  }
  return names;
};
