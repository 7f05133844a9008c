/** Scripts of definition files: how they are run while building, and the files they become in the image. */
import { bodyOf, type Section } from './definition-text.ts';
import { refuse } from './errors.ts';
import type { Command } from './spec.ts';
import { fields, trimEnd, trimStart } from './text.ts';

/**
 * As Apptainer runs %pre, %setup and %post: `/bin/sh -ex`, with the words behind the section's name. `%post -c /bin/bash` hands the script to another
 * program; all behind -c is its command line. A `#!` line in these sections is a comment.
 */
export const stepCommand = (section: Section, more = ''): Command => {
  const words = fields(section.args);
  const dash = words.indexOf('-c');
  if (dash >= 0 && dash === words.length - 1)
    refuse(section.at, `nothing follows -c of %${section.name}`, `expected %${section.name} -c PROGRAM`);
  const interpreter =
    dash < 0 ? ['/bin/sh', '-ex', ...words] : ['/bin/sh', '-ex', ...words.slice(0, dash), '-c', `${words.slice(dash + 1).join(' ')} "$0"`];
  return { form: 'script', interpreter, text: bodyOf(section) + more, args: [] };
};

/**
 * The file for %runscript and its kin: its own `#!` line or /bin/sh, with the words behind the section's name. `-c PROGRAM` there names the program, as
 * for %post; Apptainer hands it to /bin/sh, which then knows no such option.
 */
export const scriptFile = (section: Section): string => {
  const body = bodyOf(section);
  const program = /^-c[ \t]+(\/.*)$/.exec(section.args)?.[1];
  if (program !== undefined && !trimStart(body).startsWith('#!')) return `#!${program}\n${body}`;
  const start = trimStart(body);
  const end = start.indexOf('\n');
  const own = start.startsWith('#!') ? trimEnd(start.slice(0, end)) : undefined;
  const first = [own ?? '#!/bin/sh', ...(section.args === '' ? [] : [section.args])].join(' ');
  return `${first}\n${own === undefined ? body : start.slice(end + 1)}`;
};
