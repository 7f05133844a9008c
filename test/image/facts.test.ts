import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { factsJson } from '../../src/image/compute.ts';
import { quickFacts } from '../../src/image/quick-facts.ts';
import { parseFacts } from '../../src/image/read-facts.ts';
import { entryAt, hidesImage, linkAt } from '../../src/plan/image-tree.ts';
import { machine } from '../helpers/machine.ts';
import { facts } from '../helpers/planning.ts';

const test = suite("an image's facts");

test('facts survive the way through JSON, byte by byte', () => {
  const all = facts({ env: ['A=\xff\x80', 'PS1=\\u@\\h', 'B="x"'], passwd: 'caf\xc3\xa9\n' });
  assert.equal(parseFacts(factsJson(all)), all);
});

/** As plain data: a tree that is looked at where it lies is one for what is asked of it. */
const quickly = (text: string, paths: readonly string[]) => {
  const found = quickFacts(machine(), text);
  return found && { ...found, tree: Object.fromEntries(paths.map((path) => [path, entryAt(found, path)])) };
};

test('the quick look at facts finds what the full reader finds', () => {
  const odd = { '/a"b\\c': 'd', '/\xe9': 'l\xff' };
  for (const each of [
    facts(),
    facts({ env: ['A=\xff\x80', 'PS1=\\u@\\h', 'B="x"', ''], mpi: ['libmpi.so.40'], tree: odd, runscript: true, passwd: '' }),
  ]) {
    const text = factsJson(each);
    assert.equal(quickly(text, Object.keys(each.tree)), parseFacts(text));
    assert.equal(quickly(text, ['/nope'])?.tree, { '/nope': undefined });
  }
});

test('facts of a wrong shape are none', () => {
  const good = facts();
  for (const bad of [
    { ...good, env: 'x' },
    { ...good, sh: 'sh' },
    { ...good, tree: ['/usr'] },
    { ...good, libc: { kind: 'x', version: '' } },
    { ...good, cmd: [1] },
    { ...good, passwd: 'a\0b' },
    { ...good, os: null },
  ]) {
    assert.is(parseFacts(JSON.stringify(bad)), null);
    assert.is(quickFacts(machine(), JSON.stringify(bad)), undefined);
  }
  assert.is(parseFacts('x'.repeat(600_000)), null);
});

test('of the tree in an image, what is no text is as if it were not there', () => {
  const odd = parseFacts(JSON.stringify({ ...facts(), tree: { '/usr': 1, '/opt': ['d'], '/etc': 'd', '/lib': 'lusr/lib' } }));
  assert.ok(odd !== null);
  assert.equal(
    ['/usr', '/opt', '/etc', '/lib', '/srv'].map((path) => entryAt(odd, path)),
    [undefined, undefined, 'd', 'lusr/lib', undefined],
  );
  assert.equal([hidesImage(odd, '/usr'), hidesImage(odd, '/etc'), linkAt(odd, '/lib')], [false, true, 'usr/lib']);
});

test.run();
