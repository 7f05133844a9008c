/** Completion scripts of bash, zsh and fish, printed from the tables of verbs and flags; they ask nothing of tsrun while one types. */
import { type Flag, flagsOf, RUN_VERBS } from '../request/flags.ts';
import { TsrunError } from '../util/errors.ts';
import { ALL_VERBS, COMMON, GROUPS, type Option, type Verb } from './verbs.ts';

/** @throws TsrunError E_USAGE for a shell without a script */
export const completionScript = (shell: string): string => {
  switch (shell) {
    case 'bash':
      return bash();
    case 'zsh':
      return zsh();
    case 'fish':
      return fish();
    default:
      throw new TsrunError({
        code: 'E_USAGE',
        what: `cannot complete for ${JSON.stringify(shell.slice(0, 40))}`,
        why: 'there is no script for that shell',
        hint: 'known: bash, zsh, fish',
      });
  }
};

// --- what there is to complete, the same for all shells

type Word = { readonly word: string; readonly help: string };
type Spelled = {
  readonly name: string;
  readonly short?: string | undefined;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
  readonly help: string;
};
type Command = Word & { readonly options: readonly Spelled[]; readonly sub: readonly (Word & { readonly options: readonly Spelled[] })[] };

const shown: readonly Verb[] = ALL_VERBS.filter((verb: Verb) => verb.hidden !== true);

const ofOption = ({ name, short, value, choices = [], help }: Option): Spelled => ({
  name,
  short,
  takesValue: value !== undefined,
  choices,
  help,
});

/** A value given as `--flag=VALUE` only takes no further word. */
const ofFlag = ({ name, short, kind, help }: Flag): Spelled => ({
  name,
  short,
  takesValue: kind === 'value' || kind === 'list',
  choices: [],
  help,
});

const optionsOf = (verb: Verb): readonly Spelled[] => [...verb.options, ...COMMON].map(ofOption);

const commands = (): readonly Command[] => [
  ...RUN_VERBS.map((verb) => ({ word: verb, help: RUN_HELP[verb], options: flagsOf(verb).map(ofFlag), sub: [] })),
  ...shown
    .filter(({ name }) => !name.includes(' '))
    .map((verb) => ({ word: verb.name, help: verb.help, options: optionsOf(verb), sub: [] })),
  ...Object.entries(GROUPS).map(([group, { help }]) => ({
    word: group,
    help,
    options: [],
    sub: shown
      .filter(({ name }) => name.startsWith(`${group} `))
      .map((verb) => ({ word: verb.name.slice(group.length + 1), help: verb.help, options: optionsOf(verb) })),
  })),
];

const RUN_HELP = {
  exec: 'run a command in an image',
  run: 'run what an image is made for',
  shell: 'start a shell in an image',
  test: 'run the test of an image',
} as const;

const SCHEMES = ['docker://', 'oci:', 'oci-archive:', 'docker-archive:', 'tar:'];

const spellings = (options: readonly Spelled[]): readonly string[] =>
  options.flatMap(({ name, short }) => [`--${name}`, ...(short === undefined ? [] : [`-${short}`])]);

const withValue = (options: readonly Spelled[]): readonly string[] => spellings(options.filter(({ takesValue }) => takesValue));

// --- bash: one function; a path of words chooses the list

const bash = (): string => {
  const cases = commands().flatMap(({ word, options, sub }) =>
    sub.length === 0
      ? [bashCase(word, options)]
      : [
          `    '${word}') words='${sub.map((each) => each.word).join(' ')}' ;;`,
          ...sub.map((each) => bashCase(`${word} ${each.word}`, each.options)),
        ],
  );
  return `# bash completion of tsrun; put it into ~/.local/share/bash-completion/completions/tsrun
_tsrun() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" verb='' positions=0 skip='' at
  local words='' options='' values='' choices=''
  COMPREPLY=()
  for ((at = 1; at < COMP_CWORD; at++)); do
    if [[ -n $skip ]]; then skip=''; continue; fi
    _tsrun_lists "$verb"
    case "\${COMP_WORDS[at]}" in
      -*) [[ " $values " == *" \${COMP_WORDS[at]} "* ]] && skip=1 ;;
      *) if [[ -z $verb ]]; then verb="\${COMP_WORDS[at]}"
         elif [[ -n $words ]]; then verb="$verb \${COMP_WORDS[at]}"
         else positions=$((positions + 1)); fi ;;
    esac
  done
  _tsrun_lists "$verb"
  if [[ -n $skip ]]; then
    [[ $previous == --compress ]] && choices='zstd gzip xz lz4'
    if [[ -n $choices ]]; then COMPREPLY=($(compgen -W "$choices" -- "$current")); else COMPREPLY=($(compgen -f -- "$current")); fi
  elif [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  elif [[ $current == -* ]]; then
    # Behind the image every word belongs to the program.
    [[ $positions -gt 0 && " ${RUN_VERBS.join(' ')} " == *" $verb "* ]] || COMPREPLY=($(compgen -W "$options" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current") $([[ $verb == build || $verb == pull ]] && compgen -W '${SCHEMES.join(' ')}' -- "$current"))
  fi
}
_tsrun_lists() {
  words='' options='' values=''
  case "$1" in
    '') words='${commands()
      .map(({ word }) => word)
      .join(' ')}' ;;
${cases.join('\n')}
  esac
}
complete -o filenames -F _tsrun tsrun
`;
};

const bashCase = (path: string, options: readonly Spelled[]): string =>
  `    '${path}') options='${spellings(options).join(' ')}' values='${withValue(options).join(' ')}' ;;`;

// --- zsh: _arguments for each verb

const zsh = (): string => `#compdef tsrun
# zsh completion of tsrun; put it into a directory of $fpath as _tsrun
_tsrun() {
  local line state
  _arguments -C '1:command:->command' '*::argument:->argument'
  case $state in
    command)
      local -a commands=(${commands().map(zshWord).join(' ')})
      _describe command commands ;;
    argument)
      case $words[1] in
${commands()
  .map(({ word, options, sub }) => `        ${word}) ${sub.length === 0 ? zshArguments(word, options) : zshGroup(sub)} ;;`)
  .join('\n')}
      esac ;;
  esac
}
_tsrun "$@"
`;

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const zshWord = ({ word, help }: Word): string => quoted(`${word}:${help.replaceAll(':', '\\:')}`);

const zshArguments = (word: string, options: readonly Spelled[]): string => {
  const specs = options.flatMap((option) => zshSpecs(option));
  // Behind the image every word belongs to the program.
  const rest = (RUN_VERBS as readonly string[]).includes(word) ? ["'1:image:_files'", "'*::program:_normal'"] : ["'*:file:_files'"];
  return `_arguments -s -S ${[...specs, ...rest].join(' ')}`;
};

const zshSpecs = ({ name, short, takesValue, choices, help }: Spelled): readonly string[] => {
  const text = help.replace(/[[\]:\\]/g, '\\$&');
  const value = takesValue ? `:value:${choices.length > 0 ? `(${choices.join(' ')})` : '_files'}` : '';
  return [`--${name}`, ...(short === undefined ? [] : [`-${short}`])].map((spelling) => quoted(`*${spelling}[${text}]${value}`));
};

const zshGroup = (sub: Command['sub']): string =>
  `if (( CURRENT == 2 )); then local -a commands=(${sub.map(zshWord).join(' ')}); _describe command commands; else case $words[2] in ${sub
    .map(({ word, options }) => `${word}) shift words; (( CURRENT-- )); ${zshArguments(word, options)} ;;`)
    .join(' ')} esac; fi`;

// --- fish: one line for each thing

const fish = (): string => {
  const lines: string[] = ['# fish completion of tsrun; put it into ~/.config/fish/completions/tsrun.fish'];
  const words = commands().map(({ word }) => word);
  for (const { word, help, options, sub } of commands()) {
    lines.push(`complete -c tsrun -n 'not __fish_seen_subcommand_from ${words.join(' ')}' -f -a ${word} -d ${fishQuoted(help)}`);
    lines.push(...options.map((option) => fishOption(`__fish_seen_subcommand_from ${word}`, option)));
    for (const each of sub) {
      const inGroup = `__fish_seen_subcommand_from ${word}; and not __fish_seen_subcommand_from ${sub.map((other) => other.word).join(' ')}`;
      lines.push(`complete -c tsrun -n '${inGroup}' -f -a ${each.word} -d ${fishQuoted(each.help)}`);
      lines.push(
        ...each.options.map((option) =>
          fishOption(`__fish_seen_subcommand_from ${word}; and __fish_seen_subcommand_from ${each.word}`, option),
        ),
      );
    }
  }
  return `${lines.join('\n')}\n`;
};

const fishQuoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

const fishOption = (condition: string, { name, short, takesValue, choices, help }: Spelled): string =>
  [
    `complete -c tsrun -n '${condition}' -l ${name}`,
    ...(short === undefined ? [] : [`-s ${short}`]),
    ...(takesValue ? [choices.length > 0 ? `-x -a '${choices.join(' ')}'` : '-r'] : []),
    `-d ${fishQuoted(help)}`,
  ].join(' ');
