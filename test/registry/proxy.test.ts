import * as http from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Environment, proxyFor } from '../../src/registry/proxy.ts';
import { miniRegistry, openClient } from '../helpers/mini-registry.ts';
import { makeCertificate, makeImage } from '../helpers/registry.ts';
import { scratch } from '../helpers/store.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('proxies');

const via = (url: string, env: Environment): string | undefined => proxyFor(new URL(url), env)?.host;

test('the scheme chooses the variable, lower case first, ALL_PROXY last', () => {
  const env = { HTTPS_PROXY: 'http://s:1', http_proxy: 'p:2', HTTP_PROXY: 'http://no:3', ALL_PROXY: 'http://all:4' };
  assert.is(via('https://r.example/', env), 's:1');
  assert.is(via('http://r.example/', env), 'p:2');
  assert.is(via('https://r.example/', { ALL_PROXY: 'http://all:4' }), 'all:4');
  assert.is(via('https://r.example/', { HTTP_PROXY: 'http://p:2', HTTPS_PROXY: '' }), undefined);
});

test('loopback never goes through a proxy', () => {
  for (const host of ['localhost:5000', 'a.localhost', '127.0.0.1', '127.9.9.9:1', '[::1]:5000'])
    assert.is(via(`https://${host}/`, { HTTPS_PROXY: 'http://p:1' }), undefined, host);
});

test('NO_PROXY takes hosts, domains, ports, addresses, CIDR blocks and *', () => {
  const exempt = (host: string, list: string): boolean =>
    via(`https://${host}/`, { HTTPS_PROXY: 'http://p:1', NO_PROXY: list }) === undefined;
  const table: [string, string, boolean][] = [
    ['r.example', 'r.example', true],
    ['R.Example', 'r.EXAMPLE', true],
    ['a.r.example', 'r.example', true],
    ['a.r.example', '.r.example', true],
    ['a.r.example', '*.r.example', true],
    ['xr.example', 'r.example', false],
    ['r.example', 'x.example, other', false],
    ['r.example', '*', true],
    ['r.example:5000', 'r.example:5000', true],
    ['r.example:5000', 'r.example:443', false],
    ['r.example', 'r.example:443', true],
    ['10.1.2.3', '10.0.0.0/8', true],
    ['11.1.2.3', '10.0.0.0/8', false],
    ['10.1.2.3', '10.1.2.3', true],
    ['10.1.2.30', '10.1.2.3', false],
    ['10.1.2.3', '10.0.0.0/99', false],
    ['[fd00::5]', 'fd00::/8', true],
    ['[fd00::5]', 'fd00:0::5', true],
    ['[fd00::5]:5000', '[fd00::5]:5000', true],
    ['10.1.2.3', 'localhost 127.0.0.0/8 10.1.0.0/16', true],
    ['r.example', '', false],
  ];
  for (const [host, list, expected] of table) assert.is(exempt(host, list), expected, `${host} with ${list}`);
});

test('proxies that are not http are refused by name', async () => {
  assert.match(
    (await failure(() => proxyFor(new URL('https://r.example'), { ALL_PROXY: 'socks5://s:1' }), 'E_PROXY')).message,
    /ALL_PROXY: socks5 proxies/,
  );
  await failure(() => proxyFor(new URL('https://r.example'), { HTTPS_PROXY: 'http://' }), 'E_PROXY');
});

// --- a real one

type Proxy = { readonly url: string; readonly log: string[]; readonly close: () => Promise<void> };

/** Tunnels (CONNECT) and forwards (absolute URLs) to `port`, whatever host is named; wants `authorization` when given. */
const startProxy = async (port: number, authorization?: string): Promise<Proxy> => {
  const log: string[] = [];
  const sockets = new Set<Socket>();
  const allowed = (request: http.IncomingMessage): boolean =>
    authorization === undefined || request.headers['proxy-authorization'] === authorization;
  const server = http.createServer((request, response) => {
    log.push(`${request.method} ${request.url}`);
    if (!allowed(request)) return response.writeHead(407).end();
    const { pathname, search } = new URL(request.url ?? '');
    const onward = http.request(
      { port, host: '127.0.0.1', path: pathname + search, method: request.method, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.pipe(response);
      },
    );
    return request.pipe(onward);
  });
  server.on('connect', (request: http.IncomingMessage, socket: Socket) => {
    log.push(`CONNECT ${request.url}`);
    if (!allowed(request)) return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    const onward = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      socket.pipe(onward).pipe(socket);
    });
    for (const end of [socket, onward]) {
      sockets.add(end);
      end.on('error', () => undefined);
    }
    return undefined;
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}`,
    log,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};

const IMAGE = makeImage({ layers: [Buffer.alloc(300_000, 'x')] });
const portOf = (host: string): number => Number(host.split(':')[1]);

test('https goes through a tunnel, certificates are checked inside it, and the proxy resolves the name', async () => {
  const certificate = makeCertificate(scratch());
  const registry = await miniRegistry({ image: IMAGE, certificate });
  const proxy = await startProxy(portOf(registry.host));
  const client = await openClient({ env: { HTTPS_PROXY: proxy.url, SSL_CERT_FILE: certificate.caFile } });
  const image = await client.resolve('registry.test/team/x:1');
  assert.is((await client.fetchAll(image)).length, 1);
  assert.ok(proxy.log.length > 0 && proxy.log.every((line) => line === 'CONNECT registry.test:443'), proxy.log.join('\n'));

  const untrusting = await openClient({ env: { HTTPS_PROXY: proxy.url } });
  await failure(() => untrusting.resolve('registry.test/team/x:1'), 'E_TLS');
  const misnamed = await openClient({ env: { HTTPS_PROXY: proxy.url, SSL_CERT_FILE: certificate.caFile } });
  await failure(() => misnamed.resolve('other.test/team/x:1'), 'E_TLS');
  const exempt = await openClient({ env: { HTTPS_PROXY: proxy.url, NO_PROXY: '.test' } });
  const before = proxy.log.length;
  await failure(() => exempt.resolve('registry.test/team/x:1'), 'E_REGISTRY_UNREACHABLE');
  assert.is(proxy.log.length, before);
  for (const opened of [client, untrusting, misnamed, exempt]) await opened.registry.close();
  await Promise.all([registry.close(), proxy.close()]);
});

test('plain http is forwarded, and only for hosts the config names', async () => {
  const registry = await miniRegistry({ image: IMAGE });
  const proxy = await startProxy(portOf(registry.host));
  const env = { HTTP_PROXY: proxy.url, HTTPS_PROXY: proxy.url };
  const refused = await openClient({ env });
  const error = await failure(() => refused.resolve('registry.test:5000/team/x:1'), 'E_TLS');
  assert.match(error.hint ?? '', /config: insecure: \["registry\.test:5000"\]/);
  const allowed = await openClient({ env, config: { insecure: ['registry.test:5000'] } });
  await allowed.fetchAll(await allowed.resolve('registry.test:5000/team/x:1'));
  assert.ok(proxy.log.includes(`GET http://registry.test:5000/v2/team/x/blobs/${IMAGE.layers[0]?.digest}`), proxy.log.join('\n'));
  await Promise.all([refused.registry.close(), allowed.registry.close()]);
  await Promise.all([registry.close(), proxy.close()]);
});

test('the proxy gets its own user and password, the registry does not see them, and errors do not show them', async () => {
  const certificate = makeCertificate(scratch());
  const registry = await miniRegistry({ image: IMAGE, certificate });
  const proxy = await startProxy(portOf(registry.host), `Basic ${Buffer.from('ada:s3cret').toString('base64')}`);
  const withLogin = (login: string) =>
    openClient({ env: { HTTPS_PROXY: proxy.url.replace('//', `//${login}@`), SSL_CERT_FILE: certificate.caFile } });
  const client = await withLogin('ada:s3cret');
  await client.fetchAll(await client.resolve('registry.test/team/x:1'));
  assert.ok(registry.asked.every(({ headers }) => headers['proxy-authorization'] === undefined));
  const wrong = await withLogin('ada:wr0ng');
  const error = await failure(() => wrong.resolve('registry.test/team/x:1'), 'E_PROXY');
  assert.match(error.message, /407/);
  assert.not.match(`${error.message} ${error.hint}`, /wr0ng/);
  await Promise.all([client.registry.close(), wrong.registry.close()]);
  await Promise.all([registry.close(), proxy.close()]);
});

test('a proxy that is not there is named as the proxy', async () => {
  const client = await openClient({ env: { HTTPS_PROXY: 'http://localhost:1' } });
  const error = await failure(() => client.resolve('registry.test/team/x:1'), 'E_PROXY');
  assert.match(error.message, /localhost:1/);
  await client.registry.close();
});

test.run();
