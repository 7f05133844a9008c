/**
 * What a step leaves behind that says more about the moment and the machine than about the recipe: the table of rules. Order does not matter;
 * every rule has its reason, which `tsrun build --check` and the documentation print.
 *
 *   drop    the step's change of that file is not taken over; a base image's own file shows again
 *   empty   the file stays, with no content
 *   edit    bytes in it follow the clamped times
 *
 * Directories stay in any case. Not in here is what a program may want to keep: keys made by an installation, databases of package managers.
 * Those differ from build to build, and --check names them.
 */
import { clampPyc, PYC_HEAD } from './pyc.ts';

export type Action =
  | { readonly do: 'drop' }
  | { readonly do: 'empty' }
  /** The first `head` bytes at most, the same number comes back; `whole`: all of the file, of any length after it. */
  | { readonly do: 'edit'; readonly head: number | 'whole'; readonly edit: (bytes: Buffer, epoch: number) => Buffer };

export type Rule = {
  /** Of the path as a byte string, without a slash before it. */
  readonly path: RegExp;
  readonly action: Action;
  readonly why: string;
};

const DROP: Action = { do: 'drop' };
const SECONDS_A_DAY = 86_400;

/** shadow(5): the third field is the day of the last password change; `useradd` writes today. */
const clampShadowDays = (bytes: Buffer, epoch: number): Buffer => {
  const day = Math.floor(epoch / SECONDS_A_DAY);
  const lines = bytes.toString('latin1').split('\n');
  const edited = lines.map((line) => {
    const fields = line.split(':');
    if (fields.length < 9 || !/^[0-9]{1,9}$/.test(fields[2] ?? '') || Number(fields[2]) <= day) return line;
    return fields.with(2, String(day)).join(':');
  });
  return Buffer.from(edited.join('\n'), 'latin1');
};

const withoutDate = (bytes: Buffer): Buffer =>
  Buffer.from(bytes.toString('latin1').replace(/^(# AutoInstalled) generated .*/, '$1'), 'latin1');

/** Hold everywhere, whatever the layer was made by: they belong to the clamped times. */
export const TIME_RULES: readonly Rule[] = [
  {
    path: /\.pyc$/,
    action: { do: 'edit', head: PYC_HEAD, edit: clampPyc },
    why: 'it repeats the time of its source, by which Python decides whether to compile again',
  },
];

/** For what ran: steps and bootstrap agents. Files that a recipe copies are meant as they are. */
export const NOISE_RULES: readonly Rule[] = [
  { path: /^etc\/machine-id$/, action: { do: 'empty' }, why: 'a random number for one machine; empty means "not yet set" (machine-id(5))' },
  { path: /^var\/lib\/dbus\/machine-id$/, action: DROP, why: 'a copy of the machine id; D-Bus makes it again' },
  { path: /^etc\/(?:hostname|resolv\.conf)$/, action: DROP, why: 'name and name servers of the machine that built the image' },
  {
    path: /^etc\/shadow-?$/,
    action: { do: 'edit', head: 'whole', edit: clampShadowDays },
    why: 'the day on which an account was made',
  },
  { path: /^etc\/(?:passwd|group|gshadow|subuid|subgid)-$/, action: DROP, why: 'what useradd keeps of the state before' },
  { path: /^var\/cache\/ldconfig\/aux-cache$/, action: DROP, why: 'inode numbers and change times of libraries; ldconfig makes it again' },
  {
    path: /^var\/log\/(?:apt\/.*|(?:dpkg|alternatives|bootstrap|fontconfig|apk|pacman|yum|hawkey|zypper|dnf5?(?:\.\w+)?)\.log(?:\.\d+)?|zypp\/history|faillog|lastlog|tallylog|wtmp|btmp)$/,
    action: DROP,
    why: 'logs with the time of the build',
  },
  { path: /^var\/cache\/apt\/[^/]*\.bin$/, action: DROP, why: 'an index with times of the files it was made from; apt makes it again' },
  {
    path: /^(?:var\/cache|root\/\.cache|home\/[^/]+\/\.cache)\/fontconfig\//,
    action: DROP,
    why: 'keyed by the times of directories, which are clamped; fontconfig makes it again',
  },
  { path: /^var\/cache\/man\/(?:.*\/)?index\.db$/, action: DROP, why: 'an index with times of manual pages; mandb makes it again' },
  { path: /^var\/lib\/(?:mlocate\/mlocate|plocate\/plocate)\.db$/, action: DROP, why: 'an index with times; updatedb makes it again' },
  { path: /^var\/lib\/systemd\/(?:catalog\/database|random-seed|credential\.secret)$/, action: DROP, why: 'made anew on each machine' },
  {
    path: /^var\/lib\/(?:zypp\/AnonymousUniqueId|YaST2\/cookies)$/,
    action: DROP,
    why: 'a random number, and what servers answered; zypper makes them again',
  },
  {
    path: /^var\/lib\/zypp\/AutoInstalled$/,
    action: { do: 'edit', head: 'whole', edit: withoutDate },
    why: 'its first line says when zypper wrote it',
  },
  { path: /^var\/lib\/rpm\/__db\.\d+$/, action: DROP, why: 'shared memory of a program that has ended' },
  { path: /^(?:root|home\/[^/]+)\/\.gnupg\/random_seed$/, action: DROP, why: 'a random number' },
  {
    path: /^(?:root|home\/[^/]+)\/\.cache\/pip\//,
    action: DROP,
    why: "pip's downloads, with the dates of the server's answers",
  },
  {
    path: /^(?:root|home\/[^/]+)\/\.(?:bash_history|ash_history|python_history|lesshst|viminfo|wget-hsts)$/,
    action: DROP,
    why: 'what was typed and seen during the build',
  },
];
