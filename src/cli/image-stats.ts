/** `tsrun image stats`: what the image servers of this user on this machine have done so far. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { sharedRuntimeDirectory, userNamespace } from '../facts/scope.ts';
import { nodeHost } from '../run/host-node.ts';
import { TsrunError } from '../util/errors.ts';
import { nativeProgram } from '../util/native-program.ts';

/** One image of one server; the fields of native/server.h, and what /proc says. Requests are the kernel's; sizes are bytes. */
export type ImageStats = {
  /** As the first run named it. */
  readonly name: string;
  readonly device: number;
  readonly inode: number;
  readonly runs: number;
  readonly lookup: number;
  readonly getattr: number;
  readonly read: number;
  readonly readdir: number;
  readonly other: number;
  readonly bytes: number;
  readonly failed: number;
  /** Finished mount namespaces that runs of the same mounts enter. */
  readonly layouts: number;
  readonly cache: number;
  readonly hits: number;
  readonly loads: number;
  readonly pid: number;
  /** Serving processes that died before this one. */
  readonly replaced: number;
  /** Of the serving process; null when it has just ended. */
  readonly resident: number | null;
};

export type ServerStats = {
  readonly key: string;
  readonly directory: string;
  readonly pid: number;
  /** Runs without an image (a directory, say). */
  readonly runs: number;
  readonly resident: number | null;
  readonly images: readonly ImageStats[];
};

/** Both places where servers may be: that of the login session, and the one beside it for jobs and old systems (facts/scope.ts). */
const runtimeDirectories = (env: NodeJS.ProcessEnv): readonly string[] => {
  const own = env['XDG_RUNTIME_DIR'] ?? '';
  const host = nodeHost({ args: [] });
  return [...(own.startsWith('/') ? [`${own}/tsrun`] : []), sharedRuntimeDirectory(host, host.ids(), userNamespace(host))];
};

/** @returns the text for stdout. @throws TsrunError E_SERVER when a place cannot be looked into */
export const imageStats = async (env: NodeJS.ProcessEnv, json: boolean): Promise<string> => {
  const servers: ServerStats[] = [];
  for (const directory of runtimeDirectories(env)) {
    for (const line of (await ask(directory)).split('\n')) if (line !== '') servers.push(withMemory(directory, line));
  }
  return json ? `${JSON.stringify({ servers }, undefined, 2)}\n` : statsText(servers);
};

/** What those that do not answer are called goes to stderr as it comes. */
const ask = async (directory: string): Promise<string> => {
  const child = spawn(nativeProgram(), ['@server-statistics', directory], { stdio: ['ignore', 'pipe', 'pipe'] });
  let answer = '';
  let complaint = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const status = await new Promise<number | null>((done, fail) => {
    child.on('error', fail);
    child.on('close', done);
  });
  if (status !== 0) {
    const [, what = `cannot look for image servers in ${directory}`, why = 'the native program ended without a word'] =
      /^tsrun: ([^:]*): ([\s\S]*?)\s*$/.exec(complaint) ?? [];
    throw new TsrunError({ code: 'E_SERVER', what, why, hint: 'remove what lies there if it is not yours to keep' });
  }
  process.stderr.write(complaint);
  return answer;
};

const withMemory = (directory: string, line: string): ServerStats => {
  const server = JSON.parse(line) as ServerStats;
  return {
    ...server,
    directory,
    resident: residentOf(server.pid),
    images: server.images.map((image) => ({ ...image, resident: residentOf(image.pid) })),
  };
};

/** Bytes, of memory that is the process's own: what forked processes share with the server is counted there. */
const residentOf = (pid: number): number | null => {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const kilobytes = /^RssAnon:\s*(\d+)/m.exec(status)?.[1] ?? /^VmRSS:\s*(\d+)/m.exec(status)?.[1];
    return kilobytes === undefined ? null : Number(kilobytes) * 1024;
  } catch {
    return null;
  }
};

const COLUMNS: readonly (readonly [string, (image: ImageStats) => string])[] = [
  ['RUNS', ({ runs }) => String(runs)],
  ['LOOKUP', ({ lookup }) => String(lookup)],
  ['GETATTR', ({ getattr }) => String(getattr)],
  ['READ', ({ read }) => String(read)],
  ['READDIR', ({ readdir }) => String(readdir)],
  ['OTHER', ({ other }) => String(other)],
  ['SENT', ({ bytes }) => megabytes(bytes)],
  ['CACHE', ({ cache }) => megabytes(cache)],
  ['HITS', ({ hits, loads }) => (hits + loads === 0 ? '-' : `${Math.floor((100 * hits) / (hits + loads))} %`)],
  ['MEMORY', ({ resident }) => (resident === null ? '-' : megabytes(resident))],
  ['RESTARTS', ({ replaced }) => String(replaced)],
  ['ERRORS', ({ failed }) => String(failed)],
];

const statsText = (servers: readonly ServerStats[]): string => {
  if (servers.length === 0) return 'no image server is running\n';
  return servers.map(serverText).join('\n');
};

const serverText = ({ key, directory, pid, resident, images }: ServerStats): string => {
  const memory = resident === null ? '' : `, ${megabytes(resident)}`;
  const head = `server ${key} in ${directory} (process ${pid}${memory})\n`;
  if (images.length === 0) return `${head}  no image\n`;
  const rows = [COLUMNS.map(([title]) => title), ...images.map((image) => COLUMNS.map(([, value]) => value(image)))];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  const names = ['', ...images.map(({ name, inode }) => printable(name || `inode ${inode}`))];
  return `${head}${rows.map((row, at) => `  ${row.map((cell, column) => cell.padStart(widths[column] as number)).join('  ')}  ${names[at] ?? ''}`.trimEnd()).join('\n')}\n`;
};

/** Names of files are bytes, and come as one character each. */
const printable = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('utf8').replace(/\p{C}/gu, '?');

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
