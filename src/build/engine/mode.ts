/** --chmod: octal digits, or letters as chmod(1) takes them ("u+x", "go-w", "a=rX"). */
import { TsrunError } from '../../util/errors.ts';

export type ModeChange = (mode: number, isDirectory: boolean) => number;

const WHO: Readonly<Record<string, number>> = { u: 0o4700, g: 0o2070, o: 0o1007 };
const BITS: Readonly<Record<string, number>> = { r: 0o444, w: 0o222, x: 0o111, s: 0o6000, t: 0o1000 };

/** @param place begins the error. @throws TsrunError E_MODE */
export const modeChange = (text: string, place: string): ModeChange => {
  if (/^[0-7]{1,5}$/.test(text) && Number.parseInt(text, 8) <= 0o7777) return () => Number.parseInt(text, 8);
  const clauses = text.split(',').map((clause) => /^([ugoa]*)((?:[-+=][rwxXst]*)+)$/.exec(clause));
  if (clauses.some((clause) => clause === null)) {
    throw new TsrunError({
      code: 'E_MODE',
      what: `${place}: cannot set the mode ${JSON.stringify(text.slice(0, 100))}`,
      why: 'it is neither octal digits nor letters as chmod takes them',
      hint: 'write it like 755 or u=rwX,go=rX',
    });
  }
  return (mode, isDirectory) => clauses.reduce((now, clause) => applied(now, isDirectory, clause?.[1] ?? '', clause?.[2] ?? ''), mode);
};

const applied = (mode: number, isDirectory: boolean, who: string, actions: string): number => {
  const mask = who === '' || who.includes('a') ? 0o7777 : [...who].reduce((sum, each) => sum | (WHO[each] ?? 0), 0);
  let now = mode;
  for (const [, operator = '', letters = ''] of actions.matchAll(/([-+=])([rwxXst]*)/g)) {
    let bits = 0;
    for (const letter of letters) {
      if (letter === 'X') bits |= isDirectory || (now & 0o111) !== 0 ? 0o111 : 0;
      else bits |= BITS[letter] ?? 0;
    }
    bits &= mask;
    if (operator === '+') now |= bits;
    else if (operator === '-') now &= ~bits;
    else now = (now & ~(mask & 0o777)) | bits;
  }
  return now & 0o7777;
};
