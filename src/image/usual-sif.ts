/**
 * Where root file system and facts lie in a SIF as tsrun and Apptainer write it, read straight from the text of its first bytes: a start pays for
 * every object that the full reader (sif/read.ts) makes. Whatever is not as usual is left to that reader, which also has the words for it; what is
 * accepted here it accepts too, with the same result (a test compares them), but for fields that no run looks at (times, owners, padded sizes).
 */
import { archOfCode, DATA_TYPES, DESCRIPTOR_SIZE, type SifArch, TABLE_OFFSET } from '../sif/format.ts';
import { u32At, u32Text, u64At } from '../util/byte-fields.ts';
import { IMAGE_FACTS_OBJECT } from './facts.ts';
import { HOT_LIST_OBJECT } from './image.ts';

export type Area = { readonly offset: number; readonly size: number };

export type UsualSif = {
  /** A SquashFS. */
  readonly root: Area & { readonly arch: SifArch };
  readonly facts: Area | undefined;
  readonly hot: Area | undefined;
};

const SQUASHFS = 1;
const PRIMARY = 2;
const MAX_SLOTS = 4096;
const PARTITION = u32Text(DATA_TYPES.partition);
const JSON_OBJECT = u32Text(DATA_TYPES['generic-json']);
const OBJECT = u32Text(DATA_TYPES.generic);
const FACTS_NAME = `${IMAGE_FACTS_OBJECT}\0`;
const HOT_NAME = `${HOT_LIST_OBJECT}\0`;

/**
 * @param head the file's first bytes, with all descriptors in use; @param fileSize in bytes.
 * Undefined where anything is unusual: objects that do not follow each other, several primary partitions, another file system.
 */
export const readUsualSif = (head: string, fileSize: number): UsualSif | undefined => {
  if (!head.startsWith('SIF_MAGIC\x0001\0', 32)) return undefined;
  const free = u64At(head, 80);
  const slots = u64At(head, 88);
  const used = slots - free;
  const tableEnd = TABLE_OFFSET + slots * DESCRIPTOR_SIZE;
  if (u64At(head, 96) !== TABLE_OFFSET || slots > MAX_SLOTS || !(used > 0) || tableEnd > fileSize) return undefined;
  const tableLength = u64At(head, 104);
  if (slots * DESCRIPTOR_SIZE > tableLength || tableLength > fileSize || TABLE_OFFSET + used * DESCRIPTOR_SIZE > head.length)
    return undefined;

  let root: UsualSif['root'] | undefined;
  let facts: Area | undefined;
  let hot: Area | undefined;
  let end = tableEnd;
  for (let slot = 0; slot < used; slot++) {
    const at = TABLE_OFFSET + slot * DESCRIPTOR_SIZE;
    const offset = u64At(head, at + 17);
    const size = u64At(head, at + 25);
    if (!head.startsWith(`\x01${u32Text(slot + 1)}`, at + 4) || !(offset >= end && offset + size <= fileSize)) return undefined;
    end = offset + size;
    if (head.startsWith(PARTITION, at) && u32At(head, at + 205) === PRIMARY) {
      if (root !== undefined || u32At(head, at + 201) !== SQUASHFS || head.charCodeAt(at + 211) !== 0) return undefined;
      root = { offset, size, arch: archOfCode(head.slice(at + 209, at + 211)) };
    } else if (facts === undefined && head.startsWith(FACTS_NAME, at + 73) && head.startsWith(JSON_OBJECT, at)) facts = { offset, size };
    else if (hot === undefined && head.startsWith(HOT_NAME, at + 73) && head.startsWith(OBJECT, at)) hot = { offset, size };
  }
  return root === undefined ? undefined : { root, facts, hot };
};
