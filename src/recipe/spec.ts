/**
 * What a recipe asks for, whatever language it was written in: definition file, Dockerfile or YAML. The front ends make it, the build engine
 * carries it out; neither knows the other. Plain data, so it can be printed and compared.
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
  /** Anything `tsrun build OUT SOURCE` takes: docker://…, oci:…, docker-archive:…, a SIF, a SquashFS, a directory. */
  | { readonly kind: 'image'; readonly reference: string }
  | { readonly kind: 'stage'; readonly index: number }
  | { readonly kind: 'scratch' }
  | { readonly kind: 'debootstrap'; readonly suite: string; readonly mirror: string; readonly packages: readonly string[] }
  | { readonly kind: 'busybox'; readonly mirror: string };

/** Text with variables in it, whose values are known only when the step begins (those of the base image among them): see words.ts. */
export type Word = readonly WordPart[];
export type WordPart = string | { readonly variable: string; readonly operator: string | undefined; readonly operand: Word };

export type Command =
  /** For the shell of the stage (`shell` step; at first /bin/sh -c). */
  | { readonly form: 'shell'; readonly text: string }
  | { readonly form: 'argv'; readonly argv: readonly string[] }
  /** A program text, put into a file that is the interpreter's last argument but for `args`. */
  | { readonly form: 'script'; readonly interpreter: readonly string[]; readonly text: string; readonly args: readonly string[] };

export type Origin =
  | { readonly kind: 'context' }
  | { readonly kind: 'stage'; readonly index: number }
  | { readonly kind: 'image'; readonly reference: string }
  /** Written in the recipe itself (heredocs); the sources name them. */
  | { readonly kind: 'inline'; readonly files: readonly { readonly name: string; readonly content: Word }[] };

export type RunMount =
  | { readonly type: 'bind'; readonly from: Origin; readonly source: Word; readonly target: Word; readonly readWrite: boolean }
  /** Kept from build to build below the store, one directory for each id. */
  | { readonly type: 'cache'; readonly id: Word; readonly target: Word; readonly readOnly: boolean; readonly mode: number }
  | { readonly type: 'tmpfs'; readonly target: Word; readonly size: number | undefined }
  /** `target` undefined: /run/secrets/ID; `env`: as this variable instead of a file. */
  | {
      readonly type: 'secret';
      readonly id: string;
      readonly target: Word | undefined;
      readonly env: string | undefined;
      readonly required: boolean;
      readonly mode: number;
    };

/** A change of the image's OCI config (`config` member of image-spec v1 config.md); later ones win. */
export type ConfigChange =
  | { readonly field: 'entrypoint'; readonly argv: readonly string[] | { readonly shell: string } }
  | { readonly field: 'cmd'; readonly argv: readonly string[] | { readonly shell: string } }
  | { readonly field: 'label'; readonly name: Word; readonly value: Word }
  | { readonly field: 'expose'; readonly ports: readonly Word[] }
  | { readonly field: 'volume'; readonly paths: readonly Word[] }
  | { readonly field: 'stopsignal'; readonly signal: Word }
  | { readonly field: 'author'; readonly name: Word };

export type Step = { readonly at: Place /** As the user wrote it, in one line, for progress. */; readonly title: string } & (
  | { readonly kind: 'run'; readonly command: Command; readonly mounts: readonly RunMount[]; readonly network: 'host' | 'none' }
  /** Definition files' %setup: on the host, with the path of the root in the variables that Apptainer names. */
  | { readonly kind: 'host-run'; readonly command: Command }
  | {
      readonly kind: 'copy';
      readonly from: Origin;
      readonly sources: readonly Word[];
      readonly destination: Word;
      /** `cp`: as %files does (links followed, destination made as cp would). `docker`: as COPY and ADD do (the content of directories). */
      readonly manner: 'cp' | 'docker';
      /** ADD: archives of the context are unpacked, URLs fetched. */
      readonly unpack: boolean;
      readonly checksum: string | undefined;
      readonly owner: Word | undefined;
      readonly mode: string | undefined;
      readonly exclude: readonly string[];
      readonly parents: boolean;
    }
  /** A file with this content, parents made. `append`: to what is there. */
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly content: string; readonly append: boolean }
  /** `value` undefined: the variable has none until `env` sets one. Ends with the stage; not in the image. */
  | { readonly kind: 'arg'; readonly name: string; readonly value: Word | undefined }
  | { readonly kind: 'env'; readonly variables: readonly { readonly name: string; readonly value: Word }[] }
  | { readonly kind: 'workdir'; readonly path: Word }
  | { readonly kind: 'user'; readonly user: Word }
  | { readonly kind: 'shell'; readonly argv: readonly string[] }
  | { readonly kind: 'config'; readonly change: ConfigChange }
  /** Run in the finished image, as `tsrun exec` would; not with --notest. Its failure fails the build. */
  | { readonly kind: 'test'; readonly command: Command }
);
