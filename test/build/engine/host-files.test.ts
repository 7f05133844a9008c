/** Files of the host that recipes copy: found, walked, left out, hashed. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOfSources, type Finding, findSources, NOTHING_IGNORED } from '../../../src/build/engine/host-files.ts';
import { excludeRules, hasExceptions, ignoreRules } from '../../../src/recipe/ignore.ts';
import { TsrunError } from '../../../src/util/errors.ts';

const test = suite('files of the host for a build');
const place = mkdtempSync(join(tmpdir(), 'tsrun-host-files-'));
const root = join(place, 'context');
process.on('exit', () => rmSync(place, { recursive: true, force: true }));

for (const [path, content] of Object.entries({
  'a.txt': 'A',
  'b.txt': 'B',
  '.hidden': 'h',
  'dir/one': '1',
  'dir/sub/two': '2',
  'dir/sub/keep.log': '3',
  '../outside': 'secret',
})) {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), content);
}
symlinkSync('a.txt', join(root, 'link'));
symlinkSync('../../outside', join(root, 'dir/up'));
symlinkSync('/outside', join(root, 'absolute'));
symlinkSync('dir', join(root, 'dirlink'));

const unmatched: string[] = [];
const finding: Finding = {
  root,
  start: root,
  manner: 'docker',
  ignore: NOTHING_IGNORED,
  outputs: [],
  exclude: excludeRules([]),
  place: 'Dockerfile:1',
  onNothing: (pattern) => void unmatched.push(pattern),
};

const names = async (asked: readonly string[], how: Partial<Finding> = {}): Promise<string> =>
  (await findSources(asked, { ...finding, ...how }))
    .map(({ name, files }) => `${name}[${files.map((file) => file.path || '.').join(' ')}]`)
    .join(' ');

const refusal = async (asked: readonly string[], how: Partial<Finding> = {}): Promise<string> => {
  try {
    await findSources(asked, { ...finding, ...how });
  } catch (error) {
    if (error instanceof TsrunError && error.code === 'E_COPY_SOURCE') return error.message;
    throw error;
  }
  return '';
};

test('what the build itself writes is no part of what it copies, unless it is named', async () => {
  const outputs = [join(root, 'b.txt'), join(root, 'dir/sub'), join(root, 'not-yet.sif')];
  assert.is(await names(['*.txt', 'dir'], { outputs }), 'a.txt[.] dir[. one up]');
  assert.is(await names(['*.txt', 'dir'], { outputs, manner: 'cp', root: '/' }), 'a.txt[.] dir[. one up]');
  assert.is(await names(['b.txt', 'dir/sub'], { outputs }), 'b.txt[.] sub[. keep.log two]');
});

test('names and wildcards stand for what is in the context; parents come first, siblings are sorted', async () => {
  assert.is(await names(['a.txt', 'dir']), 'a.txt[.] dir[. one sub sub/keep.log sub/two up]');
  assert.is(await names(['*.txt']), 'a.txt[.] b.txt[.]');
  assert.is(await names(['di?/s?b']), 'sub[. keep.log two]');
  assert.is(await names(['/./dir/../a.txt']), 'a.txt[.]');
});

test('a pattern of a Dockerfile may stand for nothing, a name may not', async () => {
  assert.is(await names(['a.txt', 'no*', 'dir/*.none']), 'a.txt[.]');
  assert.equal(unmatched.splice(0), ['no*', 'dir/*.none']);
  assert.match(await refusal(['a.txt', 'no']), /there is no such file/);
  assert.match(await refusal(['no*'], { manner: 'cp', root: '/' }), /there is no such file/);
});

test('for --parents a name counts from its "/./" on', async () => {
  const paths = async (...asked: readonly string[]): Promise<readonly string[]> =>
    (await findSources(asked, finding)).map(({ path }) => path);
  assert.equal(await paths('dir/one', 'dir/./one', './dir/./s*/two', '/./dir/one'), ['dir/one', 'one', 'sub/two', 'dir/one']);
});

test('nothing leads out of the context: neither dots nor links', async () => {
  assert.match(await refusal(['../outside']), /Dockerfile:1: cannot copy "\.\.\/outside": there is no such file/);
  assert.match(await refusal(['absolute']), /there is no such file/);
  assert.match(await refusal(['dir/up']), /there is no such file/);
});

test('a link that is named is followed, one in a directory is kept', async () => {
  const [link, up] = [
    (await findSources(['link'], finding))[0]?.files[0],
    (await findSources(['dir'], finding))[0]?.files.find(({ path }) => path === 'up'),
  ];
  assert.equal([link?.type, link?.size], ['file', 1]);
  assert.equal([up?.type, up?.link], ['symlink', '../../outside']);
  assert.is(await names(['dirlink/one']), 'one[.]');
});

test('cp takes any path of the host and follows every link', async () => {
  const how = { manner: 'cp', root: '/' } as const;
  assert.is(await names([join(place, 'outside')], how), 'outside[.]');
  assert.is(await names(['dirlink'], how), 'dirlink[. one sub sub/keep.log sub/two up]');
  // As in a shell, a leading dot has to be written.
  assert.match(await refusal(['*hidden'], how), /there is no such file on this machine/);
});

test('.dockerignore and --exclude leave files out, and exceptions take them back from ignored directories', async () => {
  const text = 'dir\n!dir/sub/keep.log\n*.txt\n';
  const ignore = { ignores: ignoreRules(text), hasExceptions: hasExceptions(text) };
  assert.is(await names(['.'], { ignore }), '[. .hidden absolute dir dir/sub dir/sub/keep.log dirlink link]');
  assert.match(await refusal(['a.txt'], { ignore }), /it is left out by \.dockerignore/);
  assert.is(await names(['dir'], { exclude: excludeRules(['sub', 'up']) }), 'dir[. one]');
});

test('the digest follows names, kinds, modes, links and contents; not times', async () => {
  const digest = async (): Promise<string> => digestOfSources(await findSources(['dir'], finding), finding, new AbortController().signal);
  const first = await digest();
  utimesSync(join(root, 'dir/one'), 1, 1);
  assert.is(await digest(), first);
  chmodSync(join(root, 'dir/one'), 0o600);
  const second = await digest();
  assert.is.not(second, first);
  writeFileSync(join(root, 'dir/one'), '9');
  assert.is.not(await digest(), second);
});

test('a link to a directory it lies in is refused by cp, which would follow it for ever', async () => {
  symlinkSync('.', join(root, 'dir/sub/loop'));
  assert.match(await refusal(['dir'], { manner: 'cp', root: '/' }), /is a link to a directory it lies in/);
  assert.match(await names(['dir']), /sub\/loop/);
});

test.run();
