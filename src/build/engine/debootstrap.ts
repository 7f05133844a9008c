/**
 * `Bootstrap: debootstrap`: a Debian or Ubuntu from its packages, by the host's mmdebstrap or debootstrap. That runs as a step does, as root of the
 * build's user namespace, and what it asks of root alone is recorded where there is one id. It works in the directory that is the base from then on.
 */
import { existsSync } from 'node:fs';
import { delimiter } from 'node:path';
import type { Base as RecipeBase } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';
import { makeDirectories } from '../../util/make-directories.ts';
import { type Base, once, produceBase, scratchBase } from './base.ts';
import type { Workplace } from './cache.ts';
import type { Engine } from './engine.ts';
import { runHostProgram } from './host-step.ts';
import { keyOf } from './key.ts';
import { layerSource } from './native.ts';

type Wanted = Extract<RecipeBase, { kind: 'debootstrap' }>;

/** Taken from the cache as long as it is there: what a mirror has today is no part of the key. */
export const debootstrapBase = (engine: Engine, place: string, wanted: Wanted): Base => {
  const { suite, mirror, packages } = wanted;
  const key = keyOf({ base: 'debootstrap', suite, mirror, packages, architecture: engine.platform.architecture, ids: engine.ids.kind });
  const produce = once(() =>
    produceBase(engine, key, (workplace) => bootstrap(engine, place, wanted, workplace), suite, engine.options.noCache),
  );
  const layers = async () => [layerSource(engine, await produce(), `the packages of ${suite}`, undefined)];
  return {
    name: suite,
    key,
    origin: { bootstrap: 'debootstrap', from: suite },
    config: {},
    layers,
    whole: layers,
    directory: async () => (await produce()).files,
    close: async () => {},
  };
};

/** Debian's words for architectures, where they are not OCI's. */
const DEBIAN_NAMES: Readonly<Record<string, string>> = { '386': 'i386', arm: 'armhf', ppc64le: 'ppc64el' };

type Maker = { readonly program: string; readonly options: (wanted: Wanted, architecture: string) => readonly string[] };

/** In the order in which they are looked for. All take suite, target and mirror behind their options. */
const MAKERS: readonly Maker[] = [
  {
    program: 'mmdebstrap',
    options: ({ packages }, architecture) => [
      '--mode=root',
      '--format=directory',
      '--variant=minbase',
      '--skip=check/empty,chroot/mount/dev',
      // What is not finished is thrown away: nothing has to reach the disk on the way.
      '--dpkgopt=force-unsafe-io',
      `--architectures=${architecture}`,
      ...(packages.length === 0 ? [] : [`--include=${packages.join(',')}`]),
    ],
  },
  {
    program: 'debootstrap',
    options: ({ packages }, architecture) => [
      '--variant=minbase',
      `--arch=${architecture}`,
      ...(packages.length === 0 ? [] : [`--include=${packages.join(',')}`]),
    ],
  },
];

/**
 * They would make the devices that packages need, or mount a /dev/pts that belongs to another id: with one id neither is to be had. So they find some
 * there already. These are mounts of this run: the base has an empty /dev. And what they leave of themselves is taken away.
 */
const WITH_DEVICES = `
mkdir -p "$1/dev" && mount -t tmpfs -o mode=755 none "$1/dev" && mkdir "$1/dev/pts" "$1/dev/shm" && ln -s pts/ptmx "$1/dev/ptmx" || exit
for name in null zero full random urandom tty; do
  : > "$1/dev/$name" && mount --bind "/dev/$name" "$1/dev/$name" || exit
done
target=$1
shift
"$@" && rm -f "$target"/var/cache/apt/archives/*.deb "$target/var/log/bootstrap.log" "$target/etc/dpkg/dpkg.cfg.d/99mmdebstrap"`;

/** A user's own PATH may lack them, and the makers call programs that lie there. */
const ADMIN_DIRECTORIES = ['/usr/sbin', '/sbin'];

const MAX_LINES = 20;

const bootstrap = async (engine: Engine, place: string, wanted: Wanted, workplace: Workplace): Promise<number> => {
  const refuse = (why: string, hint: string): TsrunError =>
    new TsrunError({ code: 'E_DEBOOTSTRAP', what: `${place}: cannot make a ${wanted.suite} from its packages`, why, hint });
  if (engine.options.offline === true) throw refuse('tsrun was told to stay offline', 'begin with an image that is here');
  const directories = [...(process.env['PATH'] ?? '').split(delimiter).filter((path) => path !== ''), ...ADMIN_DIRECTORIES];
  const maker = MAKERS.find(({ program }) => directories.some((directory) => existsSync(`${directory}/${program}`)));
  if (maker === undefined)
    throw refuse('neither mmdebstrap nor debootstrap is installed', 'install mmdebstrap, or begin with an image: From: debian:12');
  const { architecture } = engine.platform;
  const own = `${workplace.path}/mounts`;
  const step: Workplace = { ...workplace, files: `${own}/files`, work: `${own}/work` };
  for (const path of [step.files, step.work, `${own}/root`]) await makeDirectories(path, 0o755);
  const said: string[] = [];
  const status = await runHostProgram(
    engine,
    { base: scratchBase(engine), layers: [] },
    step,
    {
      root: `${own}/root`,
      argv: [
        ...['/bin/sh', '-c', WITH_DEVICES, 'sh', workplace.files],
        ...[
          maker.program,
          ...maker.options(wanted, DEBIAN_NAMES[architecture] ?? architecture),
          wanted.suite,
          workplace.files,
          wanted.mirror,
        ],
      ],
      variables: new Map([['PATH', directories.join(delimiter)]]),
    },
    (_, line) => {
      if (!line.startsWith('I: ')) said.push(line);
      if (said.length > MAX_LINES) said.shift();
    },
  );
  if (status !== 0)
    throw refuse(
      said.join('\n') || `${maker.program} ended with status ${status}`,
      `check suite, mirror and names of packages (${maker.program} was asked)`,
    );
  return 0;
};
