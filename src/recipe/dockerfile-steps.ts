/** One instruction of a Dockerfile → steps. Rules: Dockerfile reference. */
import { assignments, commandOf, type FlagKind, type Flags, jsonForm, readFlags, wordList } from './dockerfile-forms.ts';
import { type Heredoc, heredocMark, type Instruction, shellWords, takeFlags } from './dockerfile-lines.ts';
import { parseMount } from './dockerfile-mounts.ts';
import { originOf, type StageNames } from './dockerfile-origin.ts';
import { meant, quote, refuse, refuseUnsupported } from './errors.ts';
import type { ConfigChange, Place, Step, Word } from './spec.ts';
import { firstWord, inOneLine, trim } from './text.ts';
import { literal, literalText, parseWord } from './words.ts';

/** What an instruction's meaning depends on. */
export type Around = {
  readonly escapeChar: string;
  readonly stages: StageNames;
  /** Of the stage it stands in. */
  readonly current: number;
  /** Of ARG before the first FROM and of the platform; undefined: declared, and without value. */
  readonly globals: ReadonlyMap<string, string | undefined>;
  readonly given: ReadonlyMap<string, string>;
  /** Names of ARG are added. */
  readonly declared: Set<string>;
};

type Each<Union> = Union extends unknown ? Omit<Union, 'at' | 'title'> : never;
export type StepBody = Each<Step>;

type Compile = (instruction: Instruction, around: Around) => readonly StepBody[];

/** @throws TsrunError E_RECIPE… */
export const stepsOf = (instruction: Instruction, around: Around): readonly Step[] => {
  const { keyword, at } = instruction;
  const compile = Object.hasOwn(COMPILE, keyword) ? COMPILE[keyword] : undefined;
  if (compile === undefined) return refuseKeyword(instruction);
  const title = inOneLine(`${keyword} ${instruction.rest}`);
  // Plain objects of the union's members: the intersection adds the two fields all steps have.
  return compile(instruction, around).map((body) => ({ at, title, ...body }) as Step);
};

export const refuseKeyword = ({ keyword, at }: Instruction): never =>
  refuse(
    at,
    `${quote(keyword)} is no instruction`,
    meant(keyword, KEYWORDS, 'expected one of the instructions of Dockerfiles, such as RUN or COPY'),
  );

const config = (change: ConfigChange): StepBody => ({ kind: 'config', change });

/** An instruction about one word. */
const single =
  (what: string, body: (word: Word) => StepBody): Compile =>
  (instruction, { escapeChar }) => {
    const { keyword, at } = instruction;
    const rest = plain(instruction);
    if (rest === '') refuse(at, `${keyword} says nothing`, `expected ${keyword} ${what}`);
    return [body(parseWord(rest, { at, escapeChar }))];
  };

/** What follows the keyword where no flags are taken. */
const plain = ({ keyword, rest, at }: Instruction): string => {
  const taken = takeFlags(rest);
  readFlags(taken.flags, {}, keyword, at);
  return taken.rest;
};

const pairs = (instruction: Instruction, escapeChar: string): readonly { readonly name: Word; readonly value: Word }[] =>
  assignments(instruction, escapeChar).map(({ name, value }) => ({
    name: parseWord(name, { at: instruction.at, escapeChar }),
    value: parseWord(value ?? '', { at: instruction.at, escapeChar }),
  }));

const variableName = (word: Word, at: Place): string => {
  const name = literalText(word);
  if (name === undefined) return refuseUnsupported(at, 'there is a variable in the name of a variable', 'write the name out');
  return name === '' ? refuse(at, 'the name of a variable is missing', 'expected NAME=VALUE') : name;
};

const run: Compile = (instruction, { escapeChar, stages, current }) => {
  const { rest, at } = instruction;
  const taken = takeFlags(rest);
  const flags = readFlags(taken.flags, { mount: 'list', network: 'text', security: 'text', device: 'list' }, 'RUN', at);
  if ((flags.text('security') ?? 'sandbox') !== 'sandbox') {
    refuseUnsupported(at, `it asks for --security=${flags.text('security')}`, 'steps run without privileges; leave the flag out');
  }
  if (flags.list('device').length > 0) refuseUnsupported(at, 'it asks for a device (--device)', 'leave the flag out');
  const network = flags.text('network') ?? 'default';
  if (network !== 'default' && network !== 'host' && network !== 'none') {
    return refuse(at, `${quote(network)} is no value of --network`, 'expected default, host or none');
  }
  return [
    {
      kind: 'run',
      command: commandOf(instruction, taken.rest),
      mounts: flags.list('mount').map((mount) => parseMount(mount, current, stages, escapeChar, at)),
      network: network === 'none' ? 'none' : 'host',
    },
  ];
};

const COPY_FLAGS: Readonly<Record<string, FlagKind>> = {
  from: 'text',
  chown: 'text',
  chmod: 'text',
  link: 'switch',
  parents: 'switch',
  exclude: 'list',
};

const ADD_FLAGS: Readonly<Record<string, FlagKind>> = {
  chown: 'text',
  chmod: 'text',
  link: 'switch',
  exclude: 'list',
  checksum: 'text',
  unpack: 'switch',
  'keep-git-dir': 'switch',
};

/** Also of sources whose variables are expanded only when the step begins. */
export const isGitAddress = (source: string): boolean => /^(?:git@|git:\/\/|ssh:\/\/)|^https?:\/\/[^#?]*\.git(?:#.*)?$/.test(source);

const copy: Compile = (instruction, around) => {
  const { keyword, at, heredocs } = instruction;
  const { escapeChar, stages, current } = around;
  const taken = takeFlags(instruction.rest);
  const flags = readFlags(taken.flags, keyword === 'COPY' ? COPY_FLAGS : ADD_FLAGS, keyword, at);
  const words = jsonForm(taken.rest, at) ?? shellWords(taken.rest, escapeChar);
  const target = words.at(-1);
  const names = words.slice(0, -1);
  if (target === undefined || names.length === 0)
    return refuse(at, `${keyword} names no destination`, `expected ${keyword} SOURCE... DESTINATION`);
  if (names.length > 1 && !/(?:^|\/)\.{0,2}$/.test(target) && !target.includes('$')) {
    refuse(
      at,
      `${keyword} has several sources, and ${quote(target)} is no directory`,
      `expected a destination that ends with /: ${target}/`,
    );
  }
  if (flags.on('keep-git-dir') || names.some(isGitAddress)) {
    refuseUnsupported(at, 'it adds a Git repository', 'clone it in a RUN step, or before the build and COPY it');
  }
  const from = flags.text('from');
  const common = {
    kind: 'copy',
    destination: parseWord(target, { at, escapeChar }),
    manner: 'docker',
    ...copyOptions(flags, escapeChar, at),
  } as const;
  const paths = names.filter((name) => heredocs.length === 0 || heredocMark(name) === undefined);
  const unpack = keyword === 'ADD' && (flags.text('unpack') === undefined || flags.on('unpack'));
  const steps: StepBody[] = [];
  if (heredocs.length > 0) {
    const files = heredocs.map((document) => ({ name: document.name, content: contentOf(document, at) }));
    const sources = files.map(({ name }) => literal(name));
    steps.push({ ...common, from: { kind: 'inline', files }, sources, unpack: false });
  }
  if (paths.length > 0) {
    const sources = paths.map((path) => parseWord(path, { at, escapeChar }));
    steps.push({ ...common, from: from === undefined ? { kind: 'context' } : originOf(from, current, stages, at), sources, unpack });
  }
  return steps;
};

const contentOf = ({ content, expand }: Heredoc, at: Place): Word =>
  expand ? parseWord(content, { at, quotes: false }) : literal(content);

const copyOptions = (flags: Flags, escapeChar: string, at: Place) => {
  const word = (text: string | undefined): Word | undefined => (text === undefined ? undefined : parseWord(text, { at, escapeChar }));
  return {
    owner: word(flags.text('chown')),
    mode: word(flags.text('chmod')),
    checksum: word(flags.text('checksum')),
    exclude: flags.list('exclude').map((text) => parseWord(text, { at, escapeChar })),
    parents: flags.on('parents'),
  };
};

const arg: Compile = (instruction, { escapeChar, globals, given, declared }) =>
  assignments(instruction, escapeChar).map(({ name: written, value }) => {
    const { at } = instruction;
    const name = variableName(parseWord(written, { at, escapeChar }), at);
    declared.add(name);
    const outside = given.get(name) ?? (value === undefined ? globals.get(name) : undefined);
    if (outside !== undefined) return { kind: 'arg', name, value: literal(outside) };
    return { kind: 'arg', name, value: value === undefined ? undefined : parseWord(value, { at, escapeChar }) };
  });

const mainCommand =
  (field: 'entrypoint' | 'cmd'): Compile =>
  (instruction) => {
    const rest = plain(instruction);
    const command = commandOf(instruction, rest);
    return [config({ field, argv: command.form === 'argv' ? command.argv : { shell: rest } })];
  };

const PORT = /^[0-9]{1,5}(?:-[0-9]{1,5})?(?:\/(?:tcp|udp|sctp))?$/i;

const expose: Compile = (instruction, { escapeChar }) => {
  const { at } = instruction;
  const ports = shellWords(plain(instruction), escapeChar).map((text) => parseWord(text, { at, escapeChar }));
  if (ports.length === 0) refuse(at, 'EXPOSE says nothing', 'expected EXPOSE PORT[/PROTOCOL]');
  for (const port of ports) {
    const text = literalText(port);
    if (text !== undefined && !PORT.test(text)) refuse(at, `${quote(text)} is no port`, 'expected a number such as 8080 or 8080/udp');
  }
  return [config({ field: 'expose', ports })];
};

const volume: Compile = (instruction, { escapeChar }) => {
  const paths = wordList(plain(instruction), escapeChar, instruction.at);
  if (paths.length === 0) refuse(instruction.at, 'VOLUME says nothing', 'expected VOLUME PATH');
  return [config({ field: 'volume', paths })];
};

const shell: Compile = (instruction) => {
  const argv = jsonForm(plain(instruction), instruction.at);
  if (argv === undefined || argv.length === 0)
    return refuse(instruction.at, 'SHELL is not a JSON list', 'expected SHELL ["/bin/bash", "-c"]');
  return [{ kind: 'shell', argv }];
};

const healthcheck: Compile = (instruction) => {
  const { rest, at } = instruction;
  const taken = takeFlags(rest);
  const known = { interval: 'text', timeout: 'text', 'start-period': 'text', 'start-interval': 'text', retries: 'text' } as const;
  const flags = readFlags(taken.flags, known, 'HEALTHCHECK', at);
  const { word, rest: text } = firstWord(taken.rest);
  const type = word.toUpperCase();
  if (type !== 'CMD' && type !== 'NONE') return refuse(at, `${quote(word)} follows HEALTHCHECK`, 'expected CMD or NONE');
  if (type === 'NONE' && (text !== '' || taken.flags.length > 0))
    refuse(at, 'HEALTHCHECK NONE takes nothing more', 'expected HEALTHCHECK NONE');
  const argv = type === 'NONE' ? undefined : commandOf({ ...instruction, keyword: 'HEALTHCHECK CMD' }, text);
  const test = argv === undefined ? ['NONE'] : argv.form === 'argv' ? ['CMD', ...argv.argv] : ['CMD-SHELL', text];
  const retries = flags.text('retries') ?? '0';
  if (!/^[0-9]{1,6}$/.test(retries)) refuse(at, `${quote(retries)} is no value of --retries`, 'expected a number');
  const [interval = 0, timeout = 0, startPeriod = 0, startInterval = 0] = ['interval', 'timeout', 'start-period', 'start-interval'].map(
    (name) => nanoseconds(flags.text(name), name, at),
  );
  return [config({ field: 'healthcheck', test, interval, timeout, startPeriod, startInterval, retries: Number(retries) })];
};

const SECONDS: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 1e-3, us: 1e-6, ns: 1e-9 };

/** "1m30s", as Go writes durations. */
const nanoseconds = (text: string | undefined, name: string, at: Place): number => {
  if (text === undefined || text === '0') return 0;
  const parts = [...text.matchAll(/([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|us|ns|h|m|s)/g)];
  if (parts.length === 0 || parts.map(([whole]) => whole).join('') !== text) {
    return refuse(at, `${quote(text)} is no value of --${name}`, 'expected a time such as 30s or 1m30s');
  }
  return Math.round(parts.reduce((sum, [, count, unit]) => sum + Number(count) * (SECONDS[unit ?? ''] ?? 0), 0) * 1e9);
};

const onbuild: Compile = (instruction, around) => {
  const { rest, at, heredocs } = instruction;
  const { word, rest: after } = firstWord(rest);
  const keyword = word.toUpperCase();
  if (word === '') refuse(at, 'ONBUILD says nothing', 'expected ONBUILD and an instruction');
  if (['ONBUILD', 'FROM', 'MAINTAINER'].includes(keyword)) refuse(at, `ONBUILD cannot hold ${keyword}`, 'expected another instruction');
  // A slip is said now, not to whoever builds on the image.
  stepsOf({ keyword, rest: after, heredocs, at }, around);
  const text = [rest, ...heredocs.map(({ raw }) => raw.replace(/\n$/, ''))].join('\n');
  return [config({ field: 'onbuild', instruction: text })];
};

const COMPILE: Readonly<Record<string, Compile>> = {
  RUN: run,
  COPY: copy,
  ADD: copy,
  ARG: arg,
  ENV: (instruction, { escapeChar }) => [
    {
      kind: 'env',
      variables: pairs(instruction, escapeChar).map(({ name, value }) => ({ name: variableName(name, instruction.at), value })),
    },
  ],
  LABEL: (instruction, { escapeChar }) => pairs(instruction, escapeChar).map(({ name, value }) => config({ field: 'label', name, value })),
  CMD: mainCommand('cmd'),
  ENTRYPOINT: mainCommand('entrypoint'),
  EXPOSE: expose,
  VOLUME: volume,
  USER: single('NAME[:GROUP]', (user) => ({ kind: 'user', user })),
  WORKDIR: single('PATH', (path) => ({ kind: 'workdir', path })),
  STOPSIGNAL: single('SIGNAL', (signal) => config({ field: 'stopsignal', signal })),
  MAINTAINER: ({ rest }) => [config({ field: 'author', name: literal(trim(rest)) })],
  SHELL: shell,
  HEALTHCHECK: healthcheck,
  ONBUILD: onbuild,
};

export const KEYWORDS: readonly string[] = ['FROM', ...Object.keys(COMPILE)];
