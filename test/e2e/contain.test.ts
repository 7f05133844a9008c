/** --contain, --containall, --pid, --ipc and --hostname, carried out for real: what is new, what is empty, and that it works. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, makePythonTree, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';

const test = suite('less of the host');
const place = scratch('contain');
const image = makeBusyboxImage(place);

test('a contained /dev has what programs need, and nothing of the host’s disks', () => {
  const names = tsrunOk(['exec', '-c', image, 'ls', '/dev']).trim().split('\n');
  assert.equal(names, ['fd', 'full', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']);
  const script =
    'echo a > /dev/null; head -c 3 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; (echo b > /dev/stdout) | cat; touch /dev/shm/x && echo c';
  assert.is(tsrunOk(['exec', '-c', image, 'sh', '-c', script]), '3\n2\nb\nc\n');
});

test('contained programs can open terminals of their own', () => {
  const tree = join(place, 'python');
  mkdirSync(tree);
  makePythonTree(tree);
  const script = 'import os, pty; m, s = pty.openpty(); os.write(s, b"through"); print(os.ttyname(s), os.read(m, 7).decode())';
  for (const flag of ['-c', '-C']) assert.is(tsrunOk(['exec', flag, tree, 'python3', '-c', script]), '/dev/pts/0 through\n');
});

test('a contained program on a terminal finds it, under the name /dev/console', () => {
  const ran = run('script', ['-qec', `${tsrunPath} exec -c ${image} sh -c 'tty; echo to the terminal > /dev/tty'`, '/dev/null']);
  assert.match(ran.stdout, /^\/dev\/console\r\nto the terminal\r\n/);
});

test('home, /tmp and /var/tmp are empty and writable, and gone afterwards', () => {
  const script = 'for d in ~ /tmp /var/tmp; do ls -A "$d"; touch "$d/x" || exit 1; done; pwd';
  for (const turn of ['first', 'second']) {
    const inside = tsrunOk(['exec', '-c', image, 'sh', '-c', script], { cwd: '/tmp' }).trim();
    assert.is(inside, tsrunOk(['exec', image, 'sh', '-c', 'echo "$HOME"']).trim(), turn);
  }
});

test('what was asked for is shown in a contained run, the current directory included', () => {
  const data = join(place, 'data');
  mkdirSync(data);
  writeFileSync(join(data, 'f'), 'asked for\n');
  assert.is(tsrunOk(['exec', '-c', '-B', '.', image, 'cat', 'f'], { cwd: data }), 'asked for\n');
  assert.is(tsrunOk(['exec', '-C', '-B', `${data}:/tmp/in`, image, 'cat', '/tmp/in/f'], { cwd: data }), 'asked for\n');
  assert.is(tsrunOk(['exec', '-c', '--home', data, image, 'sh', '-c', 'cat ~/f']), 'asked for\n');
  assert.is(tsrun(['exec', '-c', image, 'cat', join(data, 'f')], { cwd: data }).status, 1);
});

test('--containall has its own processes and queues, and a clean environment', () => {
  const script = 'ls -d /proc/[0-9]*; ls -A /dev/mqueue; env';
  const lines = tsrunOk(['exec', '-C', image, 'sh', '-c', script], { env: { SECRET: 'x', TERM: 'vt100', https_proxy: 'p' } })
    .trim()
    .split('\n');
  assert.ok(lines.includes('/proc/1'));
  assert.ok(lines.filter((line) => line.startsWith('/proc/')).length <= 3, lines.join());
  assert.ok(lines.includes('TERM=vt100') && lines.includes('https_proxy=p'));
  assert.not.ok(lines.some((line) => line.startsWith('SECRET=') || line.startsWith('USER=')));
});

test('--ipc: queues and shared memory of System V are new', () => {
  const inside = tsrunOk(['exec', '--ipc', image, 'readlink', '/proc/self/ns/ipc']);
  const outside = tsrunOk(['exec', image, 'readlink', '/proc/self/ns/ipc']);
  assert.is.not(inside, outside);
});

test('--hostname names the machine, in /etc/hostname and /etc/hosts too', () => {
  const script = 'hostname; cat /etc/hostname; grep -c "127.0.1.1.node-7$" /etc/hosts';
  assert.is(tsrunOk(['exec', '--hostname', 'node-7', image, 'sh', '-c', script]), 'node-7\nnode-7\n1\n');
});

test('--no-mount leaves out what it names', () => {
  const seen = tsrunOk(['exec', '--no-mount', 'tmp,/etc/hosts', image, 'sh', '-c', 'ls -A /tmp; cat /etc/hosts 2>/dev/null; true'], {
    cwd: '/',
  });
  // What XDG_RUNTIME_DIR names is shown wherever it lies: kernels.ts has it in /tmp.
  const runtime = basename(process.env['TSRUN_TEST_RUNTIME'] ?? '');
  assert.is(seen.replace(`${runtime}\n`, '').trim(), '');
});

test.run();
