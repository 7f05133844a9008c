/**
 * One blob from the registry into the store, continued by Range after every break, from whichever endpoint has it.
 * Distribution spec, "Pulling blobs"; RFC 9110 14 for ranges.
 */
import type { Descriptor } from '../oci/descriptor.ts';
import type { BlobSink } from '../store/blob-source.ts';
import { mismatch, produceBlob } from '../store/produce.ts';
import type { Store } from '../store/types.ts';
import { TsrunError } from '../util/errors.ts';
import { type RegistryContext, refuseStatus } from './documents.ts';
import type { Endpoint } from './endpoint.ts';
import { TransferFailure } from './failure.ts';
import type { HttpResponse } from './http.ts';
import { withRetries } from './retry.ts';

/** @returns path in the store. @throws TsrunError E_DIGEST_MISMATCH, E_BLOB_NOT_FOUND, E_REGISTRY_AUTH, E_STORE_FULL; TransferFailure */
export const downloadBlob = async (
  context: RegistryContext,
  store: Store,
  endpoints: readonly Endpoint[],
  blob: Descriptor,
): Promise<string> => {
  const report = (kind: 'cached' | 'done' | 'waiting', bytes: number): void =>
    context.onProgress({ kind, digest: blob.digest, bytes, total: blob.size });
  let fetched = false;
  const path = await produceBlob(
    store,
    blob,
    async (sink) => {
      fetched = true;
      await fromAnyEndpoint(context, endpoints, blob, sink);
    },
    { timing: context.timing, signal: context.signal, onWait: (bytes) => report('waiting', bytes) },
  );
  report(fetched ? 'done' : 'cached', blob.size);
  return path;
};

const fromAnyEndpoint = async (
  context: RegistryContext,
  endpoints: readonly Endpoint[],
  blob: Descriptor,
  sink: BlobSink,
): Promise<void> => {
  let failure: unknown;
  for (const endpoint of endpoints) {
    try {
      return await fromEndpoint(context, endpoint, blob, sink);
    } catch (error) {
      if (context.signal?.aborted || isOurs(error)) throw error;
      failure = error;
    }
  }
  throw failure;
};

/** A full disk is full whichever mirror is asked. */
const isOurs = (error: unknown): boolean =>
  error instanceof TsrunError ? error.code === 'E_STORE_FULL' : !(error instanceof TransferFailure);

const fromEndpoint = async (context: RegistryContext, endpoint: Endpoint, blob: Descriptor, sink: BlobSink): Promise<void> => {
  const inherited = sink.offset() > 0;
  await untilComplete(context, endpoint, blob, sink);
  if (sink.verified()) return;
  sink.restart();
  // What an earlier run left behind may have been the wrong part.
  if (inherited) await untilComplete(context, endpoint, blob, sink);
  if (sink.verified()) return;
  sink.restart();
  throw mismatch(blob, `${endpoint.registry} sent ${blob.size} bytes of something else`);
};

const untilComplete = async (context: RegistryContext, endpoint: Endpoint, blob: Descriptor, sink: BlobSink): Promise<void> => {
  let farthest = sink.offset();
  await withRetries(
    context,
    () => transfer(context, endpoint, blob, sink),
    () => {
      const moved = sink.offset() >= farthest + context.config.limits.stallBytes;
      if (moved) farthest = sink.offset();
      return moved;
    },
  );
};

/** One connection's worth. */
const transfer = async (context: RegistryContext, endpoint: Endpoint, blob: Descriptor, sink: BlobSink): Promise<void> => {
  const offset = sink.offset();
  if (offset === blob.size && blob.size > 0) return;
  const response = await context.send({
    endpoint,
    path: `${endpoint.repository}/blobs/${blob.digest}`,
    headers: offset === 0 ? {} : { range: `bytes=${offset}-` },
  });
  if (response.status === 404) {
    response.discard();
    throw missing(endpoint, blob);
  }
  // The server will not continue, or not this: from the start again.
  if (response.status === 416 || (response.status === 206 && !continues(response, offset, blob.size))) {
    response.discard();
    sink.restart();
    throw new TransferFailure(offset > 0 ? 'broken' : 'senseless', response.url, 'it does not continue where the download broke off');
  }
  await refuseStatus(response);
  if (response.status === 200 && offset > 0) sink.restart();
  const length = response.headers['content-length'];
  if (length !== undefined && Number(length) !== blob.size - sink.offset()) {
    response.discard();
    throw mismatch(blob, `${endpoint.registry} offers ${Number(length) + sink.offset()} bytes instead of ${blob.size}`);
  }
  await receive(context, response, blob, sink);
};

const receive = async (context: RegistryContext, response: HttpResponse, blob: Descriptor, sink: BlobSink): Promise<void> => {
  for await (const chunk of response.chunks()) {
    context.signal?.throwIfAborted();
    sink.write(chunk);
    context.onProgress({ kind: 'download', digest: blob.digest, bytes: sink.offset(), total: blob.size });
  }
  if (sink.offset() < blob.size)
    throw new TransferFailure('broken', response.url, `the download ended ${blob.size - sink.offset()} bytes early`);
};

/** `bytes FIRST-LAST/TOTAL`: begins where we stopped, and is of the same length as a whole. */
const continues = (response: HttpResponse, offset: number, size: number): boolean => {
  const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers['content-range'] ?? '');
  return range !== null && Number(range[1]) === offset && Number(range[2]) === size - 1 && (range[3] === '*' || Number(range[3]) === size);
};

const missing = (endpoint: Endpoint, blob: Descriptor): TsrunError =>
  new TsrunError({
    code: 'E_BLOB_NOT_FOUND',
    what: `cannot fetch blob ${blob.digest}`,
    why: `${endpoint.registry}/${endpoint.repository} does not have it, though its manifest names it`,
    hint: 'the image was pushed only in part, or is being deleted: push it again',
  });
