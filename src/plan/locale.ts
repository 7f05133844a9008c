/** Locales: the host's, if the image's libc has them. A missing one makes programs warn, or fall back to ASCII. */
import type { ImageFacts } from '../image/facts.ts';

export const LOCALE_VARIABLES: readonly string[] = [
  'LANG',
  'LC_ALL',
  'LC_CTYPE',
  'LC_NUMERIC',
  'LC_TIME',
  'LC_COLLATE',
  'LC_MONETARY',
  'LC_MESSAGES',
  'LC_PAPER',
  'LC_NAME',
  'LC_ADDRESS',
  'LC_TELEPHONE',
  'LC_MEASUREMENT',
  'LC_IDENTIFICATION',
];

/** glibc compares code set names without hyphens and case (locale/setlocale, _nl_normalize_codeset): UTF-8, utf8. */
const normal = (name: string): string => {
  const dot = name.indexOf('.');
  if (dot < 0) return name;
  const at = name.indexOf('@', dot);
  const end = at < 0 ? name.length : at;
  return `${name.slice(0, dot)}.${name
    .slice(dot + 1, end)
    .toLowerCase()
    .replaceAll('-', '')}${name.slice(end)}`;
};

/** glibc has C.UTF-8 built in since 2.35. */
const builtIn = (version: string): boolean => {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 2 || (major === 2 && minor >= 35);
};

/** The value for this image: the same, C.UTF-8, or C. */
export const fitLocale = (facts: ImageFacts, value: string): string => {
  if (value === '' || value === 'C' || value === 'POSIX' || facts.libc.kind !== 'glibc') return value;
  const wanted = normal(value);
  if (facts.locales.some((name) => normal(name) === wanted)) return value;
  return builtIn(facts.libc.version) || facts.locales.some((name) => normal(name) === 'C.utf8') ? 'C.UTF-8' : 'C';
};
