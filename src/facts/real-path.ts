/** The path behind a path: its symbolic links followed, one readlink for each part. No call follows a link by itself, so nothing is asked twice. */
import { EINVAL, ELOOP, type Errno, failed, type Host } from '../util/host.ts';

/** The kernel's own limit (MAXSYMLINKS). */
const MAX_LINKS = 40;

/** @param path absolute. Answers with the errno of the first part that is missing or cannot be looked at. */
export const realPath = (host: Host, path: string): string | Errno => {
  const left = path.split('/').reverse();
  let real = '';
  let links = 0;
  for (;;) {
    const part = left.pop();
    if (part === undefined) return real === '' ? '/' : real;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      real = real.slice(0, Math.max(0, real.lastIndexOf('/')));
      continue;
    }
    const next = `${real}/${part}`;
    const link = host.readlink(next);
    if (link === EINVAL) real = next;
    else if (failed(link)) return link;
    else {
      if (++links > MAX_LINKS) return ELOOP;
      if (link.startsWith('/')) real = '';
      left.push(...link.split('/').reverse());
    }
  }
};
