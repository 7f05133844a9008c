/**
 * `npm run soak -- [--seconds N] [--seed N] [--as user|root] [--kernel 4.18|5.14|6.4]`: many different calls at once while clients, servers and what helps
 * them are killed, and host mounts come and go; nothing must be left when all is quiet. A failure names the seed that makes the same choices again.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { KERNELS } from '../helpers/kernels.ts';
import { isRoot } from '../helpers/user.ts';
import { soak } from './start.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string' },
    as: { type: 'string', default: 'user' },
    kernel: { type: 'string', default: '' },
  },
});
/** Empty: this one. */
const KNOWN = ['', ...KERNELS.map(({ version }) => version)];
const seed = Number(values.seed ?? randomInt(1_000_000));
const seconds = Number(values.seconds);

if (
  !isRoot() ||
  !Number.isInteger(seed) ||
  !(seconds > 0) ||
  (values.as !== 'user' && values.as !== 'root') ||
  !KNOWN.includes(values.kernel)
) {
  console.error('usage, as root: npm run soak -- [--seconds N] [--seed N] [--as user|root] [--kernel 4.18|5.14|6.4]');
  process.exitCode = 2;
} else {
  console.log(`seed ${seed}`);
  process.exitCode = (await soak({ seed, seconds, as: values.as, kernel: values.kernel }, (text) => process.stdout.write(text))) ?? 1;
}
