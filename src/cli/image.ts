/** `tsrun image ls|cat|extract|facts|objects`: looking into an image file without running it. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { factsOfFile } from '../build/foreign.ts';
import { OBJECTS } from '../build/records.ts';
import { objectText, openSquashFile, type SquashFile } from '../build/squash-file.ts';
import type { ImageFacts } from '../image/facts.ts';
import type { SifContent, SifLink, SifObject } from '../sif/format.ts';
import { TsrunError } from '../util/errors.ts';
import { nativeProgram } from '../util/native-program.ts';
import { fileChunks } from '../util/read-file.ts';
import { decodeUtf8 } from '../util/utf8.ts';
import { numberOf } from './build.ts';

const MAX_COMPLAINT = 4000;

/** Runs the native reader with our own output. @throws TsrunError E_IMAGE_READ with what it said */
const runNative = async (command: string, options: readonly string[], image: SquashFile, rest: readonly string[]): Promise<void> => {
  const args = ['@image', command, ...options, image.path, String(image.offset), String(image.size), ...rest];
  const child = spawn(nativeProgram(), args, { stdio: ['ignore', 'inherit', 'pipe'] });
  let complaint = '';
  child.stderr.on('data', (text: Buffer) => {
    complaint = (complaint + text.toString('utf8')).slice(0, MAX_COMPLAINT);
  });
  const [status, signal] = await new Promise<readonly [number | null, NodeJS.Signals | null]>((done, fail) => {
    child.on('error', fail);
    child.on('close', (...how) => done(how));
  });
  // Its reader closed early (`… | head`).
  if (signal === 'SIGPIPE') return;
  if (signal !== null) process.kill(process.pid, signal);
  else if (status !== 0) throw nativeFailure(complaint, image.path);
  else if (complaint !== '') process.stderr.write(complaint);
};

/** "tsrun: WHAT: WHY" */
const nativeFailure = (complaint: string, path: string): TsrunError => {
  const [, what = `cannot read the image ${path}`, why = 'the reader ended without a word'] =
    /^tsrun: ([^:]*): ([\s\S]*?)\s*$/.exec(complaint) ?? [];
  const cure = CURES.find(([pattern]) => pattern.test(why))?.[1] ?? 'fetch or build the image again';
  return new TsrunError({ code: 'E_IMAGE_READ', what, why, hint: cure.replace('IMAGE', path) });
};

const CURES: readonly (readonly [RegExp, string])[] = [
  [/Directory not empty/, 'name a directory that is empty or not there yet'],
  [/^there is no /, 'tsrun image ls IMAGE lists its names'],
  [/Permission denied|Read-only file system/, 'name a directory that you may write in'],
  [/No space left|quota/i, 'make room there'],
];

export const imageLs = (path: string, paths: readonly string[], depth: string | undefined): Promise<void> => {
  const levels = depth === undefined ? [] : ['-d', String(numberOf(depth, '--depth', 0, 1_000_000))];
  return runNative('ls', levels, openSquashFile(path), paths.map(absolute));
};

export const imageCat = (path: string, paths: readonly string[]): Promise<void> =>
  runNative('cat', [], openSquashFile(path), paths.map(absolute));

export const imageExtract = (path: string, directory: string): Promise<void> =>
  runNative('extract', [], openSquashFile(path), [resolve(directory)]);

const absolute = (path: string): string => (path.startsWith('/') ? path : `/${path}`);

/** For people, or the facts as they are stored. @returns the text for stdout */
export const imageFacts = (path: string, json: boolean): string => {
  const image = openSquashFile(path);
  const facts = factsOfFile(image);
  const build = parseBuild(objectText(image, 'generic-json', OBJECTS.build));
  return json ? `${JSON.stringify({ ...readable(facts), build }, undefined, 2)}\n` : factsText(facts, build);
};

type Build = { readonly treeDigest?: unknown; readonly tsrun?: unknown };

const parseBuild = (text: string): Build => {
  try {
    const value: unknown = JSON.parse(text || '{}');
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
};

/** Byte strings as the text they stand for. */
const readable = (facts: ImageFacts): object => {
  const convert = (value: unknown): unknown => {
    if (typeof value === 'string') return decodeUtf8(value) ?? value;
    if (Array.isArray(value)) return value.map(convert);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [convert(key), convert(each)]));
  };
  return convert(facts) as object;
};

const factsText = (facts: ImageFacts, build: Build): string => {
  const rows: readonly (readonly [string, string])[] = [
    ['architecture', facts.arch],
    ['system', facts.os.name || facts.os.id],
    ['C library', facts.libc.kind === 'none' ? '' : `${facts.libc.kind} ${facts.libc.version}`.trim()],
    ['shell', facts.bash || facts.sh],
    ['entrypoint', facts.entrypoint.join(' ')],
    ['cmd', facts.cmd.join(' ')],
    ['working directory', facts.workingDir],
    ['user', facts.user],
    ['own runscript', facts.runscript ? 'yes' : ''],
    ['environment scripts', facts.envScripts.join(' ')],
    ['environment', facts.env.map((entry) => entry.slice(0, entry.indexOf('='))).join(' ')],
    ['locales', facts.locales.join(' ')],
    ['CA bundle', facts.caBundle],
    ['MPI', facts.mpi.join(' ')],
    ['tree digest', typeof build.treeDigest === 'string' ? build.treeDigest : ''],
    ['built by', typeof build.tsrun === 'string' ? `tsrun ${build.tsrun}` : ''],
  ];
  return rows
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${`${name}:`.padEnd(21)}${decodeUtf8(value) ?? value}\n`)
    .join('');
};

/** The descriptor table of a SIF, in the columns of `siftool list`. @throws TsrunError E_IMAGE_NOT for a bare SquashFS */
export const imageObjects = (path: string): string => {
  const { sif } = openSquashFile(path);
  if (sif === undefined) {
    throw new TsrunError({ code: 'E_IMAGE_NOT', what: `cannot list the objects of ${path}`, why: 'it is a bare SquashFS, which has none' });
  }
  const head = `${'ID'.padEnd(5)}|${'GROUP'.padEnd(8)}|${'LINK'.padEnd(8)}|${'SIF POSITION (start-end)'.padEnd(26)}|TYPE\n${'-'.repeat(78)}\n`;
  return head + sif.objects.map(objectLine).join('');
};

/** The bytes of the object with that number. @throws TsrunError E_IMAGE_NOT */
export const imageDump = (path: string, id: string): AsyncIterable<Uint8Array> => {
  const objects = openSquashFile(path).sif?.objects ?? [];
  const object = objects.find((each) => String(each.id) === id);
  if (object === undefined) {
    throw new TsrunError({
      code: 'E_IMAGE_NOT',
      what: `cannot find object ${JSON.stringify(id)} in ${path}`,
      why: objects.length === 0 ? 'it is a bare SquashFS, which has none' : `it has ${objects.map((each) => each.id).join(', ')}`,
      hint: `tsrun image objects ${path}`,
    });
  }
  return fileChunks(path, object.offset, object.size);
};

const objectLine = ({ id, group, link, offset, size, content, name }: SifObject): string => {
  const position = `${offset}-${offset + size}`;
  const fields = [String(id).padEnd(5), (group === 0 ? 'NONE' : String(group)).padEnd(8), linkText(link).padEnd(8), position.padEnd(26)];
  return `${fields.join('|')}|${typeText(content)} ${decodeUtf8(name) ?? name}\n`;
};

const linkText = (link: SifLink): string => {
  switch (link.to) {
    case 'nothing':
      return 'NONE';
    case 'object':
      return String(link.id);
    case 'group':
      return `${link.group} (G)`;
    default:
      return link satisfies never;
  }
};

const FILE_SYSTEMS: Readonly<Record<string, string>> = { squashfs: 'Squashfs', ext3: 'Ext3', archive: 'Archive', raw: 'Raw' };
const ROLES: Readonly<Record<string, string>> = { primary: '*System', system: 'System', data: 'Data', overlay: 'Overlay' };

const typeText = (content: SifContent): string => {
  switch (content.type) {
    case 'definition':
      return 'Def.FILE';
    case 'environment':
      return 'Env.Vars';
    case 'labels':
      return 'JSON.Labels';
    case 'partition':
      return `FS (${FILE_SYSTEMS[content.fileSystem] ?? content.fileSystem}/${ROLES[content.role] ?? content.role}/${content.arch})`;
    case 'signature':
      return 'Signature';
    case 'generic-json':
      return 'JSON.Generic';
    case 'generic':
      return 'Generic/Raw';
    case 'crypto-message':
      return 'Cryptographic Message';
    case 'sbom':
      return 'SBOM';
    case 'oci-root-index':
      return 'OCI.RootIndex';
    case 'oci-blob':
      return 'OCI.Blob';
    case 'unknown':
      return `Unknown (${content.code})`;
    default:
      return content satisfies never;
  }
};
