/**
 * What the user typed, made a typed reference at the border: `docker://…`, `oci:…`, `oci-archive:…`, `docker-archive:…`,
 * `tar:…`, `-`, or a path. Pure text work, no file is looked at; the planner uses it too.
 * Grammar of registry references: distribution project, reference package (domain, repository, tag, digest).
 */
import { TsrunError } from '../util/errors.ts';
import { type Digest, isDigest } from './descriptor.ts';

export type RegistryReference = {
  readonly kind: 'registry';
  /** Host as credentials and mirrors know it, `docker.io` for Docker Hub; with `:port` when one was given. */
  readonly registry: string;
  /** `library/` is already in front of a one-word Docker Hub name. */
  readonly repository: string;
  /** `latest` when neither tag nor digest was given; kept beside a digest only as a note: the digest decides. */
  readonly tag?: string | undefined;
  readonly digest?: Digest | undefined;
  readonly text: string;
};

export type Reference =
  | RegistryReference
  /** `tag` is the `org.opencontainers.image.ref.name` looked for in the layout's index. */
  | { readonly kind: 'oci-layout'; readonly path: string; readonly tag?: string | undefined; readonly text: string }
  | { readonly kind: 'oci-archive'; readonly path: string; readonly tag?: string | undefined; readonly text: string }
  /** `tag` is a `RepoTags` entry such as `busybox:latest`, or `@N`, the Nth image of the archive. */
  | { readonly kind: 'docker-archive'; readonly path: string; readonly tag?: string | undefined; readonly text: string }
  | { readonly kind: 'tar'; readonly path: string; readonly text: string }
  | { readonly kind: 'stdin-tar'; readonly text: string }
  /** A directory, SIF, SquashFS …: decided by looking. */
  | { readonly kind: 'path'; readonly path: string; readonly text: string };

/** @throws TsrunError E_REFERENCE saying what was expected, or what to use instead of a scheme tsrun does not have. */
export const parseReference = (text: string): Reference => {
  if (text === '') refuse(text, 'it is empty', 'give a file, a directory or docker://NAME[:TAG]');
  if (text.includes('\0')) refuse(text, 'it holds a NUL character', 'give a path or docker://NAME[:TAG]');
  if (text === '-') return { kind: 'stdin-tar', text };
  if (text.startsWith('/')) return { kind: 'path', path: text, text };
  const scheme = /^([a-z][a-z0-9+.-]*):(\/\/)?/.exec(text);
  const name = scheme?.[1] ?? '';
  const rest = text.slice(scheme?.[0].length ?? 0);
  switch (name) {
    case 'docker':
      if (scheme?.[2] === undefined) refuse(text, 'docker: needs two slashes', `write docker://${rest}`);
      return parseRegistryReference(rest, text);
    case 'oci':
      return { kind: 'oci-layout', ...splitTag(rest, text), text };
    case 'oci-archive':
      return { kind: 'oci-archive', ...splitTag(rest, text), text };
    case 'docker-archive':
      return { kind: 'docker-archive', ...splitTag(rest, text), text };
    case 'tar':
      if (rest === '') refuse(text, 'the path is missing', 'write tar:FILE, or - for standard input');
      return rest === '-' ? { kind: 'stdin-tar', text } : { kind: 'tar', path: rest, text };
    default:
      refuseForeignScheme(text, name, scheme?.[2] !== undefined, rest);
      return { kind: 'path', path: text, text };
  }
};

/**
 * `[registry/]repository[:tag][@digest]` with Docker Hub's defaults.
 * @param typed what to quote in errors and keep as `text`; `name` itself when absent.
 * @throws TsrunError E_REFERENCE
 */
export const parseRegistryReference = (name: string, typed: string = name): RegistryReference => {
  if (name.includes('#')) {
    const [registry = '', image = ''] = name.split('#', 2);
    refuse(typed, 'registry and image are parted by /, not #', `write docker://${registry.replace(/^.*@/, '')}/${image}`);
  }
  const at = name.indexOf('@');
  const digest = at < 0 ? undefined : name.slice(at + 1);
  const named = at < 0 ? name : name.slice(0, at);
  const colon = named.lastIndexOf(':');
  const tagged = colon > named.lastIndexOf('/');
  const tag = tagged ? named.slice(colon + 1) : undefined;
  const { registry, repository } = splitRegistry(tagged ? named.slice(0, colon) : named);

  if (!REGISTRY.test(registry)) refuse(typed, `${JSON.stringify(registry)} is not a registry host`, 'write HOST[:PORT]/NAME[:TAG]');
  if (repository === '') refuse(typed, 'the image name is missing', EXPECTED);
  if (repository.length > 255) refuse(typed, 'the image name is longer than 255 characters', EXPECTED);
  if (!repository.split('/').every((part) => COMPONENT.test(part))) {
    const whole = tagged ? named.slice(0, colon) : named;
    const lower = whole.toLowerCase();
    const hint = lower !== whole && lower.split('/').every((part) => COMPONENT.test(part)) ? `write it in lower case: ${lower}` : EXPECTED;
    refuse(typed, `${JSON.stringify(repository)} is not an image name (lower-case words parted by / . _ -)`, hint);
  }
  if (tag !== undefined && !TAG.test(tag)) refuse(typed, `${JSON.stringify(tag)} is not a tag (letters, digits, _ . -)`, EXPECTED);
  if (digest !== undefined && !isDigest(digest))
    refuse(typed, `${JSON.stringify(digest)} is not a digest`, 'write @sha256: and 64 lower-case hex digits');
  return {
    kind: 'registry',
    registry,
    repository,
    ...(tag !== undefined ? { tag } : digest === undefined ? { tag: 'latest' } : {}),
    ...(digest === undefined ? {} : { digest }),
    text: typed,
  };
};

/** `docker://docker.io/library/alpine:3@sha256:…`: the same for every way to write the same image. */
export const formatRegistryReference = (reference: RegistryReference): string =>
  `docker://${reference.registry}/${reference.repository}${reference.tag === undefined ? '' : `:${reference.tag}`}${reference.digest === undefined ? '' : `@${reference.digest}`}`;

// --- the parts of a name

const EXPECTED = 'expected docker://[REGISTRY/]NAME[:TAG][@DIGEST], for example docker://debian:12';
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const REGISTRY =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/;

/** The first word is a registry when no image name could be spelled so: it has a dot or colon, is `localhost`, or has capitals. */
const splitRegistry = (name: string): { registry: string; repository: string } => {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isHost = slash > 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  const registry = isHost ? canonicalRegistry(first) : DOCKER_HUB;
  const repository = isHost ? name.slice(slash + 1) : name;
  return {
    registry,
    repository: registry === DOCKER_HUB && repository !== '' && !repository.includes('/') ? `library/${repository}` : repository,
  };
};

export const DOCKER_HUB = 'docker.io';

/** Docker Hub goes by several names; all other hosts are only made lower case. */
export const canonicalRegistry = (host: string): string => {
  const lower = host.toLowerCase();
  return lower === 'index.docker.io' || lower === 'registry-1.docker.io' || lower === 'registry.hub.docker.com' ? DOCKER_HUB : lower;
};

/**
 * A registry alone, as in `tsrun login HOST`: `docker://host/…`, `https://host/` and `host` are the same.
 * @throws TsrunError E_REFERENCE
 */
export const parseRegistryHost = (text: string): string => {
  const host = text.replace(/^(?:docker|https?):\/\//, '').split('/')[0] ?? '';
  if (!REGISTRY.test(host)) refuse(text, 'it is not a registry host', 'write HOST[:PORT], for example ghcr.io');
  return canonicalRegistry(host);
};

/** At the first colon, as skopeo and Apptainer do: a tag may hold colons and slashes itself (`oci:dir:registry.example/team/x:1`). */
const splitTag = (rest: string, text: string): { path: string; tag?: string } => {
  const colon = rest.indexOf(':');
  const path = colon < 0 ? rest : rest.slice(0, colon);
  if (path === '') refuse(text, 'the path is missing', `write ${text.slice(0, text.indexOf(':'))}:PATH[:TAG]`);
  const tag = colon < 0 ? '' : rest.slice(colon + 1);
  return tag === '' ? { path } : { path, tag };
};

const INSTEAD: Readonly<Record<string, string>> = {
  library: 'pull it with Apptainer once and give tsrun the SIF file, or use docker://',
  shub: 'Singularity Hub is closed; look for the image at docker://, or give a SIF file',
  oras: 'fetch it with oras pull or Apptainer and give tsrun the SIF file, or use docker:// for container images',
  'docker-daemon': 'save it first: docker save NAME -o image.tar, then docker-archive:image.tar',
  dockerd: 'save it first: docker save NAME -o image.tar, then docker-archive:image.tar',
  podman: 'save it first: podman save --format oci-archive NAME -o image.tar, then oci-archive:image.tar',
  'containers-storage': 'save it first: podman save --format oci-archive NAME -o image.tar, then oci-archive:image.tar',
  http: 'download the file first and give its path',
  https: 'download the file first and give its path; for an image in a registry write docker://HOST/NAME[:TAG]',
  file: 'give the plain path',
};

/** Names with a colon may be files; only schemes that somebody knows, or anything with `://`, are refused. */
const refuseForeignScheme = (text: string, name: string, slashes: boolean, rest: string): void => {
  if (!slashes && !['docker-daemon', 'containers-storage', 'library', 'shub', 'oras'].includes(name)) return;
  const hint = name === 'file' ? `write ${rest}` : (INSTEAD[name] ?? 'known: docker:// oci: oci-archive: docker-archive: tar: - and paths');
  refuse(text, `${name}: is not supported`, `${hint}`);
};

const refuse: (text: string, why: string, hint: string) => never = (text, why, hint) => {
  throw new TsrunError({ code: 'E_REFERENCE', what: `cannot use image reference ${JSON.stringify(text.slice(0, 300))}`, why, hint });
};
