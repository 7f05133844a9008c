/**
 * The xattr tables: a stream of name and value pairs, one run for each distinct set, and a table of the runs. A value that is there already
 * and longer than its reference is stored out of line: the pair then holds where it is.
 */
import type { SyncCompress } from './codec.ts';
import { createMetadataStream, metadataReference, writeIndexedTable } from './metadata.ts';
import type { Output } from './output.ts';
import { createRecordWriter } from './records.ts';
import type { Xattr } from './types.ts';
import { prefixOf, XATTR_PREFIXES } from './xattr-sets.ts';

export const NO_XATTRS = 0xffffffff;
const OUT_OF_LINE = 0x100;
const REFERENCE_BYTES = 8;

/** Writes the tables for these sets, in this order; returns the place for the super block. */
export const writeXattrTables = (output: Output, compress: SyncCompress, sets: readonly (readonly Xattr[])[]): number => {
  const start = output.position;
  const pairs = createMetadataStream(compress, output.append);
  const record = createRecordWriter(1024);
  const runs = createRecordWriter(sets.length * 16).begin();
  const places = new Map<string, bigint>();
  for (const set of sets) {
    const reference = metadataReference(pairs.block(), pairs.offset());
    let bytes = 0;
    const put = (part: Uint8Array): void => {
      bytes += part.length;
      pairs.put(part);
    };
    for (const { name, value } of set) {
      const prefix = prefixOf(name);
      const rest = name.subarray((XATTR_PREFIXES[prefix] as Uint8Array).length);
      const key = Buffer.from(value).toString('latin1');
      const known = value.length > REFERENCE_BYTES ? places.get(key) : undefined;
      put(
        record
          .begin()
          .u16(known === undefined ? prefix : prefix | OUT_OF_LINE)
          .u16(rest.length)
          .bytes(rest)
          .done(),
      );
      if (known !== undefined) {
        put(record.begin().u32(REFERENCE_BYTES).u64(known).done());
        continue;
      }
      places.set(key, metadataReference(pairs.block(), pairs.offset()));
      put(record.begin().u32(value.length).done());
      put(value);
    }
    runs.u64(reference).u32(set.length).u32(bytes);
  }
  pairs.end();
  const header = createRecordWriter(16).begin().u64(start).u32(sets.length).u32(0).done();
  return writeIndexedTable(output, compress, runs.done(), header);
};
