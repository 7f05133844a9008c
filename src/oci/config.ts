/** The part of an OCI image config that runs need (image-spec config.md, "config"), checked for shape; all else is left in the bytes. */
import { encodeUtf8 } from '../util/utf8.ts';

export type RunConfig = {
  /** "NAME=value" each. */
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Seconds since 1970 of `created`; 0 when there is none. */
  readonly created: number;
};

export const EMPTY_CONFIG: RunConfig = { env: [], entrypoint: [], cmd: [], workingDir: '', user: '', labels: {}, created: 0 };

/**
 * Text in the config is UTF-8; what is returned are byte strings.
 * Fields of a wrong type count as missing: their values would mean nothing at run time either.
 */
export const parseRunConfig = (json: unknown): RunConfig => {
  const root = record(json);
  const config = record(root['config']);
  return {
    env: texts(config['Env']).filter((entry) => entry.indexOf('=') > 0),
    entrypoint: texts(config['Entrypoint']),
    cmd: texts(config['Cmd']),
    workingDir: text(config['WorkingDir']),
    user: text(config['User']),
    labels: Object.fromEntries(
      Object.entries(record(config['Labels'])).flatMap(([key, value]) => (typeof value === 'string' ? [[key, value]] : [])),
    ),
    created: Math.max(0, Math.floor((Date.parse(typeof root['created'] === 'string' ? root['created'] : '') || 0) / 1000)),
  };
};

const record = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};

const text = (value: unknown): string => (typeof value === 'string' && !value.includes('\0') ? encodeUtf8(value) : '');

const texts = (value: unknown): readonly string[] =>
  Array.isArray(value)
    ? value.filter((item): item is string => typeof item === 'string' && !item.includes('\0')).map((item) => encodeUtf8(item))
    : [];
