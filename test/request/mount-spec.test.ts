import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type BindSpec, parseBinds, parseHome, parseMount, printBind } from '../../src/request/mount-spec.ts';
import { isClean } from '../../src/util/paths.ts';
import { codeOf, errorOf } from '../helpers/planning.ts';

const test = suite('bind specs');

const short = (spec: BindSpec): string => `${spec.source}>${spec.target ?? ''}${spec.readOnly ? ' ro' : ''}`;
const binds = (text: string): string[] => parseBinds('--bind', text).map(short);
const mount = (text: string): string => short(parseMount('--mount', text));

const FORMS: readonly [string, string[]][] = [
  ['/a', ['/a>']],
  ['/a:/b', ['/a>/b']],
  ['/a:/b:ro', ['/a>/b ro']],
  ['/a:/b:rw', ['/a>/b']],
  ['/a::ro', ['/a> ro']],
  ['/a,/b:/c', ['/a>', '/b>/c']],
  ['/a:/b:ro,/c', ['/a>/b ro', '/c>']],
  ['/a,', ['/a>']],
  ['/with\\,comma:/b', ['/with,comma>/b']],
  ['/with\\:colon:/b\\:c', ['/with:colon>/b:c']],
  ['/back\\\\slash', ['/back\\slash>']],
  ['/other\\n', ['/other\\n>']],
  ['relative/x:/b', ['relative/x>/b']],
  ['/a:/b/../c//d/', ['/a>/c/d']],
  ['/caf\xc3\xa9', ['/caf\xc3\xa9>']],
];
for (const [text, result] of FORMS) {
  test(`${text} means ${result.join(' and ')}`, () => {
    assert.equal(binds(text), result);
  });
}

test('a target is an absolute path below /', () => {
  assert.match(
    errorOf(() => binds('/a:b')),
    /not an absolute path/,
  );
  assert.match(
    errorOf(() => binds('/a:/')),
    /nothing can be shown at/,
  );
  assert.match(
    errorOf(() => binds('/a:/b/..')),
    /nothing can be shown at/,
  );
});

test('what is not understood is refused by name', () => {
  assert.match(
    errorOf(() => binds('/a:/b:rx')),
    /unknown option "rx"/,
  );
  assert.match(
    errorOf(() => binds('/a:/b:ro:x')),
    /more than three fields/,
  );
  assert.match(
    errorOf(() => binds(':/b')),
    /source is empty/,
  );
  assert.match(
    errorOf(() => binds('/a:/b:image-src=/x')),
    /not available yet/,
  );
  assert.match(
    errorOf(() => binds('/a:ro')),
    /SRC::ro/,
  );
});

test('printing and parsing a spec gives the spec again', () => {
  const name = fc.string({ unit: fc.constantFrom('a', '/', ':', ',', '\\', ' ', '\xff', '.'), minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(name, fc.option(name, { nil: undefined }), fc.boolean(), (source, rest, readOnly) => {
      const [target] = rest === undefined ? [] : [`/t/${rest.replaceAll('.', '_')}`];
      const clean = target === undefined ? undefined : (parseBinds('x', `/s:${target.replace(/[\\,:]/g, '\\$&')}`)[0]?.target ?? undefined);
      const spec: BindSpec = { source, target: clean, readOnly };
      assert.equal(parseBinds('--bind', printBind(spec)), [spec]);
    }),
  );
});

test('whatever is written, targets are clean or it is refused', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', '/', ':', ',', '\\', '.', 'r', 'o') }), (text) => {
      try {
        for (const spec of parseBinds('--bind', text)) assert.ok(spec.target === undefined || isClean(spec.target));
      } catch (error) {
        assert.is((error as { code?: string }).code, 'E_BIND_SPEC');
      }
    }),
  );
});

test('--mount takes its fields in any order and under all their names', () => {
  assert.is(mount('type=bind,source=/a,target=/b'), '/a>/b');
  assert.is(mount('src=/a,dst=/b,type=bind,readonly'), '/a>/b ro');
  assert.is(mount('type=bind,source=/a,destination=/b,ro=true'), '/a>/b ro');
  assert.is(mount('type=bind,source=/a,destination=/b,ro=false'), '/a>/b');
});

test('--mount fields in double quotes may hold commas and quotes', () => {
  assert.is(mount('type=bind,"source=/a,b","target=/say ""hi"""'), '/a,b>/say "hi"');
  assert.match(
    errorOf(() => mount('type=bind,"source=/a,target=/b')),
    /double quote/,
  );
  assert.match(
    errorOf(() => mount('type=bind,source="/a",target=/b')),
    /double quote/,
  );
});

test('--mount says what is missing or unknown', () => {
  assert.match(
    errorOf(() => mount('source=/a,target=/b')),
    /type is missing/,
  );
  assert.match(
    errorOf(() => mount('type=tmpfs,target=/b')),
    /type tmpfs/,
  );
  assert.match(
    errorOf(() => mount('type=bind,target=/b')),
    /source is missing/,
  );
  assert.match(
    errorOf(() => mount('type=bind,source=/a')),
    /target is missing/,
  );
  assert.match(
    errorOf(() => mount('type=bind,source=/a,target=/b,bind-propagation=shared')),
    /unknown field/,
  );
});

test('--home has a source and perhaps a target', () => {
  assert.equal(parseHome('--home', '/a'), { source: '/a', target: undefined });
  assert.equal(parseHome('--home', '/a:/home/x/'), { source: '/a', target: '/home/x' });
  assert.is(
    codeOf(() => parseHome('--home', '/a:/b:/c')),
    'E_BIND_SPEC',
  );
  assert.is(
    codeOf(() => parseHome('--home', ':/b')),
    'E_BIND_SPEC',
  );
});

test('--mount takes yes and no for readonly, and nothing else', () => {
  for (const [text, readOnly] of [
    ['ro', true],
    ['readonly=true', true],
    ['ro=1', true],
    ['ro=false', false],
    ['readonly=0', false],
    ['rw', false],
  ] as const)
    assert.is(parseMount('--mount', `type=bind,src=/a,dst=/b,${text}`).readOnly, readOnly, text);
  for (const text of ['ro=perhaps', 'readonly=no', 'rw=true'])
    assert.is(
      codeOf(() => parseMount('--mount', `type=bind,src=/a,dst=/b,${text}`)),
      'E_BIND_SPEC',
      text,
    );
});

test('a --bind spec after --mount is told where it belongs', () => {
  assert.match(
    errorOf(() => parseMount('--mount', '/a:/b')),
    /write --bind \/a:\/b/,
  );
});

test('names and paths that are too long are refused before anything is done', () => {
  for (const target of [`/${'x'.repeat(256)}`, '/name'.repeat(820)])
    assert.match(
      errorOf(() => parseBinds('--bind', `/a:${target}`)),
      /too long/,
    );
  assert.is(parseBinds('--bind', `/a:/${'x'.repeat(255)}`)[0]?.target?.length, 256);
});

test.run();
