/** An image of one layer in a registry that misbehaves when the layer is asked for. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { type MiniOptions, type MiniRegistry, miniRegistry, openClient, type TestClient } from '../helpers/mini-registry.ts';
import { type Document, makeImage } from '../helpers/registry.ts';

export const IMAGE = makeImage({ layers: [randomBytes(400_000)] });
export const LAYER = IMAGE.layers[0] as Document;

type Hook = NonNullable<MiniOptions['hook']>;

/** One image whose layer requests go to `hook`, with the count of such requests. */
export const within = async (
  hook: (count: number, ...args: Parameters<Hook>) => boolean,
  work: (registry: MiniRegistry, client: TestClient) => Promise<void>,
  clientOptions: Parameters<typeof openClient>[0] = {},
): Promise<void> => {
  let count = 0;
  const registry = await miniRegistry({
    image: IMAGE,
    hook: (asked, response) => asked.path.endsWith(LAYER.digest) && hook(++count, asked, response),
  });
  const client = await openClient(clientOptions);
  try {
    await work(registry, client);
  } finally {
    await client.registry.close();
    await registry.close();
  }
};

export const pull = async (registry: MiniRegistry, client: TestClient): Promise<void> => {
  const [path = ''] = await client.fetchAll(await client.resolve(`${registry.host}/team/x:1`));
  assert.equal(readFileSync(path), Buffer.from(LAYER.bytes));
};

export const ranges = (registry: MiniRegistry): unknown[] => registry.askedFor(LAYER).map(({ headers }) => headers.range);

/** Sends the head for the whole blob, but only some of its bytes, and hangs up. */
export const breakAt =
  (bytes: number): ((...args: Parameters<Hook>) => boolean) =>
  (asked, response) => {
    const start = Number(/\d+/.exec(asked.headers.range ?? '0')?.[0]);
    response.writeHead(start === 0 ? 200 : 206, {
      'content-length': LAYER.size - start,
      ...(start === 0 ? {} : { 'content-range': `bytes ${start}-${LAYER.size - 1}/${LAYER.size}` }),
    });
    response.write(LAYER.bytes.subarray(start, start + bytes), () => setImmediate(() => response.destroy()));
    return true;
  };
