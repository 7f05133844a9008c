/** How much a source may cost before it is taken for hostile. All can be raised by `--limit-*`. */
import { TsrunError } from '../util/errors.ts';

export type Limits = {
  /** Uncompressed bytes of all layers together. */
  readonly bytes: number;
  /** Entries of all layers together. */
  readonly entries: number;
  /** Uncompressed : compressed, looked at once a layer has given `RATIO_FREE_BYTES`. */
  readonly ratio: number;
};

export const DEFAULT_LIMITS: Limits = { bytes: 2 ** 40, entries: 10_000_000, ratio: 1000 };

/** Below this a high ratio does no harm, and small layers of zeros have one. */
export const RATIO_FREE_BYTES = 2 ** 30;

export const limitError = (what: string, why: string, option: string): TsrunError =>
  new TsrunError({
    code: 'E_LIMIT',
    what: `cannot convert ${what}`,
    why,
    hint: `if the image is meant to be like that, raise the limit with ${option}`,
  });
