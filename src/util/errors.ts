/**
 * The one error type of tsrun. It names the object and what failed (`what`), the cause (`why`) and the cure (`hint`);
 * `code` is stable and listed in docs/ERRORS.md. Runs unchanged in Node and in the embedded engine.
 */

/** Exit status of tsrun's own failures (design: launcher errors 125, not executable 126, not found 127). */
export const EXIT_TSRUN = 125;
export const EXIT_NOT_EXECUTABLE = 126;
export const EXIT_NOT_FOUND = 127;

export type ErrorCode = `E_${string}`;

export type ErrorFields = {
  readonly code: ErrorCode;
  /** "cannot mount /data on /mnt": lower case, no full stop. */
  readonly what: string;
  /** "source does not exist". */
  readonly why: string;
  /** What the user can do, one sentence; shown on a line of its own. */
  readonly hint?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly cause?: unknown;
};

export class TsrunError extends Error {
  readonly code: ErrorCode;
  readonly what: string;
  readonly why: string;
  readonly hint: string | undefined;
  readonly exitCode: number;

  constructor(fields: ErrorFields) {
    super(`${fields.what}: ${fields.why}`, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = 'TsrunError';
    this.code = fields.code;
    this.what = fields.what;
    this.why = fields.why;
    this.hint = fields.hint;
    this.exitCode = fields.exitCode ?? EXIT_TSRUN;
  }
}

/** The text a person sees: one line with the code, and a hint line when there is a cure. */
export const formatError = (error: TsrunError): string =>
  `tsrun: ${error.what}: ${error.why} (${error.code})\n${error.hint === undefined ? '' : `hint: ${error.hint}\n`}`;
