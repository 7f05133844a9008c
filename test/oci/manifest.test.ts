import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Manifest, parseConfigFacts, parseManifest, requireImage } from '../../src/oci/manifest.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('manifest');

const DIGEST = `sha256:${'a'.repeat(64)}`;
const OCI = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: DIGEST, size: 10 };
const LAYER = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: DIGEST, size: 20 };
const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));
const parse = (value: unknown, mediaType = OCI) => parseManifest(bytes(value), mediaType, 'docker://x');
const why = async (value: unknown, mediaType = OCI): Promise<string> => (await failure(() => parse(value, mediaType), 'E_MANIFEST')).why;

test('OCI and Docker manifests and indexes are told by type, or by shape where no type is known', () => {
  assert.is(parse({ schemaVersion: 2, config: CONFIG, layers: [LAYER] }).kind, 'manifest');
  assert.is(parse({ schemaVersion: 2, config: CONFIG, layers: [LAYER] }, 'application/json').kind, 'manifest');
  assert.is(parse({ schemaVersion: 2, manifests: [] }, '').kind, 'index');
  assert.is(
    parse({ schemaVersion: 2, mediaType: 'application/vnd.docker.distribution.manifest.list.v2+json', manifests: [] }, 'text/plain').kind,
    'index',
  );
});

test('a document that is manifest and index at once is refused', async () => {
  assert.match(await why({ schemaVersion: 2, manifests: [], config: CONFIG, layers: [] }), /at once/);
  assert.match(await why({ schemaVersion: 2, manifests: [], layers: [] }, 'application/vnd.oci.image.index.v1+json'), /at once/);
});

test('schema 1 is named for what it is', async () => {
  assert.match(await why({ schemaVersion: 1, fsLayers: [] }, 'application/vnd.docker.distribution.manifest.v1+prettyjws'), /schema 1/);
  assert.match(await why({ schemaVersion: 1, name: 'x' }), /schema 1/);
});

test('broken documents are refused with the field', async () => {
  assert.match(await why('not json'), /not JSON/);
  assert.match(await why('[]'), /not an object/);
  assert.match(await why('['.repeat(3_000_000)), /not JSON/);
  assert.match(await why({ schemaVersion: 3 }), /schemaVersion/);
  assert.match(await why({ schemaVersion: 2, config: CONFIG, layers: {} }), /layers is not a list/);
  assert.match(await why({ schemaVersion: 2, config: CONFIG, layers: [{ ...LAYER, digest: '../../etc' }] }), /layers\[0\]\.digest/);
  assert.match(await why({ schemaVersion: 2, config: CONFIG, layers: [{ ...LAYER, size: -1 }] }), /layers\[0\]\.size/);
  assert.match(await why({ schemaVersion: 2, config: CONFIG, layers: [{ ...LAYER, size: 1e300 }] }), /layers\[0\]\.size/);
  assert.match(await why({ schemaVersion: 2, config: null, layers: [] }), /config is not a descriptor/);
  assert.match(await why({ schemaVersion: 2, config: CONFIG, layers: Array(10_001).fill(LAYER) }), /10001 entries/);
});

const image = (change: Partial<Record<'config' | 'layers', unknown>>): Manifest =>
  parse({ schemaVersion: 2, config: CONFIG, layers: [LAYER], ...change }) as Manifest;

test('foreign layers are refused by name before anything is fetched', async () => {
  const foreign = { ...LAYER, mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', urls: ['https://x.example/'] };
  const error = await failure(() => requireImage(image({ layers: [LAYER, foreign] }), 'docker://x'), 'E_FOREIGN_LAYER');
  assert.match(error.why, new RegExp(`layer 2 of 2 \\(${DIGEST}\\)`));
});

test('artifacts, encrypted and unknown layers are refused', async () => {
  const sif = image({ config: { ...CONFIG, mediaType: 'application/vnd.sylabs.sif.config.v1+json' } });
  assert.match((await failure(() => requireImage(sif, 'x'), 'E_MANIFEST')).hint ?? '', /SIF/);
  const encrypted = image({ layers: [{ ...LAYER, mediaType: `${LAYER.mediaType}+encrypted` }] });
  assert.match((await failure(() => requireImage(encrypted, 'x'), 'E_MANIFEST')).hint ?? '', /decrypt/);
  await failure(() => requireImage(image({ layers: [] }), 'x'), 'E_MANIFEST');
  requireImage(image({}), 'x');
});

test('nothing of a hostile document reaches a terminal raw', async () => {
  assert.not((await why('\u001b[31m{')).includes('\u001b'));
  const index = parse({ schemaVersion: 2, manifests: [{ ...CONFIG, platform: { os: 'linux\u001b[2J', architecture: 'amd64' } }] }, '');
  assert.equal(index.kind === 'index' && index.manifests[0]?.platform, { os: '', architecture: 'amd64' });
  assert.is(parseConfigFacts(bytes({ architecture: 'amd64\n', rootfs: { diff_ids: [] } }), 'x').architecture, '');
});

test('a config tells its platform and diffIDs, and must have them', async () => {
  const facts = parseConfigFacts(
    bytes({ os: 'linux', architecture: 'arm', variant: 'v7', rootfs: { type: 'layers', diff_ids: [DIGEST] } }),
    'x',
  );
  assert.equal(facts, { os: 'linux', architecture: 'arm', variant: 'v7', diffIds: [DIGEST] });
  await failure(() => parseConfigFacts(bytes({ rootfs: { diff_ids: ['no'] } }), 'x'), 'E_MANIFEST');
  await failure(() => parseConfigFacts(bytes({}), 'x'), 'E_MANIFEST');
});

test.run();
