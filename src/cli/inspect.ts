/** `tsrun inspect IMAGE`: labels, definition, runscript, environment, as `apptainer inspect` prints them. */
import { statSync } from 'node:fs';
import { metadataOfFile, metadataOfView } from '../build/foreign.ts';
import { openSquashFile } from '../build/squash-file.ts';
import { hostView } from '../image/host-view.ts';
import { explainOpen } from '../oci/files.ts';
import { nodeHost } from '../run/host-node.ts';
import { TsrunError } from '../util/errors.ts';

export const PARTS = ['labels', 'deffile', 'runscript', 'startscript', 'test', 'environment', 'helpfile'] as const;
type Part = (typeof PARTS)[number];

export type InspectArguments = {
  readonly image: string;
  /** Which parts to show; labels when there is none. */
  readonly parts: readonly Part[];
  readonly json: boolean;
};

type Attributes = {
  readonly labels: Record<string, string>;
  readonly environment: Record<string, string>;
  readonly deffile: string;
  readonly runscript: string;
  readonly startscript: string;
  readonly test: string;
  readonly helpfile: string;
};

/** @returns the text for stdout. @throws TsrunError */
export const inspect = ({ image, parts, json }: InspectArguments): string => {
  const attributes = readAttributes(image);
  const chosen: readonly Part[] = parts.length === 0 ? ['labels'] : parts;
  if (!json) return chosen.map((part) => partText(attributes, part)).join('');
  // As Apptainer does: what the image has not is left out.
  const shown = chosen.filter((part) => Object.keys(attributes[part]).length > 0).map((part) => [part, attributes[part]]);
  return `${JSON.stringify({ data: { attributes: Object.fromEntries(shown) }, type: 'container' }, undefined, '\t')}\n`;
};

const partText = (attributes: Attributes, part: Part): string => {
  switch (part) {
    case 'labels':
      return Object.entries(attributes.labels)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, value]) => `${key}: ${value}\n`)
        .join('');
    case 'environment':
      return Object.entries(attributes.environment)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([path, text]) => `=== ${path} ===\n${withNewline(text)}\n`)
        .join('');
    default:
      return withNewline(attributes[part]);
  }
};

const withNewline = (text: string): string => (text === '' || text.endsWith('\n') ? text : `${text}\n`);

const readAttributes = (image: string): Attributes => {
  const text = readMetadata(image);
  const { data } = parse(text, image) as { data?: { attributes?: Record<string, unknown> } };
  const attributes = data?.attributes ?? {};
  const texts = (value: unknown): Record<string, string> =>
    typeof value === 'object' && value !== null
      ? Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
      : {};
  const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');
  return {
    labels: texts(attributes['labels']),
    environment: texts(attributes['environment']),
    deffile: textOf(attributes['deffile']),
    runscript: textOf(attributes['runscript']),
    startscript: textOf(attributes['startscript']),
    test: textOf(attributes['test']),
    helpfile: textOf(attributes['helpfile']),
  };
};

const readMetadata = (image: string): string => {
  try {
    if (statSync(image).isDirectory()) return metadataOfView(hostView(nodeHost({ args: [] }), image.replace(/(?<=.)\/+$/, '')), '');
  } catch (error) {
    throw explainOpen(error, image);
  }
  return metadataOfFile(openSquashFile(image));
};

const parse = (text: string, image: string): object => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch (error) {
    throw new TsrunError({
      code: 'E_IMAGE_READ',
      what: `cannot inspect ${image}`,
      why: `its inspect data is not JSON: ${(error as Error).message.slice(0, 120)}`,
      hint: 'the image is damaged: fetch or build it again',
    });
  }
};
