/** What the launch benchmarks start: the same small tree as a SIF, a SquashFS file and a directory, by tsrun and its peers, with the same files shown. */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { environmentOf, makeBusyboxImage, scratch, tsrunPath } from '../../test/helpers/product.ts';
import { type TestUser, testUser } from '../../test/helpers/user.ts';

export type Place = {
  readonly path: string;
  readonly user: TestUser;
  readonly image: string;
  readonly tree: string;
  /** SquashFS of the tree; undefined without mksquashfs. */
  readonly squash: string | undefined;
  /** The program itself, outside of any image. */
  readonly bare: readonly string[];
  /** The words of a start through each tool that is installed; the payload is `true` of the tree. */
  readonly tsrun: (...options: string[]) => readonly string[];
  readonly tsrunDirectory: readonly string[];
  readonly bwrap: readonly string[] | undefined;
  readonly chRun: readonly string[] | undefined;
  readonly chRunSquash: readonly string[] | undefined;
  /** Container engines; `%` becomes the round, for what needs a name. */
  readonly crun: readonly string[] | undefined;
  readonly podman: readonly string[] | undefined;
  readonly apptainer: readonly string[] | undefined;
};

const must = (program: string, ...args: string[]): void => {
  const ran = spawnSync(program, args, { encoding: 'utf8' });
  if (ran.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${ran.stderr}`);
};

export const compile = (source: string, program: string): void => must('cc', '-O2', '-static', '-o', program, source);

/** What is started, and what the tree needs for it. */
type Program = { readonly path: string; readonly bare: readonly string[] | undefined; readonly add: (tree: string) => void };

const STATIC: Program = { path: '/bin/true', bare: undefined, add: () => {} };

const addOwnTrue = (tree: string): void => {
  const libraries = spawnSync('ldd', ['/bin/true'], { encoding: 'utf8' }).stdout.match(/\/\S+/g) ?? [];
  for (const library of libraries) {
    mkdirSync(join(tree, dirname(library)), { recursive: true });
    cpSync(realpathSync(library), join(tree, library));
  }
  cpSync(realpathSync('/bin/true'), join(tree, 'opt/tool/true'));
};

/** The machine's own `true`, whose loader and C library have to be found and mapped as well. */
export const OWN_TRUE: Program = { path: '/opt/tool/true', bare: ['/bin/true'], add: addOwnTrue };

/** Podman writes into the tree it starts from. */
const ownCopy = (copy: string, tree: string, { uid, gid }: TestUser): string => {
  must('cp', '-a', tree, copy);
  must('chown', '-R', `${uid}:${gid}`, copy);
  return copy;
};

/** An OCI bundle of the tree whose process is /bin/true, as the engine itself writes one for an ordinary user. */
const makeBundle = (bundle: string, tree: string, { uid, gid }: TestUser): string => {
  mkdirSync(bundle);
  chownSync(bundle, uid, gid);
  const spec = spawnSync('/usr/bin/crun', ['spec', '--rootless'], {
    cwd: bundle,
    encoding: 'utf8',
    ...(process.getuid?.() === 0 ? { uid, gid } : {}),
  });
  if (spec.status !== 0) throw new Error(`crun spec: ${spec.stderr}`);
  const config = join(bundle, 'config.json');
  const written: { process: object } = JSON.parse(readFileSync(config, 'utf8'));
  const changed = { ...written, root: { path: tree }, process: { ...written.process, terminal: false, args: ['/bin/true'] } };
  writeFileSync(config, JSON.stringify(changed));
  return bundle;
};

/** Whose names mean something to a tool that is measured, or belong to who runs the benchmark and not to `user`. */
const NOT_PASSED = /^(TSRUN|APPTAINER|SINGULARITY|CH_|XDG_|SLURM|PMI|OMPI)/;

/** All variables of who runs the benchmark, as far as they are no settings of a tool, with `user`'s login over them. */
export const callersEnvironment = (more: Readonly<Record<string, string>>): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_PASSED.test(name))),
  ...environmentOf({ env: more }),
});

const installed = (program: string): boolean => existsSync(program);

/**
 * The files are as after a start of the machine: read from the disk by who uses them first. What has just been written lies in larger pieces of the page cache, and a
 * program there is mapped faster (the bare one by a seventh), which nobody's programs are for long.
 */
const asReadFromDisk = (...paths: readonly string[]): void =>
  must('sh', '-c', 'sync; find "$@" -type f -exec dd if={} iflag=nocache count=0 status=none ";"', 'sh', ...paths);

export const makePlace = (name: string, program: Program = STATIC): Place => {
  const path = scratch(name);
  const user = testUser();
  const image = makeBusyboxImage(path, program.add);
  const tree = join(path, 'tree');
  const squash = installed('/usr/bin/mksquashfs') ? join(path, 'tree.sqfs') : undefined;
  if (squash !== undefined) {
    must('mksquashfs', tree, squash, '-quiet', '-no-progress', '-comp', 'zstd');
    chmodSync(squash, 0o644);
  }
  const { home } = user;
  // Shown by default everywhere, as tsrun does: /dev, /proc, /sys, /tmp, /var/tmp, the home. (ch-run shows /dev, /proc, /sys and /tmp by itself.)
  const binds = ['--dev-bind', '/dev', '/dev', '--bind', '/proc', '/proc', '--ro-bind', '/sys', '/sys', '--bind', '/tmp', '/tmp'];
  const more = ['--bind', '/var/tmp', '/var/tmp', '--tmpfs', '/home', '--bind', home, home];
  const chRun = ['/usr/bin/ch-run', '--home', '--bind', '/var/tmp'];
  const place: Place = {
    path,
    user,
    image,
    tree,
    squash,
    bare: program.bare ?? [join(tree, 'bin/busybox'), 'true'],
    tsrun: (...options) => [tsrunPath, 'exec', ...options, image, program.path],
    tsrunDirectory: [tsrunPath, 'exec', tree, program.path],
    bwrap: installed('/usr/bin/bwrap') ? ['/usr/bin/bwrap', '--bind', tree, '/', ...binds, ...more, program.path] : undefined,
    chRun: installed('/usr/bin/ch-run') ? [...chRun, tree, program.path] : undefined,
    crun: installed('/usr/bin/crun')
      ? [
          '/usr/bin/crun',
          '--root',
          `${path}/crun`,
          '--cgroup-manager=disabled',
          'run',
          '-b',
          makeBundle(join(path, 'bundle'), tree, user),
          'run-%',
        ]
      : undefined,
    podman: installed('/usr/bin/podman')
      ? [
          '/usr/bin/podman',
          '--log-level=error',
          '--root',
          `${path}/podman/root`,
          '--runroot',
          `${path}/podman/run`,
          'run',
          '--rm',
          '--network=host',
          '--rootfs',
          ownCopy(join(path, 'podman-tree'), tree, user),
          '/bin/true',
        ]
      : undefined,
    apptainer: installed('/usr/bin/apptainer') ? ['/usr/bin/apptainer', '--quiet', 'exec', tree, '/bin/true'] : undefined,
    chRunSquash: installed('/usr/bin/ch-run') && squash !== undefined ? [...chRun, squash, program.path] : undefined,
  };
  asReadFromDisk(path, tsrunPath);
  return place;
};
