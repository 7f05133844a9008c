// time limit: 900 s
/** Some of the end-to-end tests as on the kernels that users have; `npm run test:kernels` runs all of them so. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KERNELS, runTestsOn } from '../helpers/kernels.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('kernels');

const FILES = ['launcher/images', 'launcher/fallbacks', 'process', 'programs', 'server'].map((name) => `test/e2e/${name}.test.ts`);

for (const { version, of } of KERNELS) {
  test(`Linux ${version} (${of}): files, processes, mounts and the image server are as they are here`, async () => {
    if (process.getuid?.() !== 0) return skip('needs root: under a filter that anybody else installs, newuidmap and the like do not work');
    let told = '';
    const status = await runTestsOn(version, FILES, (text) => {
      told += text;
    });
    assert.is(status, 0, told);
    assert.match(told, /^\d+ passed, 0 failed, 0 skipped$/m);
  });
}

test.run();
