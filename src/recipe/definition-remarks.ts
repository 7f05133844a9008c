/** What Apptainer takes in silence and is most often a slip: told, and taken as it stands. */

import { labelEntries } from './definition-entries.ts';
import { type Line, type StageText, saysNothing } from './definition-text.ts';
import { quote } from './errors.ts';
import type { Place } from './spec.ts';

export type Remark = { readonly at: Place; readonly text: string };

export const remarksOf = (stages: readonly StageText[]): readonly Remark[] =>
  stages.flatMap(({ sections }) =>
    sections.flatMap((section) => {
      const isLabels = section.name === 'labels' || section.name === 'applabels';
      return [...(isLabels ? labelEntries(section).flatMap(labelRemarks) : []), ...section.lines.flatMap(templateRemarks)];
    }),
  );

const labelRemarks = ({ name, value, at }: ReturnType<typeof labelEntries>[number]): readonly Remark[] =>
  value === '' ? [{ at, text: `the label ${quote(name)} has no value; one stands behind a blank: NAME VALUE` }] : [];

/** Several words in braces. What else stands there is of other languages: {{ .Names }} of Go, {{ item.name }} of Jinja, {{}} of Python. */
const NEARLY = /\{\{[ \t]*[A-Za-z][A-Za-z0-9_]*[- \t]+[A-Za-z0-9_][A-Za-z0-9_ \t-]*\}\}/g;

const templateRemarks = (line: Line): readonly Remark[] =>
  saysNothing(line)
    ? []
    : (line.text.match(NEARLY) ?? []).map((found) => ({
        at: line.at,
        text: `${quote(found)} stays as it is: a name has letters, digits and _`,
      }));
