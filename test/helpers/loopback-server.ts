/** A small scripted HTTP server on loopback, for registries that misbehave. It keeps what it was asked. */
import * as http from 'node:http';
import * as https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TestCertificate } from './registry.ts';

export type Asked = { readonly method: string; readonly path: string; readonly headers: http.IncomingHttpHeaders; readonly body: string };

/** Called with the request after its body has come. */
export type Answering = (asked: Asked, response: http.ServerResponse) => void;

export type LoopbackServer = {
  /** `localhost:PORT`. */
  readonly host: string;
  readonly origin: string;
  readonly asked: readonly Asked[];
  readonly close: () => Promise<void>;
};

export const serve = async (answer: Answering, certificate?: TestCertificate): Promise<LoopbackServer> => {
  const asked: Asked[] = [];
  const listener = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    let body = '';
    request.setEncoding('utf8').on('data', (part: string) => {
      body += part;
    });
    request.on('end', () => {
      const entry = { method: request.method ?? '', path: request.url ?? '', headers: request.headers, body };
      asked.push(entry);
      answer(entry, response);
    });
  };
  const server =
    certificate === undefined
      ? http.createServer(listener)
      : https.createServer({ key: certificate.key, cert: certificate.cert }, listener);
  // What other servers answer to somebody who speaks TLS to a plain one.
  server.on('clientError', (_error, socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    host: `localhost:${port}`,
    origin: `${certificate === undefined ? 'http' : 'https'}://localhost:${port}`,
    asked,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};
