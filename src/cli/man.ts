/** The manual page tsrun(1), printed from the tables of verbs and flags. Format: groff's man macros (groff_man(7)). */
import { ALL_FLAGS, type Flag } from '../request/flags.ts';
import { EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_TSRUN } from '../util/errors.ts';
import { VERSION } from '../util/version.ts';
import { ALL_VERBS, COMMON, type Option, usageOf, type Verb } from './verbs.ts';

export const manPage = (): string =>
  [
    `.TH TSRUN 1 "" "tsrun ${VERSION}" "User Commands"`,
    section('NAME', [`tsrun \\- ${roff('turn container images into single files and run programs in them as yourself')}`]),
    section('SYNOPSIS', [...RUN.map(([usage]) => `.B tsrun ${roff(usage)}`), '.B tsrun \\fICOMMAND\\fR ...'].flatMap(breakBefore)),
    section(
      'DESCRIPTION',
      DESCRIPTION.flatMap((text) => ['.PP', roff(text)]),
    ),
    section('RUNNING PROGRAMS', [
      ...RUN.flatMap(([usage, help]) => term(usage, help)),
      '.PP',
      roff('Options come before the image; everything after it belongs to the program:'),
      ...ALL_FLAGS.flatMap(flagLines),
    ]),
    section('OTHER COMMANDS', shown.flatMap(verbLines)),
    section('OPTIONS OF ALL OTHER COMMANDS', COMMON.flatMap(optionLines)),
    section(
      'EXIT STATUS',
      EXITS.flatMap(([status, help]) => term(String(status), help)),
    ),
    section(
      'ENVIRONMENT',
      ENVIRONMENT.flatMap(([name, help]) => term(name, help)),
    ),
    section(
      'FILES',
      FILES.flatMap(([name, help]) => term(name, help)),
    ),
    section('SEE ALSO', ['.BR apptainer (1),', '.BR mksquashfs (1)']),
  ].join('\n');

const shown: readonly Verb[] = ALL_VERBS.filter((verb: Verb) => verb.hidden !== true);

const RUN: readonly (readonly [string, string])[] = [
  ['exec [options] IMAGE COMMAND [argument…]', 'runs a command in an image'],
  ['run [options] IMAGE [argument…]', 'runs what the image is made for: its runscript, or its ENTRYPOINT and CMD'],
  ['shell [options] IMAGE [argument…]', 'starts a shell in an image'],
];

const DESCRIPTION = [
  'tsrun converts OCI images (what Docker, Podman and Buildah make) to single-file SIF images and runs programs in them as the calling user: with that ' +
    'user id, home directory, current directory and the devices of the host. There is no setuid helper and no daemon of root.',
  'An IMAGE is a SIF or SquashFS file, a directory, or docker://NAME[:TAG], which is converted into the store on first use.',
];

const EXITS: readonly (readonly [number | string, string])[] = [
  [EXIT_TSRUN, 'tsrun itself failed; the message has a code, such as (E_IMAGE_MISSING), and mostly a hint'],
  [EXIT_NOT_EXECUTABLE, 'the command cannot be executed'],
  [EXIT_NOT_FOUND, 'the command is not in the image'],
  ['other', "the program's own"],
];

const ENVIRONMENT: readonly (readonly [string, string])[] = [
  [
    'TSRUN_FLAG',
    'stands for the flag of that name, where the list above names it; APPTAINER_FLAG and SINGULARITY_FLAG count where it is not set',
  ],
  ['TSRUNENV_NAME', 'sets NAME for the program; so do APPTAINERENV_NAME and SINGULARITYENV_NAME'],
  ['TSRUN_STORE, TSRUN_LOCAL', 'places of the store and of node-local files'],
  ['TSRUN_OFFLINE, TSRUN_INSECURE', '1: as --offline and --insecure'],
];

const FILES: readonly (readonly [string, string])[] = [
  ['/etc/tsrun/config.yaml', 'defaults of the site'],
  ['~/.config/tsrun/config.yaml', 'your own, which win'],
  ['~/.config/tsrun/auth.json', 'what tsrun login keeps'],
  ['~/.cache/tsrun', 'the store: downloads, converted images, image facts'],
];

const verbLines = (verb: Verb): readonly string[] => [
  `.SS "tsrun ${roff(verb.name)} ${verb.options.length > 0 ? '[options] ' : ''}${roff(usageOf(verb))}"`,
  roff(`${verb.help.charAt(0).toUpperCase()}${verb.help.slice(1)}.`),
  ...verb.positions.flatMap(({ name, help }) => term(name, help)),
  ...verb.options.flatMap(optionLines),
];

const optionLines = ({ name, short, value, help }: Option): readonly string[] =>
  term(`${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`, help);

const flagLines = ({ name, short, kind, value, env = [], config, help }: Flag): readonly string[] => {
  const shownValue = value === undefined ? '' : kind === 'optional' ? `[=${value}]` : ` ${value}`;
  const also = [...env.map((key) => `TSRUN_${key}`), ...(config === undefined ? [] : [`${config}: in the configuration`])];
  return term(
    `${short === undefined ? '' : `-${short}, `}--${name}${shownValue}`,
    also.length === 0 ? help : `${help} (${also.join(', ')})`,
  );
};

// --- roff

const section = (title: string, lines: readonly string[]): string => [`.SH ${title}`, ...lines, ''].join('\n');

const term = (name: string, text: string): readonly string[] => ['.TP', `.B ${roff(name)}`, roff(text)];

const breakBefore = (line: string, at: number): readonly string[] => (at === 0 || line === '.br' ? [line] : ['.br', line]);

/** Text as it is: no escapes, no requests, minus signs that can be copied. */
const roff = (text: string): string =>
  text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('"', '\\(dq').replaceAll('…', '...').replace(/^[.']/, '\\&$&');
