/** The super block (struct squashfs_super_block) and the compressor options behind it (struct *_comp_opts of squashfs-tools). */
import { createRecordWriter } from './records.ts';
import type { Compressor } from './types.ts';
import { COMPRESSOR_IDS } from './types.ts';

export const SUPERBLOCK_BYTES = 96;
/** "There is no such table." */
export const NO_TABLE = 0xffff_ffff_ffff_ffffn;
const MAGIC = 0x73717368;
const FLAGS = { duplicates: 0x40, exportable: 0x80, noXattrs: 0x200, compressorOptions: 0x400 } as const;
const METADATA_STORED = 0x8000;

export type Superblock = {
  readonly compressor: Compressor;
  readonly blockSize: number;
  readonly mkfsTime: number;
  readonly inodes: number;
  readonly fragments: number;
  readonly ids: number;
  readonly rootInode: bigint;
  readonly bytesUsed: number;
  readonly hasCompressorOptions: boolean;
  readonly tables: {
    readonly ids: number;
    readonly xattrs: number | undefined;
    readonly inodes: number;
    readonly directories: number;
    readonly fragments: number | undefined;
    readonly export: number;
  };
};

export const encodeSuperblock = (superblock: Superblock): Uint8Array => {
  const { tables } = superblock;
  const flags =
    FLAGS.duplicates |
    FLAGS.exportable |
    (tables.xattrs === undefined ? FLAGS.noXattrs : 0) |
    (superblock.hasCompressorOptions ? FLAGS.compressorOptions : 0);
  return createRecordWriter(SUPERBLOCK_BYTES)
    .begin()
    .u32(MAGIC)
    .u32(superblock.inodes)
    .u32(superblock.mkfsTime)
    .u32(superblock.blockSize)
    .u32(superblock.fragments)
    .u16(COMPRESSOR_IDS[superblock.compressor])
    .u16(Math.log2(superblock.blockSize))
    .u16(flags)
    .u16(superblock.ids)
    .u16(4)
    .u16(0)
    .u64(superblock.rootInode)
    .u64(superblock.bytesUsed)
    .u64(tables.ids)
    .u64(tables.xattrs ?? NO_TABLE)
    .u64(tables.inodes)
    .u64(tables.directories)
    .u64(tables.fragments ?? NO_TABLE)
    .u64(tables.export)
    .done();
};

/**
 * The options as a stored metadata block, or nothing where readers need none: lz4 (format version 1, no high compression) must have it;
 * for zstd and gzip it records the level; xz works with its defaults (dictionary of a block, no filters).
 */
export const compressorOptions = (compressor: Compressor, level: number): Uint8Array => {
  const record = createRecordWriter(16).begin();
  switch (compressor) {
    case 'zstd':
      return record
        .u16(4 | METADATA_STORED)
        .u32(level)
        .done();
    case 'gzip':
      // Window 2¹⁵, no strategies tried beside the default.
      return record
        .u16(8 | METADATA_STORED)
        .u32(level)
        .u16(15)
        .u16(1)
        .done();
    case 'lz4':
      return record
        .u16(8 | METADATA_STORED)
        .u32(1)
        .u32(0)
        .done();
    case 'xz':
      return record.done();
  }
};
