/** The planner's bundle answers the same in the embedded engine as in Node, on the machine the test runs on. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findLine } from '../../src/facts/identity.ts';
import { CALLS } from '../../src/run/host-calls.ts';
import { nodeHost } from '../../src/run/host-node.ts';
import { failure, start } from '../../src/run/start.ts';
import { ENOENT } from '../../src/util/host.ts';
import { jsonMember, jsonMembers, jsonMemberTexts } from '../../src/util/json-members.ts';

const top = resolve(import.meta.dirname, '../..');
const test = suite('engine and Node');
const scratch = mkdtempSync(join(tmpdir(), 'tsrun-engine-'));
const image = join(scratch, 'image\u00e9');

test.before(() => {
  const made = spawnSync('make', ['build/engine_run', 'build/planner.js'], { cwd: top, encoding: 'utf8' });
  assert.is(made.status, 0, made.stderr);
  for (const folder of ['bin', 'etc', 'usr/lib', 'proc', 'dev', 'sys', 'tmp', 'home']) mkdirSync(join(image, folder), { recursive: true });
  symlinkSync('usr/lib', join(image, 'lib'));
  writeFileSync(join(image, 'etc/os-release'), 'ID=test\n');
  writeFileSync(join(image, 'bin/sh'), '#!/bin/true\n', { mode: 0o755 });
  writeFileSync(join(scratch, 'env'), 'FROM_FILE=caf\u00e9\n');
});
test.after(() => rmSync(scratch, { recursive: true }));

const environment = {
  HOME: scratch,
  PATH: '/usr/bin:/bin',
  LANG: 'C.UTF-8',
  APPTAINERENV_GIVEN: 'na\u00efve',
  PYTHONPATH: '/x',
  XDG_RUNTIME_DIR: scratch,
};

const inEngine = (entry: string, input: string, args: readonly string[]): string => {
  const ran = spawnSync(join(top, 'build/engine_run'), [join(top, 'build/planner.js'), entry, ...args], {
    cwd: scratch,
    env: environment,
    input,
  });
  assert.is(ran.status, 0, ran.stderr.toString());
  return ran.stdout.toString('latin1');
};

/** In a process of its own: the current directory and the standard streams are part of the machine. */
const inNode = (entry: string, input: string, args: readonly string[]): string => {
  const ran = spawnSync(process.execPath, [import.meta.filename, entry, ...args], {
    cwd: scratch,
    env: { ...environment, TSRUN_TEST_CHILD: '1' },
    input,
  });
  assert.is(ran.status, 0, ran.stderr.toString());
  return ran.stdout.toString('latin1');
};

const corpus: readonly (readonly string[])[] = [
  ['exec', image, 'true'],
  ['exec', '--explain', image, 'sh', '-c', 'echo caf\u00e9'],
  ['exec', '--contain', '--cleanenv', '--env', 'A=1', '--env-file', 'env', '--pwd', '/tmp', image, 'env'],
  ['exec', '-B', '/usr:/mnt:ro', '-B', '/nowhere', image, 'true'],
  ['exec', '--writable-tmpfs', '--pid', '--hostname', 'box', image, 'true'],
  ['run', image],
  ['shell', image],
  ['exec', '--no-such-flag', image, 'true'],
  ['exec', './missing.sif', 'true'],
  ['exec'],
  ['build', 'a.sif', 'docker://alpine'],
  ['--version'],
];

/** What --explain says of a kept file: the engine counts handles from 0, Node's are descriptors. */
const withoutHandles = (answer: string): string => answer.replace(/^( {2}open .*) \d+$/gm, '$1 N');

for (const line of corpus)
  test(`the same answer for: ${line.map((word) => word.replace(scratch, '')).join(' ')}`, () => {
    const args = ['tsrun', ...line];
    assert.is(withoutHandles(inEngine('tsrunStart', '', args)), withoutHandles(inNode('tsrunStart', '', args)));
  });

test('the same answer for a failure of the launcher', () => {
  const input = ['3', 'bind', '2', 'find the source', '/n\u00c3\u00a9: removed', ''].join('\0');
  assert.is(
    inEngine('tsrunFailure', input, ['tsrun', 'exec', image, 'true']),
    inNode('tsrunFailure', input, ['tsrun', 'exec', image, 'true']),
  );
});

/** Facts of an image that anybody may have written: what they are, and what is asked for. */
const OBJECTS: readonly (readonly [text: string, names: string])[] = [
  [readFileSync(join(top, 'test/native/corpus/host_json/facts'), 'latin1'), 'nversion\nlenv\nbrunscript\notree\nsos.id\nslibc.kind'],
  [readFileSync(join(top, 'test/native/corpus/host_json/odd'), 'latin1'), 'sarch\nlenv'],
  ['{"a":"x","b":"y","a":"z"}', 'sa'],
  ['{"a":"x","b":"y","\\u0061":"z"}', 'sa'],
  ['{"a":"x","b":"y","a":"z"}', 'sb'],
  ['{"o":{"p":"x"},"o":{"p":"y"}}', 'so.p'],
  ['{"o":{"q":"x"},"o":{"p":"y"}}', 'so.p'],
  ['{"o":{"p":"y"},"o":1}', 'so.p'],
  ['{"o":1,"\\u006f":{"p":"y"}}', 'so.p'],
  ['{"o":{"p":"x","p":"y"}}', 'so.p'],
  ['{"o":{"p":"x","q":{"p":1}},"p":2,"l":[{"p":3},{"p":4}]}', 'so.p\nnp'],
  ['{"o.p":"x"}', 'so.p'],
  ['{"o.p":"x","o":{"p":"y"}}', 'so.p'],
  ['{"o":{"p":{"q":"x"}}}', 'so.p.q'],
  ['{"o":[{"p":"x"}]}', 'so.p'],
  ['{"a":"x"}', 'sb'],
  ['{"a":"x"}', 'na'],
  ['{"a":["\\u0000"]}', 'la'],
  ['{"a":"\\u0100"}', 'sa'],
  ['{"__proto__":{"a":"x"}}', 'sa'],
  ['{"__proto__":"x"}', 's__proto__'],
  [`{"a":${'['.repeat(16)}${']'.repeat(16)},"b":1}`, 'nb'],
  [`{"a":${'['.repeat(17)}${']'.repeat(17)},"b":1}`, 'nb'],
  ['{"a":"x"}]', 'sa'],
  ['{"a":"x",}', 'sa'],
  ['{"a":"x"', 'sa'],
  ['["a"]', 'sa'],
  ['', 'sa'],
];
const LINES: readonly (readonly [text: string, field: number, value: string])[] = [
  ['a:x:10:1::/:\nb:10:5:1::/:\n', 2, '5'],
  ['a:x:5:1\nb:x:5:2', 2, '5'],
  ['xrob:x:1:1\nrob:x:2\n', 0, 'rob'],
  ['rob\nrob:', 0, 'rob'],
  ['a:x:5', 2, '5'],
  ['', 0, 'a'],
];

/** Each alone, and all of them of one object. */
const SEVERAL: readonly (readonly [text: string, names: string])[] = [
  ['{"/a":"d","/b":1,"/c":"lx\\n\\u00e9"}', '/c\n/b\n/nope\n/a\n/a'],
  ['{"/a":"d","/b":"\\u0100"}', '/a\n/b'],
  ['{"/a":"d"}', ''],
];
const TREES: readonly (readonly [text: string, name: string])[] = [
  ['{"/a":"d","/b":"f","/a":"lx"}', '/a'],
  ['{"/a":1,"/a":"lx"}', '/a'],
  ['{"/x":{"/a":"d"},"/b":",\\"/a\\":\\"f\\""}', '/a'],
  ['{"/b":",\\"/a\\":\\"f\\""}', '/a'],
  ['{"/\\u00e9\\"\\u007f":"d"}', '/\xe9"\x7f'],
  ['{"/a":"\\u00ff"}', '/a'],
  ['{"/a":"\\u0100"}', '/a'],
  ['{"/a":"', '/a'],
  ['{}', '/a'],
];

test('members of JSON objects are the same for the native program and for Node, also where a name is there twice', () => {
  const bundle = join(scratch, 'ask.js');
  writeFileSync(bundle, 'globalThis.tsrunStart = (input) => JSON.stringify(JSON.parse(input).map((question) => __host(...question)));');
  const questions = [
    ...OBJECTS.map((each) => [CALLS.json, ...each]),
    ...TREES.map((each) => [CALLS.member, ...each]),
    ...SEVERAL.map((each) => [CALLS.members, ...each]),
    ...LINES.map((each) => [CALLS.find_line, ...each]),
  ];
  const asked = spawnSync(join(top, 'build/engine_run'), [bundle, 'tsrunStart'], {
    input: Buffer.from(JSON.stringify(questions).replace(/[\x7f-\xff]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`)),
  });
  assert.is(asked.status, 0, asked.stderr.toString());
  const native: unknown[] = JSON.parse(asked.stdout.toString('latin1'));
  const node = [
    ...OBJECTS.map((each) => jsonMembers(...each)),
    ...TREES.map((each) => jsonMember(...each)),
    ...SEVERAL.map((each) => jsonMemberTexts(...each)),
    ...LINES.map((each) => findLine(...each)?.join(':') ?? ENOENT),
  ];
  for (const [at, question] of questions.entries()) assert.equal(native[at], node[at], JSON.stringify(question));
  assert.ok(node.filter((answer) => typeof answer !== 'number').length > 10);
});

if (process.env['TSRUN_TEST_CHILD'] === '1') {
  const [entry, ...args] = process.argv.slice(2);
  const input = readFileSync(0, 'latin1');
  const { TSRUN_TEST_CHILD: _, ...rest } = process.env;
  // As the engine is in it: else the plan would name every variable.
  const host = { ...nodeHost({ args, environment: rest }), isLauncher: true };
  const fields = entry === 'tsrunStart' ? start(host, input) : failure(host, input);
  process.stdout.write(
    Buffer.from(
      fields
        .flat()
        .map((field) => `${field}\0`)
        .join(''),
      'latin1',
    ),
  );
  rmSync(scratch, { recursive: true });
} else {
  test.run();
}
