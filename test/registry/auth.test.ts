import { writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseChallenges } from '../../src/registry/challenge.ts';
import { parseRetryAfter } from '../../src/registry/retry.ts';
import { type Asked, serve } from '../helpers/loopback-server.ts';
import { type MiniRegistry, miniRegistry, openClient } from '../helpers/mini-registry.ts';
import { makeImage } from '../helpers/registry.ts';
import { scratch } from '../helpers/store.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('registry authorization');

test('challenges are read with quotes, escapes, several schemes and in any case', () => {
  assert.equal(parseChallenges('Bearer realm="https://a.example/token",service="reg \\"x\\"",scope="repository:a/b:pull,push"'), [
    { scheme: 'bearer', realm: 'https://a.example/token', service: 'reg "x"', scope: 'repository:a/b:pull,push' },
  ]);
  assert.equal(parseChallenges('Negotiate, BASIC realm=plain, Bearer realm="https://b/"'), [
    { scheme: 'basic', realm: 'plain' },
    { scheme: 'bearer', realm: 'https://b/', service: undefined, scope: undefined },
  ]);
});

test('headers that make no sense give no challenge and end', () => {
  for (const header of [
    undefined,
    '',
    '=',
    'Bearer',
    'Bearer realm=',
    'Bearer realm="unclosed',
    '"""',
    ', , ,',
    'Basic '.repeat(10_000),
    `Bearer ${'a="b",'.repeat(50_000)}`,
  ]) {
    for (const challenge of parseChallenges(header)) assert.is(challenge.scheme, 'basic', header?.slice(0, 40));
  }
  assert.is(parseChallenges('Basic '.repeat(10_000)).length, 16);
});

test('Retry-After is read in both forms', () => {
  const now = Date.parse('2026-03-01T12:00:00Z');
  assert.is(parseRetryAfter('120', now), 120_000);
  assert.is(parseRetryAfter('Sun, 01 Mar 2026 12:00:30 GMT', now), 30_000);
  assert.is(parseRetryAfter('Sun, 01 Mar 2026 11:00:00 GMT', now), 0);
  for (const text of [undefined, 'soon', '-1', '1e9', '99999999999']) assert.is(parseRetryAfter(text, now), undefined, String(text));
});

// --- the token service

const IMAGE = makeImage({ layers: Array.from({ length: 6 }, (_, index) => Buffer.from(`layer ${index}`)) });

type TokenService = { readonly status?: number; readonly body?: (count: number) => unknown };

/** A registry that wants `Bearer token-N`, the newest token of its service. */
const withTokens = async (
  { status = 200, body }: TokenService,
  work: (registry: MiniRegistry, asked: readonly Asked[]) => Promise<void>,
): Promise<void> => {
  let count = 0;
  const service = await serve((_asked, response) => {
    count++;
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(JSON.stringify(body?.(count) ?? { token: `token-${count}`, expires_in: 300 }));
  });
  const registry = await miniRegistry({
    image: IMAGE,
    hook: (asked, response) => {
      if (asked.path === '/v2/' || asked.headers.authorization === `Bearer token-${count}`) return false;
      response
        .writeHead(401, { 'www-authenticate': `Bearer realm="${service.origin}/token?x=1",service="mini",scope="repository:team/x:pull"` })
        .end();
      return true;
    },
  });
  try {
    await work(registry, service.asked);
  } finally {
    await Promise.all([registry.close(), service.close()]);
  }
};

test('an anonymous token is fetched once for all parallel layers, with service and scope', () =>
  withTokens({}, async (registry, asked) => {
    const client = await openClient();
    await client.fetchAll(await client.resolve(`${registry.host}/team/x:1`));
    assert.equal(
      asked.map(({ method, path, headers }) => [method, path, headers.authorization]),
      [['GET', '/token?x=1&service=mini&scope=repository%3Ateam%2Fx%3Apull', undefined]],
    );
    await client.registry.close();

    // Without a resolve before: the layers are the first to learn that a token is needed.
    const fresh = await openClient({ store: { ...client.store } });
    const image = await fresh.resolve(`${registry.host}/team/x@${IMAGE.manifest.digest}`);
    assert.ok(image.fromStore);
    const empty = await openClient();
    await empty.fetchAll(image);
    assert.is(asked.length, 2);
    await Promise.all([fresh.registry.close(), empty.registry.close()]);
  }));

test('a token is renewed before it runs out, and when the registry no longer takes it', () =>
  withTokens({}, async (registry, asked) => {
    const client = await openClient();
    const name = `${registry.host}/team/x:1`;
    await client.resolve(name);
    await client.resolve(name);
    assert.is(asked.length, 1);
    await client.timing.sleep(295_000);
    await client.resolve(name);
    assert.is(asked.length, 2);
    await client.registry.close();
  }));

test('credentials go to the token service as basic authorization, and an identity token as a refresh grant', () =>
  withTokens({ body: (count) => ({ access_token: `token-${count}` }) }, async (registry, asked) => {
    const basic = await openClient({ env: { SINGULARITY_DOCKER_USERNAME: 'ada', SINGULARITY_DOCKER_PASSWORD: 'p:w' } });
    await basic.resolve(`${registry.host}/team/x:1`);
    assert.is(asked[0]?.headers.authorization, `Basic ${Buffer.from('ada:p:w').toString('base64')}`);

    const file = `${scratch()}/auth.json`;
    writeFileSync(file, JSON.stringify({ auths: { [registry.host]: { auth: 'MDAwMDAwMDA6', identitytoken: 'refresh me' } } }));
    const identity = await openClient({ env: { REGISTRY_AUTH_FILE: file } });
    await identity.resolve(`${registry.host}/team/x:1`);
    assert.is(asked[1]?.method, 'POST');
    assert.equal(Object.fromEntries(new URLSearchParams(asked[1]?.body)), {
      service: 'mini',
      scope: 'repository:team/x:pull',
      grant_type: 'refresh_token',
      client_id: 'tsrun',
      refresh_token: 'refresh me',
    });
    await Promise.all([basic.registry.close(), identity.registry.close()]);
  }));

test('a token service that refuses or talks nonsense is named', async () => {
  await withTokens({ status: 403, body: () => ({ details: 'incorrect username or password' }) }, async (registry) => {
    const client = await openClient();
    assert.match(
      (await failure(() => client.resolve(`${registry.host}/team/x:1`), 'E_REGISTRY_AUTH')).why,
      /token service says 403: incorrect username/,
    );
    await client.registry.close();
  });
  for (const token of [undefined, 7, '', 'a b', 'a\r\nx: y']) {
    await withTokens({ body: () => ({ token }) }, async (registry) => {
      const client = await openClient();
      assert.match((await failure(() => client.resolve(`${registry.host}/team/x:1`), 'E_REGISTRY')).why, /sent no token/);
      await client.registry.close();
    });
  }
});

test('a token service on plain http elsewhere never gets the credentials', async () => {
  const registry = await miniRegistry({
    hook: (asked, response) =>
      asked.path !== '/v2/' && response.writeHead(401, { 'www-authenticate': 'Bearer realm="http://token.example/t"' }).end() !== undefined,
  });
  const client = await openClient({ env: { TSRUN_REGISTRY_USERNAME: 'ada', TSRUN_REGISTRY_PASSWORD: 'x' } });
  assert.match((await failure(() => client.resolve(`${registry.host}/team/x:1`), 'E_REGISTRY_AUTH')).why, /not an https address/);
  await Promise.all([client.registry.close(), registry.close()]);
});

test('credentials from the environment are for the registry that was named, not for its mirrors', async () => {
  const challenge = (asked: Asked, response: ServerResponse): boolean =>
    asked.path !== '/v2/' &&
    asked.headers.authorization === undefined &&
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end() !== undefined;
  const mirror = await miniRegistry({ image: IMAGE, hook: challenge });
  const registry = await miniRegistry({ image: IMAGE, hook: challenge });
  const client = await openClient({
    config: { mirrors: { [registry.host]: [mirror.host] } },
    env: { TSRUN_REGISTRY_USERNAME: 'ada', TSRUN_REGISTRY_PASSWORD: 'x' },
  });
  await client.resolve(`${registry.host}/team/x:1`);
  assert.ok(mirror.asked.length > 0);
  assert.ok(mirror.asked.every(({ headers }) => headers.authorization === undefined));
  await Promise.all([client.registry.close(), registry.close(), mirror.close()]);
});

test.run();
