/** Little-endian records built in one reused buffer. */
export type RecordWriter = {
  begin(): RecordWriter;
  u16(value: number): RecordWriter;
  i16(value: number): RecordWriter;
  u32(value: number): RecordWriter;
  u64(value: number | bigint): RecordWriter;
  bytes(bytes: Uint8Array): RecordWriter;
  /** What was written since begin; valid until the next begin. */
  done(): Uint8Array;
};

/** `capacity` bounds one record, in bytes. */
export const createRecordWriter = (capacity: number): RecordWriter => {
  const buffer = new Uint8Array(capacity);
  const view = new DataView(buffer.buffer);
  let used = 0;
  const writer: RecordWriter = {
    begin: () => {
      used = 0;
      return writer;
    },
    u16: (value) => {
      view.setUint16(used, value, true);
      used += 2;
      return writer;
    },
    i16: (value) => {
      view.setInt16(used, value, true);
      used += 2;
      return writer;
    },
    u32: (value) => {
      view.setUint32(used, value, true);
      used += 4;
      return writer;
    },
    u64: (value) => {
      view.setBigUint64(used, BigInt(value), true);
      used += 8;
      return writer;
    },
    bytes: (bytes) => {
      buffer.set(bytes, used);
      used += bytes.length;
      return writer;
    },
    done: () => buffer.subarray(0, used),
  };
  return writer;
};
