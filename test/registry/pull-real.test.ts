import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { layerCompression } from '../../src/oci/media-types.ts';
import { openClient, type TestClient } from '../helpers/mini-registry.ts';
import { must } from '../helpers/proc.ts';
import {
  descriptor,
  makeImage,
  makeIndex,
  type PushedImage,
  pushBlob,
  pushImage,
  pushManifest,
  startRegistry,
  type TestRegistry,
} from '../helpers/registry.ts';
import { newStore, scratch } from '../helpers/store.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('pulling from docker-registry');

const LAYERS = [randomBytes(900_000), randomBytes(200_000), randomBytes(5_000)];

const within = async (options: { tls?: boolean; password?: boolean }, work: (registry: TestRegistry) => Promise<void>): Promise<void> => {
  const registry = await startRegistry(options);
  try {
    await work(registry);
  } finally {
    await registry.stop();
  }
};

const push = (registry: TestRegistry): Promise<PushedImage> => pushImage(registry, { repository: 'team/x', tag: '1', layers: LAYERS });

const access = (registry: TestRegistry): Record<string, string> => ({
  ...(registry.caFile === '' ? {} : { SSL_CERT_FILE: registry.caFile }),
  ...(registry.login === undefined
    ? {}
    : { TSRUN_REGISTRY_USERNAME: registry.login.username, TSRUN_REGISTRY_PASSWORD: registry.login.password }),
});

const requireLayers = async (client: TestClient, name: string, pushed: PushedImage): Promise<void> => {
  const image = await client.resolve(name);
  assert.is(image.manifest.digest, pushed.manifest.digest);
  assert.equal(Buffer.from(image.config.bytes), Buffer.from(pushed.config.bytes));
  assert.equal(
    image.layers.map(({ digest }) => digest),
    pushed.layers.map(({ digest }) => digest),
  );
  const paths = client.registry.fetchLayers(image);
  for (const layer of pushed.layers)
    assert.equal(readFileSync((await paths.get(layer.digest as `sha256:${string}`)) ?? ''), Buffer.from(layer.bytes));
  await client.registry.close();
};

for (const tls of [false, true]) {
  for (const password of [false, true]) {
    test(`an image comes whole, ${tls ? 'with TLS' : 'plain on loopback'}, ${password ? 'with a password' : 'open to all'}`, () =>
      within({ tls, password }, async (registry) => {
        const pushed = await push(registry);
        await requireLayers(await openClient({ env: access(registry) }), `${registry.host}/team/x:1`, pushed);
      }));
  }
}

test('a certificate nobody vouches for is refused with the cure, and never replaced by plain http', () =>
  within({ tls: true }, async (registry) => {
    await push(registry);
    const client = await openClient({ config: { insecure: ['*'] } });
    const error = await failure(() => client.resolve(`${registry.host}/team/x:1`), 'E_TLS');
    assert.match(error.why, /certificate is not trusted/);
    assert.match(error.hint ?? '', /SSL_CERT_FILE/);
  }));

test('the authority may come from the config or from SSL_CERT_DIR', () =>
  within({ tls: true }, async (registry) => {
    await push(registry);
    const directory = scratch();
    await must(['cp', registry.caFile, `${directory}/site.pem`]);
    await (await openClient({ config: { caFile: registry.caFile } })).resolve(`${registry.host}/team/x:1`);
    await (await openClient({ env: { SSL_CERT_DIR: `/nonexistent:${directory}` } })).resolve(`${registry.host}/team/x:1`);
    await failure(
      () => openClient({ config: { caFile: `${directory}/none.pem` } }).then((client) => client.resolve(`${registry.host}/team/x:1`)),
      'E_CA_FILE',
    );
    const lost = await openClient({ config: { caFile: registry.caFile }, env: { SSL_CERT_FILE: `${directory}/none.pem` } });
    await lost.resolve(`${registry.host}/team/x:1`);
    assert.match(lost.warnings.join(), /SSL_CERT_FILE=.*none\.pem/);
  }));

test("no or wrong credentials give the registry's answer and how to log in", () =>
  within({ password: true }, async (registry) => {
    await push(registry);
    const anonymous = await failure(async () => (await openClient()).resolve(`${registry.host}/team/x:1`), 'E_REGISTRY_AUTH');
    assert.match(anonymous.hint ?? '', new RegExp(`tsrun login ${registry.host}`));
    const env = { APPTAINER_DOCKER_USERNAME: 'ada', APPTAINER_DOCKER_PASSWORD: 'wrong' };
    const wrong = await failure(async () => (await openClient({ env })).resolve(`${registry.host}/team/x:1`), 'E_REGISTRY_AUTH');
    assert.match(wrong.hint ?? '', /came from APPTAINER_DOCKER_USERNAME/);
    assert.not.match(`${wrong.message}${wrong.hint}`, /wrong$/);
  }));

test('a missing tag is answered with the tags that are there', () =>
  within({}, async (registry) => {
    const image = await push(registry);
    for (const tag of ['1.2', '1.3', 'old']) await pushManifest(registry, 'team/x', tag, image.manifest);
    const error = await failure(async () => (await openClient()).resolve(`${registry.host}/team/x:1.4`), 'E_IMAGE_NOT_FOUND');
    assert.match(error.hint ?? '', /^tags there: 1\.[23], 1\.[23], 1, old$/);
    assert.match(
      (await failure(async () => (await openClient()).resolve(`${registry.host}/nobody/y:1`), 'E_IMAGE_NOT_FOUND')).why,
      /does not have it/,
    );
  }));

test('what the store has needs no network: by digest at once, by tag when offline or when nobody answers', async () => {
  const store = await newStore();
  const registry = await startRegistry();
  const pushed = await push(registry);
  const name = `${registry.host}/team/x`;
  await requireLayers(await openClient({ store }), `${name}:1`, pushed);
  await registry.stop();

  const byDigest = await openClient({ store });
  assert.ok((await byDigest.resolve(`${name}@${pushed.manifest.digest}`)).fromStore);
  await requireLayers(byDigest, `${name}@${pushed.manifest.digest}`, pushed);

  const offline = await openClient({ store, offline: true });
  assert.ok((await offline.resolve(`${name}:1`)).fromStore);
  await requireLayers(offline, `${name}:1`, pushed);
  await failure(async () => (await openClient({ store, offline: true })).resolve(`${name}:2`), 'E_OFFLINE');

  const unplugged = await openClient({ store });
  await requireLayers(unplugged, `${name}:1`, pushed);
  assert.match(unplugged.warnings.join(), /cannot be reached .*; using docker:\/\/.*team\/x:1 as it was on 2026-03-01/);
  assert.match(
    (await failure(async () => (await openClient({ store })).resolve(`${name}:2`), 'E_REGISTRY_UNREACHABLE')).why,
    /connection refused/,
  );
});

test('a tag that moved is noticed, and only what is new is fetched', () =>
  within({}, async (registry) => {
    const store = await newStore();
    await requireLayers(await openClient({ store }), `${registry.host}/team/x:1`, await push(registry));
    const moved = await pushImage(registry, { repository: 'team/x', tag: '1', layers: [...LAYERS, randomBytes(100)] });
    const client = await openClient({ store });
    await requireLayers(client, `${registry.host}/team/x:1`, moved);
    const steps = (kind: string): number =>
      new Set(client.progress.flatMap((step) => (step.kind === kind && 'digest' in step ? [step.digest] : []))).size;
    assert.is(steps('cached'), LAYERS.length);
    assert.is(steps('download'), 2, 'the new layer and the new config');
  }));

test('an index of indexes gives the image for the asked architecture, and says what is there otherwise', () =>
  within({}, async (registry) => {
    const images = Object.fromEntries(
      ['amd64', 'arm64', 's390x'].map((architecture) => [architecture, makeImage({ layers: [Buffer.from(architecture)], architecture })]),
    );
    for (const { manifest, config, layers } of Object.values(images)) {
      for (const blob of [config, ...layers]) await pushBlob(registry, 'team/multi', blob);
      await pushManifest(registry, 'team/multi', manifest.digest, manifest);
    }
    const entry = (architecture: string) => {
      const image = images[architecture];
      if (image === undefined) throw new Error(architecture);
      return { ...descriptor(image.manifest), platform: { os: 'linux', architecture } };
    };
    const inner = makeIndex([entry('arm64'), entry('s390x')]);
    await pushManifest(registry, 'team/multi', inner.digest, inner);
    await pushManifest(registry, 'team/multi', 'all', makeIndex([entry('amd64'), descriptor(inner)]));

    const client = await openClient();
    for (const [word, architecture] of [
      ['x86_64', 'amd64'],
      ['arm64', 'arm64'],
      ['aarch64', 'arm64'],
      ['s390x', 's390x'],
    ] as const) {
      const found = await client.resolve(`${registry.host}/team/multi:all`, word);
      assert.is(found.manifest.digest, images[architecture]?.manifest.digest, word);
      assert.is(found.platform.architecture, architecture);
    }
    const error = await failure(() => client.resolve(`${registry.host}/team/multi:all`, 'ppc64le'), 'E_PLATFORM');
    assert.match(error.why, /linux\/amd64, linux\/arm64, linux\/s390x/);
  }));

test('a lone image for another architecture is refused before its layers are fetched', () =>
  within({}, async (registry) => {
    await pushImage(registry, { repository: 'team/arm', tag: '1', layers: [Buffer.from('x')], architecture: 'arm64' });
    const error = await failure(async () => (await openClient()).resolve(`${registry.host}/team/arm:1`), 'E_PLATFORM');
    assert.match(error.message, /on linux\/amd64: the image is there for linux\/arm64/);
  }));

test('images that skopeo converted to Docker schema 2, and their zstd forms, are pulled', () =>
  within({}, async (registry) => {
    const tree = scratch();
    await must(['sh', '-c', `cd ${tree} && mkdir rootfs && echo hello > rootfs/hello && tar -C rootfs -cf layer.tar .`]);
    await pushImage(registry, { repository: 'team/oci', tag: '1', layers: [readFileSync(`${tree}/layer.tar`)] });
    const copy = (...options: string[]) =>
      must([
        'skopeo',
        'copy',
        '--insecure-policy',
        '--src-tls-verify=false',
        '--dest-tls-verify=false',
        ...options,
        `docker://${registry.host}/team/oci:1`,
        `docker://${registry.host}/team/copy:${options.at(-1)}`,
      ]);
    await copy('--format', 'v2s2');
    await copy('--dest-compress-format', 'zstd');
    const client = await openClient();
    const docker = await client.resolve(`${registry.host}/team/copy:v2s2`);
    assert.is(docker.manifest.mediaType, 'application/vnd.docker.distribution.manifest.v2+json');
    assert.is(docker.layers[0]?.mediaType, 'application/vnd.docker.image.rootfs.diff.tar.gzip');
    const zstd = await client.resolve(`${registry.host}/team/copy:zstd`);
    assert.ok(['gzip', 'zstd'].includes(layerCompression(zstd.layers[0]?.mediaType ?? '') ?? ''));
    assert.is((await client.fetchAll(docker)).length, 1);
  }));

test('four processes that start the same image at once download each blob once', () =>
  within({}, async (registry) => {
    await push(registry);
    const store = await newStore();
    const puller = new URL('./fixtures/pull.ts', import.meta.url).pathname;
    const outputs = await Promise.all([1, 2, 3, 4].map(() => must([process.execPath, puller, store.path, `${registry.host}/team/x:1`])));
    const downloaded = outputs.flatMap((output) => output.split('\n').filter((line) => line.startsWith('done ')));
    assert.is(downloaded.length, LAYERS.length + 1, downloaded.join('\n'));
    assert.is(new Set(downloaded).size, downloaded.length);
    for (const output of outputs) assert.match(output, /pulled 3 layers/);
  }));

test.run();
