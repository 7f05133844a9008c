/** The error of work that has to fail with a TsrunError. */
import { type ErrorCode, TsrunError } from '../../src/util/errors.ts';

/** The TsrunError that `work` throws or rejects with; anything else is a failure of the test. */
export const failure = async (work: () => unknown, code: ErrorCode): Promise<TsrunError> => {
  try {
    await work();
  } catch (error) {
    if (error instanceof TsrunError && error.code === code) return error;
    throw error;
  }
  throw new Error(`expected ${code}, but it worked`);
};
