/** Recipe text, whatever language it is in → BuildSpec. Pure text work: no file but the recipe is looked at. */
import type { BuildArgs } from './arguments.ts';
import { parseDefinition } from './definition.ts';
import { looksLikeDockerfile, parseDockerfile } from './dockerfile.ts';
import type { NamedContexts } from './dockerfile-origin.ts';
import { refuse, refuseUnsupported } from './errors.ts';
import type { BuildSpec, Language, Place } from './spec.ts';
import { inOneLine, linesOf, trim } from './text.ts';
import type { Lookup } from './words.ts';
import { parseYamlRecipe } from './yaml.ts';

export type RecipeInput = {
  /** As the user wrote it: for messages, and its name tells the language. */
  readonly path: string;
  /** Byte string. */
  readonly text: string;
  readonly language?: Language | undefined;
  /** What is built for, "linux/amd64". */
  readonly platform: string;
  /** What is built on; `platform` when absent. */
  readonly buildPlatform?: string | undefined;
  /** Name or number of a stage. */
  readonly target?: string | undefined;
  readonly buildArgs?: BuildArgs | undefined;
  /** Of definition files: these sections alone. */
  readonly sections?: readonly string[] | undefined;
  /** The variables of whoever builds, for sources in definition files. */
  readonly environment?: Lookup | undefined;
  /** Of Dockerfiles: what --build-context names. */
  readonly contexts?: NamedContexts | undefined;
  /** No `test` steps. */
  readonly notest?: boolean | undefined;
};

/** @throws TsrunError E_RECIPE, E_RECIPE_ARGUMENT, E_RECIPE_STAGE, E_RECIPE_UNSUPPORTED, E_RECIPE_LIMIT; E_PLATFORM */
export const readRecipe = (input: RecipeInput): BuildSpec => {
  const { path, text, language = recipeLanguage(path, text) } = input;
  const top: Place = { file: path, line: 1 };
  if (text.includes('\0'))
    refuse({ file: path, line: lineOf(text, '\0') }, 'it is not text', 'expected a Dockerfile, definition file or YAML recipe');
  if (input.sections !== undefined && language !== 'definition') {
    refuseUnsupported(top, 'sections can only be chosen in definition files', 'leave --section out');
  }
  if ((input.contexts?.size ?? 0) > 0 && language !== 'dockerfile')
    refuseUnsupported(top, 'only Dockerfiles have named contexts', 'leave --build-context out');
  switch (language) {
    case 'definition':
      return parseDefinition(text, path, input);
    case 'dockerfile':
      return parseDockerfile(text, path, input);
    case 'yaml':
      return parseYamlRecipe(text, path, input);
    default:
      return language satisfies never;
  }
};

const lineOf = (text: string, what: string): number => text.slice(0, text.indexOf(what)).split('\n').length;

const BY_NAME: readonly (readonly [RegExp, Language])[] = [
  [/\.def$/i, 'definition'],
  [/^(?:Singularity|Apptainer)(?:[._-].*)?$/i, 'definition'],
  [/^(?:Dockerfile|Containerfile)(?:[._-].*)?$/i, 'dockerfile'],
  [/\.(?:dockerfile|containerfile)$/i, 'dockerfile'],
  [/\.ya?ml$/i, 'yaml'],
];

/** Names like recipes, so that `tsrun build OUT FILE` knows one from an image. */
export const hasRecipeName = (path: string): boolean => languageByName(path) !== undefined;

const languageByName = (path: string): Language | undefined => {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return BY_NAME.find(([pattern]) => pattern.test(name))?.[1];
};

/**
 * By the file's name, else by its first line that is no comment.
 * @throws TsrunError E_RECIPE when neither says
 */
export const recipeLanguage = (path: string, text: string): Language => {
  const named = languageByName(path);
  if (named !== undefined) return named;
  const lines = linesOf(text.slice(0, 64 * 1024));
  const index = lines.findIndex((line) => trim(line) !== '' && !trim(line).startsWith('#'));
  const line = trim(lines[index] ?? '');
  if (/^(?:bootstrap|from)[ \t]*:/i.test(line) && lines.some((each) => /^bootstrap[ \t]*:/i.test(each))) return 'definition';
  if (looksLikeDockerfile(line)) return 'dockerfile';
  if (/^[a-z]+[ \t]*:(?:[ \t]|$)/.test(line) || line === '---') return 'yaml';
  const why = line === '' ? 'it is empty' : `its language is not known by its name, nor by "${inOneLine(line, 60)}"`;
  return refuse({ file: path, line: Math.max(0, index) + 1 }, why, 'call it Dockerfile, NAME.def or NAME.yaml');
};
