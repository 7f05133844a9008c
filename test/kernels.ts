/** `npm run test:kernels [4.18|5.14|6.4 …]`: the end-to-end tests as on the kernels that users have. (`npm test` runs some of them so.) */
import { globSync } from 'node:fs';
import { resolve } from 'node:path';
import { KERNELS, runTestsOn } from './helpers/kernels.ts';

/** Nothing in them depends on the kernel, or they choose one themselves. */
const LEFT_OUT = ['convert-damaged', 'dist', 'docs', 'kernels', 'no-engine', 'quickstart', 'server-kernels', 'start-budget'];
/** Runs share a namespace from Linux 5.8 on, where a file tells which mount it is of. */
const SHARED = ['test/e2e/layouts.test.ts'];

const files = globSync('test/e2e/**/*.test.ts', { cwd: resolve(import.meta.dirname, '..') })
  .filter((path) => !LEFT_OUT.some((name) => path === `test/e2e/${name}.test.ts`))
  .sort();
const asked = process.argv.slice(2);
const unknown = asked.find((version) => !KERNELS.some((kernel) => kernel.version === version));
if (unknown !== undefined) {
  console.error(`unknown kernel ${unknown}: there are ${KERNELS.map((kernel) => kernel.version).join(', ')}`);
  process.exit(2);
}
for (const kernel of KERNELS) {
  if (asked.length > 0 && !asked.includes(kernel.version)) continue;
  console.log(`\n== Linux ${kernel.version} (${kernel.of})`);
  const its = kernel.version === '4.18' ? files.filter((path) => !SHARED.includes(path)) : files;
  const status = await runTestsOn(kernel.version, its, (text) => process.stdout.write(text));
  if (status !== 0) process.exitCode = 1;
}
