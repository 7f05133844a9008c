/** The payload is the process the user started: pid, signals, terminal, limits, descriptors and exit status are native. */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { childrenOf, field, oneProcessor } from '../helpers/processes.ts';
import { environmentOf, makeBusyboxImage, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { endOf, runtimeIn, startStaying, until } from '../helpers/servers.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('the payload is the process');
const place = scratch('process');
const image = makeBusyboxImage(place);
const user = testUser();

const asUser = { cwd: place, uid: user.uid, gid: user.gid, env: environmentOf({}) } as const;

test('its pid is the pid that was started', async () => {
  const child = spawn(tsrunPath, ['exec', image, 'sh', '-c', 'echo $$'], { ...asUser, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await new Promise((resolve) => child.on('close', resolve));
  assert.is(Number(text), child.pid);
});

test('its exit status is the status, from 0 to 255', () => {
  for (const status of [0, 1, 7, 124, 125, 126, 127, 255]) assert.is(tsrun(['exec', image, 'sh', '-c', `exit ${status}`]).status, status);
});

test('a signal kills it as a signal', () => {
  const ran = tsrun(['exec', image, 'sh', '-c', 'kill -SEGV $$']);
  assert.is(ran.status, null);
  assert.is(ran.signal, 'SIGSEGV');
});

test('a signal sent to the started pid reaches its handler', async () => {
  const child = spawn(tsrunPath, ['exec', image, 'sh', '-c', 'trap "echo got it; exit 9" USR1; echo ready; while :; do sleep 1; done'], {
    ...asUser,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    if (text === 'ready\n') child.kill('SIGUSR1');
  });
  const status = await new Promise((resolve) => child.on('close', resolve));
  assert.is(text, 'ready\ngot it\n');
  assert.is(status, 9);
});

test('a command that is not there ends with 127 and names it', () => {
  const ran = tsrun(['exec', image, 'no-such-command']);
  assert.is(ran.status, 127);
  assert.match(ran.stderr, /no-such-command/);
});

test('a command that cannot be executed ends with 126', () => {
  const ran = tsrun(['exec', image, '/etc/os-release']);
  assert.is(ran.status, 126);
  assert.match(ran.stderr, /os-release/);
});

test('a descriptor of the caller stays open, and no other is added', () => {
  const file = join(place, 'pmi');
  writeFileSync(file, 'rendezvous\n');
  const fd = openSync(file, 'r');
  try {
    const list = ['sh', '-c', 'cat <&5; ls /proc/self/fd'];
    const runList = (program: string, args: readonly string[], pmi: number) =>
      spawnSync(program, args, { ...asUser, stdio: ['ignore', 'pipe', 'pipe', 'ignore', 'ignore', pmi], encoding: 'utf8' });
    const inside = runList(tsrunPath, ['exec', image, ...list], fd);
    assert.is(inside.stderr, '');
    assert.is(inside.stdout.split('\n')[0], 'rendezvous');
    assert.is(inside.stdout, runList('/bin/busybox', list, openSync(file, 'r')).stdout);
  } finally {
    closeSync(fd);
  }
});

test('umask, limits and CPU mask are the caller’s', () => {
  const script = `umask 027; ulimit -n 77; ulimit -c 0; taskset -c ${oneProcessor()} ${tsrunPath} exec ${image} sh -c 'umask; ulimit -n; grep Cpus_allowed_list /proc/self/status'`;
  const ran = run('/bin/sh', ['-c', script]);
  assert.is(ran.stdout, `0027\n77\nCpus_allowed_list:\t${oneProcessor()}\n`, ran.stderr);
});

test('no_new_privs is set and no capability is left', () => {
  const status = tsrunOk(['exec', image, 'cat', '/proc/self/status']);
  assert.match(status, /NoNewPrivs:\t1/);
  assert.match(status, /CapEff:\t0000000000000000/);
  assert.match(status, /CapPrm:\t0000000000000000/);
});

test('only user and mount namespaces are new', () => {
  const names = ['pid', 'net', 'ipc', 'uts', 'cgroup'];
  const inside = tsrunOk(['exec', image, 'sh', '-c', names.map((name) => `readlink /proc/self/ns/${name}`).join(';')]);
  const outside = run('/bin/sh', ['-c', names.map((name) => `readlink /proc/self/ns/${name}`).join(';')]).stdout;
  assert.is(inside, outside);
  assert.is.not(tsrunOk(['exec', image, 'readlink', '/proc/self/ns/mnt']), run('readlink', ['/proc/self/ns/mnt']).stdout);
});

test('neither Node nor anything else is executed on the way', () => {
  const trace = join(place, 'trace');
  const ran = run('strace', ['-f', '-e', 'trace=execve,execveat', '-o', trace, tsrunPath, 'exec', image, 'true']);
  assert.is(ran.status, 0, ran.stderr);
  const executed = readFileSync(trace, 'utf8')
    .split('\n')
    .filter((line) => line.includes('exec') && line.includes(' = 0') && !line.includes('"@server"'));
  assert.is(executed.length, 2, executed.join('\n'));
  assert.match(executed[1] ?? '', /execve(at)?\(.*"\/bin\/true"/);
});

test('--pid: the program sees only its own processes, and its status comes through', () => {
  const output = tsrunOk(['exec', '--pid', image, 'sh', '-c', 'ls /proc | grep -c "^[0-9]"']);
  assert.ok(Number(output) <= 4, output);
  assert.is(tsrun(['exec', '--pid', image, 'sh', '-c', 'exit 9']).status, 9);
  assert.is(tsrun(['exec', '--pid', image, 'sh', '-c', 'kill -TERM $$']).signal, 'SIGTERM');
});

test('--hostname sets the name inside only', () => {
  assert.is(tsrunOk(['exec', '--hostname', 'inside', image, 'hostname']), 'inside\n');
  assert.is.not(run('hostname', []).stdout, 'inside\n');
});

test('--pid: a program that was stopped with all around it goes on when all are told to, and its end is seen', async () => {
  const child = await startStaying(runtimeIn(place, 'suspended'), ['--pid', image, 'sh', '-c', 'echo ready; read line; echo over']);
  const launcher = child.pid ?? 0;
  const [init = 0] = childrenOf(launcher);
  const [payload = 0] = childrenOf(init);
  const isStopped = (pid: number) => (): boolean => (field(pid, 'State') ?? '').startsWith('T');
  const switches = (): string => `${field(init, 'voluntary_ctxt_switches')} ${field(init, 'State')}`;
  const before = switches();
  process.kill(launcher, 'SIGSTOP');
  await until(isStopped(launcher));
  process.kill(payload, 'SIGSTOP');
  await until(isStopped(payload));
  await until(() => switches() !== before && switches().endsWith('(sleeping)'), 'PID 1 has seen it, and told the launcher');
  for (const pid of [launcher, payload]) process.kill(pid, 'SIGCONT');
  child.stdin?.end('\n');
  assert.equal([await endOf(child), child.text()], [0, 'ready\nover\n']);
});

test('on a terminal, Ctrl-C interrupts the program and Ctrl-Z stops it like any other', () => {
  const interrupted = run('script', [
    '-qec',
    `exec ${tsrunPath} exec ${image} sh -c 'trap "echo interrupted; exit 3" INT; kill -INT 0; sleep 5'`,
    '/dev/null',
  ]);
  assert.match(interrupted.stdout, /interrupted/);
  assert.is(interrupted.status, 3);
  const stopped = run('script', [
    '-qec',
    `bash --norc -ic '${tsrunPath} exec ${image} sh -c "kill -TSTP 0; echo resumed"; jobs; fg' 2>&1`,
    '/dev/null',
  ]);
  assert.match(stopped.stdout, /Stopped/);
  assert.match(stopped.stdout, /resumed/);
});

test('twenty runs at once on one image all work, and the server ends by itself', async () => {
  const children = Array.from({ length: 20 }, () =>
    spawn(tsrunPath, ['exec', image, 'cat', '/opt/tool/data.txt'], { ...asUser, stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  const outputs = await Promise.all(
    children.map(
      (child) =>
        new Promise<string>((resolve) => {
          let text = '';
          child.stdout.on('data', (chunk: Buffer) => {
            text += chunk.toString();
          });
          child.on('close', () => resolve(text));
        }),
    ),
  );
  assert.equal(new Set(outputs), new Set(['from the image\n']));
});

test.run();
