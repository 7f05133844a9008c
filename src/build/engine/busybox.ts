/**
 * `Bootstrap: busybox`: one program, from an address or a file, is the whole base. Laid out as Apptainer does it: bin/busybox with a link for each of its
 * commands, and the few files in /etc that programs insist on. The program says itself which commands it has; it is asked inside, as any step is.
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readElf } from '../../elf/read.ts';
import type { Base as RecipeBase } from '../../recipe/spec.ts';
import { EMPTY_ENTRY } from '../../tar/entry.ts';
import { type TarItem, writeTar } from '../../tar/write.ts';
import { TsrunError } from '../../util/errors.ts';
import { scratchBase } from './base.ts';
import { type Layer, produceLayer, type Workplace } from './cache.ts';
import { type Engine, note, withTask } from './engine.ts';
import { type Key, keyOf } from './key.ts';
import { runPlan } from './process.ts';
import { DEFAULT_PATH } from './stage-state.ts';
import { type InTree, putInto, type Tree, withPlan } from './tree.ts';

/** A static busybox has 1 to 3 MiB. */
const MAX_BYTES = 64 * 2 ** 20;
const MAX_LINES = 20;

const FILES: readonly (readonly [string, string])[] = [
  ['etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n'],
  ['etc/group', 'root:x:0:\n'],
  ['etc/hosts', '127.0.0.1   localhost localhost.localdomain localhost4 localhost4.localdomain4\n'],
];

/** What the stage begins with: scratch, and two layers upon it. */
export type BusyboxStart = { readonly tree: Tree; readonly key: Key };

/**
 * @param epoch seconds since 1970 of every file
 * @throws TsrunError E_BUSYBOX
 */
export const busyboxStart = async (
  engine: Engine,
  place: string,
  { mirror }: Extract<RecipeBase, { kind: 'busybox' }>,
  epoch: number,
): Promise<BusyboxStart> => {
  const refuse = (why: string, hint: string): TsrunError =>
    new TsrunError({ code: 'E_BUSYBOX', what: `${place}: cannot take the busybox ${mirror}`, why, hint });
  const program = await readProgram(engine, mirror, refuse);
  refuseForeign(engine, program, refuse);
  const base = { ...scratchBase(engine), name: 'busybox', origin: { bootstrap: 'busybox', from: mirror } };
  const layer = (key: Key, make: (place: Workplace) => Promise<void>): Promise<{ readonly layer: Layer }> =>
    produceLayer(engine.cache, key, {
      signal: engine.signal,
      anew: engine.options.noCache,
      onWait: () => note(engine, `waiting for another build that lays out ${mirror}`),
      make: async (workplace) => {
        await make(workplace);
        return program.length;
      },
    });
  const digest = createHash('sha256').update(program).digest('hex');
  const parts = { base: 'busybox', digest, epoch, ids: engine.ids.kind };
  const bare: Tree = { base, layers: [] };
  if (!engine.overlays) {
    const all = await layer(keyOf({ ...parts, part: 'all' }), async (workplace) => {
      await putInto(engine, bare, workplace, writeTar(filesOf(program, epoch)));
      await install(engine, bare, workplace, refuse);
    });
    return { tree: { base, layers: [all.layer] }, key: keyOf(parts) };
  }
  const files = await layer(keyOf({ ...parts, part: 'files' }), (workplace) =>
    putInto(engine, bare, workplace, writeTar(filesOf(program, epoch))),
  );
  const laid: Tree = { base, layers: [files.layer] };
  const key = keyOf({ ...parts, part: 'links' });
  const links = await layer(key, (workplace) => install(engine, laid, workplace, refuse));
  return { tree: { base, layers: [files.layer, links.layer] }, key };
};

type Refuse = (why: string, hint: string) => TsrunError;

const readProgram = (engine: Engine, mirror: string, refuse: Refuse): Promise<Buffer> =>
  withTask(engine, 'fetch', mirror, async (progress) => {
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const part of await contentOf(engine, mirror, refuse)) {
      engine.signal.throwIfAborted();
      size += part.length;
      if (size > MAX_BYTES)
        throw refuse(
          'it has more than 64 MiB',
          'MirrorURL is the address of the program itself, such as https://busybox.net/downloads/binaries/…/busybox-x86_64',
        );
      parts.push(part);
      progress(size, undefined);
    }
    return Buffer.concat(parts);
  });

async function* fileContent(path: string, refuse: Refuse): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(path) as AsyncIterable<Buffer>;
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw refuse(
      missing ? 'there is no such file' : (error as Error).message,
      'MirrorURL is an address (https://…, file:///…) or the path of the program',
    );
  }
}

const contentOf = async (engine: Engine, mirror: string, refuse: Refuse): Promise<AsyncIterable<Uint8Array>> => {
  if (/^https?:\/\//i.test(mirror)) return engine.fetch(mirror);
  if (/^file:\/\//i.test(mirror)) {
    try {
      return fileContent(fileURLToPath(mirror), refuse);
    } catch {
      throw refuse('it is no address of a file here', 'write file:///PATH');
    }
  }
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(mirror)) throw refuse('its scheme is not known', 'write https://…, http://…, file:///… or a path');
  return fileContent(resolve(engine.options.directory, Buffer.from(mirror, 'latin1').toString('utf8')), refuse);
};

/** OCI's words for what ELF files are made for. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  aarch64: 'arm64',
  i386: '386',
  riscv64: 'riscv64',
  ppc64: 'ppc64le',
  s390x: 's390x',
  arm: 'arm',
  loongarch64: 'loong64',
};

const refuseForeign = ({ platform }: Engine, program: Buffer, refuse: Refuse): void => {
  const elf = readElf({ size: program.length, read: (offset, length) => program.subarray(offset, offset + length) });
  if (elf === null) throw refuse('it is no program (ELF file)', 'MirrorURL is the address of the program itself, not of a page or archive');
  const architecture = ARCHITECTURES[elf.machine] ?? elf.machine;
  if (architecture !== platform.architecture)
    throw refuse(`it is a program for ${architecture}, and ${platform.architecture} is built`, 'take the one for this machine');
  if (elf.interp !== null)
    throw refuse(`it needs ${elf.interp}, which the image does not have`, 'take a busybox that is linked statically');
};

const filesOf = (program: Buffer, mtime: number): readonly TarItem[] => {
  const directory = (path: string, mode: number): TarItem => ({ entry: { ...EMPTY_ENTRY, type: 'directory', path, mode, mtime } });
  const file = (path: string, mode: number, content: Buffer): TarItem => ({
    entry: { ...EMPTY_ENTRY, path, mode, mtime, size: content.length },
    content: [content],
  });
  return [
    directory('bin', 0o755),
    directory('etc', 0o755),
    ...FILES.map(([path, text]) => file(path, 0o644, Buffer.from(text))),
    file('bin/busybox', 0o755, program),
  ];
};

const install = async (engine: Engine, tree: Tree, place: Workplace, refuse: Refuse): Promise<void> => {
  const lines: string[] = [];
  const given: InTree = {
    place,
    network: 'none',
    program: {
      file: '/bin/busybox',
      argv: ['busybox', '--install', '-s', '/bin'],
      environment: new Map([['PATH', DEFAULT_PATH]]),
      cwd: '/',
      user: undefined,
    },
  };
  const onLine = (_stream: string, line: string): void => {
    if (lines.length < MAX_LINES) lines.push(line);
  };
  const status = await withPlan(engine, tree, given, (plan) => runPlan(plan, { signal: engine.signal, onLine }));
  if (status !== 0)
    throw refuse(`busybox --install ends with status ${status}: ${lines.join('; ')}`, 'take a busybox with its installer built in');
};
