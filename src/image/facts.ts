/**
 * Image facts: what is costly to find out about an image and never changes. Computed once (at build, or on first use of an image made by
 * others), kept as the SIF object `tsrun-image-facts.json` or in the store under the image's identity. The planner reads nothing else of an image.
 *
 * All strings are byte strings (one char per byte) once parsed by the planner; the JSON text itself escapes bytes >= 0x80 as \u00XX.
 */

export const IMAGE_FACTS_VERSION = 1;
export const IMAGE_FACTS_OBJECT = 'tsrun-image-facts.json';
/** Bounds of the JSON text, so that a hostile image cannot make the planner work for long. */
export const IMAGE_FACTS_MAX_BYTES = 512 * 1024;

export type ImageFacts = {
  readonly version: typeof IMAGE_FACTS_VERSION;
  /** GOARCH name, "" when unknown (a tree without any ELF file). */
  readonly arch: string;
  /** OCI config.Env, "NAME=value" each, in order. Empty when the environment comes from scripts only. */
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** OCI config.WorkingDir, "" when unset. */
  readonly workingDir: string;
  readonly user: string;
  /** true: /.singularity.d/runscript is somebody's own script; false: absent, or only our rendering of entrypoint and cmd. */
  readonly runscript: boolean;
  /** Names in /.singularity.d/env that a shell must source, sorted; empty when `env` says it all. */
  readonly envScripts: readonly string[];
  /** Programs the planner asks about; absolute path inside the image after symlinks, or "" if absent. */
  readonly sh: string;
  readonly bash: string;
  /**
   * Directories and symbolic links of the first two levels: "/usr" -> "d", "/bin" -> "lusr/bin" (not the links in /bin, /lib and the like), and regular
   * files of /etc that runs mount over: "/etc/hosts" -> "f". There are many, and a run looks at a few: each is checked by who looks (plan/image-tree.ts).
   * A function finds what is at a path when it is asked.
   */
  readonly tree: Readonly<Record<string, unknown>> | ((path: string) => string | undefined);
  /** Text of /etc/passwd and /etc/group (at most 64 KiB each), "" if absent. */
  readonly passwd: string;
  readonly group: string;
  /** ID, VERSION_ID, PRETTY_NAME of os-release. */
  readonly os: { readonly id: string; readonly version: string; readonly name: string };
  readonly libc: { readonly kind: 'glibc' | 'musl' | 'none'; readonly version: string };
  /** Locale names the image's libc finds ("C.UTF-8", "en_US.UTF-8"); empty for musl, where every name works. */
  readonly locales: readonly string[];
  /** CA bundle inside the image, "" if none. */
  readonly caBundle: string;
  /** libmpi sonames found in the usual library directories. */
  readonly mpi: readonly string[];
};
