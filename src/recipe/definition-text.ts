/**
 * Definition file → stages of header lines and sections, templates filled in. Grammar: Apptainer's user guide, "Definition Files", and where it is
 * silent what Apptainer does: a stage begins at a line `Bootstrap:`, wherever it stands; a section at a line whose first word begins with "%".
 */

import { nearest } from '../util/nearest.ts';
import { LIMITS, meant, quote, refuse, refuseArgument, refuseLimit } from './errors.ts';
import type { Place } from './spec.ts';
import { firstWord, inOneLine, linesOf, trim, trimStart } from './text.ts';

export type Line = { readonly text: string; readonly at: Place };

export type Section = {
  readonly name: string;
  /** What follows the name, without a comment; of app sections without the app. */
  readonly args: string;
  readonly app: string | undefined;
  readonly lines: readonly Line[];
  readonly at: Place;
};

export type StageText = { readonly header: readonly Line[]; readonly sections: readonly Section[]; readonly at: Place };

export const SECTIONS: readonly string[] = [
  'help',
  'setup',
  'files',
  'labels',
  'environment',
  'pre',
  'post',
  'runscript',
  'test',
  'startscript',
  'arguments',
];
export const APP_SECTIONS: readonly string[] = [
  'appinstall',
  'applabels',
  'appfiles',
  'appenv',
  'apptest',
  'apphelp',
  'apprun',
  'appstart',
];

export type Templates = {
  readonly given: ReadonlyMap<string, string>;
  /** Names that templates ask for are added. */
  readonly used: Set<string>;
  /** Names with a default are added. */
  readonly known: Set<string>;
};

/** @throws TsrunError E_RECIPE, E_RECIPE_ARGUMENT, E_RECIPE_LIMIT */
export const readStages = (text: string, file: string, templates: Templates): readonly StageText[] => {
  const top: Place = { file, line: 1 };
  if (text.length > LIMITS.bytes) refuseLimit(top, `it is longer than ${LIMITS.bytes} bytes`);
  const lines = linesOf(text).map((line, index): Line => ({ text: line, at: { file, line: index + 1 } }));
  if (lines.length > 20 * LIMITS.steps) refuseLimit(top, `it has more than ${20 * LIMITS.steps} lines`);
  const stages = splitStages(lines, top);
  if (stages.length > LIMITS.stages) refuseLimit(top, `it has more than ${LIMITS.stages} stages`);
  return stages.map((stage) => fillIn(splitSections(stage), templates));
};

const isBootstrap = ({ text }: Line): boolean => /^bootstrap[ \t]*:/i.test(text);
const isSectionStart = ({ text }: Line): boolean => trimStart(text).startsWith('%');
export const saysNothing = ({ text }: Line): boolean => trimStart(text) === '' || trimStart(text).startsWith('#');

const splitStages = (lines: readonly Line[], top: Place): readonly (readonly Line[])[] => {
  const starts = lines.flatMap((line, index) => (isBootstrap(line) ? [index] : []));
  const [first] = starts;
  if (first === undefined) return refuseHeader(lines, top);
  const before = lines.slice(0, first);
  const section = before.find(isSectionStart);
  if (section !== undefined) refuse(section.at, `${quote(inOneLine(section.text))} stands before the header`, 'expected Bootstrap: first');
  return starts.map((start, index) => {
    const own = lines.slice(start, starts[index + 1]);
    // Keys above Bootstrap would be read as the end of the section before it.
    const stray = index + 1 < starts.length ? own.findLast((line) => !saysNothing(line)) : undefined;
    if (stray !== undefined && own.some(isSectionStart) && /^(?:from|stage)[ \t]*:/i.test(stray.text)) {
      refuse(
        stray.at,
        `${quote(inOneLine(stray.text))} stands above the Bootstrap of its stage`,
        'move it below: a stage begins with Bootstrap',
      );
    }
    return index === 0 ? [...before, ...own] : own;
  });
};

/** The word that was meant may stand there. */
const refuseHeader = (lines: readonly Line[], top: Place): never => {
  const end = lines.findIndex(isSectionStart);
  const keys = lines.slice(0, end < 0 ? undefined : end).filter((line) => !saysNothing(line));
  const near = keys.find(({ text }) => nearest(trim(text.split(':')[0] ?? '').toLowerCase(), ['bootstrap']) !== undefined);
  if (near === undefined) return refuse(top, 'it has no "Bootstrap:"', 'expected Bootstrap: AGENT, such as docker, and From: IMAGE');
  const word = trim(near.text.split(':')[0] ?? '');
  const hint = word.toLowerCase() === 'bootstrap' ? 'expected Bootstrap: AGENT, at the beginning of the line' : 'did you mean Bootstrap?';
  return refuse(near.at, `${quote(inOneLine(near.text))} begins no header`, hint);
};

const splitSections = (lines: readonly Line[]): StageText => {
  const start = lines.findIndex(isSectionStart);
  const header = start < 0 ? lines : lines.slice(0, start);
  const at = (header.find(isBootstrap) ?? header[0])?.at as Place;
  const sections: { name: string; args: string; app: string | undefined; lines: Line[]; at: Place }[] = [];
  for (const line of start < 0 ? [] : lines.slice(start)) {
    if (isSectionStart(line)) sections.push({ ...sectionHead(line), lines: [] });
    else sections.at(-1)?.lines.push(line);
  }
  return { header, sections, at };
};

const sectionHead = ({ text, at }: Line): Omit<Section, 'lines'> => {
  const { word, rest } = firstWord(trimStart(text));
  const name = word.slice(1).toLowerCase();
  const args = trim(rest.split('#')[0] ?? '');
  if (SECTIONS.includes(name)) return { name, args, app: undefined, at };
  if (!APP_SECTIONS.includes(name)) {
    const all = `sections: ${SECTIONS.map((each) => `%${each}`).join(' ')}; in a script, no line can begin with %`;
    return refuse(
      at,
      `${quote(word)} is no section`,
      meant(name, [...SECTIONS, ...APP_SECTIONS], all).replace(/^did you mean /, 'did you mean %'),
    );
  }
  const { word: app, rest: more } = firstWord(args);
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/.test(app))
    refuse(at, `%${name} names no app`, `expected %${name} APP, with letters, digits, and _ . -`);
  return { name, args: more, app, at };
};

// --- templates

const fillIn = ({ header, sections, at }: StageText, templates: Templates): StageText => {
  const values = new Map<string, string>();
  for (const section of sections) if (section.name === 'arguments') readDefaults(section, values);
  for (const name of values.keys()) templates.known.add(name);
  for (const [name, value] of templates.given) values.set(name, value);
  const fill = (line: Line): Line => ({ at: line.at, text: fillLine(line, values, templates) });
  return {
    at,
    header: header.map(fill),
    sections: sections.map((section) => ({
      ...section,
      args: fillLine({ text: section.args, at: section.at }, values, templates),
      lines: section.name === 'arguments' ? section.lines : section.lines.map(fill),
    })),
  };
};

const readDefaults = ({ lines }: Section, values: Map<string, string>): void => {
  for (const line of lines) {
    if (saysNothing(line)) continue;
    const found = /^([A-Za-z0-9_]+)[ \t]*=(.*)$/.exec(trim(line.text));
    if (found === null) refuse(line.at, `${quote(trim(line.text))} is no argument`, 'expected NAME=VALUE');
    values.set(found[1] ?? '', trim(found[2] ?? ''));
  }
};

const TEMPLATE = /\{\{[ \t]*([A-Za-z0-9_]+)[ \t]*\}\}/g;

/** Comment lines are left alone; so is an unknown name behind a "#", which may begin a comment. */
const fillLine = (line: Line, values: ReadonlyMap<string, string>, { used, known }: Templates): string => {
  const { text, at } = line;
  if (!text.includes('{{') || (saysNothing(line) && !trimStart(text).startsWith('#!'))) return text;
  const filled = text.replace(TEMPLATE, (template: string, name: string, offset: number) => {
    const value = values.get(name);
    if (value === undefined) {
      if (/(?:^|[ \t])#(?!!)/.test(text.slice(0, offset))) return template;
      return refuseArgument(
        at,
        `{{ ${name} }} has no value`,
        meant(name, [...values.keys(), ...known], `set it with --build-arg ${name}=VALUE, or in %arguments: ${name}=VALUE`),
      );
    }
    used.add(name);
    // A value may name other arguments, and theirs are taken as they are.
    return value.replace(TEMPLATE, (inner: string, other: string) => {
      if (values.has(other)) used.add(other);
      return values.get(other) ?? inner;
    });
  });
  return filled.length > LIMITS.bytes ? refuseLimit(at, 'a line grows too long when its templates are filled in') : filled;
};

/** Sections of one name as one: texts follow each other, the last arguments hold. */
export const joined = (sections: readonly Section[], name: string, app?: string): Section | undefined => {
  const all = sections.filter((section) => section.name === name && section.app === app);
  const [first] = all;
  if (first === undefined) return undefined;
  return { ...first, args: all.findLast(({ args }) => args !== '')?.args ?? '', lines: all.flatMap(({ lines }) => lines) };
};

/** With a line end after each line. */
export const bodyOf = ({ lines }: Section): string => lines.map(({ text }) => `${text}\n`).join('');

export const isEmpty = ({ lines }: Section): boolean => lines.every(({ text }) => trim(text) === '');

/** Lines that say something, without the blanks around them. */
export const entriesOf = ({ lines }: Section): readonly Line[] =>
  lines.filter((line) => !saysNothing(line)).map(({ text, at }) => ({ text: trim(text), at }));

/** Names of apps, in the order of their first section. */
export const appsOf = (sections: readonly Section[]): readonly string[] => [
  ...new Set(sections.flatMap(({ app }) => (app === undefined ? [] : [app]))),
];
