/** A short round of `npm run soak`: whatever calls, kills and mounts come together, nothing is left behind. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { skip } from '../helpers/skip.ts';
import { isRoot } from '../helpers/user.ts';
import { soak } from '../soak/start.ts';

const test = suite('soak');

for (const [as, seconds] of [
  ['user', 10],
  ['root', 1],
] as const) {
  test(`many different calls of ${as === 'user' ? 'a user' : 'root'}, of which some are killed, and servers with them, leave nothing behind`, async () => {
    if (!isRoot()) return skip('needs root for PID and mount namespaces of its own');
    let told = '';
    const status = await soak({ seed: 20_261, seconds, as, kernel: '' }, (text) => {
      told += text;
    });
    assert.is(status, 0, told);
    assert.match(told, /^\d+ calls, nothing left\b/m);
  });
}

test.run();
