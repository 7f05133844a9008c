/** Packages as package managers left word of them in an image. All strings are text (decoded), not byte strings. */

export const MANAGERS = ['dpkg', 'rpm', 'apk', 'pip', 'conda', 'r'] as const;
export type Manager = (typeof MANAGERS)[number];

export type Package = {
  readonly manager: Manager;
  readonly name: string;
  /** As the manager writes it, with epoch, release and build. */
  readonly version: string;
  readonly architecture?: string | undefined;
  /** Directory it belongs to, where an image may have the manager's packages in several: "/opt/conda/envs/a". */
  readonly place?: string | undefined;
  /** Of the archive the repository offers: "sha256:…"; of apk "sha1:…" of its control part, of rpm "sha256:…" of its header. */
  readonly digest?: string | undefined;
  /** "sha256:…" of the manager's own list of the installed files and their hashes. */
  readonly files?: string | undefined;
  /** Address it came from, where the manager notes one. */
  readonly from?: string | undefined;
};

/** By manager, place, name, version, architecture: the same packages give the same list. */
export const sortPackages = (packages: readonly Package[]): readonly Package[] => {
  const key = ({ manager, place = '', name, version, architecture = '' }: Package): string =>
    [MANAGERS.indexOf(manager), place, name, version, architecture].join('\0');
  return packages
    .map((each) => [key(each), each] as const)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([, each]) => each);
};

/** "dpkg python3 3.11.2-1+b1 amd64": enough to tell two packages of an image apart. */
export const packageTitle = ({ manager, name, version, architecture, place }: Package): string =>
  [manager, name, version, architecture, place === undefined ? undefined : `in ${place}`].filter((part) => part !== undefined).join(' ');
