/** Manifests and tags of one repository on one endpoint: asked for, bounded, verified. */
import type { Digest } from '../oci/descriptor.ts';
import { isDigest } from '../oci/descriptor.ts';
import { INDEX_TYPES, MANIFEST_TYPES } from '../oci/media-types.ts';
import { digestOf } from '../store/blobs.ts';
import { TsrunError } from '../util/errors.ts';
import { errorDetail, type SendToRegistry } from './auth.ts';
import type { Endpoint } from './endpoint.ts';
import { TransferFailure } from './failure.ts';
import { type HttpResponse, readBody } from './http.ts';
import { type RetryContext, withRetries } from './retry.ts';
import type { RawDocument } from './types.ts';

export type RegistryContext = RetryContext & { readonly send: SendToRegistry };

const ACCEPT = { accept: [...INDEX_TYPES, ...MANIFEST_TYPES].join(', ') };

/**
 * What a tag points at, without fetching it (Docker Hub does not count HEAD as a pull).
 * @returns `undefined` when the registry has it but does not say.
 * @throws TsrunError E_IMAGE_NOT_FOUND
 */
export const headManifest = (context: RegistryContext, endpoint: Endpoint, tag: string): Promise<Digest | undefined> =>
  withRetries(context, async () => {
    const response = await context.send({ endpoint, path: manifestPath(endpoint, tag), method: 'HEAD', headers: ACCEPT });
    response.discard();
    if (response.status === 404) throw await notFound(context, endpoint, tag);
    const digest = headerDigest(response);
    return response.status === 200 ? digest : undefined;
  });

/**
 * @param reference tag or digest; a digest is verified, whatever the registry says.
 * @throws TsrunError E_IMAGE_NOT_FOUND, E_DIGEST_MISMATCH
 */
export const getManifest = (context: RegistryContext, endpoint: Endpoint, reference: string): Promise<RawDocument> =>
  withRetries(context, async () => {
    const response = await context.send({ endpoint, path: manifestPath(endpoint, reference), headers: ACCEPT });
    if (response.status === 404) {
      response.discard();
      throw await notFound(context, endpoint, reference);
    }
    await refuseStatus(response);
    const bytes = await readBody(response, context.config.limits.manifestBytes);
    const claimed = isDigest(reference) ? reference : headerDigest(response);
    const digest = digestOf(bytes, claimed ?? 'sha256');
    if (claimed !== undefined && digest !== claimed) throw wrongDigest(endpoint, reference, claimed, digest);
    return { bytes, digest, mediaType: (response.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '' };
  });

/** @throws TransferFailure for every status that is not the expected 2xx. */
export const refuseStatus = async (response: HttpResponse): Promise<void> => {
  if (response.status === 200 || response.status === 206) return;
  const detail = await errorDetail(response);
  throw new TransferFailure('senseless', response.url, `status ${response.status}${detail === '' ? '' : `: ${detail}`}`);
};

const manifestPath = (endpoint: Endpoint, reference: string): string => `${endpoint.repository}/manifests/${reference}`;

const headerDigest = ({ headers }: HttpResponse): Digest | undefined => {
  const value = headers['docker-content-digest'];
  return typeof value === 'string' && isDigest(value) ? value : undefined;
};

const wrongDigest = (endpoint: Endpoint, reference: string, expected: Digest, found: Digest): TsrunError =>
  new TsrunError({
    code: 'E_DIGEST_MISMATCH',
    what: `cannot use manifest ${reference} of ${endpoint.registry}/${endpoint.repository}`,
    why: `its content has digest ${found}, not ${expected}`,
    hint: 'try again; if it stays, the image in the registry (or the mirror in between) is damaged',
  });

// --- not found: say what is there

const TAGS_LIMIT = 1024 * 1024;
const TAGS_SHOWN = 10;

const notFound = async (context: RegistryContext, endpoint: Endpoint, reference: string): Promise<TsrunError> => {
  const tags = isDigest(reference) || endpoint.isMirror ? [] : await listTags(context, endpoint);
  return new TsrunError({
    code: 'E_IMAGE_NOT_FOUND',
    what: `cannot find ${endpoint.registry}/${endpoint.repository}${isDigest(reference) ? '@' : ':'}${reference}`,
    why: tags.length === 0 ? 'the registry does not have it' : 'the registry has the image, but not this tag',
    hint:
      tags.length === 0
        ? 'check the name and the tag'
        : `tags there: ${nearest(tags, reference).join(', ')}${tags.length > TAGS_SHOWN ? ', …' : ''}`,
  });
};

/** One request, no patience: only for a better message. */
const listTags = async (context: RegistryContext, endpoint: Endpoint): Promise<string[]> => {
  try {
    const response = await context.send({ endpoint, path: `${endpoint.repository}/tags/list?n=1000` });
    if (response.status !== 200) {
      response.discard();
      return [];
    }
    const answer: unknown = JSON.parse(Buffer.from(await readBody(response, TAGS_LIMIT)).toString('utf8'));
    const tags: unknown = typeof answer === 'object' && answer !== null && 'tags' in answer ? answer.tags : [];
    return Array.isArray(tags) ? tags.filter((tag): tag is string => typeof tag === 'string' && /^[\w.-]{1,128}$/.test(tag)) : [];
  } catch {
    return [];
  }
};

/** Those with the longest common beginning first. */
const nearest = (tags: readonly string[], wanted: string): string[] => {
  const common = (tag: string): number => {
    let length = 0;
    while (length < tag.length && tag[length] === wanted[length]) length++;
    return length;
  };
  return tags.toSorted((a, b) => common(b) - common(a)).slice(0, TAGS_SHOWN);
};
