/**
 * --nv: what of the driver goes where. The driver's directory is mounted once, away from every search path, and LIBS_DIRECTORY holds a link for each
 * library of the driver: one mount in place of forty, and nothing else of that directory can be loaded by accident.
 */
import { isNewer } from '../facts/elf-file.ts';
import { type DriverLibrary, findHostGlibc, findNvidiaDriver, type NvidiaDriver } from '../facts/nvidia.ts';
import { TsrunError } from '../util/errors.ts';
import { nameOf } from '../util/paths.ts';
import { devicesNamed, putDevice } from './devices.ts';
import { LIBS_DIRECTORY } from './env.ts';
import { type MountTable, mountAt, put } from './mount-table.ts';
import type { Op } from './ops.ts';
import type { Situation } from './situation.ts';

const DRIVER_DIRECTORY = '/.singularity.d/nvidia';

/** Binds go into the table; answers the links for the skeleton. Without a driver: one line, and the program runs without. Errors: E_GPU_LIBC. */
export const putNvidia = (table: MountTable, situation: Situation): Op[] => {
  const { host, warnings } = situation;
  const driver = findNvidiaDriver(host);
  if (driver === undefined) {
    warnings.push('no NVIDIA driver found on this host: --nv has no effect');
    return [];
  }
  if (driver.kernelVersion !== undefined) {
    warnings.push(
      `the NVIDIA kernel module is ${driver.kernelVersion}, the libraries are ${driver.version}: the host has to be restarted before its GPUs work`,
    );
  }
  const libraries = fittingLibraries(situation, driver);
  const why = `--nv: driver ${driver.version || 'of WSL'}`;
  put(table, { op: 'bind', source: driver.directory, target: DRIVER_DIRECTORY, flags: ['ro'], why });
  for (const { path, target, directory } of driver.files)
    put(table, { op: 'bind', source: path, target, flags: ['ro', 'optional'], why }, !directory);
  for (const path of driver.programs)
    put(table, { op: 'bind', source: path, target: `/usr/bin/${nameOf(path)}`, flags: ['ro', 'optional'], why }, true);
  if (driver.socket !== undefined) put(table, { op: 'bind', source: driver.socket, target: driver.socket, flags: ['optional'], why }, true);
  putDevices(table, situation, why);
  if (situation.image.facts.libc.kind !== 'glibc') putGlibc(table, situation);
  return libraries.flatMap((library) => linksTo(library, why));
};

const linksTo = ({ name, links }: DriverLibrary, why: string): Op[] =>
  [name, ...links].map((link) => ({ op: 'symlink', target: `${LIBS_DIRECTORY}/${link}`, link: `${DRIVER_DIRECTORY}/${name}`, why }));

/** Libraries the image's glibc can load. Without libcuda nothing works, so that is an error; without another one, one feature is missing. */
const fittingLibraries = ({ image, warnings }: Situation, driver: NvidiaDriver): DriverLibrary[] => {
  const { kind, version } = image.facts.libc;
  if (kind !== 'glibc' || version === '') return [...driver.libraries];
  const tooNew = driver.libraries.filter((library) => library.glibc !== undefined && isNewer(library.glibc, version));
  const libcuda = tooNew.find((library) => library.name.startsWith('libcuda.so'));
  if (libcuda !== undefined) {
    throw new TsrunError({
      code: 'E_GPU_LIBC',
      what: `cannot use the host's NVIDIA driver ${driver.version} in ${image.reference}`,
      why: `${libcuda.name} needs glibc ${libcuda.glibc ?? ''}, the image has ${version}`,
      hint: `build the image on a distribution with glibc ${libcuda.glibc ?? ''} or newer`,
    });
  }
  if (tooNew.length > 0) {
    const shown = tooNew.slice(0, 4).map((library) => `${library.name} (glibc ${library.glibc ?? ''})`);
    warnings.push(
      `left out, since the image has glibc ${version}: ${shown.join(', ')}${tooNew.length > 4 ? ` and ${tooNew.length - 4} more` : ''}`,
    );
  }
  return driver.libraries.filter((library) => !tooNew.includes(library));
};

/** All of them: which ones a job may use, the device cgroup decides. A full /dev has them already. */
const putDevices = (table: MountTable, { host }: Situation, why: string): void => {
  if (mountAt(table, '/dev/nvidiactl')?.op === 'bind') return;
  for (const { path, directory } of [...devicesNamed(host, 'nvidia'), ...devicesNamed(host, 'dxg')]) {
    if (directory) put(table, { op: 'bind', source: path, target: path, flags: ['recursive', 'optional', 'dev'], why });
    else putDevice(table, path, why);
  }
};

/** Programs of the driver are made for glibc; each of its libraries appears where the host's loader looks for it, and musl does not. */
const putGlibc = (table: MountTable, { host, warnings, image }: Situation): void => {
  const glibc = findHostGlibc(host);
  if (glibc === undefined) {
    warnings.push(`nvidia-smi will not start: neither ${image.reference} nor this host has glibc where its programs look for it`);
    return;
  }
  const why = "--nv: the host's glibc, for programs of the driver";
  for (const path of [glibc.loader, ...glibc.libraries])
    put(table, { op: 'bind', source: path, target: path, flags: ['ro', 'optional'], why }, true);
};
