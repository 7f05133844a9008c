/** New stores in directories that are removed when the test process ends. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { openStore } from '../../src/store/open.ts';
import type { Store } from '../../src/store/types.ts';

const made: string[] = [];

export const scratch = (prefix = 'tsrun-test'): string => {
  const path = mkdtempSync(join(tmpdir(), `${prefix}-`));
  if (made.length === 0) process.on('exit', removeMade);
  made.push(path);
  return path;
};

const removeMade = (): void => {
  for (const directory of made) rmSync(directory, { recursive: true, force: true });
};

export const newStore = (): Promise<Store> => {
  const directory = scratch('tsrun-store');
  return openStore({ store: { path: `${directory}/store`, origin: 'test' }, local: { path: `${directory}/local`, origin: 'test' } });
};

export const describe = (content: Uint8Array, mediaType = 'application/octet-stream'): Descriptor => ({
  mediaType,
  digest: `sha256:${createHash('sha256').update(content).digest('hex')}`,
  size: content.length,
});
