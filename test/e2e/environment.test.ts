/** The environment a program finds, carried out for real; the rules one by one are tested in test/plan/. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, scratch, tsrunOk } from '../helpers/product.ts';

const test = suite('environment of a run');
const place = scratch('environment');
const image = makeBusyboxImage(place);

const environmentInside = (args: readonly string[], env: Readonly<Record<string, string | undefined>> = {}): Map<string, string> =>
  new Map(
    tsrunOk(['exec', ...args, image, 'env'], { env })
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );

test('ordinary and scheduler variables of the host come in', () => {
  const inside = environmentInside([], { MY_SETTING: 'yes', SLURM_JOB_ID: '12', OMP_NUM_THREADS: '4', CUDA_VISIBLE_DEVICES: '0,1' });
  assert.is(inside.get('MY_SETTING'), 'yes');
  assert.is(inside.get('SLURM_JOB_ID'), '12');
  assert.is(inside.get('OMP_NUM_THREADS'), '4');
  assert.is(inside.get('CUDA_VISIBLE_DEVICES'), '0,1');
});

test('host variables that poison results stay outside', () => {
  const poison = [
    'PYTHONPATH',
    'PYTHONHOME',
    'LD_LIBRARY_PATH',
    'PERL5LIB',
    'R_LIBS',
    'R_LIBS_USER',
    'CONDA_PREFIX',
    'VIRTUAL_ENV',
    'JULIA_LOAD_PATH',
    'BASH_ENV',
    'ENV',
    'SHELL',
  ];
  const inside = environmentInside([], Object.fromEntries(poison.map((name) => [name, '/host/poison'])));
  for (const name of poison) assert.is(inside.get(name), undefined, name);
  assert.is(inside.get('PYTHONNOUSERSITE'), '1');
});

test('--host-env keeps what is named', () => {
  assert.is(environmentInside(['--host-env=PYTHONPATH'], { PYTHONPATH: '/mine' }).get('PYTHONPATH'), '/mine');
});

test('explicit values win over everything, whatever bytes they hold', () => {
  const odd = 'a b"c$(id)`id`\\ \xe4\xff';
  assert.is(environmentInside(['--env', `ODD=${odd.slice(0, -2)}`]).get('ODD'), odd.slice(0, -2));
  assert.is(environmentInside(['--env', 'PATH=/opt/x:/bin']).get('PATH'), '/opt/x:/bin');
  const file = join(place, 'env-file');
  writeFileSync(file, '# comment\nFROM_FILE="quoted value"\n');
  assert.is(environmentInside(['--env-file', file]).get('FROM_FILE'), 'quoted value');
  assert.is(environmentInside([], { APPTAINERENV_X: '1', SINGULARITYENV_X: '2' }).get('X'), '1');
});

test('--cleanenv keeps the host’s variables outside', () => {
  const inside = environmentInside(['--cleanenv'], { MY_SETTING: 'yes', TERM: 'xterm' });
  assert.is(inside.get('MY_SETTING'), undefined);
  assert.is(inside.get('TERM'), 'xterm');
  assert.ok(inside.has('HOME') && inside.has('PATH'));
});

test('a shell function exported by bash stays outside', () => {
  assert.not.ok(
    [...environmentInside([], { 'BASH_FUNC_ls%%': '() { echo poison; }' }).keys()].some((name) => name.startsWith('BASH_FUNC')),
  );
});

test('a script bound into /.singularity.d/env is sourced before the program', () => {
  const script = join(place, '99-shpc.sh');
  writeFileSync(script, 'export FROM_SCRIPT="sourced in $PWD"\n');
  assert.match(environmentInside(['-B', `${script}:/.singularity.d/env/99-shpc.sh`]).get('FROM_SCRIPT') ?? '', /^sourced in \//);
});

test.run();
