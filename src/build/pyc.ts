/**
 * The head of a compiled Python file: which format it has, and its copy of the source's modification time.
 *
 *     magic: u16 number, "\r\n"                      all; the number tells the version (importlib/_bootstrap_external.py)
 *     3.7 on (PEP 552):  flags u32, mtime u32, size u32     mtime only where flags are 0, else a hash of the source
 *     before:            mtime u32 [, size u32]
 */

export const PYC_HEAD = 16;

/** First magic number with flags (3.7.0a4), and those of Python 2 (1.5 on), which are above all of Python 3. */
const FIRST_WITH_FLAGS = 3392;
const FIRST_OF_2 = 20_121;
/** PyPy counts for itself: 3.7 began with 240; its older ones lie below. */
const PYPY_WITH_FLAGS = 240;
const FIRST_OF_3 = 3000;

/** `head` with a source time of at most `epoch`; anything that is not such a file comes back as it is. */
export const clampPyc = (head: Buffer, epoch: number): Buffer => {
  const at = timeAt(head);
  if (at === undefined || head.readUInt32LE(at) <= epoch) return head;
  const clamped = Buffer.from(head);
  clamped.writeUInt32LE(epoch, at);
  return clamped;
};

const timeAt = (head: Buffer): number | undefined => {
  if (head.length < 8 || head.readUInt16LE(2) !== 0x0a0d) return undefined;
  if (!hasFlags(head.readUInt16LE(0))) return 4;
  return head.length >= PYC_HEAD && head.readUInt32LE(4) === 0 ? 8 : undefined;
};

const hasFlags = (magic: number): boolean =>
  magic < FIRST_OF_3 ? magic >= PYPY_WITH_FLAGS : magic >= FIRST_WITH_FLAGS && magic < FIRST_OF_2;
