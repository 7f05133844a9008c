import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { must, run, start } from '../helpers/proc.ts';
import { skip } from '../helpers/skip.ts';
import { asTestUser, isRoot, testUser, userDirectory } from '../helpers/user.ts';

const test = suite('test helpers');

test('a program runs to its end with its input, status and both streams', async () => {
  const result = await run(['sh', '-c', 'cat; echo err >&2; exit 7'], { input: 'in' });
  assert.equal(result, { status: 7, signal: null, stdout: 'in', stderr: 'err\n' });
  const killed = await run(['sh', '-c', 'kill -9 $$']);
  assert.is(killed.signal, 'SIGKILL');
});

test('a program that hangs is killed at its limit', async () => {
  const message = await run(['sleep', '100'], { limitSeconds: 0.2 }).catch((error: Error) => error.message);
  assert.match(String(message), 'did not end');
});

test('a program that has to succeed and does not is an error with its output', async () => {
  const message = await must(['sh', '-c', 'echo why; exit 3']).catch((error: Error) => error.message);
  assert.match(message, /3\nwhy/);
});

test('a program in the background is watched and stopped', async () => {
  const server = start(['sh', '-c', 'echo ready; exec sleep 100']);
  await server.until(/ready/);
  await server.stop();
  assert.equal(await server.ended, { status: null, signal: 'SIGTERM' });
});

test('waiting for the output of a program that ends fails', async () => {
  const message = await start(['echo', 'other'])
    .until(/ready/)
    .catch((error: Error) => error.message);
  assert.match(message, 'ended without');
});

test('a command runs as the ordinary user, with its own environment', async () => {
  const out = await must(asTestUser(['sh', '-c', 'id -u; id -G | wc -w; echo "$HOME $EXTRA $SECRET"'], { EXTRA: 'a b' }), {
    env: { ...process.env, SECRET: 'not passed on' },
    cwd: '/',
  });
  const user = testUser();
  assert.match(out, new RegExp(`^${user.uid}\n\\d+\n${user.home} a b \n$`));
});

test('a directory of the ordinary user can be written by it and not by others', async () => {
  if (!isRoot()) return skip('only root can make files of two users');
  const path = userDirectory('helper');
  await must(asTestUser(['touch', join(path, 'own')]));
  const roots = join(path, 'roots');
  writeFileSync(roots, '');
  const refused = await run(asTestUser(['sh', '-c', `echo x >> ${roots}`]));
  assert.is.not(refused.status, 0);
});

test.run();
