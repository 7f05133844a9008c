/** Downloads that a registry sends elsewhere. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serve } from '../helpers/loopback-server.ts';
import { miniRegistry, openClient, sendDocument } from '../helpers/mini-registry.ts';
import { makeCertificate } from '../helpers/registry.ts';
import { scratch } from '../helpers/store.ts';
import { failure } from '../helpers/throws.ts';
import { breakAt, IMAGE, LAYER, pull, within } from './one-layer.ts';

const test = suite('redirected downloads');

test('a redirect to other storage goes without authorization, and the range goes along', async () => {
  const storage = await serve((asked, response) => sendDocument(asked, response, LAYER));
  const login = `Basic ${Buffer.from('ada:secret').toString('base64')}`;
  let broke = false;
  const registry = await miniRegistry({
    image: IMAGE,
    hook: (asked, response) => {
      if (asked.headers.authorization !== login) response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      else if (!asked.path.endsWith(LAYER.digest)) return false;
      else if (!broke) {
        broke = true;
        return breakAt(100_000)(asked, response);
      } else response.writeHead(307, { location: `${storage.origin}/signed?sig=1` }).end();
      return true;
    },
  });
  const client = await openClient({ env: { TSRUN_REGISTRY_USERNAME: 'ada', TSRUN_REGISTRY_PASSWORD: 'secret' } });
  await pull(registry, client);
  assert.equal(
    storage.asked.map(({ headers, path }) => [path, headers.authorization, headers.range]),
    [['/signed?sig=1', undefined, 'bytes=100000-']],
  );
  await Promise.all([client.registry.close(), registry.close(), storage.close()]);
});

test('a redirect within the registry keeps its authorization', async () => {
  const login = `Basic ${Buffer.from('ada:secret').toString('base64')}`;
  const registry = await miniRegistry({
    image: IMAGE,
    hook: (asked, response) => {
      if (asked.headers.authorization !== login) response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      else if (asked.path.endsWith(LAYER.digest)) response.writeHead(302, { location: '/elsewhere' }).end();
      else if (asked.path === '/elsewhere') sendDocument(asked, response, LAYER);
      else return false;
      return true;
    },
  });
  const client = await openClient({ env: { TSRUN_REGISTRY_USERNAME: 'ada', TSRUN_REGISTRY_PASSWORD: 'secret' } });
  await pull(registry, client);
  await Promise.all([client.registry.close(), registry.close()]);
});

test('a signed address that has run out is fetched anew from the registry', async () => {
  const storage = await serve((asked, response) => {
    if (asked.path === '/old') response.writeHead(403).end('<Error>expired</Error>');
    else sendDocument(asked, response, LAYER);
  });
  await within((count, _asked, response) => {
    response.writeHead(307, { location: `${storage.origin}/${count === 1 ? 'old' : 'new'}` }).end();
    return true;
  }, pull);
  await storage.close();
});

test('redirects that go round, or to what is not http, are refused', async () => {
  for (const [location, why] of [
    ['', /more than 10 redirects/],
    ['file:///etc/passwd', /redirects to "file/],
  ] as const) {
    await within(
      (_count, asked, response) => {
        response.writeHead(302, { location: location === '' ? asked.path : location }).end();
        return true;
      },
      async (registry, client) => {
        assert.match((await failure(() => pull(registry, client), 'E_REGISTRY')).why, why);
      },
    );
  }
});

test('a redirect from https to plain http of another host is refused', async () => {
  const certificate = makeCertificate(scratch());
  const registry = await miniRegistry({
    image: IMAGE,
    certificate,
    hook: (asked, response) => {
      if (!asked.path.endsWith(LAYER.digest)) return false;
      response.writeHead(302, { location: 'http://storage.example/x' }).end();
      return true;
    },
  });
  const client = await openClient({ config: { caFile: certificate.caFile } });
  const error = await failure(() => pull(registry, client), 'E_TLS');
  assert.match(error.why, /storage\.example: plain http is not allowed/);
  await Promise.all([client.registry.close(), registry.close()]);
});

test.run();
