/** Help of `exec`, `run` and `shell`, from the flag table. */
import { ALL_FLAGS, type Flag, flagsOf, type RunVerb } from '../request/flags.ts';

const USAGE: Readonly<Record<RunVerb, string>> = {
  exec: 'tsrun exec [options] IMAGE COMMAND [argument…]\n\nRuns a command in an image.',
  run: 'tsrun run [options] IMAGE [argument…]\n\nRuns what the image is made for: its runscript, or its ENTRYPOINT and CMD.',
  test: 'tsrun test [options] IMAGE [argument…]\n\nRuns the test that the recipe of an image has left in it (%test).',
  shell: 'tsrun shell [options] IMAGE [argument…]\n\nStarts a shell in an image.',
};

const GROUPS: Readonly<Record<Flag['group'], string>> = {
  files: 'Files and directories',
  environment: 'Environment',
  isolation: 'Isolation',
  devices: 'Devices',
  messages: 'Messages',
};

const WIDTH = 100;
const INDENT = 34;

export const helpText = (verb: RunVerb): string => {
  const flags = flagsOf(verb);
  const groups = (Object.keys(GROUPS) as Flag['group'][]).map((group) =>
    groupText(
      GROUPS[group],
      flags.filter((flag) => flag.group === group),
    ),
  );
  const where =
    'Options come before the image; everything after it belongs to the program. An image is a SIF or SquashFS file, a directory,\nor docker://NAME[:TAG].';
  return `${USAGE[verb]}\n${where}\n${groups.join('')}`;
};

const groupText = (title: string, flags: readonly Flag[]): string =>
  flags.length === 0 ? '' : `\n${title}:\n${flags.map(flagText).join('')}`;

const flagText = (flag: Flag): string => {
  const names = [...(flag.short !== undefined && ownsShort(flag) ? [`-${flag.short}`] : []), `--${flag.name}`].join(', ');
  const value = flag.value === undefined ? '' : flag.kind === 'optional' ? `[=${flag.value}]` : ` ${flag.value}`;
  const head = `  ${names}${value}`;
  const text = wrapWords(flag.help, WIDTH - INDENT);
  const first = head.length < INDENT - 1 ? head.padEnd(INDENT) : `${head}\n${' '.repeat(INDENT)}`;
  return `${first}${text.join(`\n${' '.repeat(INDENT)}`)}\n`;
};

/** Where two flags share a letter, the earlier one of the table has it. */
const ownsShort = (flag: Flag): boolean => ALL_FLAGS.find((each) => each.short === flag.short)?.name === flag.name;

const wrapWords = (text: string, width: number): readonly string[] => {
  const lines: string[] = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? '';
    if (last !== '' && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines;
};
