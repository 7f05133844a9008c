import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { contains } from '../../src/util/contains.ts';
import { fnv64 } from '../../src/util/fnv.ts';
import { nearest } from '../../src/util/nearest.ts';
import { cleanPath, depthOf, isClean, isWithin, nameOf, parentOf, resolveFrom } from '../../src/util/paths.ts';
import { printable, printableLine } from '../../src/util/printable.ts';
import { decodeUtf8, encodeUtf8, readable } from '../../src/util/utf8.ts';

const test = suite('paths and texts');

for (const [path, clean] of Object.entries({
  '/': '/',
  '//': '/',
  '/a': '/a',
  '/a/': '/a',
  '/a//b': '/a/b',
  '/a/./b': '/a/b',
  '/a/../b': '/b',
  '/..': '/',
  '/../../a': '/a',
  '/...': '/...',
  '/a/.b/..c': '/a/.b/..c',
  '/a/b/..': '/a',
})) {
  test(`the clean form of ${path} is ${clean}`, () => {
    assert.is(cleanPath(path), clean);
    assert.is(isClean(path), path === clean);
  });
}

test('cleaning is done once and for all, and keeps a path absolute', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('/', '.', 'a') }), (text) => {
      const clean = cleanPath(`/${text}`);
      assert.ok(isClean(clean));
      assert.is(cleanPath(clean), clean);
      assert.not.match(clean, /\/\/|\/\.\.?(\/|$)|.\/$/);
    }),
  );
});

test('a path lies within itself and its parents, not within a neighbour of the same beginning', () => {
  assert.ok(isWithin('/a/b', '/a'));
  assert.ok(isWithin('/a', '/a'));
  assert.ok(isWithin('/a', '/'));
  assert.not.ok(isWithin('/ab', '/a'));
  assert.not.ok(isWithin('/a', '/a/b'));
});

test('parts of paths', () => {
  assert.equal([parentOf('/a/b'), parentOf('/a'), nameOf('/a/b'), nameOf('x')], ['/a', '/', 'b', 'x']);
  assert.equal([depthOf('/'), depthOf('/a'), depthOf('/a/b')], [0, 1, 2]);
  assert.equal([resolveFrom('/a', 'b/../c'), resolveFrom('/a', '/b/'), resolveFrom('/', 'x')], ['/a/c', '/b', '/x']);
});

test('UTF-8 goes to text and back', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const bytes = Buffer.from(text, 'utf8').toString('latin1');
      assert.is(encodeUtf8(text), bytes);
      assert.is(decodeUtf8(bytes), Buffer.from(text, 'utf8').toString('utf8'));
    }),
  );
});

test('in messages byte strings are read, and text beside them stays', () => {
  assert.is(readable(`${encodeUtf8('grüße → 𝔵')}: größe → ok, ${encodeUtf8('日本')}`), 'grüße → 𝔵: größe → ok, 日本');
  for (const text of ['', 'plain', 'é', 'naïve → 日', '\xc3', 'a\xa0b', '\xe2\x82', '\xf0\x80\x80\x80']) assert.is(readable(text), text);
});

test('what is no UTF-8 is refused, as TextDecoder does', () => {
  const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 6 }), (bytes) => {
      let expected: string | null = null;
      try {
        expected = strict.decode(bytes);
      } catch {
        // Not UTF-8.
      }
      assert.is(decodeUtf8(Buffer.from(bytes).toString('latin1')), expected);
    }),
    { numRuns: 2000 },
  );
});

test('what a text contains is what includes() says', () => {
  for (const text of ['', 'a', 'ab', 'aab', 'a\\u00e9', 'x'.repeat(500), `${'x'.repeat(500)}ab`]) {
    for (const part of ['a', 'ab', '\\u', 'xx', 'y']) assert.is(contains(text, part), text.includes(part), `${text} ${part}`);
  }
});

test('FNV-1a gives the published values', () => {
  assert.is(fnv64(''), 'cbf29ce484222325');
  assert.is(fnv64('a'), 'af63dc4c8601ec8c');
  assert.is(fnv64('foobar'), '85944171f73967e8');
});

test('the nearest name is one that can be meant', () => {
  const names = ['bind', 'pid', 'writable-tmpfs'];
  assert.equal(
    [nearest('bnid', names), nearest('bin', names), nearest('writeable-tmpfs', names), nearest('xyz', names)],
    ['bind', 'bind', 'writable-tmpfs', undefined],
  );
});

test('terminal controls are shown as question marks, bytes of UTF-8 stay', () => {
  assert.is(printable('a\x1b[31m\n\tcaf\xc3\xa9\x7f'), 'a?[31m\n\tcaf\xc3\xa9?');
  assert.is(printableLine('a\nb'), 'a?b');
});

test.run();
