/**
 * What a recipe asks for, whatever language it was written in: definition file, Dockerfile or YAML. The front ends make it, the build engine
 * carries it out; neither knows the other. Plain data, so it can be printed and compared. All text is byte strings.
 */

export type Language = 'definition' | 'dockerfile' | 'yaml';

export type BuildSpec = {
  readonly language: Language;
  /** The recipe as it was read, for messages and for the record in the image. */
  readonly recipe: { readonly path: string; readonly text: string };
  /** In the order of the recipe; a stage refers to earlier ones only. Those the target does not need are in here too, and are never begun. */
  readonly stages: readonly Stage[];
  /** Index of the stage that becomes the image. */
  readonly target: number;
  /** Build arguments that were given and nobody asked for. */
  readonly unusedArguments: readonly string[];
  /** What is taken as it stands and looks like a slip. */
  readonly remarks: readonly { readonly at: Place; readonly text: string }[];
};

/** Where something stands in the recipe; lines count from 1. */
export type Place = { readonly file: string; readonly line: number };

export type Stage = {
  readonly name: string | undefined;
  readonly base: Base;
  /** "linux/arm64"; undefined: that of the machine. */
  readonly platform: string | undefined;
  readonly steps: readonly Step[];
  readonly at: Place;
};

export type Base =
  /**
   * Anything `tsrun build OUT SOURCE` takes: docker://…, oci:…, docker-archive:…, a SIF, a SquashFS, a directory. Relative paths begin at the
   * context.
   */
  | { readonly kind: 'image'; readonly reference: string }
  | { readonly kind: 'stage'; readonly index: number }
  | { readonly kind: 'scratch' }
  | { readonly kind: 'debootstrap'; readonly suite: string; readonly mirror: string; readonly packages: readonly string[] }
  | { readonly kind: 'busybox'; readonly mirror: string };

/** Text with variables in it, whose values are known only when the step begins (those of the base image among them): see words.ts. */
export type Word = readonly WordPart[];
export type WordPart = string | Variable;
export type Variable = {
  readonly variable: string;
  readonly operator: Operator | undefined;
  readonly operand: Word;
  /** Of `/` and `//`, whose pattern is the operand. */
  readonly replacement?: Word;
};
export type Operator = '-' | ':-' | '+' | ':+' | '?' | ':?' | '#' | '##' | '%' | '%%' | '/' | '//';

export type Command =
  /** For the shell of the stage (`shell` step; at first /bin/sh -c). */
  | { readonly form: 'shell'; readonly text: string }
  | { readonly form: 'argv'; readonly argv: readonly string[] }
  /** A program text, put into a file that is the interpreter's last argument but for `args`. */
  | { readonly form: 'script'; readonly interpreter: readonly string[]; readonly text: string; readonly args: readonly string[] };

export type Origin =
  /** `directory` absolute: one that --build-context names, instead of the build's own. */
  | { readonly kind: 'context'; readonly directory?: string }
  | { readonly kind: 'stage'; readonly index: number }
  | { readonly kind: 'image'; readonly reference: string }
  /** Written in the recipe itself (heredocs); the sources name them. Owner root, mode 0644 where the step has no other. */
  | { readonly kind: 'inline'; readonly files: readonly { readonly name: string; readonly content: Word }[] };

/** A relative target begins at the working directory. */
export type RunMount =
  | { readonly type: 'bind'; readonly from: Origin; readonly source: Word; readonly target: Word; readonly readWrite: boolean }
  /** Kept from build to build below the store, one directory for each id. */
  | {
      readonly type: 'cache';
      readonly id: Word;
      /** What a new one holds; undefined: nothing. */
      readonly from: Origin | undefined;
      readonly source: Word;
      readonly target: Word;
      readonly readOnly: boolean;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
      /** What a second build does that wants it too: use it, wait for it, or take one of its own. */
      readonly sharing: 'shared' | 'locked' | 'private';
    }
  | { readonly type: 'tmpfs'; readonly target: Word; readonly size: number | undefined }
  /** The socket of an agent that --ssh hands in; SSH_AUTH_SOCK names it. */
  | { readonly type: 'ssh'; readonly id: string; readonly target: Word; readonly required: boolean }
  /** `target` undefined: /run/secrets/ID; `env`: as this variable instead of a file. */
  | {
      readonly type: 'secret';
      readonly id: string;
      readonly target: Word | undefined;
      readonly env: string | undefined;
      readonly required: boolean;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
    };

/** A change of the image's OCI config (`config` member of image-spec v1 config.md); later ones win. */
export type ConfigChange =
  /** `shell`: the words of the stage's shell, then this text. An entry point without a CMD in the same stage takes the base's CMD away. */
  | { readonly field: 'entrypoint'; readonly argv: readonly string[] | { readonly shell: string } }
  | { readonly field: 'cmd'; readonly argv: readonly string[] | { readonly shell: string } }
  | { readonly field: 'label'; readonly name: Word; readonly value: Word }
  /** Lines `NAME VALUE` that a step may have left in this file (`#` begins a comment line); it is removed. */
  | { readonly field: 'label-file'; readonly path: string }
  /** What Apptainer's build says of itself: when (SOURCE_DATE_EPOCH), for which architecture, by which version. */
  | { readonly field: 'build-labels' }
  /** A word may hold several ports, parted by blanks, once it is expanded. */
  | { readonly field: 'expose'; readonly ports: readonly Word[] }
  | { readonly field: 'volume'; readonly paths: readonly Word[] }
  | { readonly field: 'stopsignal'; readonly signal: Word }
  | { readonly field: 'author'; readonly name: Word }
  /** An instruction for whoever builds on this image (`OnBuild` of Docker's config); see onBuildSteps of dockerfile.ts. */
  | { readonly field: 'onbuild'; readonly instruction: string }
  /** Docker's `Healthcheck`, as it stands there: nanoseconds, 0 for the default. */
  | {
      readonly field: 'healthcheck';
      readonly test: readonly string[];
      readonly interval: number;
      readonly timeout: number;
      readonly startPeriod: number;
      readonly startInterval: number;
      readonly retries: number;
    };

/**
 * Commands of definition files (`language`) run as root and in /, whatever the base's config says; those of the others as `user` and `workdir` say,
 * at first the base's.
 */
export type Step = { readonly at: Place /** As the user wrote it, in one line, for progress. */; readonly title: string } & (
  | { readonly kind: 'run'; readonly command: Command; readonly mounts: readonly RunMount[]; readonly network: 'host' | 'none' }
  /**
   * Definition files' %pre and %setup: on the host, with the path of the root in the variables that Apptainer names. `beforeBase`: the base is
   * fetched afterwards; such steps come first in the stage.
   */
  | { readonly kind: 'host-run'; readonly command: Command; readonly beforeBase: boolean }
  | {
      readonly kind: 'copy';
      readonly from: Origin;
      readonly sources: readonly Word[];
      readonly destination: Word;
      /**
       * `cp`: as %files does (links followed, destination made as cp would; a relative one begins at /). What comes from the context of a definition
       * file may be any file of the host. `docker`: as COPY and ADD do (the
       * content of directories; a relative destination begins at the working directory). Sources are patterns once they are expanded.
       */
      readonly manner: 'cp' | 'docker';
      /** ADD: archives of the context are unpacked, URLs fetched. */
      readonly unpack: boolean;
      /** "sha256:…" of what an URL gives. */
      readonly checksum: Word | undefined;
      /** "user[:group]", names or numbers; undefined: root. */
      readonly owner: Word | undefined;
      /** Octal digits, or letters as chmod takes them. */
      readonly mode: Word | undefined;
      /** Patterns of ignore.ts. */
      readonly exclude: readonly Word[];
      readonly parents: boolean;
    }
  /** A file with this content, parents made. `append`: to what is there. */
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly content: string; readonly append: boolean }
  /** Of definition files: /.singularity.d as Apptainer lays it out, where nothing is; the definition that is there goes to its history. */
  | { readonly kind: 'layout' }
  /** An existing one is left as it is. */
  | { readonly kind: 'directory'; readonly path: string; readonly mode: number }
  /**
   * `value` undefined: the variable has none until `env` sets one. Seen by the stage and those built on it; not in the image. `env`, also the base's, wins over it.
   * Proxy variables (isProxyVariable of arguments.ts) say how the network is reached, not what is built: they do not count for the cache.
   */
  | { readonly kind: 'arg'; readonly name: string; readonly value: Word | undefined }
  /** All values are expanded with what held before the step. */
  | { readonly kind: 'env'; readonly variables: readonly { readonly name: string; readonly value: Word }[] }
  | { readonly kind: 'workdir'; readonly path: Word }
  | { readonly kind: 'user'; readonly user: Word }
  | { readonly kind: 'shell'; readonly argv: readonly string[] }
  | { readonly kind: 'config'; readonly change: ConfigChange }
  /** Run in the finished image, as `tsrun exec` would; not with --notest. Its failure fails the build. */
  | { readonly kind: 'test'; readonly command: Command }
);

/** What a copy does not do unless it is told to. */
export const PLAIN_COPY = { unpack: false, checksum: undefined, owner: undefined, mode: undefined, exclude: [], parents: false } as const;
