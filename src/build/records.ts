/** The data objects a SIF carries beside its root file system, as text. */
import { quoteWord } from '../image/singularity.ts';
import type { ImageView } from '../image/view.ts';
import { namesIn, readText } from '../image/walk.ts';
import type { OciImage } from '../oci/image.ts';
import { decodeUtf8 } from '../util/utf8.ts';

/** Apptainer looks for these names. */
export const OBJECTS = {
  definition: 'Deffile',
  metadata: 'inspect-metadata.json',
  ociConfig: 'oci-config.json',
  ociManifest: 'oci-manifest.json',
  partition: 'image.squashfs',
  build: 'tsrun-build.json',
} as const;

/** As Apptainer writes it for an image it pulled. */
export const definitionText = ({ bootstrap, from }: OciImage['origin']): string => `bootstrap: ${bootstrap}\nfrom: ${from}\n\n`;

const MAX_SCRIPT = 256 * 1024;
const MAX_APPS = 1000;
const APPS = '/scif/apps';
const ENV = '/.singularity.d/env';

/**
 * The JSON that `apptainer inspect` and `tsrun inspect` show. Texts are read from the finished tree, so they are those of the image even
 * where it brought its own.
 */
export const inspectMetadata = (view: ImageView, labels: Readonly<Record<string, string>>, definition: string): string => {
  const script = (path: string): string => text(readText(view, path, MAX_SCRIPT));
  const scripts = namesIn(view, ENV).filter((name) => /^(?:10-docker.*|9.*-environment)\.sh$/.test(name));
  const apps = namesIn(view, APPS)
    .slice(0, MAX_APPS)
    .map((name) => [text(name), appAttributes(view, name)] as const);
  const own = parseLabels(readText(view, '/.singularity.d/labels.json', MAX_SCRIPT));
  const attributes = {
    deffile: definition,
    environment: Object.fromEntries(scripts.map((name) => [`${ENV}/${text(name)}`, script(`${ENV}/${name}`)])),
    labels: { ...own, ...labels },
    runscript: script('/.singularity.d/runscript'),
    startscript: script('/.singularity.d/startscript'),
    test: script('/.singularity.d/test'),
    helpfile: script('/.singularity.d/runscript.help'),
    ...(apps.length === 0 ? {} : { apps: Object.fromEntries(apps) }),
  };
  return `${JSON.stringify({ data: { attributes }, type: 'container' }, undefined, '\t')}\n`;
};

/** Of one app (SCIF). */
const appAttributes = (view: ImageView, app: string) => {
  const home = `${APPS}/${app}/scif`;
  const script = (path: string): string => text(readText(view, path, MAX_SCRIPT));
  const scripts = namesIn(view, `${home}/env`).filter((name) => name.endsWith('.sh'));
  return {
    environment: Object.fromEntries(scripts.map((name) => [text(`${home}/env/${name}`), script(`${home}/env/${name}`)])),
    labels: parseLabels(readText(view, `${home}/labels.json`, MAX_SCRIPT)),
    runscript: script(`${home}/runscript`),
    startscript: script(`${home}/startscript`),
    test: script(`${home}/test`),
    helpfile: script(`${home}/runscript.help`),
  };
};

const text = (bytes: string): string => decodeUtf8(bytes) ?? bytes;

/** /.singularity.d/labels.json; none where it is not what it should be. @param bytes byte string */
export const parseLabels = (bytes: string): Record<string, string> => {
  try {
    const value: unknown = JSON.parse(text(bytes));
    if (typeof value !== 'object' || value === null) return {};
    return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
  } catch {
    return {};
  }
};

export type BuildRecord = {
  readonly version: 1;
  /** Of tsrun and of the Node whose compressors were used: together with the input they decide every byte. */
  readonly tsrun: string;
  readonly node: string;
  /** The same for the same files, whatever the compressor (src/squashfs/README.md). */
  readonly treeDigest: string;
  readonly compression: { readonly compressor: string; readonly level: number | undefined; readonly blockSize: number };
  readonly source: { readonly bootstrap: string; readonly from: string; readonly manifestDigest: string | undefined };
  /** Base first; diffIDs where they are known, else digests. */
  readonly layers: readonly string[];
};

export const buildRecordText = (record: BuildRecord): string => `${JSON.stringify(record, undefined, 2)}\n`;

/** For messages that name a command. */
export const shellWord = (word: string): string => (/^[A-Za-z0-9_./:@%+=,-]+$/.test(word) ? word : quoteWord(word));
