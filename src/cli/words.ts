/** The words of a command line held against the table of verbs, before yargs reads them: who mistypes is told what is wrong with which word, and what to write. */
import { RUN_VERBS } from '../request/flags.ts';
import { TsrunError } from '../util/errors.ts';
import { nearest } from '../util/nearest.ts';
import { insteadOfCommand, insteadOfOption } from './habits.ts';
import { ALL_VERBS, COMMON, GROUPS, type Option, usageOf, type Verb } from './verbs.ts';

/** What every command takes, and yargs answers itself. */
const ANSWERED = ['--help', '-h', '--version'];

export const usage = (what: string, why: string, hint: string): TsrunError => new TsrunError({ code: 'E_USAGE', what, why, hint });

export const knownVerbs = (): readonly string[] => [...RUN_VERBS, ...ALL_VERBS.map(({ name }) => name.split(' ')[0] ?? name)];

/** @throws TsrunError E_USAGE */
export const checkWords = (words: readonly string[]): void => {
  const verb = verbOf(words);
  if (verb === undefined) return;
  const { name } = verb;
  const options: readonly Option[] = [...verb.options, ...COMMON];
  let given = 0;
  let answered = false;
  let beforeVerb: readonly string[] = name.split(' ');
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    if (word === '--') {
      given += words.length - at - 1;
      break;
    }
    if (ANSWERED.includes(word)) answered = true;
    else if (word.startsWith('-') && word !== '-') at += checkOption(name, options, word, words[at + 1]);
    else if (beforeVerb.length > 0) beforeVerb = beforeVerb.slice(1);
    else given++;
  }
  if (!answered) checkPositions(verb, given);
};

/** Undefined: yargs has an answer, such as help. */
const verbOf = (words: readonly string[]): Verb | undefined => {
  const [first, second] = words.filter((word) => !word.startsWith('-'));
  const group = Object.entries(GROUPS).find(([name, { aliases }]) => name === first || aliases.includes(first ?? ''))?.[0];
  if (words.some((word) => ANSWERED.includes(word)) && (first === undefined || (group !== undefined && second === undefined)))
    return undefined;
  if (first === undefined) throw usage('cannot do anything', 'no command is given', 'say what to do: tsrun COMMAND …; see tsrun --help');
  if (group === undefined) return ALL_VERBS.find(({ name }) => name === first) ?? refuseCommand(first);
  const members: readonly Verb[] = ALL_VERBS.filter(({ name }) => name.startsWith(`${group} `));
  const wordsOf = ({ name, aliases = [] }: Verb): readonly string[] => [name.slice(group.length + 1), ...aliases];
  const names = members.map((member) => wordsOf(member)[0]).join(', ');
  if (second === undefined) throw usage(`cannot carry out tsrun ${first}`, 'a second word is missing', `say what to do: ${names}`);
  const found = members.find((member) => wordsOf(member).includes(second));
  if (found !== undefined) return found;
  throw usage(`cannot carry out tsrun ${first} ${second}`, `tsrun ${first} has no such command`, `there are ${names}`);
};

const refuseCommand = (word: string): never => {
  const within = ALL_VERBS.find(({ name }) => name.endsWith(` ${word}`));
  const near = nearest(
    word,
    knownVerbs().filter((name) => !name.startsWith('_')),
  );
  const meant = near === undefined ? undefined : `did you mean tsrun ${near}?`;
  const instead = insteadOfCommand(word) ?? (within === undefined ? undefined : `tsrun ${within.name} ${usageOf(within)}`.trimEnd());
  throw usage(`cannot carry out tsrun ${word}`, 'there is no such command', instead ?? meant ?? 'see tsrun --help');
};

/** @returns how many of the words behind it are its value */
const checkOption = (verb: string, options: readonly Option[], word: string, next: string | undefined): number => {
  const [spelled = '', value] = word.startsWith('--') ? word.split(/=(.*)/s, 2) : [word];
  if (spelled.startsWith('--')) {
    const option = options.find(({ name, aliases = [] }) => [name, ...aliases].includes(spelled.slice(2)));
    if (option === undefined) return refuseOption(verb, options, spelled);
    if (option.value !== undefined) return value === undefined ? wordsOfValue(option, spelled, next) : 0;
    if (value === undefined || value === 'true' || value === 'false') return 0;
    throw usage(`cannot use ${word}`, `${spelled} takes no value but true and false`, `write ${spelled}`);
  }
  for (const [at, letter] of [...spelled].entries()) {
    if (at === 0) continue;
    const option = options.find(({ short }) => short === letter);
    if (option === undefined) return refuseOption(verb, options, `-${letter}`);
    if (option.value !== undefined) return at < spelled.length - 1 ? 0 : wordsOfValue(option, `-${letter}`, next);
  }
  return 0;
};

const wordsOfValue = (option: Option, spelled: string, next: string | undefined): number => {
  if (next !== undefined) return 1;
  throw usage(`cannot use ${spelled}`, `${spelled} lacks its value`, `write ${spelled} ${option.value}`);
};

const refuseOption = (verb: string, options: readonly Option[], spelled: string): never => {
  const near = spelled.startsWith('--')
    ? nearest(
        spelled.slice(2),
        options.map(({ name }) => name),
      )
    : undefined;
  const meant = near === undefined ? `see tsrun ${verb} --help` : `did you mean --${near}?`;
  throw usage(`cannot use ${spelled}`, `tsrun ${verb} has no such option`, insteadOfOption(verb, spelled) ?? meant);
};

const checkPositions = (verb: Verb, given: number): void => {
  const missing = verb.positions.slice(given).filter(({ optional }) => optional !== true);
  const write = `write tsrun ${verb.name} [options] ${usageOf(verb)}`.trimEnd().concat(`; see tsrun ${verb.name} --help`);
  if (missing.length > 0) {
    const names = missing.map(({ name, shown }) => shown ?? name).join(' and ');
    throw usage(`cannot carry out tsrun ${verb.name}`, `${names} ${missing.length === 1 ? 'is' : 'are'} missing`, write);
  }
  if (given > verb.positions.length && verb.positions.at(-1)?.many !== true)
    throw usage(`cannot carry out tsrun ${verb.name}`, `it has ${given} words and takes ${verb.positions.length}`, write);
};
