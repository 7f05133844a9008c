/** argv by the flag table. Options come before the image; everything after it belongs to the payload, untouched. */
import { EXIT_TSRUN, TsrunError } from '../util/errors.ts';
import { nearest } from '../util/nearest.ts';
import { insteadOf, insteadOfAll, misreadSwitch } from './docker-flags.ts';
import { ALL_FLAGS, type Flag, type FlagName, flagsOf, LATER_FLAGS, RUN_VERBS, type RunVerb } from './flags.ts';

/** One value given for a flag, and where. `origin` is what a person would look for: `--bind`, `APPTAINER_BIND`, a file. */
export type Given = {
  readonly flag: FlagName;
  /** A switch has 'true' or 'false'; an optional flag without value ''. */
  readonly text: string;
  readonly from: 'command line' | 'environment' | 'config';
  readonly origin: string;
};

export type CommandLine = {
  readonly verb: RunVerb;
  readonly given: readonly Given[];
  /** The image as typed. */
  readonly image: string;
  readonly args: readonly string[];
};

/** What only the full command line program does: other verbs, help, versions. */
export type ForNode = { readonly node: true };

type KnownFlag = Flag & { readonly name: FlagName };

const usage = (what: string, why: string, hint: string): TsrunError =>
  new TsrunError({ code: 'E_USAGE', what, why, hint, exitCode: EXIT_TSRUN });

const isRunVerb = (word: string): word is RunVerb => (RUN_VERBS as readonly string[]).includes(word);

const TRUE = ['1', 't', 'true', 'yes', 'y', 'on'];
const FALSE = ['0', 'f', 'false', 'no', 'n', 'off', ''];

/** 'true' or 'false' of what people write for a switch. Errors: E_USAGE. */
export const switchText = (origin: string, text: string): 'true' | 'false' => {
  const word = text.toLowerCase();
  if (TRUE.includes(word)) return 'true';
  if (FALSE.includes(word)) return 'false';
  throw usage(
    `cannot use ${origin}=${text}`,
    'it is neither yes nor no',
    word === 'host' ? "leave it out: it is the host's unless asked otherwise" : 'write 1 or 0, true or false, yes or no',
  );
};

/** @param behind the words from the refused one on */
const refuseUnknown = (word: string, flags: readonly KnownFlag[], behind: readonly string[]): never => {
  const bare = word.replace(/^--?/, '');
  const later = LATER_FLAGS.find((flag) => (word.startsWith('--') ? flag.name === bare : flag.short === bare));
  if (later !== undefined) {
    throw usage(`cannot use ${word}`, 'it is not available yet', `today: ${later.today}`);
  }
  const instead = insteadOf(word);
  if (instead !== undefined) {
    const all = insteadOfAll(behind);
    throw usage(`cannot use ${word}`, 'it is an option of Docker', all.includes('; -') ? `here ${all}` : `here: ${instead}`);
  }
  const near = word.startsWith('--') ? nearest(bare, [...flags.flatMap((flag) => [flag.name, ...(flag.aliases ?? [])])]) : undefined;
  throw usage(
    `cannot use ${word}`,
    'there is no such option',
    near === undefined ? 'options come before the image; see tsrun exec --help' : `did you mean --${near}?`,
  );
};

/** Reads options from `words[at]` on, until the first word that is none. `flags`: asked for when there is one. */
const readOptions = (
  words: readonly string[],
  at: number,
  flags: () => readonly KnownFlag[],
): { given: Given[]; next: number } | ForNode => {
  const given: Given[] = [];
  const put = (flag: KnownFlag, origin: string, text: string): void => {
    const value = flag.kind === 'switch' ? switchText(origin, text) : text;
    given.push({ flag: flag.name, text: value, from: 'command line', origin });
  };
  const following = (origin: string): string => {
    const value = words[++at];
    if (value === undefined) throw usage(`cannot use ${origin}`, 'its value is missing', `write ${origin} VALUE`);
    return value;
  };
  for (; at < words.length; at++) {
    const word = words[at] ?? '';
    if (word === '--') return { given, next: at + 1 };
    if (!word.startsWith('-') || word === '-') break;
    if (word === '--help' || word === '-h' || word === '--version') return { node: true };
    if (word.startsWith('--')) {
      const equals = word.indexOf('=');
      const origin = equals < 0 ? word : word.slice(0, equals);
      const name = origin.slice(2);
      const flag = flags().find((each) => each.name === name || each.aliases?.includes(name) === true);
      if (flag === undefined) return refuseUnknown(origin, flags(), words.slice(at));
      if (equals >= 0) put(flag, origin, word.slice(equals + 1));
      else if (flag.kind === 'switch') put(flag, origin, 'true');
      else put(flag, origin, flag.kind === 'optional' ? '' : following(origin));
      continue;
    }
    // -ce, -Bsrc, -B src, -B=src
    for (let letter = 1; letter < word.length; letter++) {
      const origin = `-${word[letter] ?? ''}`;
      if (origin === '-h') return { node: true };
      const flag = flags().find((each) => each.short === origin.slice(1));
      if (flag === undefined) return refuseUnknown(origin, flags(), words.slice(at));
      const rest = word.slice(letter + 1);
      if (flag.kind === 'switch' && !rest.startsWith('=')) {
        put(flag, origin, 'true');
        continue;
      }
      put(flag, origin, rest === '' ? following(origin) : rest.replace(/^=/, ''));
      break;
    }
  }
  return { given, next: at };
};

/**
 * @param args argv without the program's own name.
 * Errors: E_USAGE for unknown options, missing values, a missing image or command.
 */
export const parseCommandLine = (args: readonly string[]): CommandLine | ForNode => {
  let verbAt = 0;
  while (args[verbAt]?.startsWith('-') === true) verbAt++;
  const verb = args[verbAt] ?? '';
  if (!isRunVerb(verb)) return { node: true };
  const before = verbAt === 0 ? undefined : readOptions(args.slice(0, verbAt), 0, () => ALL_FLAGS.filter((flag) => flag.global === true));
  if (before !== undefined && 'node' in before) return before;
  const first = verbAt + 1;
  const options = args[first]?.startsWith('-') === true ? readOptions(args, first, () => flagsOf(verb)) : { given: [], next: first };
  if ('node' in options) return options;
  const image = args[options.next];
  if (image === undefined || image === '') {
    throw usage(
      `cannot ${verb}`,
      'the image is missing',
      `write tsrun ${verb} [options] IMAGE${verb === 'exec' ? ' COMMAND' : ''} [arguments]`,
    );
  }
  const option = args[options.next - 1] ?? '';
  const meant = options.given.at(-1)?.origin === option ? misreadSwitch(option, image) : undefined;
  if (meant !== undefined) {
    const name = options.given.at(-1)?.flag ?? '';
    throw usage(`cannot use ${option} ${image}`, `${option} means --${name} here`, `in place of Docker's: ${meant}`);
  }
  const rest = args.slice(options.next + 1);
  if (verb === 'exec' && (rest[0] === undefined || rest[0] === '')) {
    throw usage('cannot exec', 'the command is missing', `write tsrun exec [options] ${image} COMMAND [arguments], or tsrun run ${image}`);
  }
  return { verb, given: before === undefined ? options.given : before.given.concat(options.given), image, args: rest };
};
