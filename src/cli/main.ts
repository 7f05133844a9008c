/**
 * The full command line, in Node. `exec`, `run` and `shell` belong to the native program; it comes here for everything else. Each verb is a
 * file of its own, loaded when it is used.
 */
import yargs, { type Argv } from 'yargs';
import { RUN_VERBS, type RunVerb } from '../request/flags.ts';
import type { TsrunError } from '../util/errors.ts';
import { VERSION } from '../util/version.ts';
import { reportFailure } from './report.ts';
import { hostEnvironment } from './settings.ts';
import { ALL_VERBS, COMMON, GROUPS, type Option, usageOf, type Verb, type VerbName } from './verbs.ts';
import { checkWords, knownVerbs, usage } from './words.ts';

const env = hostEnvironment(process.env);

const isRunVerb = (word: string | undefined): word is RunVerb => (RUN_VERBS as readonly (string | undefined)[]).includes(word);

/** Waits for what was written: a pipe takes less than a page at a time, and exit does not wait for it. */
const print = (text: string | Uint8Array): Promise<void> =>
  new Promise((done, fail) => process.stdout.write(text, (error) => (error ? fail(error) : done())));

const printVersion = (): Promise<void> => print(`tsrun version ${VERSION}\n`);

// --- what each verb does

/** What was typed: options by name, positions by name in lower case. */
type Given = {
  on(switchName: string): boolean;
  text(name: string): string | undefined;
  /** Of an option that may be repeated. */
  texts(name: string): readonly string[];
  word(position: string): string;
  words(position: string): readonly string[];
};

const buildArguments = (given: Given) => ({
  compress: given.text('compress'),
  blockSize: given.text('block-size'),
  arch: given.text('arch'),
  threads: given.text('threads'),
  force: given.on('force'),
  offline: given.on('offline') || undefined,
  insecure: given.on('insecure') || undefined,
  limitSize: given.text('limit-size'),
  limitFiles: given.text('limit-files'),
  limitRatio: given.text('limit-ratio'),
  quiet: given.on('quiet'),
  verbose: given.on('verbose'),
  env,
});

const recipeArguments = (given: Given) => ({
  file: given.text('file'),
  buildArgs: given.texts('build-arg'),
  buildArgFile: given.text('build-arg-file'),
  stage: given.text('target'),
  sections: given.texts('section').flatMap((text) => text.split(',')),
  noTest: given.on('notest'),
  sandbox: given.on('sandbox') || given.on('update'),
  update: given.on('update'),
  noCache: given.on('no-cache'),
  secrets: given.texts('secret'),
  agents: given.texts('ssh'),
  namedContexts: given.texts('build-context'),
  debugShell: given.on('debug-shell'),
  lock: given.on('lock'),
  locked: given.on('locked'),
  vendor: given.text('vendor'),
  check: given.on('check'),
});

const settings = async (given: Given) => (await import('./settings.ts')).loadSettings(env, { insecure: given.on('insecure') || undefined });

const HANDLERS: Readonly<Record<VerbName, (given: Given) => Promise<unknown>>> = {
  build: async (given) => {
    const { build } = await import('./build.ts');
    await build({ ...buildArguments(given), target: given.word('OUTPUT'), source: given.word('SOURCE'), recipe: recipeArguments(given) });
  },
  pull: async (given) => {
    const { build, pullTarget } = await import('./build.ts');
    const [first = '', second, ...more] = given.words('WORDS');
    if (more.length > 0) throw usage('cannot pull', 'there are too many words', 'write tsrun pull [options] [OUT.sif] REFERENCE');
    const name = second === undefined ? pullTarget(first) : first;
    const directory = given.text('dir');
    const target = directory === undefined || name.startsWith('/') ? name : `${directory}/${name}`;
    await build({ ...buildArguments(given), source: second ?? first, target });
  },
  'run-help': async (given) => {
    const { inspect } = await import('./inspect.ts');
    const app = given.text('app');
    const text = inspect({ image: given.word('IMAGE'), parts: ['helpfile'], app, json: false });
    await print(text === '' ? `The ${app === undefined ? 'image' : 'app'} has no help of its own.\n` : text);
  },
  optimize: async (given) => {
    const { optimize } = await import('./optimize.ts');
    await optimize({
      image: given.word('IMAGE'),
      target: given.word('TARGET'),
      command: [...given.words('COMMAND'), ...behindDashes],
      record: given.text('record'),
      replay: given.texts('replay'),
      threads: given.text('threads'),
      force: given.on('force'),
      quiet: given.on('quiet'),
      verbose: given.on('verbose'),
      env,
    });
  },
  inspect: async (given) => {
    const { inspect, PARTS } = await import('./inspect.ts');
    const parts = PARTS.filter((part) => given.on(part) || given.on('all'));
    const app = given.text('app');
    const listApps = given.on('list-apps') || (given.on('all') && app === undefined);
    await print(inspect({ image: given.word('IMAGE'), parts, app, listApps, json: given.on('json') || given.on('all') }));
  },
  'image ls': async (given) => {
    const { imageLs } = await import('./image.ts');
    await imageLs(given.word('IMAGE'), given.words('PATHS'), given.text('depth'));
  },
  'image cat': async (given) => {
    const { imageCat } = await import('./image.ts');
    await imageCat(given.word('IMAGE'), given.words('PATHS'));
  },
  'image extract': async (given) => {
    const { imageExtract } = await import('./image.ts');
    await imageExtract(given.word('IMAGE'), given.word('DIRECTORY'));
  },
  'image diff': async (given) => {
    const { imageDiff } = await import('./image-diff.ts');
    const { text, same } = await imageDiff(given.word('FIRST'), given.word('SECOND'), given.on('json'));
    await print(text);
    if (!same) process.exitCode = 1;
  },
  'image packages': async (given) => {
    const { imagePackages } = await import('./image-packages.ts');
    await print(await imagePackages(given.word('IMAGE'), given.on('json'), given.on('quiet')));
  },
  'image facts': async (given) => print((await import('./image.ts')).imageFacts(given.word('IMAGE'), given.on('json'))),
  'image objects': async (given) => print((await import('./image.ts')).imageObjects(given.word('IMAGE'))),
  'image dump': async (given) => {
    const { imageDump } = await import('./image.ts');
    for await (const chunk of imageDump(given.word('IMAGE'), given.word('ID'))) await print(chunk);
  },
  'image stats': async (given) => print(await (await import('./image-stats.ts')).imageStats(env, given.on('json'))),
  'cache list': async (given) => print(await (await import('./cache.ts')).cacheList(await settings(given), given.on('json'))),
  'cache clean': async (given) => {
    const [{ cacheClean }, { numberOf }] = await Promise.all([import('./cache.ts'), import('./build.ts')]);
    const text = given.text('days');
    const days = text === undefined ? undefined : numberOf(text, '--days', 0, 36_500);
    const how = { days, all: given.on('all'), dryRun: given.on('dry-run'), quiet: given.on('quiet') };
    await print(await cacheClean(await settings(given), how));
  },
  login: async (given) => {
    const { login } = await import('./login.ts');
    const [registry] = given.words('REGISTRY');
    const { registry: config } = await settings(given);
    const how = { username: given.text('username'), passwordStdin: given.on('password-stdin') };
    await login({ registry, ...how, config, env, stdin: process.stdin, stderr: process.stderr });
  },
  logout: async (given) => {
    const { logout } = await import('./logout.ts');
    const [registry] = given.words('REGISTRY');
    await logout({ registry, all: given.on('all'), env, stderr: process.stderr });
  },
  version: printVersion,
  help: async (given) => {
    const words = given.words('COMMAND');
    const [first] = words;
    if (isRunVerb(first)) return runHelp(first);
    if (first !== undefined && !knownVerbs().includes(first))
      throw usage(`cannot help with ${first}`, `there is no command ${first}`, 'see tsrun --help');
    return main([...words, '--help']);
  },
  completion: async (given) => print((await import('./completion.ts')).completionScript(given.word('SHELL'))),
  man: async () => print((await import('./man.ts')).manPage()),
  __prepare: async (given) =>
    (await import('./prepare.ts')).prepare({ references: given.words('REFERENCES'), quiet: given.on('quiet'), env }),
};

/** The words behind `--`, for the verb that has a command there: yargs gives them to nobody. */
let behindDashes: readonly string[] = [];

/** Takes them off the line. */
const beforeDashes = (words: readonly string[], verb: string | undefined): readonly string[] => {
  const at = verb === 'optimize' ? words.indexOf('--') : -1;
  if (at < 0) return words;
  behindDashes = words.slice(at + 1);
  return words.slice(0, at);
};

// --- the table as a command line

const positional = (name: string): string => name.toLowerCase();

const commandOf = (verb: Verb, word: string): string =>
  [
    word,
    ...verb.positions.map(({ name, optional, many }) => {
      const text = `${positional(name)}${many ? '..' : ''}`;
      return optional ? `[${text}]` : `<${text}>`;
    }),
  ].join(' ');

const optionOf = ({ short, aliases = [], value, help }: Option) => ({
  alias: [...(short === undefined ? [] : [short]), ...aliases],
  // Numbers are read by those who know their range.
  ...(value === undefined ? ({ type: 'boolean' } as const) : ({ type: 'string', requiresArg: true } as const)),
  describe: help,
});

const addVerb = (line: Argv, verb: Verb & { readonly name: VerbName }): Argv => {
  const word = verb.name.slice(verb.name.indexOf(' ') + 1);
  const words = [word, ...(verb.aliases ?? [])].map((each) => commandOf(verb, each));
  return line.command(
    words,
    // yargs hides what has the description false; its types know that of single words only.
    (verb.hidden === true ? false : verb.help) as string,
    (args) => {
      args.usage(`tsrun ${verb.name} [options] ${usageOf(verb)}\n\n${verb.help.charAt(0).toUpperCase()}${verb.help.slice(1)}.`);
      for (const { name, help, many } of verb.positions)
        args.positional(positional(name), { type: 'string', describe: help, ...(many ? { array: true } : {}) });
      const taken = new Set(verb.options.map(({ short }) => short));
      for (const option of [...verb.options, ...COMMON.map((each) => (taken.has(each.short) ? { ...each, short: undefined } : each))])
        args.option(option.name, optionOf(option as Option));
      return args;
    },
    async (args) => {
      await HANDLERS[verb.name](givenBy(args));
    },
  );
};

const givenBy = (args: Readonly<Record<string, unknown>>): Given => {
  const words = (position: string): readonly string[] => {
    const value = args[positional(position)];
    return value === undefined ? [] : (Array.isArray(value) ? value : [value]).map(String);
  };
  /** Of an option that was given twice the last one counts. */
  const last = (name: string): unknown => (Array.isArray(args[name]) ? args[name].at(-1) : args[name]);
  return {
    on: (name) => last(name) === true,
    texts: (name) => (args[name] === undefined ? [] : [args[name]].flat().map(String)),
    text: (name) => (last(name) === undefined ? undefined : String(last(name))),
    word: (position) => words(position)[0] ?? '',
    words,
  };
};

const commandLine = (words: readonly string[]): Argv => {
  let line = yargs([...words])
    .scriptName('tsrun')
    .usage('$0 COMMAND …\n\nContainers for science: one file holds a software environment, run as yourself.')
    // --no-https is a name of its own.
    .parserConfiguration({ 'boolean-negation': false, 'parse-positional-numbers': false });
  for (const verb of ALL_VERBS) {
    if (!verb.name.includes(' ')) line = addVerb(line, verb);
    if (verb.name === 'pull') line = addRunVerbs(line);
    if (verb.name === 'inspect') line = addGroups(line);
  }
  return line
    .version('version', `tsrun version ${VERSION}`)
    .options({ debug: { type: 'boolean', hidden: true } })
    .help('help')
    .alias('help', 'h')
    .strict()
    .wrap(Math.min(100, process.stdout.columns ?? 100))
    .exitProcess(false)
    .fail((message, error?: Error) => {
      throw error === undefined || error.name === 'YError' ? refused(error?.message ?? message) : error;
    });
};

const addRunVerbs = (line: Argv): Argv =>
  line
    .command('exec <image> <command>', 'run a command in an image', () => {}, runNative)
    .command('run <image>', 'run what an image is made for', () => {}, runNative)
    .command('shell <image>', 'start a shell in an image', () => {}, runNative)
    .command('test <image>', 'run the test of an image', () => {}, runNative);

const addGroups = (line: Argv): Argv => {
  for (const [group, { aliases, help }] of Object.entries(GROUPS)) {
    const members = ALL_VERBS.filter(({ name }) => name.startsWith(`${group} `));
    const names = members.map(({ name }) => name.slice(group.length + 1)).join(', ');
    line.command([group, ...aliases], `${help}: ${names}`, (args) => {
      for (const verb of members) addVerb(args, verb);
      return args.usage(`tsrun ${group} COMMAND …`);
    });
  }
  return line;
};

/** What `checkWords` has let through; yargs speaks for itself. */
const refused = (why: string): TsrunError => usage('cannot understand the command line', why.split('\n')[0] ?? why, 'see tsrun --help');

const runHelp = async (verb: RunVerb): Promise<void> => {
  const { helpText } = await import('./run-help.ts');
  await print(helpText(verb));
};

/** The native program takes this process's place; it has everything a run needs. */
const runNative = async (): Promise<void> => {
  const { nativeProgram } = await import('../util/native-program.ts');
  const program = nativeProgram();
  const given = Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
  if (process.execve === undefined) throw new Error('this Node has no execve');
  process.execve(program, [program, ...process.argv.slice(2)], given);
};

/** A run verb's words belong to the run; only what asks for help or version, before the verb or before the image, is for us. */
const startRun = async (verb: RunVerb, before: readonly string[], behind: readonly string[]): Promise<void> => {
  const options = [...before, ...behind.slice(0, behind.findIndex((word) => !word.startsWith('-')) >>> 0)];
  if (options.includes('--help') || options.includes('-h')) await runHelp(verb);
  else if (options.includes('--version')) await printVersion();
  else await runNative();
};

export const main = async (words: readonly string[]): Promise<void> => {
  const verbAt = words.findIndex((word) => !word.startsWith('-'));
  const verb = words[verbAt];
  try {
    // The one thing that build is asked for without an output and a source.
    if (verb === 'build' && words.includes('--schema')) await print((await import('./schema.ts')).schemaText());
    else if (isRunVerb(verb)) await startRun(verb, words.slice(0, verbAt), words.slice(verbAt + 1));
    else {
      const line = beforeDashes(words, verb);
      checkWords(line);
      // yargs loses a bare "-" among positional words; `tar:-` means the same.
      await commandLine(line.map((word) => (word === '-' ? 'tar:-' : word))).parseAsync();
    }
  } catch (error) {
    process.exitCode = reportFailure(error, words.includes('--debug'));
  }
};

// A reader that closes early (`tsrun image facts … | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const [first, program = '', ...rest] = process.argv.slice(2);
if (first === '__launch') await (await import('./launch.ts')).launch(program, rest, main);
else await main(process.argv.slice(2));
