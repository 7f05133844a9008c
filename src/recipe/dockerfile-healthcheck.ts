/** HEALTHCHECK: tsrun checks nothing, but the image keeps what it says. */
import type { Compile } from './dockerfile-compile.ts';
import { commandOf, readFlags } from './dockerfile-forms.ts';
import { takeFlags } from './dockerfile-lines.ts';
import { quote, refuse } from './errors.ts';
import type { Place } from './spec.ts';
import { firstWord } from './text.ts';

export const healthcheck: Compile = (instruction) => {
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
  return [
    { kind: 'config', change: { field: 'healthcheck', test, interval, timeout, startPeriod, startInterval, retries: Number(retries) } },
  ];
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
