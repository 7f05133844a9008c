/** Dockerfile, Containerfile → BuildSpec. Rules: Dockerfile reference and, where it is silent, BuildKit. */
import { argumentMap, type BuildArgs, isProxyVariable, platformArguments, unusedOf } from './arguments.ts';
import type { Around } from './dockerfile-compile.ts';
import { assignments, readFlags } from './dockerfile-forms.ts';
import { type Instruction, readInstructions, shellWords, takeFlags } from './dockerfile-lines.ts';
import { earlierStage, imageReference, type NamedContexts, type StageNames } from './dockerfile-origin.ts';
import { KEYWORDS, refuseKeyword, stepsOf } from './dockerfile-steps.ts';
import { LIMITS, meant, quote, recipeError, refuse, refuseArgument, refuseLimit, refuseStage } from './errors.ts';
import type { Base, BuildSpec, Place, Stage, Step } from './spec.ts';
import { fields } from './text.ts';
import { expandWord, literal, parseWord, variablesOf } from './words.ts';

export type DockerfileOptions = {
  /** What is built for; "linux/amd64". */
  readonly platform: string;
  /** What is built on; `platform` when absent. */
  readonly buildPlatform?: string | undefined;
  readonly buildArgs?: BuildArgs | undefined;
  /** Name or number of the stage that becomes the image; the last when absent. */
  readonly target?: string | undefined;
  readonly contexts?: NamedContexts | undefined;
};

/**
 * @param text byte string
 * @throws TsrunError E_RECIPE, E_RECIPE_ARGUMENT, E_RECIPE_STAGE, E_RECIPE_UNSUPPORTED, E_RECIPE_LIMIT; E_PLATFORM
 */
export const parseDockerfile = (text: string, path: string, options: DockerfileOptions): BuildSpec => {
  const { instructions, escapeChar } = readInstructions(text, path);
  const given = argumentMap(options.buildArgs ?? {});
  const first = instructions.findIndex(({ keyword }) => keyword === 'FROM');
  const globals = new Map<string, string | undefined>(platformArguments(options.platform, options.buildPlatform ?? options.platform));
  const declared = new Set<string>();
  readGlobals(first < 0 ? instructions : instructions.slice(0, first), { escapeChar, given, globals, declared });
  if (first < 0) refuse({ file: path, line: 1 }, 'it has no FROM', 'expected FROM IMAGE');

  const bodies = splitStages(instructions.slice(first));
  if (bodies.length > LIMITS.stages) refuseLimit({ file: path, line: 1 }, `it has more than ${LIMITS.stages} stages`);
  const headers = bodies.map(({ from }) => readFrom(from, escapeChar));
  const names: StageNames = headers.map(({ name }) => name);
  const stages = bodies.map(({ from, instructions: own }, current): Stage => {
    const around: Around = { escapeChar, stages: names, contexts: options.contexts ?? new Map(), current, globals, given, declared };
    const { base, platform } = baseOf(headers[current] as Header, around, from.at);
    const steps = [...proxySteps(given, from.at), ...own.flatMap((instruction) => stepsOf(instruction, around))];
    return { name: names[current], base, platform, steps, at: from.at };
  });
  return {
    language: 'dockerfile',
    recipe: { path, text },
    stages,
    target: targetOf(options.target, names, path),
    unusedArguments: unusedOf(options.buildArgs ?? {}, declared),
    remarks: [],
  };
};

type Globals = {
  readonly escapeChar: string;
  readonly given: ReadonlyMap<string, string>;
  readonly globals: Map<string, string | undefined>;
  readonly declared: Set<string>;
};

/** ARG before the first FROM: values for FROM, and for stages that name them again. */
const readGlobals = (instructions: readonly Instruction[], { escapeChar, given, globals, declared }: Globals): void => {
  for (const instruction of instructions) {
    const { keyword, at } = instruction;
    if (!KEYWORDS.includes(keyword)) refuseKeyword(instruction);
    if (keyword !== 'ARG') refuse(at, `${keyword} stands before FROM`, 'expected FROM, or ARG before it');
    for (const { name, value } of assignments(instruction, escapeChar)) {
      declared.add(name);
      const usual =
        value === undefined ? globals.get(name) : expandWord(parseWord(value, { at, escapeChar }), (each) => globals.get(each), at);
      globals.set(name, given.get(name) ?? usual);
    }
  }
};

type Body = { readonly from: Instruction; readonly instructions: readonly Instruction[] };

const splitStages = (instructions: readonly Instruction[]): readonly Body[] => {
  const bodies: { from: Instruction; instructions: Instruction[] }[] = [];
  for (const instruction of instructions) {
    if (instruction.keyword === 'FROM') bodies.push({ from: instruction, instructions: [] });
    else bodies.at(-1)?.instructions.push(instruction);
  }
  return bodies;
};

type Header = { readonly image: string; readonly name: string | undefined; readonly platform: string | undefined };

const readFrom = ({ rest, at }: Instruction, escapeChar: string): Header => {
  const taken = takeFlags(rest);
  const flags = readFlags(taken.flags, { platform: 'text' }, 'FROM', at);
  const words = shellWords(taken.rest, escapeChar);
  const [image, as, name, ...more] = words;
  if (image === undefined) return refuse(at, 'FROM names no image', 'expected FROM IMAGE [AS NAME]');
  if (as !== undefined && (as.toUpperCase() !== 'AS' || name === undefined || more.length > 0)) {
    const comment = words.findIndex((word) => word.startsWith('#'));
    const hint = comment > 0 ? 'a comment needs a line of its own' : 'expected FROM IMAGE [AS NAME]';
    return refuse(at, `${quote(words.slice(1).join(' '))} follows the image`, hint);
  }
  if (name !== undefined && !/^[a-z][a-z0-9._-]*$/i.test(name)) {
    return refuse(at, `${quote(name)} cannot be the name of a stage`, 'expected letters, digits, and . _ -; a letter first');
  }
  if (name?.toLowerCase() === 'scratch') return refuse(at, 'a stage cannot be called scratch', 'choose another name');
  return { image, name: name?.toLowerCase(), platform: flags.text('platform') };
};

const baseOf = (header: Header, around: Around, at: Place): { readonly base: Base; readonly platform: string | undefined } => {
  const image = expandInFrom(header.image, around, at);
  const platform = header.platform === undefined ? undefined : platformOf(expandInFrom(header.platform, around, at), at);
  const named = around.contexts.get(image.toLowerCase());
  if (named?.kind === 'directory')
    refuse(at, `${quote(image)} is a directory (--build-context), and no image`, 'take from it: COPY --from');
  if (named?.kind === 'image') return { base: named, platform };
  if (image === 'scratch') return { base: { kind: 'scratch' }, platform };
  const index = earlierStage(image, around.current, around.stages, at);
  // Docker hands the platform of the stage on; a stage of another one cannot be continued.
  if (index !== undefined) return { base: { kind: 'stage', index }, platform };
  return { base: { kind: 'image', reference: imageReference(image, at) }, platform };
};

/** In FROM only what ARG above the first FROM says is known. */
const expandInFrom = (text: string, { escapeChar, globals }: Around, at: Place): string => {
  const word = parseWord(text, { at, escapeChar });
  const value = expandWord(word, (name) => globals.get(name), at);
  if (value !== '') return value;
  const missing = variablesOf(word).find((name) => (globals.get(name) ?? '') === '');
  if (missing === undefined) return refuse(at, 'FROM names no image', 'expected FROM IMAGE [AS NAME]');
  const hint = globals.has(missing)
    ? `give it a value: --build-arg ${missing}=VALUE, or ARG ${missing}=VALUE`
    : meant(missing, [...globals.keys()], `write ARG ${missing}=VALUE above the first FROM`);
  return refuseArgument(at, `${missing} has no value, so FROM names no image`, hint);
};

const platformOf = (text: string, at: Place): string => {
  try {
    return platformArguments(text, text).get('TARGETPLATFORM') ?? text;
  } catch {
    throw recipeError('E_RECIPE', at, `${quote(text)} is no platform`, 'expected one such as linux/amd64 or linux/arm64');
  }
};

/** They need no ARG. */
const proxySteps = (given: ReadonlyMap<string, string>, at: Place): readonly Step[] =>
  [...given]
    .filter(([name]) => isProxyVariable(name))
    .map(([name, value]) => ({ kind: 'arg', name, value: literal(value), at, title: `ARG ${name}` }));

const targetOf = (target: string | undefined, names: StageNames, path: string): number => {
  if (target === undefined) return names.length - 1;
  const named = names.lastIndexOf(target.toLowerCase());
  if (named >= 0) return named;
  const index = /^[0-9]{1,9}$/.test(target) ? Number(target) : names.length;
  if (index < names.length) return index;
  const known = names.filter((name) => name !== undefined);
  const all = known.length === 0 ? `its stages have no names, only numbers: 0 to ${names.length - 1}` : `its stages: ${known.join(', ')}`;
  return refuseStage({ file: path, line: 1 }, `it has no stage ${quote(target)}`, meant(target, known, all));
};

/**
 * What the base image has for whoever builds on it (`OnBuild` of its config), as steps that come before the stage's own.
 * They cannot take from stages.
 * @param base the image's name, for messages
 * @param declared takes the names of their arguments
 * @throws TsrunError as parseDockerfile
 */
export const onBuildSteps = (
  triggers: readonly string[],
  base: string,
  options: DockerfileOptions,
  declared: Set<string> = new Set(),
): readonly Step[] => {
  const given = argumentMap(options.buildArgs ?? {});
  const globals = platformArguments(options.platform, options.buildPlatform ?? options.platform);
  return triggers.flatMap((trigger, index) => {
    const { instructions, escapeChar } = readInstructions(trigger, `${base} (ONBUILD)`);
    return instructions.flatMap((instruction) => {
      const at = { ...instruction.at, line: index + 1 };
      if (['FROM', 'ONBUILD', 'MAINTAINER'].includes(instruction.keyword)) refuse(at, `ONBUILD cannot hold ${instruction.keyword}`);
      return stepsOf({ ...instruction, at }, { escapeChar, stages: [], contexts: new Map(), current: 0, globals, given, declared });
    });
  });
};

/** Whether a text begins as a Dockerfile does. */
export const looksLikeDockerfile = (firstLine: string): boolean => KEYWORDS.includes((fields(firstLine)[0] ?? '').toUpperCase());
