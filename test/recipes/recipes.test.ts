// time limit: 5400 s
/**
 * The recipes of recipes/, built by an ordinary user on the machine's own Debian and proved by their own checks. Two of them in every run of the
 * tests, all with `npm run test:recipes`.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { debianBase } from '../helpers/debian-base.ts';
import { run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('recipes');
const recipes = resolve(import.meta.dirname, '../../recipes');
const place = scratch('recipes');
const env = { TSRUN_STORE: join(place, 'store'), TSRUN_TMPDIR: join(place, 'work') };

const names = readdirSync(recipes, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);
/** Small, and different in kind: what many projects have, and an image with nothing in it but a program. */
const FEW = ['hello-scratch', 'web-app'];
const wanted = process.env['TSRUN_TEST_RECIPES'] ?? FEW.join(' ');
const chosen = wanted === 'all' ? names : wanted.split(' ');

/** Definition files name their base by two arguments, Dockerfiles and YAML by one. */
const wordsFor = (name: string, base: string): readonly string[] => {
  const definition = join(recipes, name, `${name}.def`);
  const yaml = join(recipes, name, `${name}.yaml`);
  if (!existsSync(definition))
    return ['--build-arg', `BASE=tar:${base}`, join(place, `${name}.sif`), existsSync(yaml) ? yaml : join(recipes, name)];
  const image = join(place, 'base.sif');
  if (!existsSync(image)) tsrunOk(['build', image, `tar:${base}`], { env, cwd: place });
  return ['--build-arg', 'bootstrap=localimage', '--build-arg', `base=${image}`, join(place, `${name}.sif`), definition];
};

test('every recipe has a check, and stands in the list', () => {
  for (const name of names) assert.ok(existsSync(join(recipes, name, 'check')), name);
  for (const name of chosen) assert.ok(names.includes(name), name);
});

for (const name of chosen) {
  test(`${name} is built without root, and its check passes`, () => {
    const base = debianBase();
    if (base === undefined) return skip('mmdebstrap is missing');
    const started = performance.now();
    const built = tsrun(['build', ...wordsFor(name, base)], { env, cwd: place });
    assert.is(built.status, 0, built.stderr.slice(-4000));
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    const checked = run(join(recipes, name, 'check'), [join(place, `${name}.sif`)], { env: { ...env, TSRUN: tsrunPath }, cwd: place });
    assert.is(checked.status, 0, checked.stdout + checked.stderr);
    const megabytes = (statSync(join(place, `${name}.sif`)).size / 1e6).toFixed(0);
    process.stderr.write(`${name}: built in ${seconds} s, ${megabytes} MB\n${checked.stdout}`);
  });
}

test.run();
