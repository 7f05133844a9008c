/**
 * What apk fetched, kept in DIR/apk/STAGE, which is a cache of apk's own (apk-cache(5)): APKINDEX.HASH.tar.gz, NAME-VERSION.HASH.apk.
 *
 * Nearly every recipe says `--no-cache`. So the step finds a program of apk's name first in PATH, which goes on as the image's own with a cache in that
 * option's place: a directory of the step, with links to what has been kept; what is new there is taken over when the step has ended. `apk cache` is
 * passed on as it is, and looks after what the image has. Building from DIR, apk has no network (`--no-network`: "the cache is still used"), and checks
 * signatures and packages as before.
 *
 * Written after apk(8), apk-cache(8) and src/database.c of apk-tools 2.14 and 3.0: a cache directory is opened relative to the root, so one that begins
 * with "/" is the same for every `--root`; since 3.0 packages go into a cache that an option names only with `--cache-packages`.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type InflateRaw, inflateRawSync } from 'node:zlib';
import { linksTo, takeOver } from './kept-files.ts';
import type { Package } from './packages.ts';
import type { CommandScript, ToolSupply, Vendor } from './vendor.ts';

/** Inside, in the memory-backed directory of the step. */
const CACHE = '/dev/.tsrun-apk';
const KEPT = '/dev/.tsrun-apk-kept';

/** Of packages and indexes; not `installed`, by which apk would remember what another build has made itself (`--virtual`). */
const NAME = /^[A-Za-z0-9._][A-Za-z0-9._+~-]{0,250}\.[0-9a-f]{8}\.(?:apk|tar\.gz|adb)$/;

export const apkSupply = async (purpose: Vendor['purpose'], directory: string, scratch: string): Promise<ToolSupply> => {
  if (purpose === 'use' && !existsSync(directory)) return {};
  const cache = join(scratch, 'apk');
  await linksTo(directory, cache, KEPT);
  const why = purpose === 'keep' ? 'what apk fetches is kept (--vendor)' : 'packages kept before (--offline)';
  return {
    mounts: [
      { source: cache, target: CACHE, readOnly: false, why },
      ...(existsSync(directory) ? [{ source: directory, target: KEPT, readOnly: true, why }] : []),
    ],
    commands: new Map([['apk', commandOf(purpose)]]),
    ...(purpose === 'keep' ? { ended: () => takeOver(cache, directory, NAME) } : {}),
  };
};

/** Without `--update-cache` an index of the last four hours would do, which `--no-cache` does not mean. */
const OPTION: Readonly<Record<Vendor['purpose'], string>> = { keep: '--update-cache', use: '--no-network' };

const commandOf =
  (purpose: Vendor['purpose']): CommandScript =>
  ({ program }) =>
    `#!/bin/sh
case " $* " in *' cache clean '* | *' cache purge '* | *' cache sync '* | *' cache download '*) exec ${program} "$@" ;; esac
skipped=no
for each in "$@"; do
  shift
  case $skipped$each in
    yes*) skipped=no ;;
    no--no-cache | no--cache-dir=*) ;;
    no--cache-dir) skipped=yes ;;
    *) set -- "$@" "$each" ;;
  esac
done
case $(${program} --version 2>/dev/null) in 'apk-tools 2.'*) ;; *) set -- --cache-packages "$@" ;; esac
exec ${program} --cache-dir=${CACHE} ${OPTION[purpose]} "$@"
`;

/** @param directory DIR/apk. Tells whether a package is there, by the checksum that apk keeps of what it has installed */
export const keptApks = async (directory: string): Promise<(each: Package) => boolean> => {
  const digests = new Map<string, string | undefined>();
  for (const stage of await readdir(directory).catch(() => []))
    for (const file of await readdir(join(directory, stage)).catch(() => []))
      if (file.endsWith('.apk')) digests.set(file, await controlDigest(join(directory, stage, file)));
  return ({ name, version, digest = '' }) => {
    const file = `${name}-${version}.${digest.replace(/^.*:/, '').slice(0, 8)}.apk`;
    // A package of version 3 is known by its name only: its checksum covers a database in it.
    return digests.has(file) && (digests.get(file) ?? digest) === digest;
  };
};

/** Of a signature and a control section, which are small; the data comes behind. */
const MAX_HEAD = 4 * 1024 * 1024;

/**
 * "sha1:…" of the control section of a package of version 2, as it is compressed: apk-v2(5), three gzip streams; the first are signatures. Undefined
 * where it is another kind of file. Exported for tests.
 */
export const controlDigest = async (path: string): Promise<string | undefined> => {
  const file = await open(path);
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_HEAD), 0, MAX_HEAD, 0);
    for (let rest = buffer.subarray(0, bytesRead); ; ) {
      const { length, content } = firstStream(rest);
      if (!content.toString('latin1', 0, 6).startsWith('.SIGN.'))
        return `sha1:${createHash('sha1').update(rest.subarray(0, length)).digest('hex')}`;
      rest = rest.subarray(length);
    }
  } catch {
    return undefined;
  } finally {
    await file.close();
  }
};

/** RFC 1952: ten bytes before what is compressed (abuild's gzip writes no names and no comments), eight behind it. @throws Error when it is none */
const firstStream = (bytes: Buffer): { readonly length: number; readonly content: Buffer } => {
  if (bytes.toString('hex', 0, 4) !== '1f8b0800') throw new Error('no gzip stream, or one with a name');
  // What Node returns when it is asked for `info`, and its types do not know.
  const { buffer, engine } = inflateRawSync(bytes.subarray(10), { info: true, maxOutputLength: 4 * MAX_HEAD }) as unknown as {
    readonly buffer: Buffer;
    readonly engine: InflateRaw;
  };
  return { length: 10 + engine.bytesWritten + 8, content: buffer };
};
