/** The main job, as an ordinary user: an image from a registry with TLS and a password becomes one SIF file and runs. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxTree, type Ran, run, scratch, tsrun, tsrunPath } from '../helpers/product.ts';
import { startRegistry } from '../helpers/registry.ts';

const test = suite('the main job');
const place = scratch('main-job');
const layout = join(place, 'layout');

const must = (program: string, args: readonly string[]): void => {
  const done = spawnSync(program, args, { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr}`);
};

const tree = join(place, 'tree');
mkdirSync(tree);
makeBusyboxTree(tree);
writeFileSync(join(tree, 'opt/tool/analyse'), '#!/bin/sh\necho "analysed $1 by $(id -un)"\n');
chmodSync(join(tree, 'opt/tool/analyse'), 0o755);
must('umoci', ['init', '--layout', layout]);
must('umoci', ['new', '--image', `${layout}:1.2`]);
must('umoci', ['insert', '--image', `${layout}:1.2`, tree, '/']);
must('umoci', [
  'config',
  '--image',
  `${layout}:1.2`,
  '--config.entrypoint',
  '/opt/tool/analyse',
  '--config.cmd',
  'nothing',
  '--config.env',
  'PATH=/opt/tool:/bin',
]);
const registry = await startRegistry({ tls: true, password: true });
const { username = '', password = '' } = registry.login ?? {};
const reference = `docker://${registry.host}/team/pipeline:1.2`;
must('skopeo', [
  'copy',
  '--quiet',
  '--insecure-policy',
  '--dest-tls-verify=false',
  `--dest-creds=${username}:${password}`,
  `oci:${layout}:1.2`,
  reference,
]);
test.after(() => registry.stop());

// The registry's own directory is closed to the test user.
const caFile = join(place, 'ca.pem');
copyFileSync(registry.caFile, caFile);
chmodSync(caFile, 0o644);
const env = { SSL_CERT_FILE: caFile, XDG_CONFIG_HOME: join(place, 'config'), TSRUN_STORE: join(place, 'store') };
const inPlace = (args: readonly string[], input = ''): Ran => tsrun(args, { cwd: place, env, input });
const image = join(place, 'pipeline.sif');

test('without a login the registry refuses, and the message says how to log in', () => {
  const ran = inPlace(['build', image, reference]);
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /tsrun login/);
  assert.not.ok(existsSync(image));
});

test('tsrun login keeps the password in a file that only the user can read', () => {
  assert.is(inPlace(['login', '--username', username, '--password-stdin', registry.host], 'wrong').status, 125);
  const ran = inPlace(['login', '--username', username, '--password-stdin', registry.host], password);
  assert.is(ran.status, 0, ran.stderr);
  assert.is(statSync(join(place, 'config/tsrun/auth.json')).mode & 0o777, 0o600);
});

test('tsrun build makes one file, says nothing, and leaves nothing else beside it', () => {
  const before = readdirSync(place);
  const ran = inPlace(['build', image, reference]);
  assert.is(ran.status, 0, ran.stderr);
  assert.is(ran.stdout, '');
  assert.equal(
    readdirSync(place).filter((name) => !before.includes(name) && name !== 'store'),
    ['pipeline.sif'],
  );
});

test('tsrun exec and run use it', () => {
  assert.match(inPlace(['exec', image, 'analyse', 'data']).stdout, /^analysed data by \w+\n$/);
  assert.match(inPlace(['run', image]).stdout, /^analysed nothing by /);
  assert.match(inPlace(['run', image, 'more']).stdout, /^analysed more by /);
});

test('an existing output is kept unless -F is given', () => {
  const before = readFileSync(image);
  const refused = inPlace(['build', image, reference]);
  assert.is(refused.status, 125);
  assert.match(refused.stderr, /-F|--force/);
  assert.is(inPlace(['build', '-F', image, `oci:${layout}:missing`]).status, 125);
  assert.ok(before.equals(readFileSync(image)));
});

test('the same image gives the same bytes again', () => {
  const again = join(place, 'again.sif');
  assert.is(inPlace(['build', again, reference]).status, 0);
  assert.ok(readFileSync(image).equals(readFileSync(again)));
});

test('a docker:// reference runs directly: converted into the store at first, from the store afterwards', async () => {
  const first = inPlace(['exec', reference, 'analyse', 'first']);
  assert.match(first.stdout, /^analysed first/, first.stderr);
  const trace = join(place, 'trace');
  const second = run('strace', ['-f', '-e', 'trace=execve,connect', '-o', trace, tsrunPath, 'exec', reference, 'analyse', 'second'], {
    cwd: place,
    env,
  });
  assert.match(second.stdout, /^analysed second/, second.stderr);
  const calls = readFileSync(trace, 'utf8');
  assert.not.match(calls, /node/);
  assert.not.match(calls, /AF_INET/);
});

test('after tsrun logout the password is gone', () => {
  assert.is(inPlace(['logout', registry.host]).status, 0);
  assert.not.match(readFileSync(join(place, 'config/tsrun/auth.json'), 'utf8'), new RegExp(registry.host));
});

test('no file of tsrun is setuid', () => {
  assert.is(statSync(tsrunPath).mode & 0o6000, 0);
});

test.run();
