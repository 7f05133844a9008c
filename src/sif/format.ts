/**
 * SIF, the Singularity Image Format, version 01 (https://github.com/apptainer/sif, pkg/sif): little-endian, packed.
 *
 *       0  header, 128 bytes
 *    4096  descriptor table: 48 slots of 585 bytes (`tableOffset`, `tableLength` in the header)
 *   32176  data objects: partitions begin at multiples of 4096, all others where the one before ends
 *
 *   header            descriptor
 *     0  32 launch script, NUL padded     0   4 data type            25  8 size
 *    32  10 "SIF_MAGIC\0"                 4   1 slot in use          33  8 size with the padding before it
 *    42   3 version "01\0"                5   4 id (slot index + 1)  41  8 created  49  8 modified, seconds
 *    45   3 arch of the primary           9   4 group                57  8 uid      65  8 gid, now 0
 *    48  16 UUID                         13   4 link                 73 128 name
 *    64   8 created  72  8 modified      17   8 offset              201 384 extra, by data type
 *    80   8 free     88  8 total slots
 *    96   8 table offset 104 8 length    group: 0xF0000000 | number; 0xF0000000 alone is none
 *   112   8 data offset  120 8 length    link: 0 none, id of an object, or 0xF0000000 | group
 *
 * Objects of old writers lie at other offsets (data from 32768, all at multiples of the page size): only offsets count.
 */

export const HEADER_SIZE = 128;
export const DESCRIPTOR_SIZE = 585;
export const TABLE_OFFSET = 4096;
export const TABLE_SLOTS = 48;
export const DATA_OFFSET = TABLE_OFFSET + TABLE_SLOTS * DESCRIPTOR_SIZE;
export const PARTITION_ALIGNMENT = 4096;
export const NAME_SIZE = 128;
export const EXTRA_SIZE = 384;
export const LAUNCH_SIZE = 32;
export const MAGIC = 'SIF_MAGIC\0';
export const VERSION = '01\0';
export const GROUP_MASK = 0xf0000000;
export const LAUNCH_SCRIPT = '#!/usr/bin/env run-singularity\n';

/** Go's zero time in Unix seconds: what "no time" is in a deterministic SIF. */
export const NO_TIME = -62135596800;

/** Go's names of architectures, by the code in the header and in partitions. */
export const ARCHITECTURES = [
  ['00', 'unknown'],
  ['01', '386'],
  ['02', 'amd64'],
  ['03', 'arm'],
  ['04', 'arm64'],
  ['05', 'ppc64'],
  ['06', 'ppc64le'],
  ['07', 'mips'],
  ['08', 'mipsle'],
  ['09', 'mips64'],
  ['10', 'mips64le'],
  ['11', 's390x'],
  ['12', 'riscv64'],
  ['13', 'loong64'],
] as const;
export type SifArch = (typeof ARCHITECTURES)[number][1];

const ARCHITECTURE_OF: ReadonlyMap<string, SifArch> = new Map(ARCHITECTURES);

export const archOfCode = (code: string): SifArch => ARCHITECTURE_OF.get(code) ?? 'unknown';
export const codeOfArch = (arch: SifArch): string => ARCHITECTURES.find((entry) => entry[1] === arch)?.[0] ?? '00';

/** Indexed by the number in the file; `''` is a number the format does not use. */
export const FILE_SYSTEMS = ['', 'squashfs', 'ext3', 'archive', 'raw', 'encrypted-squashfs', 'gocryptfs-squashfs'] as const;
export const PARTITION_ROLES = ['', 'system', 'primary', 'data', 'overlay'] as const;
export const HASHES = ['', 'sha256', 'sha384', 'sha512', 'blake2s-256', 'blake2b-256'] as const;
export const SBOM_FORMATS = [
  '',
  'cyclonedx-json',
  'cyclonedx-xml',
  'github-json',
  'spdx-json',
  'spdx-rdf',
  'spdx-tag-value',
  'spdx-yaml',
  'syft-json',
] as const;

type Known<T extends readonly string[]> = Exclude<T[number], ''>;
export type SifFileSystem = Known<typeof FILE_SYSTEMS>;
/** `primary` is the root file system a run uses ("*System" in siftool). */
export type SifPartitionRole = Known<typeof PARTITION_ROLES>;

/** What an object is: its data type and the fields of its `extra`. */
export type SifContent =
  | { readonly type: 'definition' }
  | { readonly type: 'environment' }
  | { readonly type: 'labels' }
  | {
      readonly type: 'partition';
      readonly fileSystem: SifFileSystem | 'unknown';
      readonly role: SifPartitionRole | 'unknown';
      readonly arch: SifArch;
    }
  | {
      readonly type: 'signature';
      readonly hash: Known<typeof HASHES> | 'unknown' /** Hex of the PGP fingerprint; '' for DSSE. */;
      readonly entity: string;
    }
  | { readonly type: 'generic-json' }
  | { readonly type: 'generic' }
  | { readonly type: 'crypto-message'; readonly format: number; readonly message: number }
  | { readonly type: 'sbom'; readonly format: Known<typeof SBOM_FORMATS> | 'unknown' }
  | { readonly type: 'oci-root-index'; readonly digest: string }
  | { readonly type: 'oci-blob'; readonly digest: string }
  | { readonly type: 'unknown'; readonly code: number };

export const DATA_TYPES = {
  definition: 0x4001,
  environment: 0x4002,
  labels: 0x4003,
  partition: 0x4004,
  signature: 0x4005,
  'generic-json': 0x4006,
  generic: 0x4007,
  'crypto-message': 0x4008,
  sbom: 0x4009,
  'oci-root-index': 0x400a,
  'oci-blob': 0x400b,
} as const satisfies Record<Exclude<SifContent['type'], 'unknown'>, number>;

export type SifLink =
  | { readonly to: 'nothing' }
  | { readonly to: 'object'; readonly id: number }
  | { readonly to: 'group'; readonly group: number };

export type SifObject = {
  readonly id: number;
  /** 0: in no group. */
  readonly group: number;
  readonly link: SifLink;
  /** Byte string. */
  readonly name: string;
  readonly content: SifContent;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly size: number;
  readonly sizeWithPadding: number;
  /** Unix seconds, or NO_TIME. */
  readonly created: number;
  readonly modified: number;
  readonly uid: number;
  readonly gid: number;
};

export type SifHeader = {
  readonly launchScript: string;
  readonly arch: SifArch;
  /** 32 hex digits. */
  readonly uuid: string;
  readonly created: number;
  readonly modified: number;
  readonly freeSlots: number;
  readonly totalSlots: number;
  readonly tableOffset: number;
  readonly tableLength: number;
  readonly dataOffset: number;
  readonly dataLength: number;
};

export type SifImage = { readonly header: SifHeader; readonly objects: readonly SifObject[] };
