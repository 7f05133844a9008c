// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { expandWord, literalText, parseWord, variablesOf } from '../../src/recipe/words.ts';
import { TsrunError } from '../../src/util/errors.ts';

const test = suite('recipe words');
const at = { file: 'Dockerfile', line: 7 };
const VALUES: Readonly<Record<string, string>> = {
  A: 'abc',
  EMPTY: '',
  P: '/usr/lib/libm.so.6',
  STAR: 'a*b',
  Q: 'x"y',
  DOLLAR: '$A',
  X: 'bar-foo-bar',
};
const lookup = (name: string): string | undefined => (Object.hasOwn(VALUES, name) ? VALUES[name] : undefined);
const expand = (text: string, escapeChar = '\\'): string => expandWord(parseWord(text, { at, escapeChar }), lookup, at);

const TABLE: readonly (readonly [string, string])[] = [
  ['', ''],
  ['plain', 'plain'],
  ['$A', 'abc'],
  ['${A}', 'abc'],
  ['$A.x', 'abc.x'],
  ['$A_x', ''],
  ['x${A}x$A', 'xabcxabc'],
  ['\\$A', '$A'],
  ['\\\\$A', '\\abc'],
  ["'$A'", '$A'],
  ['"$A"', 'abc'],
  ['"\\$A"', '$A'],
  ['"a\\b"', 'a\\b'],
  ['"a\\"b"', 'a"b'],
  ["'it'\\''s'", "it's"],
  ['"it\'s"', "it's"],
  ['a\\ b', 'a b'],
  ['$', '$'],
  ['a$', 'a$'],
  ['$/x', '$/x'],
  ['$1', ''],
  ['$DOLLAR', '$A'],
  ['${NONE}', ''],
  ['${NONE:-dflt}', 'dflt'],
  ['${EMPTY:-dflt}', 'dflt'],
  ['${EMPTY-dflt}', ''],
  ['${NONE-dflt}', 'dflt'],
  ['${A:-dflt}', 'abc'],
  ['${NONE:-$A/${EMPTY:-x}}', 'abc/x'],
  ['${NONE:-"a b}"}', 'a b}'],
  ['${NONE:-a\\}b}', 'a}b'],
  ['${A:+yes}', 'yes'],
  ['${EMPTY:+yes}', ''],
  ['${EMPTY+yes}', 'yes'],
  ['${NONE+yes}', ''],
  ['${PATH:+$PATH:}/x', '/x'],
  ['${A:?gone}', 'abc'],
  ['${EMPTY?gone}', ''],
  ['${P#*/}', 'usr/lib/libm.so.6'],
  ['${P##*/}', 'libm.so.6'],
  ['${P%.*}', '/usr/lib/libm.so'],
  ['${P%%.*}', '/usr/lib/libm'],
  ['${P%/*}', '/usr/lib'],
  ['${P#nothing}', '/usr/lib/libm.so.6'],
  ['${P##?usr}', '/lib/libm.so.6'],
  ['${STAR#a\\*}', 'b'],
  ['${STAR%\\**}', 'a'],
  ['${X/bar/BAZ}', 'BAZ-foo-bar'],
  ['${X//bar/BAZ}', 'BAZ-foo-BAZ'],
  ['${X//-/}', 'barfoobar'],
  ['${X/b*o/_}', '_-bar'],
  ['${X//b?r/$A}', 'abc-foo-abc'],
  ['${P//\\//_}', '_usr_lib_libm.so.6'],
  ['${NONE/a/b}', ''],
  ['\xc3\xa0 $A \xc2\xa0', '\xc3\xa0 abc \xc2\xa0'],
];

for (const [text, expected] of TABLE) {
  test(`${JSON.stringify(text)} expands to ${JSON.stringify(expected)}`, () => assert.is(expand(text), expected));
}

test('the escape directive changes what escapes', () => {
  assert.is(expand('`$A\\x', '`'), '$A\\x');
  assert.is(expand('"`"C:\\dir`$A"', '`'), '"C:\\dir$A');
});

test('quotes are text where the options say so', () => {
  assert.is(expandWord(parseWord('\'$A\' "b" \\$A', { at, quotes: false }), lookup, at), '\'abc\' "b" $A');
});

const fails = (text: string, code: string, words: RegExp): void => {
  try {
    expand(text);
  } catch (error) {
    assert.instance(error, TsrunError);
    if (!(error instanceof TsrunError)) return;
    assert.is(error.code, code);
    assert.match(error.what, /Dockerfile:7/);
    assert.match(`${error.why} ${error.hint}`, words);
    return;
  }
  assert.unreachable(`${text} was taken`);
};

for (const [text, words] of [
  ["'open", /single quote/],
  ['"open', /double quote/],
  ['${A', /expected }/],
  ['${A:-x', /expected }/],
  ['${', /name/],
  ['${}', /name/],
  ['${{A}}', /name/],
  ['${A^^}', /one of/],
  ['${A:3}', /one of/],
  ['${A/x}', /expected \//],
  ['${A/x/y', /expected }/],
] as const) {
  test(`${text} is refused with the place and what was expected`, () => fails(text, 'E_RECIPE', words));
}

test('a variable that must have a value is named with the message of the recipe', () => {
  fails('${NONE:?say which}', 'E_RECIPE_ARGUMENT', /NONE has no value: "say which".*--build-arg NONE=/);
  fails('${EMPTY:?}', 'E_RECIPE_ARGUMENT', /EMPTY is empty/);
});

test('nesting is bounded', () => {
  assert.is(expand(`${'${N:-'.repeat(19)}x${'}'.repeat(19)}`), 'x');
  fails(`${'${N:-'.repeat(5000)}x${'}'.repeat(5000)}`, 'E_RECIPE_LIMIT', /nested/);
});

test('patterns take time that grows with length times pattern, not worse', () => {
  const value = 'a'.repeat(16_000);
  const word = parseWord('${V##*a*a*a*a*a*a*a*a*a*b}', { at });
  const began = performance.now();
  assert.is(
    expandWord(word, () => value, at),
    value,
  );
  assert.ok(performance.now() - began < 20_000);
});

test('all names are found, also in operands', () => {
  assert.equal(variablesOf(parseWord('$A${B:-$C}${D/$E/$F}', { at })), ['A', 'B', 'C', 'D', 'E', 'F']);
  assert.is(literalText(parseWord('a"b"', { at })), 'ab');
  assert.is(literalText(parseWord('a$b', { at })), undefined);
});

const bytes = fc.string({ unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)) });

test('any text in single or double quotes, or escaped, comes back as it was', () => {
  fc.assert(
    fc.property(bytes, (text) => {
      assert.is(expand(`"${text.replace(/[\\"$]/g, '\\$&')}"`), text);
      assert.is(expand(text.replace(/[\\"'$]/g, '\\$&')), text);
      assert.is(expand(`'${text.replaceAll("'", "'\\''")}'`), text);
    }),
  );
});

const shellish = fc.string({
  unit: fc.constantFrom('$', '{', '}', ':', '-', '+', '?', '#', '%', '/', '*', "'", '"', '\\', 'A', 'X', ' ', '\xe9'),
});

test('parsing and expanding throw nothing but TsrunError, and text without $ \\ or quotes is left alone', () => {
  fc.assert(
    fc.property(shellish, (text) => {
      try {
        const result = expand(text);
        if (!/[$\\'"]/.test(text)) assert.is(result, text);
      } catch (error) {
        assert.instance(error, TsrunError);
      }
    }),
    { numRuns: 2000 },
  );
});

test.run();
