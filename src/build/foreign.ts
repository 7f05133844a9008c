/** Image facts and inspect data of images that others made: looked up in the file, else found out by looking inside. */
import { computeFacts } from '../image/compute.ts';
import { IMAGE_FACTS_MAX_BYTES, IMAGE_FACTS_OBJECT, type ImageFacts } from '../image/facts.ts';
import { parseFacts } from '../image/read-facts.ts';
import type { ImageView } from '../image/view.ts';
import { readText } from '../image/walk.ts';
import { parseRunConfig, type RunConfig } from '../oci/config.ts';
import { decodeUtf8 } from '../util/utf8.ts';
import { nativeView } from './native-view.ts';
import { inspectMetadata, OBJECTS } from './records.ts';
import { objectText, type SquashFile } from './squash-file.ts';

/** @throws TsrunError E_IMAGE_READ */
export const factsOfFile = (image: SquashFile): ImageFacts => {
  const text = objectText(image, 'generic-json', IMAGE_FACTS_OBJECT);
  const stored = text === '' || text.length > IMAGE_FACTS_MAX_BYTES ? null : parseFacts(text);
  return stored ?? computeFacts(nativeView(image), configOf(image), archOf(image));
};

const archOf = (image: SquashFile): string => {
  const arch = image.sif?.header.arch;
  return arch === undefined || arch === 'unknown' ? '' : arch;
};

/** Apptainer, SingularityCE and tsrun keep the OCI config beside the root file system. */
const configOf = (image: SquashFile): RunConfig | undefined => {
  const text = objectText(image, 'generic-json', OBJECTS.ociConfig);
  try {
    return text === '' ? undefined : parseRunConfig(JSON.parse(text));
  } catch {
    return undefined;
  }
};

/** The JSON of `tsrun inspect`. */
export const metadataOfFile = (image: SquashFile): string => {
  const stored = objectText(image, 'generic-json', OBJECTS.metadata);
  return stored === '' ? metadataOfView(nativeView(image), objectText(image, 'definition')) : stored;
};

export const metadataOfView = (view: ImageView, definition: string): string => {
  const own = readText(view, '/.singularity.d/Singularity', 1024 * 1024);
  return inspectMetadata(view, {}, definition || (decodeUtf8(own) ?? own));
};
