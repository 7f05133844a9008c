/** Labels that only the build knows: those of a file that steps have written, and those about the build itself. */
import { VERSION } from '../../util/version.ts';
import type { Building } from './building.ts';
import { applyChange } from './stage-state.ts';
import { readTexts } from './tree.ts';

/** Lines "NAME VALUE"; the file itself is no part of the image. */
export const readLabels = async (building: Building, path: string): Promise<void> => {
  const [text = ''] = await readTexts(building.engine, building.tree, [path]);
  if (text === '') return;
  for (const line of text.split('\n')) {
    const [, name, value = ''] = /^[ \t]*([^ \t#][^ \t]*)(?:[ \t]+(.*))?$/.exec(line) ?? [];
    if (name !== undefined) building.state = applyChange(building.state, { field: 'label', name, value: value.trim() });
  }
  building.hidden.push(path);
};

/** Names and date as Apptainer writes them (`Sunday_2_November_2025_9:4:1_UTC`), the date that of the build's SOURCE_DATE_EPOCH. */
export const addBuildLabels = (building: Building): void => {
  const date = new Date(building.epoch * 1000);
  const [weekday, month] = (['weekday', 'month'] as const).map((part) =>
    new Intl.DateTimeFormat('en-US', { [part]: 'long', timeZone: 'UTC' }).format(date),
  );
  const time = `${date.getUTCHours()}:${date.getUTCMinutes()}:${date.getUTCSeconds()}`;
  const labels: readonly (readonly [string, string])[] = [
    ['schema-version', '1.0'],
    ['build-arch', building.engine.platform.architecture],
    ['build-date', `${weekday}_${date.getUTCDate()}_${month}_${date.getUTCFullYear()}_${time}_UTC`],
    ['usage.tsrun.version', VERSION],
  ];
  for (const [name, value] of labels)
    building.state = applyChange(building.state, { field: 'label', name: `org.label-schema.${name}`, value });
};
