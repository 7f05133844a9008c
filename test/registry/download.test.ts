import { readdirSync, readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { miniRegistry, openClient, sendDocument } from '../helpers/mini-registry.ts';
import { start } from '../helpers/proc.ts';
import { type Document, document, makeImage } from '../helpers/registry.ts';
import { failure } from '../helpers/throws.ts';
import { breakAt, IMAGE, LAYER, pull, ranges, within } from './one-layer.ts';

const test = suite('downloads from registries that misbehave');

test('a connection that breaks twice is resumed where it broke', () =>
  within(
    (count, asked, response) => count <= 2 && breakAt(100_000)(asked, response),
    async (registry, client) => {
      await pull(registry, client);
      assert.equal(ranges(registry), [undefined, 'bytes=100000-', 'bytes=200000-']);
      assert.is(client.timing.sleeps.length, 2);
    },
  ));

test('breaks that bring something each time are never too many', () =>
  within((count, asked, response) => count <= 5 && breakAt(70_000)(asked, response), pull, { config: { limits: { attempts: 2 } } }));

test('breaks that bring nothing end after the allowed tries, and what came stays for the next run', async () => {
  await within(
    (count, asked, response) => breakAt(count === 1 ? 100_000 : 0)(asked, response),
    async (registry, client) => {
      const error = await failure(() => pull(registry, client), 'E_REGISTRY_UNREACHABLE');
      assert.match(error.why, /connection broke .*; given up after 3 tries/);
      assert.match(error.hint ?? '', /kept and continued/);
      assert.is(registry.askedFor(LAYER).length, 3);
      const [left = ''] = readdirSync(`${client.store.path}/partial`);
      assert.is(readFileSync(`${client.store.path}/partial/${left}`).length, 100_000);
      const good = await miniRegistry({ image: IMAGE });
      await pull(good, await openClient({ store: client.store }));
      assert.equal(ranges(good), ['bytes=100000-']);
      await good.close();
    },
    { config: { limits: { attempts: 3 } } },
  );
});

test('a server that ignores the range starts the blob over', () =>
  within((count, asked, response) => {
    if (count === 1) return breakAt(100_000)(asked, response);
    response.writeHead(200, { 'content-length': LAYER.size }).end(LAYER.bytes);
    return true;
  }, pull));

test('an answer that continues elsewhere, or with another length, starts the blob over', () =>
  within(
    (count, asked, response) => {
      if (count === 1 || count === 3) return breakAt(100_000)(asked, response);
      const wrong = count === 2 ? `bytes 0-${LAYER.size - 1}/${LAYER.size}` : `bytes 100000-${LAYER.size}/${LAYER.size + 1}`;
      if (count > 4) return false;
      response.writeHead(206, { 'content-range': wrong }).end(LAYER.bytes);
      return true;
    },
    async (registry, client) => {
      await pull(registry, client);
      assert.equal(ranges(registry), [undefined, 'bytes=100000-', undefined, 'bytes=100000-', undefined]);
    },
  ));

test('a range the server finds senseless (416) starts the blob over', () =>
  within((count, asked, response) => {
    if (count === 1) return breakAt(100_000)(asked, response);
    if (count === 2) response.writeHead(416).end();
    return count === 2;
  }, pull));

test('content of another digest is refused and nothing of it stays', () =>
  within(
    (_count, asked, response) => {
      sendDocument(asked, response, { ...LAYER, bytes: Buffer.from(LAYER.bytes).fill(1, 500, 501) });
      return true;
    },
    async (registry, client) => {
      await failure(() => pull(registry, client), 'E_DIGEST_MISMATCH');
      assert.equal(readdirSync(`${client.store.path}/partial`), []);
      assert.is(registry.askedFor(LAYER).length, 1, 'asking again would bring the same');
    },
  ));

test('a blob shorter or longer than its descriptor says is refused', async () => {
  for (const bytes of [LAYER.bytes.subarray(1), Buffer.concat([LAYER.bytes, Buffer.alloc(1)])]) {
    for (const sized of [true, false]) {
      await within(
        (_count, _asked, response) => {
          response.writeHead(200, sized ? { 'content-length': bytes.length } : {}).end(bytes);
          return true;
        },
        async (registry, client) => {
          const short = bytes.length < LAYER.size && !sized;
          await failure(() => pull(registry, client), short ? 'E_REGISTRY_UNREACHABLE' : 'E_DIGEST_MISMATCH');
        },
        { config: { limits: { attempts: 2 } } },
      );
    }
  }
});

test('429 is waited out for as long as Retry-After says, in seconds or as a date', () =>
  within(
    (count, _asked, response) => {
      if (count === 1) response.writeHead(429, { 'retry-after': '7' }).end();
      if (count === 2) response.writeHead(429, { 'retry-after': new Date(client0 + 60_000).toUTCString() }).end();
      return count <= 2;
    },
    async (registry, client) => {
      await pull(registry, client);
      const [first = 0, second = 0] = client.timing.sleeps;
      assert.ok(first >= 7_000 && first <= 9_000, `${first}`);
      // A minute after the fake clock began, seven seconds and a bit of which have passed.
      assert.ok(second >= 50_000 && second <= 54_500, `${second}`);
      assert.match(JSON.stringify(client.progress.filter(({ kind }) => kind === 'retry')), /too many requests \(429\)/);
    },
  ));
const client0 = Date.parse('2026-03-01T12:00:00Z');

test('a Retry-After beyond the limit ends at once, with the wait in words', () =>
  within(
    (_count, _asked, response) => {
      response
        .writeHead(429, { 'retry-after': '21600' })
        .end(JSON.stringify({ errors: [{ message: 'toomanyrequests: pull \u001b[31mrate limit' }] }));
      return true;
    },
    async (registry, client) => {
      const error = await failure(() => pull(registry, client), 'E_REGISTRY_BUSY');
      assert.match(error.why, /toomanyrequests: pull {1,2}\[31mrate limit; it asks to wait 3[67]\d minutes/);
      assert.match(error.hint ?? '', /tsrun login/);
      assert.equal(client.timing.sleeps, []);
    },
  ));

test('503 and 500 are tried again with waits that grow', () =>
  within(
    (count, _asked, response) => {
      if (count <= 4) response.writeHead(count % 2 === 0 ? 500 : 503).end('sorry');
      return count <= 4;
    },
    async (registry, client) => {
      await pull(registry, client);
      assert.equal(client.timing.sleeps, [375, 750, 1500, 3000]);
    },
  ));

test('502 for ever is given up with the status', () =>
  within(
    (_count, _asked, response) => {
      response.writeHead(502).end();
      return true;
    },
    async (registry, client) => {
      assert.match((await failure(() => pull(registry, client), 'E_REGISTRY_BUSY')).why, /status 502; given up after 6 tries/);
    },
  ));

test('a server that stops sending is given up after the stall time, and resumed', () =>
  within(
    (count, _asked, response) => {
      if (count > 1) return false;
      response.writeHead(200, { 'content-length': LAYER.size });
      response.write(LAYER.bytes.subarray(0, 150_000));
      return true;
    },
    async (registry, client) => {
      await pull(registry, client);
      assert.equal(ranges(registry), [undefined, 'bytes=150000-']);
      assert.match(JSON.stringify(client.progress), /no data for 1 s/);
    },
    { config: { timeouts: { stall: 1000 } } },
  ));

test('a byte now and then is no progress', () =>
  within(
    (count, _asked, response) => {
      if (count > 1) return false;
      response.writeHead(200, { 'content-length': LAYER.size });
      let at = 0;
      const drip = setInterval(() => response.write(LAYER.bytes.subarray(at, ++at)), 20);
      response.on('close', () => clearInterval(drip));
      return true;
    },
    async (registry, client) => {
      await pull(registry, client);
      assert.is(registry.askedFor(LAYER).length, 2);
    },
    { config: { timeouts: { stall: 1000 } } },
  ));

test('a server that accepts and never answers is given up', () =>
  within(
    () => true,
    async (registry, client) => {
      assert.match(
        (await failure(() => pull(registry, client), 'E_REGISTRY_UNREACHABLE')).why,
        /no data for 0\.05 s; given up after 2 tries/,
      );
    },
    { config: { timeouts: { stall: 50 }, limits: { attempts: 2 } } },
  ));

test('a layer the registry lost is named', () =>
  within(
    (_count, _asked, response) => {
      response.writeHead(404).end();
      return true;
    },
    async (registry, client) => {
      assert.match((await failure(() => pull(registry, client), 'E_BLOB_NOT_FOUND')).what, new RegExp(LAYER.digest));
    },
  ));

test('a process killed in mid-download is replaced by the next, which continues', () =>
  within(
    (count, _asked, response) => {
      if (count > 1) return false;
      response.writeHead(200, { 'content-length': LAYER.size });
      response.write(LAYER.bytes.subarray(0, 120_000));
      return true;
    },
    async (registry, client) => {
      const puller = new URL('./fixtures/pull.ts', import.meta.url).pathname;
      const child = start([process.execPath, puller, client.store.path, `${registry.host}/team/x:1`]);
      await child.until(/at 120000/);
      await child.stop('SIGKILL');
      await pull(registry, client);
      assert.equal(ranges(registry), [undefined, 'bytes=120000-']);
    },
  ));

test('closing the client ends downloads and keeps what came', async () => {
  let started: (() => void) | undefined;
  const begun = new Promise<void>((resolve) => {
    started = resolve;
  });
  await within(
    (_count, _asked, response) => {
      response.writeHead(200, { 'content-length': LAYER.size });
      response.write(LAYER.bytes.subarray(0, 90_000), () => started?.());
      return true;
    },
    async (registry, client) => {
      const image = await client.resolve(`${registry.host}/team/x:1`);
      const waiting = client.fetchAll(image).then(
        () => 'done',
        (error: Error) => error.message,
      );
      await begun;
      while (!client.progress.some((step) => step.kind === 'download' && step.bytes === 90_000))
        await new Promise((resolve) => setImmediate(resolve));
      await client.registry.close();
      assert.match(await waiting, /closed/);
      const left = readdirSync(`${client.store.path}/partial`);
      assert.is(left.length, 1);
      assert.match(left[0] ?? '', /^sha256-[0-9a-f]{64}\.part$/);
    },
  );
});

test('layers are asked for in another order on every node, at most so many at a time, and one failure ends all', async () => {
  const many = makeImage({ layers: Array.from({ length: 12 }, (_, index) => Buffer.from(`layer ${index}`)) });
  let open = 0;
  let most = 0;
  const order: string[] = [];
  const registry = await miniRegistry({
    image: many,
    hook: (asked, response) => {
      if (!many.layers.some(({ digest }) => asked.path.endsWith(digest))) return false;
      order.push(asked.path);
      most = Math.max(most, ++open);
      response.on('close', () => open--);
      return false;
    },
  });
  const client = await openClient({ config: { limits: { parallel: 3 } } });
  await client.fetchAll(await client.resolve(`${registry.host}/team/x:1`));
  assert.is(order.length, 12);
  assert.ok(most <= 3, `${most} at a time`);
  assert.not.equal(
    order,
    many.layers.map(({ digest }) => `/v2/team/x/blobs/${digest}`),
  );
  await Promise.all([client.registry.close(), registry.close()]);
});

test('the same layer twice in an image is fetched once', async () => {
  const twice = makeImage({ layers: [Buffer.from('a'), Buffer.from('a')] });
  const registry = await miniRegistry({ image: twice });
  const client = await openClient();
  assert.is((await client.fetchAll(await client.resolve(`${registry.host}/team/x:1`))).length, 1);
  assert.is(registry.askedFor(twice.layers[0] as Document).length, 1);
  await Promise.all([client.registry.close(), registry.close()]);
});

test('an image bigger than the free space is refused before the first layer', async () => {
  const claim = { ...LAYER, size: 2 ** 39 };
  const { config } = IMAGE;
  const manifest = document(
    IMAGE.manifest.mediaType,
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        config: { mediaType: config.mediaType, digest: config.digest, size: config.size },
        layers: [{ mediaType: claim.mediaType, digest: claim.digest, size: claim.size }],
      }),
    ),
  );
  const registry = await miniRegistry({ manifests: { '1': manifest }, blobs: [config, LAYER] });
  const client = await openClient();
  const error = await failure(async () => client.fetchAll(await client.resolve(`${registry.host}/team/x:1`)), 'E_STORE_FULL');
  assert.match(error.message, /needs 549756 MB, but only \d+ MB are free/);
  assert.is(registry.askedFor(LAYER).length, 0);
  await Promise.all([client.registry.close(), registry.close()]);
});

test.run();
