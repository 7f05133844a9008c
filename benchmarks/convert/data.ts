/** Makes what is converted: an OCI layout of gzip layers from files of this machine, the same as one tar, and a million small files. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

export type Data = {
  /** OCI layout. */
  readonly layout: string;
  /** Its gzip layers, base first; unpacked one behind the other they are one tar. */
  readonly layers: readonly string[];
  /** That tar. */
  readonly tar: string;
  readonly tarBytes: number;
  readonly entries: number;
};

/** Documentation and scripts first, so that there are many small files as well as libraries. */
const FOLDERS = ['usr/share', 'usr/include', 'usr/lib', 'usr/bin', 'usr/sbin'] as const;
const LAYERS = 3;

/** About `wanted` bytes of this machine's /usr. Made once in `directory`. */
export const systemData = async (directory: string, wanted: number): Promise<Data> => {
  mkdirSync(directory, { recursive: true });
  const tar = join(directory, 'all.tar');
  const list = chooseFiles(wanted);
  const parts = Array.from({ length: LAYERS }, (_, at) => join(directory, `part${at}.tar`));
  if (!existsSync(tar)) {
    const share = Math.ceil(list.length / LAYERS);
    for (const [at, part] of parts.entries()) {
      writeFileSync(join(directory, 'names'), `${list.slice(at * share, (at + 1) * share).join('\0')}\0`, 'latin1');
      execFileSync('tar', [
        '-C',
        '/',
        '--format=posix',
        '--no-recursion',
        '--numeric-owner',
        '--null',
        '-T',
        join(directory, 'names'),
        '-b',
        '1',
        '-cf',
        part,
      ]);
      // Without the end mark of all but the last, the parts behind each other are one archive.
      if (at < LAYERS - 1) truncateSync(part, statSync(part).size - 1024);
    }
    execFileSync('sh', ['-c', `cat ${parts.join(' ')} > ${tar}.new`]);
    renameSync(`${tar}.new`, tar);
  }
  const layout = join(directory, 'layout');
  const layers = parts.map((part) => `${part}.gz`);
  for (const part of parts)
    if (!existsSync(`${part}.gz`)) execFileSync('sh', ['-c', `gzip -6 -c ${part} > ${part}.gz.new && mv ${part}.gz.new ${part}.gz`]);
  await writeLayout(layout, parts, layers);
  return { layout, layers, tar, tarBytes: statSync(tar).size, entries: list.length };
};

/** Names relative to /, in tar's order, until the sum of sizes is reached. */
const chooseFiles = (wanted: number): readonly string[] => {
  const found = execFileSync(
    'find',
    [...FOLDERS, '-xdev', '(', '-type', 'f', '-o', '-type', 'd', '-o', '-type', 'l', ')', '-printf', '%s %p\\0'],
    { cwd: '/', maxBuffer: 1 << 28 },
  );
  const entries = found.toString('latin1').split('\0').filter(Boolean);
  let sum = 0;
  const names: string[] = [];
  for (const entry of entries) {
    const space = entry.indexOf(' ');
    sum += Number(entry.slice(0, space)) + 1024;
    if (sum > wanted) break;
    names.push(entry.slice(space + 1));
  }
  return names;
};

const digestOf = async (path: string): Promise<string> => {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
};

const writeLayout = async (layout: string, tars: readonly string[], layers: readonly string[]): Promise<void> => {
  if (existsSync(join(layout, 'index.json'))) return;
  const blobs = join(layout, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const put = (bytes: Buffer, mediaType: string) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const descriptors = [];
  for (const layer of layers) {
    const hex = await digestOf(layer);
    execFileSync('cp', ['--reflink=auto', layer, join(blobs, hex)]);
    descriptors.push({ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: `sha256:${hex}`, size: statSync(layer).size });
  }
  const diffIds = [];
  for (const tar of tars) diffIds.push(`sha256:${await digestOf(tar)}`);
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const config = put(
    Buffer.from(JSON.stringify({ architecture, os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: diffIds } })),
    'application/vnd.oci.image.config.v1+json',
  );
  const manifest = put(
    Buffer.from(JSON.stringify({ schemaVersion: 2, config, layers: descriptors })),
    'application/vnd.oci.image.manifest.v1+json',
  );
  const annotations = { 'org.opencontainers.image.ref.name': 'latest' };
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }));
};

/** `files` small files in `count` layers, every one also replacing a tenth of the layer below. */
export const manySmallFiles = async (directory: string, files: number, count: number): Promise<string> => {
  const layout = join(directory, `small-${files}-${count}`);
  if (existsSync(join(layout, 'index.json'))) return layout;
  const work = join(directory, 'small-work');
  mkdirSync(work, { recursive: true });
  const tars: string[] = [];
  const layers: string[] = [];
  const each = Math.ceil(files / count);
  for (let layer = 0; layer < count; layer++) {
    const tar = join(work, `${layer}.tar`);
    writeSmallLayer(tar, layer, each);
    writeFileSync(`${tar}.gz`, gzipSync(execFileSync('cat', [tar], { maxBuffer: 1 << 30 }), { level: 1 }));
    tars.push(tar);
    layers.push(`${tar}.gz`);
  }
  await writeLayout(layout, tars, layers);
  rmSync(work, { recursive: true });
  return layout;
};

const writeSmallLayer = (path: string, layer: number, files: number): void => {
  const fd = openSync(path, 'w');
  const block = Buffer.alloc(1024);
  for (let i = 0; i < files; i++) {
    const owner = i % 10 === 0 && layer > 0 ? layer - 1 : layer;
    const text = `content of file ${i} of layer ${layer}\n`;
    block.fill(0);
    block.write(`opt/software/package-${owner}/lib/module-${i % 50}/file-${i}.py`, 0, 'latin1');
    block.write(`0000644\x000000000\x000000000\x00${text.length.toString(8).padStart(11, '0')}\x0014000000000\0        0`, 100, 'latin1');
    block.write('ustar\x0000', 257, 'latin1');
    let sum = 0;
    for (let at = 0; at < 512; at++) sum += block[at] ?? 0;
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    block.write(text, 512, 'latin1');
    writeSync(fd, block);
  }
  writeSync(fd, Buffer.alloc(1024));
  closeSync(fd);
};
