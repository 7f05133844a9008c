/** Where bin/tsrun is, seen from wherever this code runs: the sources, build/cli of a checkout, or lib/cli of a distribution. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TsrunError } from './errors.ts';

/** @throws TsrunError E_NATIVE when it has not been built */
export const nativeProgram = (): string => {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let directory = start; directory !== '/'; directory = dirname(directory)) {
    const candidate = join(directory, 'bin/tsrun');
    if (existsSync(candidate)) return candidate;
  }
  throw new TsrunError({
    code: 'E_NATIVE',
    what: 'cannot find the native program bin/tsrun',
    why: `it is in no directory above ${start}`,
    hint: 'build it: make',
  });
};
