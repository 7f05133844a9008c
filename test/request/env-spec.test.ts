import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseEnv, parseEnvFile } from '../../src/request/env-spec.ts';
import { codeOf, errorOf } from '../helpers/planning.ts';

const test = suite('environment specs');

const short = (specs: readonly { name: string; value: string | undefined }[]): string[] =>
  specs.map(({ name, value }) => (value === undefined ? name : `${name}=${value}`));

const FORMS: readonly [string, string[]][] = [
  ['A=1', ['A=1']],
  ['A=1,B=2', ['A=1', 'B=2']],
  ['A=x,y', ['A=x,y']],
  ['A=x\\,B=2', ['A=x,B=2']],
  ['A=', ['A=']],
  ['A', ['A']],
  ['A=b=c', ['A=b=c']],
  ['A=$HOME `x` "q"', ['A=$HOME `x` "q"']],
];
for (const [text, result] of FORMS) {
  test(`--env ${text} sets ${result.join(' and ')}`, () => {
    assert.equal(short(parseEnv('--env', text)), result);
  });
}

test('a name is an identifier', () => {
  assert.is(
    codeOf(() => parseEnv('--env', '1A=x')),
    'E_ENV_SPEC',
  );
  assert.is(
    codeOf(() => parseEnv('--env', 'A-B=x')),
    'E_ENV_SPEC',
  );
});

const LINES: readonly [string, string, string[]][] = [
  ['plain lines', 'A=1\nB=2\n', ['A=1', 'B=2']],
  ['no line end at the end', 'A=1', ['A=1']],
  ['comments and empty lines', '# x\n\nA=1 # not a comment\n', ['A=1 # not a comment']],
  ['export', 'export A=1\n  export\tB=2', ['A=1', 'B=2']],
  ['single quotes take everything literally', "A='$x \\n'\n", ['A=$x \\n']],
  ['double quotes know \\" and \\\\', 'A="say \\"hi\\" \\\\ \\n"\n', ['A=say "hi" \\ \\n']],
  ['quotes over several lines', 'A="one\ntwo"\nB=3', ['A=one\ntwo', 'B=3']],
  ['carriage returns at line ends go', 'A=1\r\nB="2"\r\n', ['A=1', 'B=2']],
  ['a name alone is the host value', 'A\nB=1', ['A', 'B=1']],
  ['a mark of UTF-8 at the beginning is skipped', '\xef\xbb\xbfA=1\nB=2', ['A=1', 'B=2']],
  ['dollars stay', 'A=$HOME/x', ['A=$HOME/x']],
];
for (const [what, text, result] of LINES) {
  test(`env file: ${what}`, () => {
    assert.equal(short(parseEnvFile('f.env', text)), result);
  });
}

test('a bad line is named with file and number', () => {
  assert.match(
    errorOf(() => parseEnvFile('f.env', 'A=1\n\n1B=2\n')),
    /f\.env line 3.*"1B"/,
  );
  assert.match(
    errorOf(() => parseEnvFile('f.env', 'A="x\ny"\nB="z\n')),
    /line 3.*quote is not closed/,
  );
  assert.match(
    errorOf(() => parseEnvFile('f.env', 'A="x" y\n')),
    /follows the closing quote/,
  );
});

test.run();
