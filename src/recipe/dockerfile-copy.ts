/** COPY and ADD. */
import type { Compile, StepBody } from './dockerfile-compile.ts';
import { type FlagKind, type Flags, jsonForm, readFlags } from './dockerfile-forms.ts';
import { type Heredoc, heredocMark, shellWords, takeFlags } from './dockerfile-lines.ts';
import { originOf } from './dockerfile-origin.ts';
import { quote, refuse, refuseUnsupported } from './errors.ts';
import type { Place, Word } from './spec.ts';
import { literal, parseWord } from './words.ts';

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

export const copy: Compile = (instruction, around) => {
  const { keyword, at, heredocs } = instruction;
  const { escapeChar, stages, current, contexts } = around;
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
    steps.push({
      ...common,
      from: from === undefined ? { kind: 'context' } : originOf(from, current, stages, at, contexts),
      sources,
      unpack,
    });
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
