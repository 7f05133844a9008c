/**
 * Where root file system and facts lie in a SIF as tsrun and Apptainer write it, unpacked by the host: a start pays for
 * every object that the full reader (sif/read.ts) makes. Whatever is not as usual is left to that reader, which also has the words for it; what is
 * accepted here it accepts too, with the same result (a test compares them), but for fields that no run looks at (times, owners, padded sizes).
 */
import { archOfCode, DATA_TYPES, DESCRIPTOR_SIZE, type SifArch, TABLE_OFFSET } from '../sif/format.ts';
import { failed, type Host } from '../util/host.ts';
import { IMAGE_FACTS_OBJECT } from './facts.ts';
import { HOT_LIST_OBJECT } from './image.ts';

export type Area = { readonly offset: number; readonly size: number };

export type UsualSif = {
  /** A SquashFS. */
  readonly root: Area & { readonly arch: SifArch };
  readonly facts: Area | undefined;
  readonly hot: Area | undefined;
  /** So many bytes the file has when it is whole. */
  readonly end: number;
};

const { partition: PARTITION, generic: GENERIC, 'generic-json': JSON_OBJECT } = DATA_TYPES;
const SQUASHFS = 1;
const PRIMARY = 2;
/** More than any image of tsrun or Apptainer has. */
const MAX_USED = 8;
const MAX_SLOTS = 4096;

/** Magic and version; counts of free and all slots; where the table is, and its length (sif/format.ts). */
const HEADER = '32x10s3s35x4Q3984x';
const HEADER_FIELDS = 6;
/** Type (0: the slots from here on were never used), used, id; offset and size; name; file system, role and architecture. */
const SLOT = 'EBI8x2Q40x128s2I3s373x';
const SLOT_FIELDS = 9;
/** All in one read, which is a journey to a server where the image lies on a cluster's file system. */
const HEAD = HEADER + SLOT.repeat(MAX_USED);

/**
 * How long the file is, is not looked at: that would be another journey.
 * Undefined where anything is unusual: objects that do not follow each other, several primary partitions, another file system; and where it is no SIF.
 */
export const readUsualSif = (host: Host, handle: number): UsualSif | undefined => {
  const fields = host.unpack(handle, 0, HEAD);
  if (failed(fields) || fields[0] !== 'SIF_MAGIC' || fields[1] !== '01') return undefined;
  const free = fields[2] as number;
  const slots = fields[3] as number;
  const tableLength = fields[5] as number;
  const used = slots - free;
  const tableEnd = TABLE_OFFSET + slots * DESCRIPTOR_SIZE;
  if (fields[4] !== TABLE_OFFSET || free < 0 || slots > MAX_SLOTS || !(used > 0 && used <= MAX_USED)) return undefined;
  if (slots * DESCRIPTOR_SIZE > tableLength) return undefined;

  let root: UsualSif['root'] | undefined;
  let facts: Area | undefined;
  let hot: Area | undefined;
  let end = tableEnd;
  for (let slot = 1, at = HEADER_FIELDS; slot <= used; slot++, at += SLOT_FIELDS) {
    const type = fields[at];
    const offset = fields[at + 3] as number;
    const size = fields[at + 4] as number;
    const name = fields[at + 5];
    if (fields[at + 1] !== 1 || fields[at + 2] !== slot || !(offset >= end && size >= 0)) return undefined;
    end = offset + size;
    if (type === PARTITION && fields[at + 7] === PRIMARY) {
      const arch = fields[at + 8] as string;
      if (root !== undefined || fields[at + 6] !== SQUASHFS || arch.length !== 2) return undefined;
      root = { offset, size, arch: archOfCode(arch) };
    } else if (type === JSON_OBJECT && facts === undefined && name === IMAGE_FACTS_OBJECT) facts = { offset, size };
    else if (type === GENERIC && hot === undefined && name === HOT_LIST_OBJECT) hot = { offset, size };
  }
  return root === undefined || tableLength > end ? undefined : { root, facts, hot, end };
};
