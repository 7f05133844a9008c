/**
 * Opening what a recipe begins with, under a lock: what was opened is noted with its digest, kept when packages are kept, and with a lock taken by the
 * digest it had instead of the name it has.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { type Lock, type LockedBase, lockedBase } from '../lock/lock-file.ts';
import type { Vendor } from '../lock/vendor.ts';
import type { Digest } from '../oci/descriptor.ts';
import type { OciImage } from '../oci/image.ts';
import { formatPlatform } from '../oci/platform.ts';
import type { Reference } from '../oci/reference.ts';
import { addToLayout } from '../oci/write-layout.ts';
import { TsrunError } from '../util/errors.ts';
import { openSource, type Source, type SourceContext } from './sources.ts';

export type LockedOpening = {
  /** Its path is for messages. */
  readonly lock: { readonly lock: Lock; readonly path: string } | undefined;
  readonly vendor: Vendor | undefined;
  /** A lock will be written. */
  readonly writes: boolean;
};

export type Bases = {
  open(reference: Reference, context: SourceContext): Promise<Source>;
  /** Each once, in the order of opening. */
  readonly opened: readonly LockedBase[];
};

/** @throws TsrunError of openSource; E_LOCK_CHANGED when a base is not what was locked */
export const createBases = ({ lock, vendor, writes }: LockedOpening): Bases => {
  const opened: LockedBase[] = [];
  const note = (base: LockedBase): void => {
    if (!opened.some(({ reference, platform }) => reference === base.reference && platform === base.platform)) opened.push(base);
  };
  return {
    opened,
    open: async (reference, context) => {
      // Digests of large files take their time, and directories have none.
      if (lock === undefined && vendor === undefined && !writes) return openSource(reference, context);
      const platform = formatPlatform(context.platform);
      const wanted = lock === undefined ? undefined : lockedBase(lock.lock, reference.text, platform, lock.path);
      const kept = vendor?.purpose === 'use' ? layoutOf(vendor, reference.text, platform) : undefined;
      const source = await openSource(kept ?? byDigest(reference, wanted), context);
      const shown = kept === undefined ? source : asBefore(source, reference);
      const digest = vendor?.purpose === 'keep' ? await keep(vendor, source, reference, platform) : await digestOf(source, reference);
      if (wanted !== undefined && wanted.digest !== digest) {
        throw new TsrunError({
          code: 'E_LOCK_CHANGED',
          what: `cannot build as ${lock?.path} says`,
          why: `${reference.text} has the digest ${digest}, not ${wanted.digest}`,
          hint: 'if that is meant, write the lock anew: tsrun build --lock …',
        });
      }
      note({ reference: reference.text, platform, digest });
      return shown;
    },
  };
};

/** A tag may point elsewhere by now. */
const byDigest = (reference: Reference, wanted: LockedBase | undefined): Reference =>
  wanted === undefined || reference.kind !== 'registry' ? reference : { ...reference, digest: wanted.digest as Digest };

const nameInLayout = (text: string, platform: string): string => `${text} ${platform}`;

const layoutOf = ({ directory }: Vendor, text: string, platform: string): Reference => ({
  kind: 'oci-layout',
  path: join(directory, 'base'),
  tag: nameInLayout(text, platform),
  text,
});

/** The image shall not tell whether its base came from a registry or from where it was kept. */
const asBefore = (source: Source, reference: Reference): Source => {
  if (source.kind !== 'layers' || reference.kind !== 'registry') return source;
  const origin: OciImage['origin'] = { bootstrap: 'docker', from: reference.text.replace(/^docker:\/\//, '') };
  return { kind: 'layers', image: { ...source.image, name: reference.text, origin } };
};

const keep = async (vendor: Vendor, source: Source, reference: Reference, platform: string): Promise<string> => {
  if (source.kind === 'layers') return addToLayout(join(vendor.directory, 'base'), source.image, nameInLayout(reference.text, platform));
  throw new TsrunError({
    code: 'E_VENDOR',
    what: `cannot keep ${reference.text}`,
    why: 'it is an image file, which lies here already and cannot be put into a layout',
    hint: 'begin the recipe with the layers it was made from, or use --lock without --vendor',
  });
};

/** Of the manifest; of a file without one, of its bytes. @throws TsrunError E_LOCK for what has neither */
const digestOf = async (source: Source, reference: Reference): Promise<string> => {
  if (source.kind === 'layers' && source.image.manifestDigest !== undefined) return source.image.manifestDigest;
  const path = source.kind === 'squashfs' ? source.path : 'path' in reference ? reference.path : undefined;
  const hash = createHash('sha256');
  try {
    if (path === undefined) throw new Error('it was a stream');
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
  } catch (error) {
    throw new TsrunError({
      code: 'E_LOCK',
      what: `cannot lock ${reference.text}`,
      why: `it has no digest: ${error instanceof Error ? error.message : String(error)}`,
      hint: 'begin the recipe with an image of a registry, a layout or a file',
    });
  }
  return `sha256:${hash.digest('hex')}`;
};
