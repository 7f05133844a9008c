/** Adds images to an OCI layout (image-spec image-layout.md), blob by blob, as they were found: what had a digest keeps it. */
import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { digestAlgorithm } from './descriptor.ts';
import type { OciImage } from './image.ts';
import { layerTar } from './layer.ts';
import { DEFAULT_LIMITS } from './limits.ts';

const REF_NAME = 'org.opencontainers.image.ref.name';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG = 'application/vnd.oci.image.config.v1+json';
const TAR = 'application/vnd.oci.image.layer.v1.tar';

type Descriptor = {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
};

/** @param name under which it will be found; an image of that name is replaced. @returns the manifest's digest */
export const addToLayout = async (directory: string, image: OciImage, name: string): Promise<string> => {
  await mkdir(join(directory, 'blobs/sha256'), { recursive: true });
  const manifest = image.manifest === undefined ? await asFound(directory, image) : await copied(directory, image, image.manifest);
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}\n');
  const index = join(directory, 'index.json');
  const known = JSON.parse(await readFile(index, 'utf8').catch(() => '{"manifests":[]}')) as { manifests: readonly Descriptor[] };
  const others = known.manifests.filter(({ annotations }) => annotations?.[REF_NAME] !== name);
  const manifests = [...others, { ...manifest, annotations: { [REF_NAME]: name } }].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  await replaceFile(index, `${JSON.stringify({ schemaVersion: 2, manifests }, undefined, 2)}\n`);
  return manifest.digest;
};

const nameOf = ({ annotations }: Descriptor): string => annotations?.[REF_NAME] ?? '';

const replaceFile = async (path: string, text: string): Promise<void> => {
  const fresh = `${path}.${randomBytes(6).toString('hex')}`;
  await writeFile(fresh, text);
  await rename(fresh, path);
};

/** All documents are there: every blob under the digest that its manifest promises. */
const copied = async (directory: string, image: OciImage, manifest: Uint8Array): Promise<Descriptor> => {
  const { config, layers, mediaType } = JSON.parse(Buffer.from(manifest).toString('utf8')) as {
    config: Descriptor;
    layers: readonly Descriptor[];
    mediaType?: string;
  };
  await putBytes(directory, image.config ?? new Uint8Array(0), config.digest);
  for (const [at, { digest }] of layers.entries()) {
    const layer = image.layers[at];
    if (layer !== undefined) await putStream(directory, layer.open(), digest);
  }
  return { ...(await putBytes(directory, manifest, image.manifestDigest)), mediaType: mediaType ?? MANIFEST };
};

/** A tar file or directory: its layers, unpacked, become an image with documents of its own. */
const asFound = async (directory: string, image: OciImage): Promise<Descriptor> => {
  const layers: Descriptor[] = [];
  for (const layer of image.layers) {
    layers.push({
      ...(await putStream(
        directory,
        layerTar(layer, image.name, DEFAULT_LIMITS, () => {}),
        undefined,
      )),
      mediaType: TAR,
    });
  }
  const given = image.config === undefined ? {} : (JSON.parse(Buffer.from(image.config).toString('utf8')) as object);
  const architecture = image.platform?.architecture;
  const rootfs = { type: 'layers', diff_ids: layers.map(({ digest }) => digest) };
  const config = Buffer.from(JSON.stringify({ os: 'linux', ...(architecture === undefined ? {} : { architecture }), ...given, rootfs }));
  const manifest = {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: { mediaType: CONFIG, ...(await putBytes(directory, config, undefined)) },
    layers,
  };
  return { ...(await putBytes(directory, Buffer.from(JSON.stringify(manifest)), undefined)), mediaType: MANIFEST };
};

type Stored = { readonly digest: string; readonly size: number };

const putBytes = (directory: string, bytes: Uint8Array, digest: string | undefined): Promise<Stored> =>
  putStream(directory, Readable.from([bytes]), digest);

/** Appears whole or not at all. Bytes of another digest than promised are an error of the source, which checks its own; here they are refused. */
const putStream = async (directory: string, source: AsyncIterable<Uint8Array>, expected: string | undefined): Promise<Stored> => {
  const algorithm = expected === undefined ? 'sha256' : digestAlgorithm(expected as `sha256:${string}`);
  const folder = join(directory, 'blobs', algorithm);
  await mkdir(folder, { recursive: true });
  const fresh = join(folder, `.${randomBytes(6).toString('hex')}`);
  const hash = createHash(algorithm);
  let size = 0;
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      hash.update(chunk);
      size += chunk.length;
      yield chunk;
    }
  };
  try {
    await pipeline(Readable.from(counted(), { objectMode: false }), createWriteStream(fresh));
    const hex = hash.digest('hex');
    const digest = `${algorithm}:${hex}`;
    if (expected !== undefined && digest !== expected) throw new Error(`${digest} instead of ${expected}`);
    await rename(fresh, join(folder, hex));
    return { digest, size };
  } finally {
    await rm(fresh, { force: true });
  }
};
