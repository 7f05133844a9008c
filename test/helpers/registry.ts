/**
 * A real registry for tests: Debian's docker-registry on loopback, with its own data directory and a free port, with or without TLS and password;
 * and `pushImage`, which makes a small image in it through the distribution API, without tsrun's own code.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { start } from './proc.ts';

export type TestRegistry = {
  /** `localhost:PORT`. */
  readonly host: string;
  readonly url: string;
  /** The authority that signed the certificate, for SSL_CERT_FILE; '' without TLS. */
  readonly caFile: string;
  readonly login: { readonly username: string; readonly password: string } | undefined;
  readonly stop: () => Promise<void>;
};

export type RegistryOptions = { readonly tls?: boolean; readonly password?: boolean };

export const startRegistry = async ({ tls = false, password = false }: RegistryOptions = {}): Promise<TestRegistry> => {
  const directory = mkdtempSync(join(tmpdir(), 'tsrun-registry-'));
  const certificate = tls ? makeCertificate(directory) : undefined;
  const login = password ? { username: 'ada', password: 'lovelace: 1843' } : undefined;
  const config = {
    version: '0.1',
    log: { level: 'info', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(directory, 'data') }, delete: { enabled: true } },
    http: {
      addr: '127.0.0.1:0',
      ...(certificate === undefined ? {} : { tls: { certificate: certificate.certFile, key: certificate.keyFile } }),
    },
    ...(login === undefined ? {} : { auth: { htpasswd: { realm: 'test', path: makePasswordFile(directory, login) } } }),
  };
  // YAML reads JSON.
  const configFile = join(directory, 'config.yml');
  writeFileSync(configFile, JSON.stringify(config));
  const server = start(['docker-registry', 'serve', configFile], { env: { PATH: process.env['PATH'] ?? '' } });
  const stop = async (): Promise<void> => {
    await server.stop('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  };
  // Said once the socket is bound, with the port that the kernel has given it.
  const LISTENS = /listening on 127\.0\.0\.1:(\d+)\D/;
  const said = await server.until(LISTENS).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  const host = `localhost:${LISTENS.exec(said)?.[1]}`;
  return { host, url: `${tls ? 'https' : 'http'}://${host}`, caFile: certificate?.caFile ?? '', login, stop };
};

const makePasswordFile = (directory: string, { username, password }: { username: string; password: string }): string => {
  const path = join(directory, 'htpasswd');
  writeFileSync(path, execFileSync('htpasswd', ['-nbB', '-C', '4', username, password]));
  return path;
};

export type TestCertificate = {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
};

/** A new authority, and a certificate of it for localhost, 127.0.0.1 and registry.test. */
export const makeCertificate = (directory: string): TestCertificate => {
  mkdirSync(directory, { recursive: true });
  const file = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', file('ca.key'), '-out', file('ca.pem'), '-days', '2', '-subj', '/CN=test authority');
  openssl('req', ...key, '-keyout', file('server.key'), '-out', file('server.csr'), '-subj', '/CN=localhost');
  writeFileSync(file('san.cnf'), 'subjectAltName=DNS:localhost,DNS:registry.test,IP:127.0.0.1\n');
  openssl(
    'x509',
    '-req',
    '-in',
    file('server.csr'),
    '-CA',
    file('ca.pem'),
    '-CAkey',
    file('ca.key'),
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    file('san.cnf'),
    '-out',
    file('server.pem'),
  );
  const text = (name: string): string => readFileSync(file(name), 'utf8');
  return {
    caFile: file('ca.pem'),
    certFile: file('server.pem'),
    keyFile: file('server.key'),
    ca: text('ca.pem'),
    cert: text('server.pem'),
    key: text('server.key'),
  };
};

// --- images

export type PushOptions = {
  readonly repository: string;
  readonly tag: string;
  /** Uncompressed layers (tar files, or any bytes where nobody unpacks them), base first. */
  readonly layers: readonly Uint8Array[];
  readonly architecture?: string;
  readonly config?: Readonly<Record<string, unknown>>;
};

export type PushedImage = { readonly manifest: Document; readonly config: Document; readonly layers: readonly Document[] };
export type Document = { readonly mediaType: string; readonly digest: string; readonly size: number; readonly bytes: Uint8Array };

/** Makes the documents of an image without sending them anywhere. */
export const makeImage = ({ layers, architecture = 'amd64', config = {} }: Omit<PushOptions, 'repository' | 'tag'>): PushedImage => {
  const blobs = layers.map((layer) => document('application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(layer, { level: 1 })));
  const image = document(
    'application/vnd.oci.image.config.v1+json',
    json({ architecture, os: 'linux', config, rootfs: { type: 'layers', diff_ids: layers.map(sha256) } }),
  );
  const manifestType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = document(
    manifestType,
    json({ schemaVersion: 2, mediaType: manifestType, config: descriptor(image), layers: blobs.map(descriptor) }),
  );
  return { manifest, config: image, layers: blobs };
};

export const makeIndex = (entries: readonly Readonly<Record<string, unknown>>[]): Document => {
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  return document(mediaType, json({ schemaVersion: 2, mediaType, manifests: entries }));
};

export const descriptor = ({ mediaType, digest, size }: Document): { mediaType: string; digest: string; size: number } => ({
  mediaType,
  digest,
  size,
});

export const document = (mediaType: string, bytes: Uint8Array): Document => ({
  mediaType,
  digest: sha256(bytes),
  size: bytes.length,
  bytes,
});

export const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

export const sha256 = (bytes: Uint8Array): `sha256:${string}` => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export const pushImage = async (registry: TestRegistry, options: PushOptions): Promise<PushedImage> => {
  const image = makeImage(options);
  for (const blob of [image.config, ...image.layers]) await pushBlob(registry, options.repository, blob);
  await pushManifest(registry, options.repository, options.tag, image.manifest);
  return image;
};

export const pushBlob = async (registry: TestRegistry, repository: string, blob: Document): Promise<void> => {
  const started = await sendTo(registry, `/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  if (started.status !== 202) throw new Error(`upload refused: ${started.status}`);
  const target = new URL(String(started.headers['location']), registry.url);
  target.searchParams.set('digest', blob.digest);
  const done = await sendTo(registry, `${target.pathname}${target.search}`, {
    method: 'PUT',
    body: blob.bytes,
    headers: { 'content-type': 'application/octet-stream' },
  });
  if (done.status !== 201) throw new Error(`blob refused: ${done.status} ${done.text}`);
};

export const pushManifest = async (registry: TestRegistry, repository: string, reference: string, manifest: Document): Promise<void> => {
  const done = await sendTo(registry, `/v2/${repository}/manifests/${reference}`, {
    method: 'PUT',
    body: manifest.bytes,
    headers: { 'content-type': manifest.mediaType },
  });
  if (done.status !== 201) throw new Error(`manifest refused: ${done.status} ${done.text}`);
};

// --- plain HTTP, so that tsrun's client is not tested by itself

type Sent = {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array;
  readonly ca?: string | undefined;
};
type Answer = { readonly status: number; readonly headers: http.IncomingHttpHeaders; readonly text: string };

const sendTo = (registry: TestRegistry, path: string, options: Sent): Promise<Answer> => {
  const { login } = registry;
  const authorization =
    login === undefined ? {} : { authorization: `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}` };
  const ca = registry.caFile === '' ? undefined : readFileSync(registry.caFile, 'utf8');
  return send(`${registry.url}${path}`, { ...options, ca, headers: { ...authorization, ...options.headers } });
};

const send = (url: string, { method = 'GET', headers = {}, body, ca }: Sent): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const request = (url.startsWith('https:') ? https : http).request(url, {
      method,
      agent: false,
      headers: { ...headers, 'content-length': String(body?.length ?? 0) },
      ...(ca === undefined ? {} : { ca }),
    });
    request.on('error', reject);
    request.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
      response.on('error', reject);
    });
    request.end(body);
  });
