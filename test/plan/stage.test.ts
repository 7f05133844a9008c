/** --stage and --record in plans. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { directory } from '../helpers/machine.ts';
import { only, opsOf, planned } from '../helpers/planning.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('staging and recording');

test('nothing is staged unless it is asked for', () => {
  assert.is(opsOf(planned('exec IMG p'), 'stage').length, 0);
  for (const no of ['no', 'false', '0']) assert.is(opsOf(planned('exec IMG p', { env: { TSRUN_STAGE: no } }), 'stage').length, 0, no);
});

test('a copy lies in the node-local place, named after the identity of the file', () => {
  const op = only(planned('exec --stage IMG p', { env: { TSRUN_LOCAL: '/scratch/me' } }), 'stage');
  assert.match(op.path, /^\/scratch\/me\/staged\/\d+-\d+-4096-[\d.]+-[\d.]+$/);
  assert.equal(op.flags, []);
  assert.match(only(planned('exec --stage=local IMG p'), 'stage').path, /^\/tmp\/tsrun-1000\/staged\//);
});

test('or in memory, in a directory of the user', () => {
  const op = only(planned('exec --stage=memory IMG p'), 'stage');
  assert.match(op.path, /^\/dev\/shm\/tsrun-1000\/staged\//);
  assert.equal(op.flags, ['memory']);
});

test('variables and config files ask for it too, the command line wins', () => {
  assert.equal(only(planned('exec IMG p', { env: { APPTAINER_STAGE: 'memory' } }), 'stage').flags, ['memory']);
  assert.equal(only(planned('exec --stage=local IMG p', { env: { TSRUN_STAGE: 'memory' } }), 'stage').flags, []);
  assert.equal(only(planned('exec IMG p', { files: { '/etc/tsrun/config.yaml': 'stage: memory\n' } }), 'stage').flags, ['memory']);
  assert.equal(only(planned('exec IMG p', { files: { '/etc/tsrun/config.yaml': 'stage: true\n' } }), 'stage').flags, []);
  assert.is(opsOf(planned('exec --stage=no IMG p', { files: { '/etc/tsrun/config.yaml': 'stage: true\n' } }), 'stage').length, 0);
});

test('another word is a slip', async () => {
  assert.match((await failure(() => planned('exec --stage=ram IMG p'), 'E_USAGE')).message, /--stage=ram/);
});

test('it comes before the image mount; where the image is extracted instead there is none', () => {
  const names = planned('exec --stage --record r IMG p', { cwd: '/data', files: { '/data': directory() } }).ops.map((op) => op.op);
  assert.equal(names.slice(0, 4), ['scope', 'record', 'stage', 'image_mount']);
  assert.is(opsOf(planned('exec --stage IMG p', { files: { '/dev/fuse': undefined } }), 'stage').length, 0);
});

test('a record is written by a server of its own, which ends with the last run', () => {
  const usual = only(planned('exec IMG p'), 'scope');
  const run = planned('exec --record r IMG p', { cwd: '/data', files: { '/data': directory() } });
  const scope = only(run, 'scope');
  assert.is(only(run, 'record').path, '/data/r');
  assert.is.not(scope.key, usual.key);
  assert.match(scope.key, /^record\.[0-9a-f]{16}$/);
  assert.is(scope.lingerMs, 0);
  // The same file is the same recording, so that the ranks of a node share it.
  assert.is(only(planned('exec --record /data/r IMG p'), 'scope').key, scope.key);
  assert.is.not(only(planned('exec --record /data/s IMG p'), 'scope').key, scope.key);
});

test('what is not served cannot be recorded', async () => {
  assert.match(
    (await failure(() => planned('exec --record r IMG p', { files: { '/dev/fuse': undefined } }), 'E_RECORD')).message,
    /\/dev\/fuse cannot be used/,
  );
  assert.match((await failure(() => planned('exec --record= IMG p'), 'E_USAGE')).message, /no name of a file/);
});

test.run();
