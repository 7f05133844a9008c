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
  /** In place of the image itself. */
  readonly app?: string | undefined;
  readonly listApps?: boolean;
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

type Inspected = Attributes & { readonly apps: ReadonlyMap<string, Attributes> };

/** @returns the text for stdout. @throws TsrunError */
export const inspect = ({ image, parts, app, listApps = false, json }: InspectArguments): string => {
  const { apps, ...whole } = readAttributes(image);
  const names = [...apps.keys()].sort();
  const chosen: readonly Part[] = parts.length === 0 ? (listApps ? [] : ['labels']) : parts;
  const attributes = app === undefined ? whole : apps.get(app);
  if (attributes === undefined) {
    const hint = names.length === 0 ? 'leave --app out' : `its apps: ${names.join(' ')}`;
    throw new TsrunError({ code: 'E_NO_APP', what: `cannot inspect the app ${app} of ${image}`, why: 'the image has no such app', hint });
  }
  if (!json) return (listApps ? names.map((name) => `${name}\n`) : []).concat(chosen.map((part) => partText(attributes, part))).join('');
  const shown = partsOf(attributes, chosen);
  const listed = listApps ? { apps: Object.fromEntries([...apps].map(([name, each]) => [name, partsOf(each, parts)])) } : {};
  const data = { attributes: app === undefined ? { ...shown, ...listed } : { apps: { [app]: shown } } };
  return `${JSON.stringify({ data, type: 'container' }, undefined, '\t')}\n`;
};

/** As Apptainer does: what the image has not is left out. */
const partsOf = (attributes: Attributes, parts: readonly Part[]): object =>
  Object.fromEntries(parts.filter((part) => Object.keys(attributes[part]).length > 0).map((part) => [part, attributes[part]]));

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

const readAttributes = (image: string): Inspected => {
  const { data } = parse(readMetadata(image), image) as { data?: { attributes?: unknown } };
  const attributes = recordOf(data?.attributes);
  const apps = Object.entries(recordOf(attributes['apps'])).map(([name, app]) => [name, attributesOf(recordOf(app))] as const);
  return { ...attributesOf(attributes), apps: new Map(apps) };
};

const recordOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};

const attributesOf = (attributes: Record<string, unknown>): Attributes => {
  const texts = (value: unknown): Record<string, string> =>
    Object.fromEntries(Object.entries(recordOf(value)).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
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
