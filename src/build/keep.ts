/** Which files are kept in memory while they pass by, so that the image facts can be found out without reading the image again. */
import { MAX_ARCHIVE_HEAD } from '../image/locales.ts';

const MEBIBYTE = 1024 * 1024;

/** By the name a file has in its layer: what /bin/sh, /usr/bin/env … usually are, after symbolic links. */
const PROGRAM = /(?:^|\/)s?bin\/(?:sh|ash|bash|dash|busybox|toybox|env|true|ls|coreutils|ldconfig)$/;
const C_LIBRARY = /(?:^|\/)(?:libc\.so\.6|libc-2\.\d+\.so|ld-musl-[a-z0-9_]+\.so\.1|libc\.musl-[a-z0-9_]+\.so\.1)$/;
const ACCOUNTS = /^(?:etc\/(?:passwd|group|os-release)|usr\/lib\/os-release)$/;
const SCRIPTS = /^\.singularity\.d\/(?:runscript|runscript\.help|startscript|test|labels\.json|env\/[^/]+\.sh)$/;
const APP_SCRIPTS = /^scif\/apps\/[^/]+\/scif\/(?:runscript|runscript\.help|startscript|test|labels\.json|env\/[^/]+\.sh)$/;

/** How many bytes of the file to keep. @param path clean, relative to the root */
export const keepBytes = (path: string): number => {
  if (ACCOUNTS.test(path) || SCRIPTS.test(path)) return MEBIBYTE;
  if (APP_SCRIPTS.test(path)) return MEBIBYTE / 4;
  if (C_LIBRARY.test(path) || PROGRAM.test(path)) return 4 * MEBIBYTE;
  return path.endsWith('/locale-archive') ? MAX_ARCHIVE_HEAD : 0;
};
