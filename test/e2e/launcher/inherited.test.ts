import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { oneProcessor } from '../../helpers/processes.ts';
import {
  helperProgram,
  makeImage,
  ordinary,
  output,
  payload,
  runBytes,
  type Setup,
  scratchDirectory,
  startPayload,
  users,
} from './helpers.ts';

const test = suite('launcher: what the payload inherits');
const image = makeImage('proc', 'data');

/** The same question asked without tsrun: the native answer. */
const native = (wrapper: readonly string[], verbs: string, user = ordinary): string => {
  const [file, ...words] = [...wrapper, helperProgram('payload'), ...verbs.split(' ')] as [string, ...string[]];
  return spawnSync(file, words, { uid: user.uid, gid: user.gid, encoding: 'latin1' }).stdout;
};

for (const user of users) {
  for (const unshare of ['mount', 'mount,pid']) {
    const setup: Setup = { image, user, unshare };
    const where = `${user.name}, ${unshare}`;

    test(`${where}: no descriptor but those it was given`, () => {
      assert.is(output(setup, 'fds'), native([], 'fds', user));
    });

    test(`${where}: a descriptor it was given, as PMI does, works`, () => {
      const path = join(scratchDirectory(), 'pmi');
      const fd = openSync(path, 'w');
      assert.match(output({ ...setup, fds: [fd] }, 'fds , writefd 4 cmd=init'), /^0 1 2 4 /);
      closeSync(fd);
      assert.is(readFileSync(path, 'utf8'), 'cmd=init');
    });

    test(`${where}: umask, limits, masks, niceness, dumpable are native`, () => {
      assert.is(output(setup, 'inherited'), native([], 'inherited', user));
      const shell = ['sh', '-c', 'umask 027; ulimit -S -n 333; ulimit -c 0; trap "" USR1 HUP; exec "$@"', 'sh'];
      assert.is(output({ ...setup, wrapper: shell }, 'inherited'), native(shell, 'inherited', user));
      assert.match(native(shell, 'inherited', user), /umask 027\nblocked\nignored 1 10\n[\s\S]*limits 333:/);
    });

    test(`${where}: the CPU mask is native`, () => {
      const wrapper = ['taskset', '-c', oneProcessor(), 'nice', '-n', '5'];
      const told = output({ ...setup, wrapper }, 'inherited');
      assert.is(told, native(wrapper, 'inherited', user));
      assert.match(told, new RegExp(`cpus ${oneProcessor()}\\n[\\s\\S]*nice ${Math.min(getPriority() + 5, 19)} dumpable 1`));
    });

    test(`${where}: what the caller closed stays closed`, () => {
      const wrapper = ['sh', '-c', 'exec "$@" 0<&- 2>&-', 'sh'];
      assert.is(output({ ...setup, wrapper }, 'fds'), native(wrapper, 'fds', user));
      assert.match(native(wrapper, 'fds', user), /^1 /);
    });

    test(`${where}: standard input is the caller's`, () => {
      assert.is(output({ ...setup, input: 'typed\n' }, 'readfd 0'), 'typed\n');
    });
  }

  test(`${user.name}: the payload is the process that was started`, async () => {
    const child = startPayload({ image, user }, 'pids , pause');
    let out = '';
    child.stdout?.on('data', (chunk) => {
      out += chunk;
      if (out.includes('ready')) child.kill('SIGINT');
    });
    const [status, signal] = await once(child, 'close');
    assert.equal([status, signal], [null, 'SIGINT']);
    assert.match(out, new RegExp(`^pid ${child.pid} ppid ${process.pid} `));
  });

  test(`${user.name}: its children with own PIDs are reaped, and end with it`, () => {
    const own: Setup = { image, user, unshare: 'mount,pid', mounts: [['proc', '/proc']] };
    assert.is(output(own, 'orphans 20 , ps 3 , exit 3'), 'living 3 zombies 0\n');
    assert.is(payload(own, 'orphans 1 , exit 3').status, 3);
  });

  test(`${user.name}: signals of every kind reach a payload with its own PIDs`, async () => {
    const child = startPayload({ image, user, unshare: 'mount,pid' }, 'trap 1 2 3 10 12 18 28');
    let out = '';
    const numbers = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGUSR1: 10, SIGUSR2: 12, SIGCONT: 18, SIGWINCH: 28, SIGTERM: 15 } as const;
    const left = Object.keys(numbers) as (keyof typeof numbers)[];
    const sent: number[] = [];
    child.stdout?.on('data', (chunk) => {
      out += chunk;
      // One after the other: the order of signals that wait together is the kernel's.
      if (out.trim().split('\n').length !== sent.length + 1) return;
      const next = left.shift();
      if (next === undefined) return;
      sent.push(numbers[next]);
      child.kill(next);
    });
    const [status] = await once(child, 'close');
    assert.is(status, 0);
    assert.equal(out.trim().split('\n'), ['ready', ...sent.map((number) => `got ${number}`)]);
  });
}

test('the working directory stays where the plan puts it, whatever it was', () => {
  const cwd = scratchDirectory();
  mkdirSync(join(cwd, 'x'));
  assert.is(output({ image, cwd: join(cwd, 'x') }, 'cwd'), '/\n');
});

test('an image in a caller’s own mount namespace is found there', () => {
  if (process.getuid?.() !== 0) return;
  const place = scratchDirectory();
  const script = `mount -t tmpfs none ${place} && mkdir ${place}/private && exec setpriv --reuid=${ordinary.uid} --regid=${ordinary.gid} --clear-groups "$@"`;
  const setup: Setup = { image, user: { name: 'root', uid: 0, gid: 0 }, wrapper: ['unshare', '-m', 'sh', '-c', script, 'sh'] };
  const plan = {
    ...setup,
    userns: [
      ['userns', ordinary.uid, ordinary.gid],
      ['image_directory', image],
    ] as const,
    mounts: [['bind', place, '/data', '']] as const,
  };
  assert.is(output(plan, 'ls /data'), 'private \n');
});

test('nothing stays on the host: no mount, no process', () => {
  const look = 'cat /proc/self/mountinfo; readlink /proc/self/ns/mnt';
  const script = `before=$(${look}); "$@" || exit; [ "$before" = "$(${look})" ] && echo the same`;
  // Other tests mount things on the host meanwhile.
  const place = process.getuid?.() === 0 ? ['unshare', '-m'] : [];
  const user = { name: 'whoever runs the tests', uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const drop = user.uid === 0 ? ['setpriv', `--reuid=${ordinary.uid}`, `--regid=${ordinary.gid}`, '--clear-groups'] : [];
  const plan: Setup = {
    image,
    user,
    wrapper: [...place, 'sh', '-c', script, 'sh', ...drop],
    userns: [
      ['userns', ordinary.uid, ordinary.gid],
      ['image_directory', image],
    ],
    unshare: 'mount,pid',
    mounts: [['tmpfs', '/data', 0o700, 0]],
  };
  assert.match(output(plan, 'orphans 3'), /the same\n$/);
  const left = spawnSync('pgrep', ['-u', String(ordinary.uid), '-f', '^payload orphans'], { encoding: 'utf8' }).stdout;
  assert.is(left, '');
});

test('a plan that is cut off does nothing', () => {
  const whole = Buffer.from('plan\x001\0userns\x000\x000\0');
  for (let length = 0; length < whole.length; length++) assert.is(runBytes(whole.subarray(0, length), { image }).status, 125);
});

test.run();
