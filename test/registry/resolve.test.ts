import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type MiniOptions, type MiniRegistry, miniRegistry, openClient, type TestClient } from '../helpers/mini-registry.ts';
import { descriptor, document, json, makeImage, makeIndex } from '../helpers/registry.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('resolving references');

const IMAGE = makeImage({ layers: [Buffer.from('x')] });

const within = async (
  options: MiniOptions,
  work: (registry: MiniRegistry, client: TestClient) => Promise<void>,
  client: Parameters<typeof openClient>[0] = {},
): Promise<void> => {
  const registry = await miniRegistry(options);
  const opened = await openClient(client);
  try {
    await work(registry, opened);
  } finally {
    await opened.registry.close();
    await registry.close();
  }
};

const why = async (
  options: MiniOptions,
  code: Parameters<typeof failure>[1] = 'E_MANIFEST',
  client: Parameters<typeof openClient>[0] = {},
): Promise<string> => {
  let text = '';
  await within(
    options,
    async (registry, opened) => {
      text = (await failure(() => opened.resolve(`${registry.host}/team/x:1`), code)).why;
    },
    client,
  );
  return text;
};

test('a tag costs one HEAD when the store has the rest', () =>
  within({ image: IMAGE }, async (registry, client) => {
    await client.resolve(`${registry.host}/team/x:1`);
    const before = registry.asked.length;
    const again = await client.resolve(`${registry.host}/team/x:1`);
    assert.equal(
      registry.asked.slice(before).map(({ method, path }) => `${method} ${path}`),
      ['HEAD /v2/team/x/manifests/1'],
    );
    assert.is(again.pinned, `docker://${registry.host}/team/x:1@${IMAGE.manifest.digest}`);
  }));

test('a registry that does not tell digests is asked for the manifest itself', () =>
  within(
    {
      image: IMAGE,
      hook: (asked, response) => {
        if (!asked.path.endsWith('/manifests/1')) return false;
        response
          .writeHead(200, { 'content-type': IMAGE.manifest.mediaType })
          .end(asked.method === 'HEAD' ? undefined : IMAGE.manifest.bytes);
        return true;
      },
    },
    async (registry, client) => assert.is((await client.resolve(`${registry.host}/team/x:1`)).manifest.digest, IMAGE.manifest.digest),
  ));

test('a manifest that is not what its digest says is refused', async () => {
  const other = makeImage({ layers: [Buffer.from('y')] });
  await within(
    { image: IMAGE, manifests: { [other.manifest.digest]: { ...IMAGE.manifest, digest: other.manifest.digest } } },
    async (registry, client) => {
      await failure(() => client.resolve(`${registry.host}/team/x@${other.manifest.digest}`), 'E_DIGEST_MISMATCH');
    },
  );
});

test('a giant manifest is cut off at the limit, announced or not', async () => {
  for (const announced of [true, false]) {
    const hook: NonNullable<MiniOptions['hook']> = (asked, response) => {
      if (asked.method === 'HEAD' || !asked.path.endsWith('/manifests/1')) return false;
      response.writeHead(200, { 'content-type': IMAGE.manifest.mediaType, ...(announced ? { 'content-length': String(2 ** 33) } : {}) });
      const chunk = Buffer.alloc(64 * 1024, 0x20);
      const more = (): void => {
        while (!response.destroyed && response.write(chunk));
      };
      response.on('drain', more);
      more();
      return true;
    };
    assert.match(await why({ image: IMAGE, hook }, 'E_REGISTRY'), /longer than 4194304 bytes/);
  }
});

test('giant configs and too many or too big layers are refused from the descriptors alone', async () => {
  const manifest = (config: object, layers: readonly object[]) => ({
    '1': document(IMAGE.manifest.mediaType, json({ schemaVersion: 2, config, layers })),
  });
  const config = descriptor(IMAGE.config);
  const layer = descriptor(IMAGE.layers[0] ?? IMAGE.config);
  assert.match(await why({ manifests: manifest({ ...config, size: 2 ** 40 }, [layer]) }), /config is 1099511627776 bytes/);
  assert.match(await why({ manifests: manifest(config, Array(2001).fill(layer)) }), /2001 layers, more than 2000/);
  assert.match(await why({ manifests: manifest(config, [{ ...layer, size: 2 ** 50 }]) }), /limits\.imageBytes/);
});

test('schema 1, foreign layers and artifacts get their own words', async () => {
  const schema1 = document('application/vnd.docker.distribution.manifest.v1+prettyjws', json({ schemaVersion: 1, fsLayers: [] }));
  assert.match(await why({ manifests: { '1': schema1 } }), /schema 1/);
  const foreign = { ...descriptor(IMAGE.config), mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip' };
  const windows = document(IMAGE.manifest.mediaType, json({ schemaVersion: 2, config: descriptor(IMAGE.config), layers: [foreign] }));
  assert.match(await why({ manifests: { '1': windows } }, 'E_FOREIGN_LAYER'), /layer 1 of 1 .* is foreign/);
  const chart = document(
    IMAGE.manifest.mediaType,
    json({ schemaVersion: 2, config: { ...descriptor(IMAGE.config), mediaType: 'application/vnd.cncf.helm.config.v1+json' }, layers: [] }),
  );
  assert.match(await why({ manifests: { '1': chart } }), /artifact .*helm/);
});

test('a config with another number of layers than the manifest is refused', async () => {
  const config = document(IMAGE.config.mediaType, json({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [] } }));
  const manifest = document(
    IMAGE.manifest.mediaType,
    json({ schemaVersion: 2, config: descriptor(config), layers: IMAGE.layers.map(descriptor) }),
  );
  assert.match(await why({ manifests: { '1': manifest }, blobs: [config] }), /config lists 0 layers, its manifest 1/);
});

test('indexes that lie too deep, or name manifests of another length, are refused', async () => {
  const manifests: Record<string, ReturnType<typeof makeIndex>> = {};
  let inner = makeIndex([]);
  for (let depth = 0; depth < 6; depth++) {
    manifests[inner.digest] = inner;
    inner = makeIndex([descriptor(inner)]);
  }
  assert.match(await why({ manifests: { ...manifests, '1': inner } }), /more than 4 deep/);
  const lying = makeIndex([{ ...descriptor(IMAGE.manifest), size: 5, platform: { os: 'linux', architecture: 'amd64' } }]);
  assert.match(await why({ image: IMAGE, manifests: { '1': lying } }), /the index says 5/);
});

test('attestations are passed over, and a lone unlabelled manifest is judged by its config', async () => {
  const attestation = { ...descriptor(IMAGE.config), platform: { os: 'unknown', architecture: 'unknown' } };
  await within({ image: IMAGE, manifests: { '1': makeIndex([attestation, descriptor(IMAGE.manifest)]) } }, async (registry, client) => {
    assert.is((await client.resolve(`${registry.host}/team/x:1`)).manifest.digest, IMAGE.manifest.digest);
    assert.match((await failure(() => client.resolve(`${registry.host}/team/x:1`, 'arm64'), 'E_PLATFORM')).why, /linux\/amd64/);
  });
});

test('mirrors come first, a failing one only costs a warning, and the registry is the last resort', async () => {
  const broken = await miniRegistry({ hook: (_asked, response) => response.writeHead(500).end() !== undefined });
  const partial = await miniRegistry({ repository: 'proxy/hub/team/x', image: IMAGE });
  const registry = await miniRegistry({ image: IMAGE });
  const nobody = 'localhost:1';
  const use = async (mirrors: string[]): Promise<TestClient> => {
    const client = await openClient({ config: { mirrors: { [registry.host]: mirrors }, limits: { attempts: 2 } } });
    await client.fetchAll(await client.resolve(`${registry.host}/team/x:1`));
    await client.registry.close();
    return client;
  };
  const first = await use([broken.host, nobody, `http://${partial.host}/proxy/hub/`]);
  assert.is(first.warnings.length, 2);
  assert.match(first.warnings[0] ?? '', new RegExp(`mirror ${broken.host} failed \\(status 500; given up after 2 tries\\)`));
  assert.is(registry.asked.length, 0, 'the mirror had it all');

  const second = await use([`http://${partial.host}/elsewhere`]);
  assert.equal(second.warnings, [], 'a mirror without the image is no news');
  assert.ok(registry.asked.length > 0);
  await failure(() => use(['not a host!']), 'E_CONFIG');
  await Promise.all([broken.close(), partial.close(), registry.close()]);
});

test.run();
