/**
 * --nv with a driver tree made for the test: libraries compiled here stand in for the driver's files, at a place where hosts keep them, seen only in a
 * mount namespace of the test. What a real driver needs beyond that can only be tried on a machine with a GPU.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, makePythonTree, type Ran, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('--nv');
const place = scratch('nv');
const user = testUser();

const compile = (output: string, source: string, args: readonly string[]): void => {
  writeFileSync(`${output}.c`, source);
  execFileSync('cc', ['-o', output, `${output}.c`, ...args]);
};

const driver = join(place, 'driver');
mkdirSync(join(driver, 'lib64'), { recursive: true });
mkdirSync(join(driver, 'bin'));
const lib64 = join(driver, 'lib64');
compile(join(lib64, 'libcuda.so.999.12'), 'int cuInit(unsigned flags) { return (int)flags + 42; }', [
  '-shared',
  '-fPIC',
  '-Wl,-soname,libcuda.so.1',
]);
compile(join(lib64, 'libnvidia-ml.so.999.12'), 'const char *version(void) { return "999.12"; }', [
  '-shared',
  '-fPIC',
  '-Wl,-soname,libnvidia-ml.so.1',
]);
for (const library of ['libcuda', 'libnvidia-ml']) symlinkSync(`${library}.so.999.12`, join(lib64, `${library}.so.1`));
writeFileSync(join(lib64, 'libGL.so.1'), 'a library of the host that is not of the driver');
compile(
  join(driver, 'bin/nvidia-smi'),
  '#include <stdio.h>\nconst char *version(void);\nint main(void) { printf("driver %s\\n", version()); return 0; }',
  [join(lib64, 'libnvidia-ml.so.999.12')],
);

const tree = join(place, 'tree');
mkdirSync(tree);
makePythonTree(tree);
const image = join(place, 'python.sif');
tsrunOk(['build', '-q', image, tree]);
const busybox = makeBusyboxImage(scratch('nv-busybox'));

/** Where the driver tree is /usr/local/nvidia. */
const withDriver = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Ran => {
  const script = `mount -t tmpfs none /usr/local && mkdir /usr/local/nvidia && mount --bind ${driver} /usr/local/nvidia && exec setpriv --reuid ${user.uid} --regid ${user.gid} --clear-groups "$@"`;
  return run('unshare', ['--mount', 'sh', '-c', script, 'sh', tsrunPath, ...args], {
    as: 'root',
    env: { HOME: user.home, USER: user.name, LOGNAME: user.name, ...env },
  });
};

test('a program of the image finds the driver’s libcuda', () => {
  const ran = withDriver(['exec', '--nv', image, 'python3', '-c', 'import ctypes; print(ctypes.CDLL("libcuda.so.1").cuInit(0))']);
  assert.is(ran.stdout, '42\n', ran.stderr);
});

test('without --nv it does not', () => {
  assert.is(withDriver(['exec', image, 'python3', '-c', 'import ctypes; ctypes.CDLL("libcuda.so.1")']).status, 1);
});

test('nvidia-smi of the host runs, also in an image without glibc', () => {
  const glibc = withDriver(['exec', '--nv', image, 'nvidia-smi']);
  assert.is(glibc.stdout, 'driver 999.12\n', glibc.stderr);
  const none = withDriver(['exec', '--nv', busybox, 'nvidia-smi']);
  assert.is(none.stdout, 'driver 999.12\n', none.stderr);
});

test('only the driver’s libraries come in, last in LD_LIBRARY_PATH', () => {
  const ran = withDriver(['exec', '--nv', image, 'sh', '-c', 'ls /.singularity.d/libs; echo "$LD_LIBRARY_PATH"'], {
    LD_LIBRARY_PATH: '/host/lib',
  });
  assert.match(ran.stdout, /libcuda\.so\.1\n/);
  assert.not.match(ran.stdout, /libGL/);
  assert.match(ran.stdout, /\/\.singularity\.d\/libs\n$/);
  assert.not.match(ran.stdout, /host\/lib/);
});

test('CUDA_VISIBLE_DEVICES is passed through unread', () => {
  const ran = withDriver(['exec', '--nv', image, 'sh', '-c', 'echo "$CUDA_VISIBLE_DEVICES"'], { CUDA_VISIBLE_DEVICES: 'GPU-junk,7' });
  assert.is(ran.stdout, 'GPU-junk,7\n', ran.stderr);
});

test('without a driver one line says so, and the program runs', () => {
  const ran = tsrun(['exec', '--nv', image, 'echo', 'ran']);
  assert.is(ran.stdout, 'ran\n');
  assert.is(ran.status, 0);
  assert.match(ran.stderr, /no NVIDIA driver/);
});

test.run();
