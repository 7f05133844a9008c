/** Calls of tsrun as users make them, each different from the one before, some of them killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { tsrunPath } from '../helpers/product.ts';
import type { Chance } from './chance.ts';
import { everybody } from './left.ts';
import type { Place } from './place.ts';

/** Longer than any of them takes on a busy machine; they wait about as long for a server's answer. */
const PATIENCE_MS = 60_000;

/** What a call does inside, and what it then says. */
type Errand = { readonly script: string; readonly says: string };

const errandOf = (chance: Chance, place: Place): Errand => {
  const data = { script: 'cat /opt/tool/data.txt', says: 'from the image\n' };
  const large = { script: 'md5sum </srv/large', says: `${place.sumOfLarge}  -\n` };
  const later = { script: `sleep 0.0${chance.below(10)}; cat /opt/tool/data.txt`, says: data.says };
  const walk = { script: 'find / -xdev -type d >/dev/null; echo walked', says: 'walked\n' };
  // A daemon reads on when its run has ended, and the linger time after it, too.
  const wait = chance.pick(['0.2', '0.6', '1.5']);
  const daemon = { script: `(sleep ${wait}; md5sum /srv/large) >/dev/null 2>&1 </dev/null & echo left`, says: 'left\n' };
  return chance.pick([data, data, data, large, later, later, walk, daemon]);
};

export type Call = {
  readonly scope: string;
  readonly linger: string;
  readonly words: readonly string[];
  readonly cwd: string;
  readonly says: string;
  /** Milliseconds until it is killed, or (stopped) until it is stopped for a while. */
  readonly end: { readonly how: 'by itself' } | { readonly how: 'killed' | 'stopped'; readonly after: number };
};

const bindsOf = (chance: Chance, place: Place): string[] =>
  Array.from({ length: chance.pick([0, 0, 1, 1, 1, 2, 3]) }, (_, i) => {
    const target = chance.pick([`/mnt/${i}`, `/srv/new-${chance.below(20)}-${i}`, `/mnt/${i}:ro`]);
    return ['--bind', `${chance.pick(place.bound)}:${target}`];
  }).flat();

export const callOf = (chance: Chance, place: Place): Call => {
  const { script, says } = errandOf(chance, place);
  const flags = chance.percent(75) ? [] : chance.pick([['--pid'], ['--contain'], ['--writable-tmpfs'], ['--stage=memory']]);
  const cwd = chance.percent(60) ? '/tmp' : chance.pick(place.bound);
  const environment = chance.percent(50) ? [] : ['--env', `WORD=${chance.below(1000)}`];
  const fate = chance.below(100);
  return {
    scope: chance.pick(place.runtimes),
    linger: chance.pick(['0', '0', '0.3', '1', '1']),
    words: ['exec', ...flags, ...environment, ...bindsOf(chance, place), chance.pick(place.images), 'sh', '-c', script],
    cwd,
    says,
    end:
      fate < 30
        ? { how: 'killed', after: chance.below(40) }
        : fate < 33
          ? { how: 'stopped', after: chance.below(20) }
          : { how: 'by itself' },
  };
};

/** One that ends its server at once. */
export const plainCall = (scope: string, place: Place): Call => ({
  scope,
  linger: '0',
  words: ['exec', place.images[0] ?? '', 'cat', '/opt/tool/data.txt'],
  cwd: '/tmp',
  says: 'from the image\n',
  end: { how: 'by itself' },
});

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** A run in a namespace of its own lives on in a child when the one that is known is stopped. */
const signalGroup = (child: ChildProcess, signal: NodeJS.Signals): void => {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // It has ended.
  }
};

/** Makes the call; what was wrong with it, or nothing. */
export const make = async (call: Call, place: Place): Promise<string | undefined> => {
  const [program = '', ...words] = [...place.asCaller, tsrunPath, ...call.words];
  const child = spawn(program, words, {
    env: { ...place.env, XDG_RUNTIME_DIR: call.scope, TSRUN_LINGER: call.linger, TMPDIR: join(call.scope, '..') },
    cwd: call.cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('latin1').on('data', (chunk) => (text += chunk));
  const ended = new Promise<string>((done) => child.on('close', (status, signal) => done(String(signal ?? status))));
  if (call.end.how !== 'by itself') {
    await sleep(call.end.after);
    signalGroup(child, call.end.how === 'killed' ? 'SIGKILL' : 'SIGSTOP');
  }
  if (call.end.how === 'stopped') {
    await sleep(300);
    signalGroup(child, 'SIGCONT');
  }
  // Nobody waits for this one when the call has ended.
  const hangs = new Promise<string>((done) => setTimeout(() => done('nothing: it hangs'), PATIENCE_MS).unref());
  const ending = await Promise.race([ended, hangs]);
  const also = ending.startsWith('nothing') ? `\n${everybody()}` : '';
  if (also !== '') signalGroup(child, 'SIGKILL');
  if (call.end.how === 'killed' || (ending === '0' && text === call.says)) return undefined;
  return `tsrun ${call.words.join(' ')}\n  in ${call.cwd}, linger ${call.linger}: ended by ${ending}, said ${JSON.stringify(text.slice(0, 500))}${also}`;
};
