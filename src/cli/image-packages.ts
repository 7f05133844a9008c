/** `tsrun image packages IMAGE`: what its package managers know. */
import { packagesOf } from '../build/packages-of.ts';
import { openSquashFile } from '../build/squash-file.ts';
import { packageTitle } from '../lock/packages.ts';
import { printableLine } from '../util/printable.ts';
import { note } from './report.ts';

/** @returns the text for stdout. @throws TsrunError */
export const imagePackages = async (path: string, json: boolean, quiet: boolean): Promise<string> => {
  const { packages, notes } = await packagesOf(openSquashFile(path));
  for (const text of notes) note(text, quiet);
  if (json) return `${JSON.stringify(packages, undefined, 2)}\n`;
  return packages.map((each) => `${printableLine(packageTitle(each))}\n`).join('');
};
