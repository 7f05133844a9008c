/** One instruction of a Dockerfile → steps. Rules: Dockerfile reference. */
import type { Around, Compile, StepBody } from './dockerfile-compile.ts';
import { copy } from './dockerfile-copy.ts';
import { assignments, commandOf, jsonForm, readFlags, wordList } from './dockerfile-forms.ts';
import { healthcheck } from './dockerfile-healthcheck.ts';
import { type Instruction, shellWords, takeFlags } from './dockerfile-lines.ts';
import { parseMount } from './dockerfile-mounts.ts';
import { meant, quote, refuse, refuseUnsupported } from './errors.ts';
import type { ConfigChange, Place, Step, Word } from './spec.ts';
import { firstWord, inOneLine, trim } from './text.ts';
import { literal, literalText, parseWord } from './words.ts';

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

const run: Compile = (instruction, around) => {
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
      mounts: flags.list('mount').map((mount) => parseMount(mount, around, at)),
      network: network === 'none' ? 'none' : 'host',
    },
  ];
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
