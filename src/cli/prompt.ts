/** Questions on the terminal: a line, and a line that is not shown. */
import type { Readable, Writable } from 'node:stream';
import { TsrunError } from '../util/errors.ts';

/** What a terminal's input has and a pipe's has not. */
export type Terminal = { readonly isTTY: boolean; setRawMode(on: boolean): unknown };

export type Asking = { readonly stdin: Readable & Partial<Terminal>; readonly stderr: Writable };

/** @throws TsrunError E_LOGIN when there is no terminal, or the user gave up. */
export const askLine = (io: Asking, question: string): Promise<string> => ask(io, question, true);

/** Nothing typed is shown, not even its length. @throws TsrunError E_LOGIN */
export const askSecret = (io: Asking, question: string): Promise<string> => ask(io, question, false);

/** In raw mode, since the terminal's own line editing shows what is typed. */
const ask = ({ stdin, stderr }: Asking, question: string, shown: boolean): Promise<string> =>
  new Promise((resolve, reject) => {
    if (stdin.isTTY !== true || stdin.setRawMode === undefined) {
      reject(giveUp('there is no terminal to ask on', 'use --username NAME --password-stdin'));
      return;
    }
    let line = '';
    const end = (finish: () => void): void => {
      stdin.off('data', take);
      stdin.pause();
      stdin.setRawMode?.(false);
      stderr.write('\n');
      finish();
    };
    const take = (chunk: Buffer | string): void => {
      const typed = [...String(chunk)];
      for (const [index, character] of typed.entries()) {
        if (character === '\r' || character === '\n') {
          end(() => resolve(line));
          // Pasted name and password: the rest is the next answer.
          if (index + 1 < typed.length) stdin.unshift(typed.slice(index + 1).join(''));
          return;
        }
        if (character === CTRL_C || (character === CTRL_D && line === '')) {
          end(() => reject(giveUp('it was cancelled')));
          return;
        }
        line = edit(line, character);
        if (shown) stderr.write(`\r\x1b[K${question}${line}`);
      }
    };
    // First: nothing typed after the question may be shown.
    stdin.setRawMode(true);
    stderr.write(question);
    stdin.on('data', take);
    stdin.resume();
  });

const CTRL_C = '\x03';
const CTRL_D = '\x04';
const CTRL_U = '\x15';
const ERASE = ['\x7f', '\b'];
const LINE_LIMIT = 8192;

const edit = (line: string, character: string): string => {
  if (character === CTRL_U) return '';
  if (ERASE.includes(character)) return [...line].slice(0, -1).join('');
  return character < ' ' || line.length >= LINE_LIMIT ? line : line + character;
};

const giveUp = (why: string, hint?: string): TsrunError => new TsrunError({ code: 'E_LOGIN', what: 'cannot ask for a login', why, hint });
