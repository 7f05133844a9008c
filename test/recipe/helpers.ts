import * as assert from 'uvu/assert';
import { TsrunError } from '../../src/util/errors.ts';

/** Runs `work`, which is to fail, and looks at the error it fails with: code, and a pattern of place, cause and cure in one line. */
export const refused = (work: () => unknown, code: string, pattern: RegExp): void => {
  let result: unknown;
  try {
    result = work();
  } catch (error) {
    if (!(error instanceof TsrunError)) throw error;
    assert.is(error.code, code, error.message);
    assert.match(`${error.what}: ${error.why} -- ${error.hint ?? ''}`, pattern);
    return;
  }
  assert.unreachable(`it was taken: ${JSON.stringify(result).slice(0, 300)}`);
};

/** What `work` gives or the error it fails with, which is to be one of ours. */
export const onlyTsrunErrors = (work: () => unknown): void => {
  try {
    work();
  } catch (error) {
    if (!(error instanceof TsrunError)) throw error;
    assert.match(error.code, /^E_(?:RECIPE|PLATFORM)/);
    assert.ok(error.why !== '' && !/undefined|\[object/.test(error.why), error.why);
  }
};
