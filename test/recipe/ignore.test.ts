import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { matches, pathGlob } from '../../src/recipe/glob.ts';
import { excludeRules, hasExceptions, ignoreFileNames, ignoreRules } from '../../src/recipe/ignore.ts';

const test = suite('ignore rules');

/** [the file, paths that are ignored, paths that are not]; cases of Docker's documentation among them. */
const TABLE: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['', [], ['a', 'a/b']],
  ['# a\n\n   \n', [], ['# a', 'a', ' ']],
  ['a', ['a', 'a/b', 'a/b/c'], ['b', 'b/a', 'ab']],
  ['/a/', ['a', 'a/b'], ['b/a']],
  ['  a  \r\n', ['a'], ['b']],
  ['a/../b', ['b'], ['a']],
  ['*/temp*', ['x/temporary.txt', 'x/temp', 'x/temp/y'], ['temp', 'x/y/temp']],
  ['*/*/temp*', ['x/y/temporary.txt'], ['x/temp']],
  ['temp?', ['tempa', 'tempb', 'tempa/x'], ['temp', 'tempab', 'x/tempa']],
  ['**/*.go', ['a.go', 'x/a.go', 'x/y/a.go'], ['a.c', 'x/a.go2']],
  ['**', ['a', 'a/b'], []],
  ['*', ['a', '.git', 'a/b'], []],
  ['a/**', ['a/b', 'a/b/c'], ['b', 'a']],
  ['a/**/z', ['a/z', 'a/b/z', 'a/b/c/z', 'a/b/z/q'], ['a', 'az', 'a/bz']],
  ['**/node_modules', ['node_modules', 'x/node_modules/y'], ['xnode_modules']],
  ['*.md\n!README.md', ['a.md'], ['README.md', 'x/a.md']],
  ['*.md\n!README*.md\nREADME-secret.md', ['a.md', 'README-secret.md'], ['README.md', 'README-1.md']],
  ['*.md\nREADME-secret.md\n!README*.md', ['a.md'], ['README.md', 'README-secret.md']],
  ['*\n!src', ['a', '.git/x'], ['src', 'src/a', 'src/a/b']],
  ['*\n! src/a', ['src', 'src/b'], ['src/a', 'src/a/c']],
  ['[a-c].txt', ['a.txt', 'c.txt'], ['d.txt', '-.txt']],
  ['[^a-c].txt', ['d.txt'], ['a.txt', '/.txt']],
  ['[]x].txt', ['x.txt', '].txt'], ['a.txt']],
  ['\\*.txt', ['*.txt'], ['a.txt']],
  ['a.c', ['a.c'], ['abc']],
  ['[a\nb', ['b'], ['[a', 'a']],
  ['\xef\xbb\xbfa', ['a'], []],
  ['!a', [], ['a']],
  ['a/*/b?c/**/d', ['a/x/byc/d', 'a/x/bzc/1/2/d'], ['a/bzc/d', 'a/x/bzc/d2']],
];

for (const [text, ignored, kept] of TABLE) {
  test(`${JSON.stringify(text)} ignores ${ignored.join(', ') || 'nothing'}`, () => {
    const rules = ignoreRules(text);
    for (const path of ignored) assert.is(rules(path), true, path);
    for (const path of kept) assert.is(rules(path), false, path);
  });
}

test('--exclude takes the same patterns, and "#" begins no comment there', () => {
  const rules = excludeRules(['#a', '*.o', '!keep.o']);
  assert.is(rules('#a'), true);
  assert.is(rules('x.o'), true);
  assert.is(rules('keep.o'), false);
});

test('a file beside the recipe goes before that of the context', () => {
  assert.equal(ignoreFileNames('docker/build.Dockerfile'), {
    besideRecipe: 'docker/build.Dockerfile.dockerignore',
    inContext: '.dockerignore',
  });
  assert.is(hasExceptions('a\n !b'), true);
  assert.is(hasExceptions('a!\n#!b'), false);
});

test('a pattern made to backtrack takes little time', () => {
  const rules = ignoreRules(`${'**/a*'.repeat(30)}b`);
  const began = performance.now();
  assert.is(rules(`${'a/'.repeat(500)}c`), false);
  assert.ok(performance.now() - began < 20_000);
});

/** The same rule by regular expression, as the format's own implementation does it. */
const byExpression = (pattern: string, path: string): boolean => {
  let source = '^';
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at] ?? '';
    if (pattern.startsWith('**', at)) {
      while (pattern[at + 1] === '*') at++;
      if (pattern[at + 1] === '/') {
        at++;
        source += '(?:.*/)?';
      } else source += '.*';
    } else if (char === '*') source += '[^/]*';
    else if (char === '?') source += '[^/]';
    else source += char;
  }
  return new RegExp(`${source}$`).test(path);
};

test('patterns take what the regular expression made of them takes', () => {
  const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*', '?'), maxLength: 8 });
  const path = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 8 });
  fc.assert(
    fc.property(pattern, path, (text, name) => {
      const glob = pathGlob(text);
      assert.ok(glob !== null);
      if (glob !== null) assert.is(matches(glob, name), byExpression(text, name), `${text} ${name}`);
    }),
    { numRuns: 5000 },
  );
});

test.run();
