/** `tsrun build OUT RECIPE`: a recipe is read, and carried out by the build engine; whoever watches sees how far it is. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { ConvertOptions } from '../build/convert.ts';
import { buildRecipe } from '../build/engine/build.ts';
import { openCache } from '../build/engine/cache.ts';
import type { Engine, EngineOptions, Secret } from '../build/engine/engine.ts';
import { type Ignore, NOTHING_IGNORED } from '../build/engine/host-files.ts';
import { machineIds } from '../build/engine/ids.ts';
import { placeText } from '../build/engine/names.ts';
import { probe, removeTree, syncTree } from '../build/engine/native.ts';
import { chooseSpace } from '../build/engine/space.ts';
import type { BuildListener } from '../build/events.ts';
import { createFetchEvents } from '../build/fetch-events.ts';
import { withRegistry } from '../build/with-registry.ts';
import type { Platform } from '../oci/descriptor.ts';
import { formatPlatform, parsePlatform } from '../oci/platform.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import { isProxyVariable, readBuildArgs } from '../recipe/arguments.ts';
import { onBuildSteps } from '../recipe/dockerfile.ts';
import type { NamedContext } from '../recipe/dockerfile-origin.ts';
import { hasRecipeName, type RecipeInput, readRecipe, recipeLanguage } from '../recipe/front.ts';
import { hasExceptions, ignoreFileNames, ignoreRules } from '../recipe/ignore.ts';
import type { BuildSpec } from '../recipe/spec.ts';
import { TransferFailure } from '../registry/failure.ts';
import { createHttp, type Http } from '../registry/http.ts';
import { nodeHost } from '../run/host-node.ts';
import { TsrunError } from '../util/errors.ts';
import { printableLine } from '../util/printable.ts';
import { realTiming } from '../util/timing.ts';
import { encodeUtf8 } from '../util/utf8.ts';
import { type LockArguments, prepareLock } from './build-lock.ts';
import type { Settings } from './settings.ts';

export type RecipeArguments = LockArguments & {
  /** As it was typed. */
  readonly recipe: string;
  /** What stands in it, where there is no file. */
  readonly text?: string | undefined;
  /** Where COPY finds files, when it is not the recipe's directory. */
  readonly context: string | undefined;
  readonly buildArgs: readonly string[];
  readonly buildArgFile: string | undefined;
  readonly stage: string | undefined;
  readonly sections: readonly string[];
  readonly noTest: boolean;
  readonly sandbox: boolean;
  /** OUT is a directory made by --sandbox: the recipe's steps are done on it. */
  readonly update: boolean;
  readonly noCache: boolean;
  readonly secrets: readonly string[];
  readonly agents: readonly string[];
  readonly namedContexts: readonly string[];
  readonly debugShell: boolean;
};

const usage = (what: string, why: string, hint?: string): TsrunError => new TsrunError({ code: 'E_USAGE', what, why, hint });

const RECIPE_NAMES = ['Dockerfile', 'Containerfile'];

/** The recipe that a SOURCE names: a recipe file, or a directory with a Dockerfile in it; undefined: it is an image. */
export const recipeOf = (source: string): { readonly recipe: string; readonly context: string | undefined } | undefined => {
  const found = statSync(source, { throwIfNoEntry: false });
  // No image is called so: that the file is missing is said of a recipe.
  if (found === undefined && !source.includes(':') && hasRecipeName(source)) return { recipe: source, context: undefined };
  if (found?.isDirectory() === true) {
    const name = RECIPE_NAMES.find((each) => existsSync(`${source}/${each}`));
    return name === undefined ? undefined : { recipe: `${source}/${name}`, context: source };
  }
  if (found?.isFile() !== true || found.size > MAX_RECIPE) return undefined;
  return isRecipe(source) ? { recipe: source, context: undefined } : undefined;
};

/** Larger texts are none that people write. */
const MAX_RECIPE = 1024 * 1024;

const isRecipe = (path: string): boolean => {
  if (hasRecipeName(path)) return true;
  const text = readFileSync(path, 'latin1');
  try {
    return !text.includes('\0') && recipeLanguage(encodeUtf8(path), text) !== undefined;
  } catch {
    return false;
  }
};

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    throw new TsrunError({
      code: 'E_RECIPE',
      what: `cannot use the recipe ${path}`,
      why: missing ? 'there is no such file' : error instanceof Error ? error.message : String(error),
      hint: 'give the name of a Dockerfile, definition file or YAML recipe',
    });
  }
};

const recipeInput = (args: RecipeArguments, platform: Platform, env: Settings['env']): RecipeInput => {
  const lookup = (name: string): string | undefined => (env[name] === undefined ? undefined : encodeUtf8(env[name]));
  const files = args.buildArgFile === undefined ? [] : [{ path: args.buildArgFile, text: readText(args.buildArgFile) }];
  return {
    path: encodeUtf8(args.recipe),
    text: args.text ?? readText(args.recipe),
    platform: formatPlatform(platform),
    buildPlatform: formatPlatform(parsePlatform(process.arch)),
    target: args.stage,
    buildArgs: readBuildArgs(args.buildArgs.map(encodeUtf8), files, lookup),
    sections: args.sections.length === 0 ? undefined : args.sections,
    environment: lookup,
    contexts: new Map(args.namedContexts.map(namedContextOf)),
    notest: args.noTest,
  };
};

/** "id=token,src=FILE", "id=token,env=NAME", "id=token" (the variable of that name, else the file). */
const secretOf = (text: string): readonly [string, Secret] => {
  const fields = new Map(text.split(',').map((part) => [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)] as const));
  const id = fields.get('id') ?? '';
  const file = fields.get('src') ?? fields.get('source');
  const variable = fields.get('env') ?? (file === undefined ? id : undefined);
  if (id === '') throw usage(`cannot use --secret ${text}`, 'it has no id', 'write --secret id=NAME,src=FILE');
  if (file !== undefined) return [id, { kind: 'file', path: resolve(file) }];
  const value = process.env[variable ?? ''];
  if (value === undefined)
    throw usage(`cannot use --secret ${text}`, `the variable ${variable} is not set`, `write --secret id=${id},src=FILE`);
  return [id, { kind: 'value', value }];
};

/** "default" (the agent that SSH_AUTH_SOCK names), "ID=SOCKET". */
const agentOf = (text: string, env: Settings['env']): readonly [string, string] => {
  const equals = text.indexOf('=');
  const [id, given] = equals < 0 ? [text, undefined] : [text.slice(0, equals), text.slice(equals + 1)];
  const socket = given ?? env['SSH_AUTH_SOCK'] ?? '';
  const hint = 'start an agent and add the key: eval "$(ssh-agent)"; ssh-add';
  if (socket === '') throw usage(`cannot use --ssh ${text}`, 'no agent is running: SSH_AUTH_SOCK is not set', hint);
  const found = statSync(socket, { throwIfNoEntry: false });
  if (found === undefined) throw usage(`cannot use --ssh ${text}`, `there is no ${socket}`, hint);
  if (!found.isSocket()) throw usage(`cannot use --ssh ${text}`, `${socket} is no socket of an agent`, hint);
  return [id === '' ? 'default' : id, encodeUtf8(resolve(socket))];
};

/** "NAME=DIRECTORY", "NAME=docker-image://REFERENCE", "NAME=oci-layout://DIRECTORY[:TAG]". */
const namedContextOf = (text: string): readonly [string, NamedContext] => {
  const [, name = '', value = ''] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (name === '')
    throw usage(`cannot use --build-context ${text}`, 'it is not NAME=VALUE', 'write NAME=DIRECTORY or NAME=docker-image://IMAGE');
  const key = encodeUtf8(name.toLowerCase());
  const [, scheme, rest = ''] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/.exec(value) ?? [];
  switch (scheme) {
    case 'docker-image':
      return [key, { kind: 'image', reference: encodeUtf8(`docker://${rest}`) }];
    case 'oci-layout':
      return [key, { kind: 'image', reference: encodeUtf8(`oci:${resolve(rest)}`) }];
    case undefined: {
      if (statSync(value, { throwIfNoEntry: false })?.isDirectory() === true)
        return [key, { kind: 'directory', path: encodeUtf8(resolve(value)) }];
      throw usage(`cannot use --build-context ${text}`, `there is no directory ${value}`, 'an image is written docker-image://IMAGE');
    }
    default:
      throw usage(`cannot use --build-context ${text}`, `${scheme}:// is not known here`, 'fetch it before, and name its directory');
  }
};

const readSecret = async (secret: Secret): Promise<string> => {
  if (secret.kind === 'value') return encodeUtf8(secret.value);
  try {
    return await readFile(secret.path, 'latin1');
  } catch (error) {
    throw new TsrunError({
      code: 'E_SECRET',
      what: `cannot read the secret ${secret.path}`,
      why: error instanceof Error ? error.message : String(error),
      hint: 'check the file named by --secret',
    });
  }
};

const ignoreOf = (recipe: string, context: string): Ignore => {
  const { besideRecipe, inContext } = ignoreFileNames(recipe);
  const file = [besideRecipe, `${context}/${inContext}`].find((path) => existsSync(path));
  if (file === undefined) return NOTHING_IGNORED;
  const text = readFileSync(file, 'latin1');
  return { ignores: ignoreRules(text), hasExceptions: hasExceptions(text) };
};

const PROXIES = ['http_proxy', 'https_proxy', 'ftp_proxy', 'no_proxy', 'all_proxy'];

const proxiesOf = (env: Settings['env']): ReadonlyMap<string, string> => {
  const names = PROXIES.flatMap((name) => [name, name.toUpperCase()]);
  return new Map(names.flatMap((name) => (env[name] === undefined || !isProxyVariable(name) ? [] : [[name, encodeUtf8(env[name] ?? '')]])));
};

const epochOf = (env: Settings['env']): number | undefined => {
  const text = env['SOURCE_DATE_EPOCH'];
  if (text === undefined || text === '') return undefined;
  if (/^[0-9]{1,10}$/.test(text) && Number(text) < 2 ** 32) return Number(text);
  throw usage(`cannot use SOURCE_DATE_EPOCH=${text}`, 'it is not a number of seconds since 1970');
};

/** --update: the last stage begins with what is there. */
const onDirectory = (spec: BuildSpec, target: string): BuildSpec => {
  if (statSync(target, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw usage(`cannot update ${target}`, 'there is no such directory', 'make it first: tsrun build --sandbox DIRECTORY RECIPE');
  }
  const base = { kind: 'image', reference: encodeUtf8(target) } as const;
  return { ...spec, stages: spec.stages.map((stage, index) => (index === spec.target ? { ...stage, base } : stage)) };
};

export type RecipeWork = {
  readonly args: RecipeArguments;
  /** Absolute. */
  readonly target: string;
  /** Other images of the same build (--check), which are no part of what it copies either. */
  readonly siblings?: readonly string[];
  readonly settings: Settings;
  readonly platform: Platform;
  readonly convert: Omit<ConvertOptions, 'signal' | 'onProgress'>;
  readonly signal: AbortSignal;
  readonly hear: BuildListener;
  /** --offline: no registry is asked, and no step has a network. */
  readonly offline: boolean;
};

/** @throws TsrunError */
export const buildFromRecipe = async ({
  args,
  target,
  siblings = [],
  settings,
  platform,
  convert,
  signal,
  hear,
  offline,
}: RecipeWork): Promise<void> => {
  const { env, places } = settings;
  const note = (text: string): void => hear({ kind: 'note', at: performance.now(), text });
  const recipe = resolve(args.recipe);
  const input = recipeInput(args, platform, env);
  const read = readRecipe(input);
  const spec = args.update ? onDirectory(read, target) : read;
  for (const { at, text } of spec.remarks) note(printableLine(`${placeText(at)}: ${text}`));
  const context = resolve(args.context ?? (spec.language === 'definition' ? '.' : dirname(recipe)));
  const host = nodeHost({ args: ['tsrun'] });
  const http = createHttp({ config: settings.registry, env, onWarning: note });
  const locked = await prepareLock(args, { path: recipe, spec, offline, host, fetch: async (address) => fetchFrom(http, address, signal) });
  const triggered = new Set<string>();
  const options: EngineOptions = {
    context: encodeUtf8(context),
    ignore: spec.language === 'dockerfile' ? ignoreOf(recipe, context) : NOTHING_IGNORED,
    outputs: [target, ...siblings, ...locked.outputs].map(encodeUtf8),
    directory: encodeUtf8(process.cwd()),
    noCache: args.noCache || locked.noCache,
    secrets: new Map(args.secrets.map(secretOf)),
    agents: new Map(args.agents.map((text) => agentOf(text, env))),
    debugShell: args.debugShell,
    epoch: locked.epoch ?? epochOf(env),
    proxies: proxiesOf(env),
    terminal: env['TERM'],
    supply: locked.supply,
    offline,
    onBuild: (triggers, base) => onBuildSteps(triggers, base, input, triggered),
    unusedArguments: () => spec.unusedArguments.filter((name) => !triggered.has(name)),
  };
  const ids = machineIds(env['TSRUN_BUILD_IDS']);
  const space = await chooseSpace(env, places, async (directory) => {
    const { overlay, notifier } = await probe(ids, directory);
    if (notifier !== undefined && ids.kind === 'single')
      note(`the kernel cannot tell tsrun of changed owners (${notifier}): all files will belong to root`);
    return overlay === undefined ? undefined : `the kernel makes no overlay there: ${overlay}`;
  });
  if (space.plain !== undefined)
    note(
      `${space.path}: ${space.plain}. So each stage is built in a directory of its own, and the next build begins with the first step again`,
    );
  const cache = await openCache(space.path, ids.kind, {
    remove: (path) => removeTree(ids, path),
    sync: (path) => syncTree(ids, path),
    timing: realTiming,
  });
  await withRegistry(
    settings,
    { onWarning: note, onProgress: createFetchEvents(hear, () => performance.now()), signal },
    async (registry) => {
      const engine: Engine = {
        spec,
        options,
        platform,
        cache,
        ids,
        overlays: space.plain === undefined,
        host,
        signal,
        emit: hear,
        open: (text, wanted) =>
          locked.bases.open(fromContext(parseReference(text), context), {
            platform: wanted === undefined ? platform : parsePlatform(wanted),
            limits: convert.limits,
            scratch: cache.root,
            registry,
            signal,
          }),
        fetch: locked.fetch,
        readSecret,
        nonce: randomBytes(8).toString('hex'),
        count: { tasks: 0, steps: 0, cached: 0 },
      };
      try {
        const built = await buildRecipe(engine, {
          target,
          kind: args.sandbox ? 'sandbox' : 'sif',
          tests: !args.noTest,
          convert: args.update ? { ...convert, force: true } : convert,
        });
        for (const text of await locked.finish(built, target)) note(text);
      } finally {
        http.close();
      }
    },
  );
};

/** The bytes of an address. @throws TsrunError E_FETCH, also on the way */
async function* fetchFrom(http: Http, address: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const refuse = (why: string, hint: string): TsrunError => new TsrunError({ code: 'E_FETCH', what: `cannot fetch ${address}`, why, hint });
  try {
    const response = await http.request({ url: new URL(address), signal });
    if (response.status === 200) return yield* response.chunks();
    response.discard();
    throw refuse(`the server answers with status ${response.status}`, 'check the address');
  } catch (error) {
    if (!(error instanceof TransferFailure)) throw error;
    const hint = error.kind === 'not-tls' ? 'write https://' : 'check the address and the network; behind a proxy set HTTPS_PROXY';
    throw refuse(error.message, hint);
  }
}

/** Relative paths of a recipe begin at its context. */
const fromContext = (reference: Reference, context: string): Reference =>
  'path' in reference && typeof reference.path === 'string' ? { ...reference, path: resolve(context, reference.path) } : reference;
