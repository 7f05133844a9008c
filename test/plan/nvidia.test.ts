import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { highestGlibc, isNewer } from '../../src/facts/elf-file.ts';
import { pathsInCache } from '../../src/facts/ld-cache.ts';
import { findNvidiaDriver } from '../../src/facts/nvidia.ts';
import { device, directory, type Entry, file, link, machine, type Tree } from '../helpers/machine.ts';
import { codeOf, envOf, errorOf, mountedAt, noticesOf, opsOf, planned, type World } from '../helpers/planning.ts';

const test = suite('--nv');

const le = (value: number, bytes: number): string => {
  let text = '';
  for (let at = 0, rest = value; at < bytes; at++, rest = Math.floor(rest / 256)) text += String.fromCharCode(rest % 256);
  return text;
};

/** A shared library with a soname and the glibc versions it needs: one segment, one dynamic section (System V gABI). */
const library = (soname: string, glibc: readonly string[] = ['2.17'], machineNumber = 62): Entry => {
  const names = ['', soname, 'libc.so.6', ...glibc.map((version) => `GLIBC_${version}`)];
  const strings = names.map((name) => `${name}\0`).join('');
  const at = (name: string): number => (name === '' ? 0 : strings.indexOf(`\0${name}\0`) + 1);
  const HEADERS = 64 + 2 * 56;
  const dynamic = (needs: number): string => {
    const entries: [number, number][] = [
      [1, at('libc.so.6')],
      [14, at(soname)],
      [5, HEADERS + 16 * 8],
      [10, strings.length],
      [0x6ffffffe, needs],
      [0x6fffffff, 1],
      [0, 0],
      [0, 0],
    ];
    return entries.map(([tag, value]) => le(tag, 8) + le(value, 8)).join('');
  };
  const needsAt = HEADERS + 16 * 8 + strings.length;
  const needs =
    le(1, 2) +
    le(glibc.length, 2) +
    le(at('libc.so.6'), 4) +
    le(16, 4) +
    le(0, 4) +
    glibc
      .map(
        (version, index) =>
          le(0, 4) + le(0, 2) + le(index + 2, 2) + le(at(`GLIBC_${version}`), 4) + le(index === glibc.length - 1 ? 0 : 16, 4),
      )
      .join('');
  const size = needsAt + needs.length;
  const segment = (type: number, offset: number, length: number): string =>
    le(type, 4) + le(4, 4) + le(offset, 8) + le(offset, 8) + le(offset, 8) + le(length, 8) + le(length, 8) + le(8, 8);
  const header = `\x7fELF\x02\x01\x01${'\0'.repeat(9)}${le(3, 2)}${le(machineNumber, 2)}${le(1, 4)}${le(0, 8)}${le(64, 8)}${le(0, 8)}${le(0, 4)}${le(64, 2)}${le(56, 2)}${le(2, 2)}${le(0, 2)}${le(0, 2)}${le(0, 2)}`;
  return file(header + segment(1, 0, size) + segment(2, HEADERS, 16 * 8) + dynamic(needsAt) + strings + needs);
};

/** An ld.so.cache of glibc's new format. */
const ldCache = (entries: readonly (readonly [string, string])[], before = ''): string => {
  const strings = entries.map(([name, path]) => `${name}\0${path}\0`).join('');
  const stringsAt = 48 + entries.length * 24;
  let at = stringsAt;
  const table = entries.map(([name, path]) => {
    const entry = le(0x303, 4) + le(at, 4) + le(at + name.length + 1, 4) + le(0, 12);
    at += name.length + path.length + 2;
    return entry;
  });
  return `${before}glibc-ld.so.cache1.1${le(entries.length, 4)}${le(strings.length, 4)}${'\0'.repeat(20)}${table.join('')}${strings}`;
};

const V = '550.54.15';
const DIR = '/usr/lib/x86_64-linux-gnu';
const VERSION_FILE = (version: string): string =>
  `NVRM version: NVIDIA UNIX x86_64 Kernel Module  ${version}  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc 12\n`;

const DRIVER: Tree = {
  '/proc/driver/nvidia/version': VERSION_FILE(V),
  '/etc/ld.so.cache': ldCache([
    ['libfoo.so.1', '/lib/libfoo.so.1'],
    ['libcuda.so.1', `${DIR}/libcuda.so.1`],
    ['libcuda.so.1', '/lib32/libcuda.so.1'],
  ]),
  [`${DIR}/libcuda.so.1`]: link(`libcuda.so.${V}`),
  [`${DIR}/libcuda.so`]: link('libcuda.so.1'),
  [`${DIR}/libcuda.so.${V}`]: library('libcuda.so.1'),
  [`${DIR}/libnvidia-ml.so.${V}`]: library('libnvidia-ml.so.1'),
  [`${DIR}/libnvidia-glcore.so.${V}`]: library(`libnvidia-glcore.so.${V}`),
  [`${DIR}/libnvidia-egl-wayland.so.1.1.13`]: library('libnvidia-egl-wayland.so.1'),
  [`${DIR}/libGL.so.1.7.0`]: library('libGL.so.1'),
  [`${DIR}/libc.so.6`]: library('libc.so.6'),
  '/usr/bin/nvidia-smi': file('x', 0o755),
  '/usr/share/glvnd/egl_vendor.d/10_nvidia.json': '{}',
  '/etc/OpenCL/vendors/nvidia.icd': 'libnvidia-opencl.so.1',
  '/usr/share/nvidia/nvoptix.bin': '',
  '/run/nvidia-persistenced/socket': '',
  '/dev/nvidia0': device(),
  '/dev/nvidiactl': device(),
  '/dev/nvidia-uvm': device(),
  '/dev/nvidia-caps/nvidia-cap1': device(),
};

const nv = (world: World = {}, command = 'exec --nv IMG p') => planned(command, { ...world, files: { ...DRIVER, ...world.files } });
const links = (run: ReturnType<typeof nv>): Readonly<Record<string, string>> =>
  Object.fromEntries(opsOf(run, 'symlink').map((op) => [op.target.replace('/.singularity.d/libs/', ''), op.link]));

test('the directory of the driver is mounted once, and each of its libraries has links under its names', () => {
  const run = nv();
  assert.is(mountedAt(run, '/.singularity.d/nvidia'), `${DIR} ro`);
  const found = links(run);
  for (const name of ['libcuda.so.1', 'libcuda.so', `libcuda.so.${V}`])
    assert.is(found[name], `/.singularity.d/nvidia/libcuda.so.${V}`, name);
  assert.is(found['libnvidia-ml.so.1'], `/.singularity.d/nvidia/libnvidia-ml.so.${V}`);
  assert.is(found['libnvidia-egl-wayland.so.1'], '/.singularity.d/nvidia/libnvidia-egl-wayland.so.1.1.13');
});

test('nothing generic comes along: no GL of the distribution, no libc', () => {
  assert.equal(
    Object.keys(links(nv())).filter((name) => /^lib(GL|c)\.so/.test(name)),
    [],
  );
});

test('programs, description files and the socket are mounted where they belong', () => {
  const run = nv();
  for (const path of [
    '/usr/bin/nvidia-smi',
    '/usr/share/glvnd/egl_vendor.d/10_nvidia.json',
    '/etc/OpenCL/vendors/nvidia.icd',
    '/usr/share/nvidia',
  ])
    assert.is(mountedAt(run, path), `${path} ro,optional`, path);
  assert.is(mountedAt(run, '/run/nvidia-persistenced/socket'), '/run/nvidia-persistenced/socket optional');
  assert.is(mountedAt(run, '/etc/vulkan/icd.d/nvidia_icd.json'), undefined);
});

test('the libraries come last in LD_LIBRARY_PATH', () => {
  assert.is(envOf(nv())['LD_LIBRARY_PATH'], '/.singularity.d/libs');
  assert.is(envOf(nv({ facts: { env: ['LD_LIBRARY_PATH=/opt/lib'] } }))['LD_LIBRARY_PATH'], '/opt/lib:/.singularity.d/libs');
  assert.is(envOf(nv({}, 'exec --nv --env LD_LIBRARY_PATH=/x IMG p'))['LD_LIBRARY_PATH'], '/x:/.singularity.d/libs');
  assert.is(envOf(planned('exec IMG p'))['LD_LIBRARY_PATH'], undefined);
});

test('CUDA_VISIBLE_DEVICES is passed through unread', () => {
  assert.is(envOf(nv({ env: { CUDA_VISIBLE_DEVICES: '7,nonsense' } }))['CUDA_VISIBLE_DEVICES'], '7,nonsense');
});

test('a full /dev has the devices; a minimal one gets all of them', () => {
  assert.is(mountedAt(nv(), '/dev/nvidia0'), undefined);
  const run = nv({}, 'exec -c --nv IMG p');
  for (const path of ['/dev/nvidia0', '/dev/nvidiactl', '/dev/nvidia-uvm']) assert.is(mountedAt(run, path), `${path} optional,dev`, path);
  assert.is(mountedAt(run, '/dev/nvidia-caps'), '/dev/nvidia-caps recursive,optional,dev');
});

test('without a driver one line says so, and the program runs', () => {
  const run = planned('exec --nv IMG p');
  assert.equal(noticesOf(run), ['tsrun: no NVIDIA driver found on this host: --nv has no effect']);
  assert.is(envOf(run)['LD_LIBRARY_PATH'], undefined);
});

for (const place of ['/usr/local/nvidia/lib64', '/run/opengl-driver/lib', '/usr/lib64']) {
  test(`a driver in ${place} is found without a cache`, () => {
    const files = {
      '/proc/driver/nvidia/version': VERSION_FILE(V),
      [`${place}/libcuda.so.1`]: link(`libcuda.so.${V}`),
      [`${place}/libcuda.so.${V}`]: library('libcuda.so.1'),
    };
    assert.equal([findNvidiaDriver(machine({ files }))?.directory, findNvidiaDriver(machine({ files }))?.version], [place, V]);
  });
}

test('description files of a driver in /usr/local/nvidia appear where programs look for them', () => {
  const run = nv({ files: { '/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json': '{}' } });
  assert.is(mountedAt(run, '/usr/share/vulkan/icd.d/nvidia_icd.json'), '/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json ro,optional');
});

test('the libraries of WSL carry no version and all belong to the driver', () => {
  const files = {
    '/usr/lib/wsl/lib/libcuda.so.1': library('libcuda.so.1'),
    '/usr/lib/wsl/lib/libdxcore.so': library('libdxcore.so'),
    '/dev/dxg': device(),
  };
  const run = planned('exec -c --nv IMG p', { files });
  assert.is(links(run)['libdxcore.so'], '/.singularity.d/nvidia/libdxcore.so');
  assert.is(mountedAt(run, '/dev/dxg'), '/dev/dxg optional,dev');
});

test('the open kernel module tells its version too', () => {
  const files = {
    ...DRIVER,
    '/proc/driver/nvidia/version': `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  ${V}  Release Build\n`,
  };
  assert.is(findNvidiaDriver(machine({ files }))?.kernelVersion, undefined);
});

test('libraries that do not match the kernel module are named; where both lie there, the matching ones are taken', () => {
  const other = VERSION_FILE('535.10');
  assert.match(
    noticesOf(nv({ files: { '/proc/driver/nvidia/version': other } })).join(),
    /kernel module is 535\.10, the libraries are 550\.54\.15/,
  );
  const both = nv({ files: { '/proc/driver/nvidia/version': other, [`${DIR}/libcuda.so.535.10`]: library('libcuda.so.1') } });
  assert.is(links(both)['libcuda.so.1'], '/.singularity.d/nvidia/libcuda.so.535.10');
  assert.equal(noticesOf(both), []);
});

test('a libcuda of another architecture is not taken', () => {
  const files = { '/usr/lib64/libcuda.so.1': library('libcuda.so.1', ['2.17'], 183) };
  assert.is(findNvidiaDriver(machine({ files })), undefined);
});

test('a libcuda that needs a newer glibc than the image has is an error that names both', () => {
  const world = {
    facts: { libc: { kind: 'glibc', version: '2.17' } as const },
    files: { [`${DIR}/libcuda.so.${V}`]: library('libcuda.so.1', ['2.2.5', '2.34']) },
  };
  assert.is(
    codeOf(() => nv(world)),
    'E_GPU_LIBC',
  );
  assert.match(
    errorOf(() => nv(world)),
    /libcuda\.so\.550\.54\.15 needs glibc 2\.34, the image has 2\.17/,
  );
});

test('another library that is too new is left out with a line', () => {
  const run = nv({
    facts: { libc: { kind: 'glibc', version: '2.28' } },
    files: { [`${DIR}/libnvidia-ml.so.${V}`]: library('libnvidia-ml.so.1', ['2.34']) },
  });
  assert.is(links(run)['libnvidia-ml.so.1'], undefined);
  assert.ok(links(run)['libcuda.so.1']);
  assert.match(noticesOf(run).join(), /left out, since the image has glibc 2\.28: libnvidia-ml\.so\.550\.54\.15 \(glibc 2\.34\)/);
});

const GLIBC: Tree = {
  '/lib64/ld-linux-x86-64.so.2': library('ld-linux-x86-64.so.2'),
  '/etc/ld.so.cache': ldCache([
    ['libcuda.so.1', `${DIR}/libcuda.so.1`],
    ['libc.so.6', `${DIR}/libc.so.6`],
    ['libm.so.6', `${DIR}/libm.so.6`],
  ]),
  [`${DIR}/libm.so.6`]: library('libm.so.6'),
};

test("an image with musl gets the host's glibc for the programs of the driver", () => {
  const run = nv({ facts: { libc: { kind: 'musl', version: '1.2.4' } }, files: GLIBC });
  assert.is(mountedAt(run, '/lib64/ld-linux-x86-64.so.2'), '/lib64/ld-linux-x86-64.so.2 ro,optional');
  assert.is(mountedAt(run, `${DIR}/libc.so.6`), `${DIR}/libc.so.6 ro,optional`);
  assert.is(mountedAt(run, `${DIR}/libm.so.6`), `${DIR}/libm.so.6 ro,optional`);
  assert.is(mountedAt(nv({ files: GLIBC }), `${DIR}/libc.so.6`), undefined);
});

test('where the host has no glibc either, a line says what will not start', () => {
  assert.match(noticesOf(nv({ facts: { libc: { kind: 'musl', version: '1.2.4' } } })).join(), /nvidia-smi will not start/);
});

test('the cache answers by whole names, also behind an old header, and damaged ones answer nothing', () => {
  const cache = ldCache([
    ['libcuda.so.12', '/a'],
    ['libcuda.so.1', '/b'],
    ['libcuda.so.1', '/c'],
    ['libcuda.so.1', 'relative'],
  ]);
  assert.equal(pathsInCache(cache, 'libcuda.so.1'), ['/b', '/c']);
  const old = ldCache([['x', '/x']], 'ld.so-1.7.0\0\0\0\0\0');
  assert.equal(pathsInCache(old, 'x'), ['/x']);
  for (const bad of ['', 'x', cache.slice(0, 60), cache.slice(0, 100), cache.replace('cache1.1\x04', 'cache1.1\xff')])
    assert.equal(pathsInCache(bad, 'libcuda.so.1'), [], JSON.stringify(bad.slice(0, 30)));
});

test('every truncation of a cache is survived', () => {
  const cache = ldCache([['libcuda.so.1', '/b']]);
  for (let length = 0; length < cache.length; length++) assert.ok(pathsInCache(cache.slice(0, length), 'libcuda.so.1').length <= 1);
});

test('versions of glibc are compared by their numbers', () => {
  assert.ok(isNewer('2.34', '2.9'));
  assert.not.ok(isNewer('2.17', '2.17'));
  assert.ok(isNewer('2.3.4', '2.3'));
  assert.is(highestGlibc(['GLIBC_2.9', 'GLIBC_2.34', 'GLIBC_PRIVATE', 'GLIBCXX_3.4.30']), '2.34');
});

test('the plan of --nv is right for a directory that nobody may list', () => {
  const run = nv({ files: { [DIR]: { ...directory(), closed: false } } });
  assert.ok(links(run)['libcuda.so.1']);
});

test.run();
