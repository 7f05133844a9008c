/**
 * Options of Docker and Podman that people's fingers know, and what to write here instead. Most are unknown words; a few letters mean a switch of
 * Apptainer's, so that their value would be taken for the image.
 */

/** Long names and letters; the letters only where tsrun has none of its own. */
const INSTEAD: readonly { readonly words: readonly string[]; readonly write: string }[] = [
  { words: ['--volume'], write: '--bind SRC:DST' },
  { words: ['--rm'], write: 'leave it out: a run leaves nothing behind' },
  { words: ['-t', '--tty', '--interactive'], write: 'leave it out: the program has your terminal' },
  { words: ['--publish', '--expose'], write: "leave it out: programs use the host's network, their ports are the host's" },
  { words: ['--user'], write: 'leave it out: programs run as you' },
  { words: ['--entrypoint'], write: 'tsrun exec IMAGE PROGRAM' },
  { words: ['--gpus'], write: '--nv' },
  { words: ['--detach'], write: 'nohup tsrun ... &, or a batch job' },
  { words: ['--name', '--label', '--restart', '--init', '--pull'], write: 'leave it out: a run is an ordinary process' },
  { words: ['--privileged', '--cap-add', '--cap-drop', '--security-opt'], write: 'leave it out: programs run with your own rights' },
  { words: ['--read-only'], write: 'leave it out: images are read-only unless --writable-tmpfs is given' },
  { words: ['--tmpfs'], write: '--contain for an empty /tmp, --writable-tmpfs for the whole image' },
  { words: ['--shm-size', '--ulimit'], write: "leave it out: /dev/shm and limits are the host's" },
  { words: ['--platform'], write: 'tsrun pull --arch ARCH' },
];

/** What to write in place of an option that tsrun does not know. */
export const insteadOf = (word: string): string | undefined => INSTEAD.find(({ words }) => words.includes(word))?.write;

/** `-v a:b`, `-e A=B`, `-p 80:80`, `-u 1000:1000`: switches of tsrun, followed by a word that is no image. What to write; undefined: nothing wrong. */
export const misreadSwitch = (option: string, image: string): string | undefined => {
  if (option === '-v' && /^[.~/][^:]*:\//.test(image)) return `--bind ${image}`;
  if (option === '-e' && /^[A-Za-z_][A-Za-z0-9_]*=/.test(image)) return `--env ${image}`;
  if (option === '-p' && /^[0-9.]+:[0-9:]+(\/(tcp|udp))?$/.test(image)) return insteadOf('--publish');
  if (option === '-u' && /^[0-9]+(:[0-9]+)?$/.test(image)) return insteadOf('--user');
  return undefined;
};

/** A whole command line of Docker is answered at once: what to write for each of its options in `words`, up to the image. */
export const insteadOfAll = (words: readonly string[]): string => {
  const all: string[] = [];
  for (const [at, word] of words.entries()) {
    const before = words[at - 1] ?? '-';
    if (!word.startsWith('-') && !before.startsWith('-')) break; // no value of an option: the image
    const letters = /^-[a-z]+$/.test(word) ? [...word.slice(1)].map((letter) => `-${letter}`) : [word.split('=', 1)[0] ?? ''];
    for (const option of letters) {
      const write = insteadOf(option) ?? misreadSwitch(option, words[at + 1] ?? '');
      if (write !== undefined) all.push(`${option}: ${write}`);
    }
  }
  return all.join('; ');
};
