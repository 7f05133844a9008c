/** Labels that only the build knows: those of a file that steps have written, and those about the build itself. */

import { formatRegistryReference, parseReference } from '../../oci/reference.ts';
import { VERSION } from '../../util/version.ts';
import type { Base } from './base.ts';
import type { Building } from './building.ts';
import { applyChange, type StageState, withLabel } from './stage-state.ts';
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

/**
 * What images say of where they come from (image-spec annotations.md, as labels): a recipe's own labels come later and win. The base only where it
 * is one of a registry, whose name and digest mean something elsewhere too.
 */
export const withOrigin = (state: StageState, base: Base, epoch: number): StageState => {
  const reference = base.name.startsWith('docker://') ? parseReference(base.name) : undefined;
  const named = reference?.kind === 'registry' ? formatRegistryReference(reference).replace(/^docker:\/\//, '') : undefined;
  const labels: readonly (readonly [string, string | undefined])[] = [
    ['created', new Date(epoch * 1000).toISOString().replace('.000Z', 'Z')],
    ['base.name', named],
    ['base.digest', named === undefined ? undefined : base.digest],
  ];
  return labels.reduce((next, [name, value]) => withLabel(next, `org.opencontainers.image.${name}`, value), state);
};
