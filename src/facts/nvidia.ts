/**
 * The host's NVIDIA driver: which version, and which of its files belong to it. Found from the driver's version file, the dynamic linker's cache and
 * a few known directories; nothing is executed.
 */
import { failed, type Host } from '../util/host.ts';
import { nameOf, parentOf } from '../util/paths.ts';
import { elfOf, glibcNeed } from './elf-file.ts';
import { pathsInCache, readLdCache } from './ld-cache.ts';

export type DriverLibrary = {
  /** File name in the driver's directory. */
  readonly name: string;
  /** Names programs ask for: soname, and `libX.so` where the host has it. */
  readonly links: readonly string[];
  /** The glibc it needs, such as "2.17". */
  readonly glibc: string | undefined;
};

export type NvidiaDriver = {
  /** "550.54.15"; '' under WSL, whose libraries carry no version. */
  readonly version: string;
  /** Of the loaded kernel module, when it is another one: nothing will work until the host is restarted. */
  readonly kernelVersion: string | undefined;
  /** Absolute, without symbolic links. */
  readonly directory: string;
  readonly libraries: readonly DriverLibrary[];
  /** Description files and data (EGL, Vulkan, OpenCL, OptiX) that exist. */
  readonly files: readonly { readonly path: string; readonly target: string; readonly directory: boolean }[];
  /** Programs of the driver that exist. */
  readonly programs: readonly string[];
  readonly socket: string | undefined;
};

const MAX_ENTRIES = 65_536;

/** Where drivers are that no cache names: container hosts, NixOS, WSL. */
const KNOWN_DIRECTORIES = [
  '/usr/lib64',
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/local/nvidia/lib64',
  '/usr/local/nvidia/lib',
  '/usr/lib/nvidia',
  '/usr/lib64/nvidia',
  '/run/opengl-driver/lib',
  '/usr/lib/wsl/lib',
  '/home/kubernetes/bin/nvidia/lib64',
];

const FILES = [
  '/usr/share/glvnd/egl_vendor.d/10_nvidia.json',
  '/etc/glvnd/egl_vendor.d/10_nvidia.json',
  '/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json',
  '/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json',
  '/usr/share/egl/egl_external_platform.d/20_nvidia_xcb.json',
  '/usr/share/egl/egl_external_platform.d/20_nvidia_xlib.json',
  '/usr/share/vulkan/icd.d/nvidia_icd.json',
  '/usr/share/vulkan/icd.d/nvidia_icd.x86_64.json',
  '/usr/share/vulkan/icd.d/nvidia_icd.aarch64.json',
  '/etc/vulkan/icd.d/nvidia_icd.json',
  '/usr/share/vulkan/implicit_layer.d/nvidia_layers.json',
  '/etc/vulkan/implicit_layer.d/nvidia_layers.json',
  '/etc/OpenCL/vendors/nvidia.icd',
  '/usr/share/nvidia',
];

const PROGRAMS = ['nvidia-smi', 'nvidia-debugdump', 'nvidia-persistenced', 'nvidia-cuda-mps-control', 'nvidia-cuda-mps-server'];
const PROGRAM_DIRECTORIES = ['/usr/bin', '/usr/local/bin', '/usr/local/nvidia/bin', '/usr/lib/wsl/lib', '/run/current-system/sw/bin'];
const SOCKETS = ['/run/nvidia-persistenced/socket', '/var/run/nvidia-persistenced/socket'];

/** Drivers that are mounted into container hosts, and those of NixOS, have their /usr/share elsewhere; programs look for it in /usr/share. */
const SHARES = ['/usr/share', '/usr/local/nvidia/share', '/run/opengl-driver/share'];

const dataFile = (host: Host, target: string): { path: string; target: string; directory: boolean }[] => {
  const candidates = target.startsWith('/usr/share/') ? SHARES.map((share) => share + target.slice('/usr/share'.length)) : [target];
  for (const path of candidates) {
    const stat = host.stat(path);
    if (!failed(stat)) return [{ path, target, directory: stat.kind === 'directory' }];
  }
  return [];
};

/** "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  …", also "… UNIX Open Kernel Module for x86_64  550.54.15 …". */
const kernelModuleVersion = (host: Host): string | undefined => {
  const text = host.read('/proc/driver/nvidia/version', 0, 4096);
  return failed(text) ? undefined : /Kernel Module\D*?(?:for \S+)?\s+(\d+\.\d+(?:\.\d+)?)\s/.exec(text)?.[1];
};

/** libcuda.so.1 of this machine's own architecture. */
const findLibcuda = (host: Host): string | undefined => {
  const machine = host.machine();
  const candidates = [
    ...pathsInCache(readLdCache(host), 'libcuda.so.1'),
    ...KNOWN_DIRECTORIES.map((directory) => `${directory}/libcuda.so.1`),
  ];
  for (const path of candidates) {
    const elf = elfOf(host, path);
    if (elf !== null && elf.class === 64 && elf.machine === machine) return path;
  }
  return undefined;
};

/** Undefined when the host has no NVIDIA driver. */
export const findNvidiaDriver = (host: Host): NvidiaDriver | undefined => {
  const libcuda = findLibcuda(host);
  if (libcuda === undefined) return undefined;
  const real = host.realPath(libcuda);
  if (failed(real)) return undefined;
  const kernelVersion = kernelModuleVersion(host);
  const directory = parentOf(real);
  const own = /\.so\.(\d+\.\d+(?:\.\d+)?)$/.exec(real)?.[1] ?? '';
  // During an upgrade both versions lie side by side: the one the kernel has is the one that works.
  const hasKernels = kernelVersion !== undefined && own !== kernelVersion && !failed(host.stat(`${directory}/libcuda.so.${kernelVersion}`));
  const version = own !== '' && hasKernels ? kernelVersion : own;
  return {
    version,
    kernelVersion: kernelVersion === undefined || version === '' || kernelVersion === version ? undefined : kernelVersion,
    directory,
    libraries: librariesIn(host, directory, version),
    files: FILES.flatMap((target) => dataFile(host, target)),
    programs: PROGRAMS.flatMap(
      (name) => PROGRAM_DIRECTORIES.map((place) => `${place}/${name}`).find((path) => !failed(host.access(path, 1))) ?? [],
    ),
    socket: SOCKETS.find((path) => !failed(host.stat(path))),
  };
};

/** Everything of the driver's version; what carries other versions is named one by one. Under WSL the directory is the driver's own. */
const belongsTo = (name: string, version: string): boolean => {
  if (version === '') return /^lib[^/]*\.so(\.\d+)*$/.test(name);
  return (name.startsWith('lib') && name.endsWith(`.so.${version}`)) || /^libnvidia-(?:egl-[a-z0-9]+|api)\.so\.\d/.test(name);
};

const librariesIn = (host: Host, directory: string, version: string): DriverLibrary[] => {
  const entries = host.readdir(directory, MAX_ENTRIES);
  if (failed(entries)) return [];
  const names = new Set(entries.map((entry) => entry.name));
  const libraries: DriverLibrary[] = [];
  for (const { name, kind } of entries) {
    if (kind === 'link' || !belongsTo(name, version)) continue;
    const elf = elfOf(host, `${directory}/${name}`);
    if (elf === null) continue;
    const plain = name.slice(0, name.indexOf('.so') + 3);
    const links = new Set<string>();
    if (elf.soname !== null && !elf.soname.includes('/') && elf.soname !== name) links.add(elf.soname);
    if (plain !== name && names.has(plain)) links.add(plain);
    libraries.push({ name, links: [...links], glibc: glibcNeed(elf) });
  }
  return libraries.sort((a, b) => (a.name < b.name ? -1 : 1));
};

/** The host's glibc, for programs of the driver in images that have none. */
export type HostGlibc = {
  /** Path programs name as their interpreter. */
  readonly loader: string;
  readonly libraries: readonly string[];
};

const LOADERS: Readonly<Record<string, string>> = {
  x86_64: '/lib64/ld-linux-x86-64.so.2',
  aarch64: '/lib/ld-linux-aarch64.so.1',
  ppc64le: '/lib64/ld64.so.2',
  riscv64: '/lib/ld-linux-riscv64-lp64d.so.1',
};

const GLIBC_LIBRARIES = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'librt.so.1', 'libresolv.so.2', 'libutil.so.1'];
/** Names that a musl image may have itself, in /lib and /usr/lib. */
const COMPILER_LIBRARIES = ['libgcc_s.so.1', 'libstdc++.so.6'];

export const findHostGlibc = (host: Host): HostGlibc | undefined => {
  const loader = LOADERS[host.machine()];
  if (loader === undefined || failed(host.stat(loader))) return undefined;
  const cache = readLdCache(host);
  const machine = host.machine();
  const libraries = [...GLIBC_LIBRARIES, ...COMPILER_LIBRARIES].flatMap((name) => {
    const path = pathsInCache(cache, name).find((each) => {
      const elf = elfOf(host, each);
      return elf !== null && elf.class === 64 && elf.machine === machine;
    });
    if (path === undefined) return [];
    const shared = ['/lib', '/usr/lib'].includes(parentOf(path));
    return shared && COMPILER_LIBRARIES.includes(nameOf(path)) ? [] : [path];
  });
  return { loader, libraries };
};
