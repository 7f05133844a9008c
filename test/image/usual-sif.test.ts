import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { IMAGE_FACTS_OBJECT } from '../../src/image/facts.ts';
import { HOT_LIST_OBJECT } from '../../src/image/image.ts';
import { readUsualSif, type UsualSif } from '../../src/image/usual-sif.ts';
import { DATA_OFFSET, DESCRIPTOR_SIZE, TABLE_OFFSET } from '../../src/sif/format.ts';
import { findObject, primaryPartition, readSif } from '../../src/sif/read.ts';
import { bytesOf, bytesSource } from '../../src/util/bytes.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { machine } from '../helpers/machine.ts';
import { sif } from '../helpers/sif.ts';

const test = suite('the quick look at a SIF');

/** What the full reader says of root and facts; undefined when it refuses the file. */
const readFully = (text: string): Omit<UsualSif, 'end'> | undefined => {
  try {
    const whole = readSif(bytesSource(bytesOf(text)));
    const root = primaryPartition(whole);
    const found = findObject(whole, 'generic-json', IMAGE_FACTS_OBJECT);
    const hot = findObject(whole, 'generic', HOT_LIST_OBJECT);
    return {
      root: { offset: root.offset, size: root.size, arch: root.content.arch },
      facts: found === undefined ? undefined : { offset: found.offset, size: found.size },
      hot: hot === undefined ? undefined : { offset: hot.offset, size: hot.size },
    };
  } catch (error) {
    if (error instanceof TsrunError) return undefined;
    throw error;
  }
};

const readQuickly = (text: string): Omit<UsualSif, 'end'> | undefined => {
  const host = machine({ files: { '/x.sif': text } });
  const found = readUsualSif(host, host.openKeep('/x.sif'));
  if (found === undefined || found.end > text.length) return undefined;
  const { root, facts, hot } = found;
  return { root, facts, hot };
};

test('the quick look at a SIF finds what the full reader finds', () => {
  const text = sif();
  assert.ok(readQuickly(text) !== undefined);
  assert.equal(readQuickly(text), readFully(text));
  const optimized = sif({ hot: 'a list' });
  assert.equal(readQuickly(optimized), readFully(optimized));
  assert.equal(readFully(optimized)?.hot, { offset: text.length, size: 6 });
});

test('whatever is changed in header and descriptors: the quick look takes nothing that the full reader would not, and finds no other place', () => {
  const text = sif({ hot: 'a list' });
  let taken = 0;
  let refused = 0;
  const tryOne = (changed: string, what: string): void => {
    const quick = readQuickly(changed);
    if (quick === undefined) refused++;
    else {
      taken++;
      assert.equal(quick, readFully(changed), what);
    }
  };
  const fields = [...Array(128).keys(), ...Array(3 * DESCRIPTOR_SIZE).keys()].map((at, index) => (index < 128 ? at : TABLE_OFFSET + at));
  for (const at of fields) {
    // Padded sizes, times, owners and where data begins are no business of a run.
    const inDescriptor = at < TABLE_OFFSET ? -1 : (at - TABLE_OFFSET) % DESCRIPTOR_SIZE;
    if ((at >= 64 && at < 80) || (at >= 112 && at < 128) || (inDescriptor >= 33 && inDescriptor < 73)) continue;
    for (const byte of ['\0', '\x01', '\x02', '\x7f', '\xff']) tryOne(text.slice(0, at) + byte + text.slice(at + 1), `byte ${at}`);
  }
  for (const length of [0, 127, 4096, 5000, 6000, DATA_OFFSET, text.length - 1]) tryOne(text.slice(0, length), `${length} bytes`);
  assert.ok(taken > 1000 && refused > 200, `${taken} taken, ${refused} refused`);
});

test.run();
