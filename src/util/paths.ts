/** Absolute paths as text. Nothing here looks at a file system, so `..` is textual: callers say where that is right. Byte strings. */

/** No part of the path is empty, `.` or `..`. Searches, not an expression: this is asked for every path of a plan. */
const looksClean = (path: string): boolean => {
  if (path === '/' || path.endsWith('/') || path.includes('//')) return false;
  return !path.includes('/.') || !/\/\.{1,2}(\/|$)/.test(path);
};

/** Absolute, without `.`, `..`, empty parts and a slash at the end. `/..` is `/`. The path must begin with a slash. */
export const cleanPath = (path: string): string => {
  if (looksClean(path)) return path;
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return `/${parts.join('/')}`;
};

/** `path` seen from the directory `base`, which is absolute. */
export const resolveFrom = (base: string, path: string): string => cleanPath(path.startsWith('/') ? path : `${base}/${path}`);

/** True for `directory` itself and for everything below it. */
export const isWithin = (path: string, directory: string): boolean =>
  path.startsWith(directory) && (path.length === directory.length || directory === '/' || path.charCodeAt(directory.length) === 47);

export const parentOf = (path: string): string => {
  const last = path.lastIndexOf('/');
  return last > 0 ? path.slice(0, last) : '/';
};

export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** `/` has depth 0, `/a` 1. */
export const depthOf = (path: string): number => {
  const last = path.lastIndexOf('/');
  if (last === 0) return path === '/' ? 0 : 1;
  let depth = 2;
  for (let at = path.indexOf('/', 1); at < last; at = path.indexOf('/', at + 1)) depth++;
  return depth;
};

/** NAME_MAX and PATH_MAX (with its NUL) of Linux. */
export const isTooLong = (path: string): boolean => path.length > 4095 || path.split('/').some((name) => name.length > 255);

export const isClean = (path: string): boolean => path.startsWith('/') && cleanPath(path) === path;
