/** What a recipe begins with, under a lock: noted, kept, taken again, and refused when it is another. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createBases } from '../../src/build/locked-bases.ts';
import type { SourceContext } from '../../src/build/sources.ts';
import type { Lock } from '../../src/lock/lock-file.ts';
import type { Vendor } from '../../src/lock/vendor.ts';
import { DEFAULT_LIMITS } from '../../src/oci/limits.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { makeTar, sha256, writeLayout } from '../helpers/layers.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('locked bases');
const place = mkdtempSync(join(tmpdir(), 'tsrun-bases-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

const context: SourceContext = {
  platform: { os: 'linux', architecture: 'amd64' },
  limits: DEFAULT_LIMITS,
  scratch: place,
  registry: () => Promise.reject(new Error('no registry here')),
};
const tar = makeTar([{ path: 'a', content: 'x' }]);
writeFileSync(join(place, 'base.tar'), tar);
const { manifest } = writeLayout(join(place, 'layout'), { layers: [tar], tag: 'one' });
const LAYOUT = `oci:${place}/layout:one`;
const TAR = `tar:${place}/base.tar`;

const lockOf = (reference: string, digest: string): { lock: Lock; path: string } => ({
  path: 'tsrun.lock',
  lock: {
    version: 1,
    tsrun: '0',
    recipe: digest,
    epoch: 0,
    treeDigest: digest,
    downloads: [],
    packages: [],
    missing: [],
    bases: [{ reference, platform: 'linux/amd64', digest }],
  },
});

test('what is opened is noted once, with the digest of its manifest or of its file', async () => {
  const bases = createBases({ lock: undefined, vendor: undefined, writes: true });
  for (const text of [LAYOUT, TAR, LAYOUT]) await bases.open(parseReference(text), context);
  assert.equal(bases.opened, [
    { reference: LAYOUT, platform: 'linux/amd64', digest: manifest.digest },
    { reference: TAR, platform: 'linux/amd64', digest: sha256(tar) },
  ]);
});

test('another content, or a base that was not locked, is refused', async () => {
  await createBases({ lock: lockOf(TAR, sha256(tar)), vendor: undefined, writes: false }).open(parseReference(TAR), context);
  const other = createBases({ lock: lockOf(TAR, sha256(Buffer.from('other'))), vendor: undefined, writes: false });
  assert.match((await failure(() => other.open(parseReference(TAR), context), 'E_LOCK_CHANGED')).message, /has the digest/);
  assert.match((await failure(() => other.open(parseReference(LAYOUT), context), 'E_LOCK_CHANGED')).message, /does not know/);
});

test('a directory has no digest to lock', async () => {
  const bases = createBases({ lock: undefined, vendor: undefined, writes: true });
  await failure(() => bases.open(parseReference(`${place}/layout/blobs`), context), 'E_LOCK');
});

test('what was kept is taken instead of the source, which need not be there any more', async () => {
  const directory = join(place, 'vendor');
  const keep: Vendor = { directory, purpose: 'keep' };
  const bases = createBases({ lock: undefined, vendor: keep, writes: true });
  await bases.open(parseReference(LAYOUT), context);
  rmSync(join(place, 'layout'), { recursive: true });
  const [locked] = bases.opened;
  const again = createBases({ lock: lockOf(LAYOUT, locked?.digest ?? ''), vendor: { directory, purpose: 'use' }, writes: false });
  const source = await again.open(parseReference(LAYOUT), context);
  assert.ok(source.kind === 'layers');
  assert.is(source.image.manifestDigest, manifest.digest);
  assert.equal(again.opened, bases.opened);
});

test.run();
