/**
 * The full command line, in Node. `exec`, `run` and `shell` belong to the native program; it comes here for everything else. Each verb is a
 * file of its own, loaded when it is used.
 */
import yargs, { type Argv } from 'yargs';
import { RUN_VERBS, type RunVerb } from '../request/flags.ts';
import { TsrunError } from '../util/errors.ts';
import { VERSION } from '../util/version.ts';
import { reportFailure } from './report.ts';
import { hostEnvironment } from './settings.ts';

const env = hostEnvironment(process.env);

const isRunVerb = (word: string | undefined): word is RunVerb => (RUN_VERBS as readonly (string | undefined)[]).includes(word);

/** Waits for what was written: a pipe takes less than a page at a time, and exit does not wait for it. */
const print = (text: string): Promise<void> =>
  new Promise((done, fail) => process.stdout.write(text, (error) => (error ? fail(error) : done())));

const common = {
  quiet: { alias: ['q', 'silent'], type: 'boolean', default: false, describe: 'errors only' },
  verbose: { alias: 'v', type: 'boolean', default: false, describe: 'say more' },
  debug: { alias: 'd', type: 'boolean', default: false, describe: 'show where an error comes from' },
} as const;

const buildOptions = {
  compress: {
    type: 'string',
    describe: 'zstd (default), gzip (every kernel and tool reads it), xz or lz4; a level after a colon: zstd:19',
  },
  'block-size': { type: 'string', describe: 'of the SquashFS, 4K to 1M; default 128K' },
  arch: { type: 'string', describe: 'take the image for this architecture, such as arm64 or arm/v7' },
  threads: { type: 'number', describe: 'compressing threads; the image is the same for any number' },
  force: { alias: 'F', type: 'boolean', default: false, describe: 'replace an existing file' },
  'limit-size': { type: 'string', describe: 'refuse what unpacks to more, such as 200G; default 1T' },
  'limit-files': { type: 'number', describe: 'refuse what has more entries; default 10000000' },
  'limit-ratio': { type: 'number', describe: 'refuse layers that unpack to more times their size; default 1000' },
} as const;

const inspectOptions = {
  labels: { alias: 'l', type: 'boolean', default: false, describe: 'labels (the default)' },
  deffile: { alias: 'd', type: 'boolean', default: false, describe: 'what it was built from' },
  runscript: { alias: 'r', type: 'boolean', default: false, describe: 'what `run` starts' },
  startscript: { type: 'boolean', default: false, describe: 'what an instance starts' },
  test: { alias: 't', type: 'boolean', default: false, describe: 'its test script' },
  environment: { alias: 'e', type: 'boolean', default: false, describe: 'its environment scripts' },
  helpfile: { alias: 'H', type: 'boolean', default: false, describe: 'its help text' },
  all: { type: 'boolean', default: false, describe: 'all of it' },
  json: { alias: 'j', type: 'boolean', default: false, describe: 'as JSON' },
} as const;

const imagePosition = { type: 'string', demandOption: true, describe: 'a SIF or SquashFS file' } as const;
const pathPositions = { type: 'string', array: true, default: [] as string[], describe: 'paths in the image' } as const;

const imageCommands = (image: Argv): Argv =>
  image
    .command(
      'ls <image> [paths..]',
      'list names in an image with mode, owner, size and time',
      (args) =>
        args
          .positional('image', imagePosition)
          .positional('paths', pathPositions)
          .option('depth', { type: 'number', describe: 'levels below each path' }),
      async ({ image: path, paths, depth }) => {
        const { imageLs } = await import('./image.ts');
        process.exitCode = await imageLs(path, paths, depth);
      },
    )
    .command(
      'cat <image> <paths..>',
      'write files of an image to standard output',
      (args) => args.positional('image', imagePosition).positional('paths', pathPositions),
      async ({ image: path, paths }) => {
        const { imageCat } = await import('./image.ts');
        process.exitCode = await imageCat(path, paths);
      },
    )
    .command(
      'extract <image> <directory>',
      'unpack an image into a new directory',
      (args) => args.positional('image', imagePosition).positional('directory', { type: 'string', demandOption: true }),
      async ({ image: path, directory }) => {
        const { imageExtract } = await import('./image.ts');
        process.exitCode = await imageExtract(path, directory);
      },
    )
    .command(
      'facts <image>',
      'what tsrun knows of an image',
      (args) =>
        args.positional('image', imagePosition).option('json', { alias: 'j', type: 'boolean', default: false, describe: 'as JSON' }),
      async ({ image: path, json }) => {
        const { imageFacts } = await import('./image.ts');
        await print(imageFacts(path, json));
      },
    )
    .command(
      'objects <image>',
      'the data objects of a SIF',
      (args) => args.positional('image', imagePosition),
      async ({ image: path }) => {
        const { imageObjects } = await import('./image.ts');
        await print(imageObjects(path));
      },
    )
    .demandCommand(1, 'say what to do: ls, cat, extract, facts or objects');

const commandLine = (words: readonly string[]): Argv =>
  yargs([...words])
    .scriptName('tsrun')
    .usage('$0 COMMAND …\n\nContainers for science: one file holds a software environment, run as yourself.')
    .command(
      'build <target> <source>',
      'make a SIF image from docker://, oci:, oci-archive:, docker-archive:, tar:, - (a tar stream), a directory or another image',
      (args) =>
        args
          .positional('target', { type: 'string', demandOption: true, describe: 'the SIF file to write' })
          .positional('source', { type: 'string', demandOption: true, describe: 'what to make it from' })
          .options({ ...buildOptions, ...common }),
      async (args) => {
        const { build } = await import('./build.ts');
        await build({ ...args, env });
      },
    )
    .command(
      'pull <words..>',
      'the same as build, with the name of the file first or left out: tsrun pull [OUT.sif] docker://NAME[:TAG]',
      (args) =>
        args
          .positional('words', { type: 'string', array: true, demandOption: true, describe: '[OUT.sif] REFERENCE' })
          .options({ ...buildOptions, ...common }),
      async (args) => {
        const { build, pullTarget } = await import('./build.ts');
        const [first = '', second, ...more] = args.words;
        if (more.length > 0) throw usage('too many arguments: expected [OUT.sif] REFERENCE');
        const source = second ?? first;
        await build({ ...args, source, target: second === undefined ? pullTarget(source) : first, env });
      },
    )
    .command('run <image>', 'run what an image is made for', () => {}, runNative)
    .command('exec <image> <command>', 'run a command in an image', () => {}, runNative)
    .command('shell <image>', 'start a shell in an image', () => {}, runNative)
    .command(
      'inspect <image>',
      'labels, definition and scripts of an image',
      (args) =>
        args.positional('image', { type: 'string', demandOption: true, describe: 'a SIF, SquashFS or directory' }).options(inspectOptions),
      async (args) => {
        const { inspect } = await import('./inspect.ts');
        await print(inspect(args));
      },
    )
    .command('image', 'look into an image file: ls, cat, extract, facts, objects', imageCommands)
    .command(
      'login [registry]',
      'keep a password or token for a registry',
      (args) =>
        args
          .positional('registry', { type: 'string', describe: 'host; default docker.io' })
          .option('username', { alias: 'u', type: 'string', describe: 'asked for when left out' })
          .option('password-stdin', { type: 'boolean', default: false, describe: 'the password is the first line of standard input' }),
      async ({ registry, username, passwordStdin }) => {
        const [{ login }, { loadSettings }] = await Promise.all([import('./login.ts'), import('./settings.ts')]);
        const { registry: config } = loadSettings(env);
        await login({ registry, username, passwordStdin, config, env, stdin: process.stdin, stderr: process.stderr });
      },
    )
    .command(
      'logout [registry]',
      'forget it',
      (args) =>
        args
          .positional('registry', { type: 'string', describe: 'host; default docker.io' })
          .option('all', { type: 'boolean', default: false, describe: 'for all registries' }),
      async ({ registry, all }) => {
        const { logout } = await import('./logout.ts');
        await logout({ registry, all, env, stderr: process.stderr });
      },
    )
    .command(
      'version',
      'print the version',
      () => {},
      () => print(`tsrun version ${VERSION}\n`),
    )
    .command(
      'help [command]',
      'print help',
      (args) => args.positional('command', { type: 'string' }),
      async ({ command }) => {
        if (isRunVerb(command)) await runHelp(command);
        else await main(command === undefined ? ['--help'] : [command, '--help']);
      },
    )
    .command(
      '__prepare <references..>',
      false,
      (args) => args.positional('references', { type: 'string', array: true, demandOption: true }).options(common),
      async ({ references, quiet }) => {
        const { prepare } = await import('./prepare.ts');
        await prepare({ references, quiet, env });
      },
    )
    .completion('completion', 'print a completion script for bash or zsh')
    .version('version', `tsrun version ${VERSION}`)
    .options({ debug: { type: 'boolean', hidden: true } })
    .help('help')
    .alias('help', 'h')
    .demandCommand(1, 'say what to do: tsrun COMMAND …')
    .strict()
    .recommendCommands()
    .wrap(Math.min(100, process.stdout.columns ?? 100))
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? usage(message);
    });

const usage = (why: string): TsrunError =>
  new TsrunError({
    code: 'E_USAGE',
    what: 'cannot understand the command line',
    why: lowerFirst(why.split('\n')[0] ?? why),
    hint: 'see tsrun --help',
  });

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, '');

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

/** A run verb's words belong to the run; only a help flag before the image is for us. */
const startRun = async (verb: RunVerb, words: readonly string[]): Promise<void> => {
  const options = words.slice(0, words.findIndex((word) => !word.startsWith('-')) >>> 0);
  if (options.includes('--help') || options.includes('-h')) await runHelp(verb);
  else await runNative();
};

export const main = async (words: readonly string[]): Promise<void> => {
  const verbAt = words.findIndex((word) => !word.startsWith('-'));
  const verb = words[verbAt];
  try {
    if (isRunVerb(verb)) await startRun(verb, words.slice(verbAt + 1));
    // yargs loses a bare "-" among positional words; `tar:-` means the same.
    else await commandLine(words.map((word) => (word === '-' ? 'tar:-' : word))).parseAsync();
  } catch (error) {
    process.exitCode = reportFailure(error, words.includes('--debug'));
  }
};

// A reader that closes early (`tsrun image facts … | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

await main(process.argv.slice(2));
