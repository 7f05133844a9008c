/** `tsrun inspect IMAGE`: labels, definition, runscript, environment, as `apptainer inspect` prints them. */
import { statSync } from 'node:fs';
import { metadataOfFile, metadataOfView } from '../build/foreign.ts';
import { openSquashFile } from '../build/squash-file.ts';
import { hostView } from '../image/host-view.ts';
import { explainOpen } from '../oci/files.ts';
import { nodeHost } from '../run/host-node.ts';
import { TsrunError } from '../util/errors.ts';

export type InspectArguments = {
  readonly image: string;
  readonly labels: boolean;
  readonly deffile: boolean;
  readonly runscript: boolean;
  readonly startscript: boolean;
  readonly test: boolean;
  readonly environment: boolean;
  readonly helpfile: boolean;
  readonly all: boolean;
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
export const inspect = (args: InspectArguments): string => {
  const attributes = readAttributes(args.image);
  const chosen = chosenParts(args);
  if (args.json) {
    const shown = Object.fromEntries(chosen.map((part) => [part, attributes[part]]));
    return `${JSON.stringify({ data: { attributes: shown }, type: 'container' }, undefined, '\t')}\n`;
  }
  return chosen.map((part) => partText(attributes, part)).join('');
};

const PARTS = ['labels', 'deffile', 'runscript', 'startscript', 'test', 'environment', 'helpfile'] as const;
type Part = (typeof PARTS)[number];

const chosenParts = (args: InspectArguments): readonly Part[] => {
  if (args.all) return PARTS;
  const chosen = PARTS.filter((part) => args[part]);
  return chosen.length === 0 ? ['labels'] : chosen;
};

const partText = (attributes: Attributes, part: Part): string => {
  switch (part) {
    case 'labels':
      return lines(Object.entries(attributes.labels).map(([key, value]) => `${key}: ${value}`));
    case 'environment':
      return Object.entries(attributes.environment)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([path, text]) => `=== ${path} ===\n${withNewline(text)}\n`)
        .join('');
    default:
      return withNewline(attributes[part]);
  }
};

const lines = (texts: readonly string[]): string =>
  [...texts]
    .sort()
    .map((text) => `${text}\n`)
    .join('');

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
