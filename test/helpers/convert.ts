/** Conversions in the test's own process, with the defaults of `tsrun build`. */
import { dirname } from 'node:path';
import { type Converted, type ConvertOptions, convertImage } from '../../src/build/convert.ts';
import { openSource } from '../../src/build/sources.ts';
import { openSquashFile, type SquashFile } from '../../src/build/squash-file.ts';
import { DEFAULT_LIMITS } from '../../src/oci/limits.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { must } from './trees.ts';

const convertOptions: ConvertOptions = {
  compressor: 'zstd',
  level: 1,
  blockSize: 128 * 1024,
  threads: 1,
  limits: DEFAULT_LIMITS,
  force: true,
  signal: new AbortController().signal,
  onProgress: () => {},
};

export const convert = async (
  reference: string,
  target: string,
  options: Partial<ConvertOptions> = {},
  arch = 'amd64',
): Promise<Converted> => {
  const all = { ...convertOptions, ...options };
  const source = await openSource(parseReference(reference), {
    platform: { os: 'linux', architecture: arch },
    limits: all.limits,
    scratch: dirname(target),
    registry: () => Promise.reject(new Error('this test has no registry')),
  });
  if (source.kind !== 'layers') throw new Error(`${reference} has no layers`);
  try {
    return await convertImage(source.image, target, all);
  } finally {
    await source.image.close();
  }
};

/** Unpacks the image's root file system with unsquashfs. */
export const unsquash = (image: string, directory: string): SquashFile => {
  const file = openSquashFile(image);
  must('unsquashfs', ['-offset', String(file.offset), '-no-progress', '-quiet', '-dest', directory, image]);
  return file;
};

/** What every image gets at its top beside what its layers hold. */
export const RENDERED_NAMES: ReadonlySet<string> = new Set([
  '.singularity.d',
  'singularity',
  'environment',
  '.exec',
  '.run',
  '.shell',
  '.test',
  'dev',
  'etc',
  'home',
  'proc',
  'root',
  'sys',
  'tmp',
  'var',
]);
