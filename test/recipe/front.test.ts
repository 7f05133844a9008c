import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readBuildArgs } from '../../src/recipe/arguments.ts';
import { hasRecipeName, readRecipe, recipeLanguage } from '../../src/recipe/front.ts';
import type { Language } from '../../src/recipe/spec.ts';
import { refused } from './helpers.ts';

const test = suite('recipes of all languages');

const NAMES: readonly (readonly [string, Language])[] = [
  ['x.def', 'definition'],
  ['a.b/Singularity', 'definition'],
  ['Singularity.1.0', 'definition'],
  ['Apptainer', 'definition'],
  ['Dockerfile', 'dockerfile'],
  ['d/Dockerfile.gpu', 'dockerfile'],
  ['Containerfile', 'dockerfile'],
  ['gpu.Dockerfile', 'dockerfile'],
  ['recipe.yaml', 'yaml'],
  ['recipe.yml', 'yaml'],
];

for (const [path, language] of NAMES) {
  test(`${path} is a recipe in ${language}`, () => {
    assert.is(recipeLanguage(path, ''), language);
    assert.is(hasRecipeName(path), true);
  });
}

test('images and directories are not called like recipes', () => {
  for (const path of ['x.sif', 'Dockerfile.d/x', 'docker://alpine', 'Dockerfiles', 'def', 'x.defs', '/x/rootfs'])
    assert.is(hasRecipeName(path), false, path);
});

test('other names are told apart by what the file begins with', () => {
  assert.is(recipeLanguage('build', '# c\n\nBootstrap: docker\nFrom: x'), 'definition');
  assert.is(recipeLanguage('build', 'From: x\nBootstrap: docker\n'), 'definition');
  assert.is(recipeLanguage('build', '# escape=`\nfrom x'), 'dockerfile');
  assert.is(recipeLanguage('build', 'ARG A=1\nFROM x'), 'dockerfile');
  assert.is(recipeLanguage('build', 'from: debian\nrun: x'), 'yaml');
  assert.is(recipeLanguage('build', '---\nfrom: debian'), 'yaml');
  refused(
    () => recipeLanguage('build', '\n#!/bin/sh\nset -e'),
    'E_RECIPE',
    /build:3: its language is not known.*"set -e" -- call it Dockerfile/,
  );
  refused(() => recipeLanguage('build', ''), 'E_RECIPE', /it is empty/);
});

const read = (path: string, text: string, more: object = {}) => readRecipe({ path, text, platform: 'linux/amd64', ...more });

test('a recipe is read in the language of its name, or the one that is given', () => {
  assert.is(read('x.def', 'Bootstrap: scratch').language, 'definition');
  assert.is(read('x.def', 'FROM scratch', { language: 'dockerfile' }).language, 'dockerfile');
  assert.equal(read('Dockerfile', 'FROM a\n').recipe, { path: 'Dockerfile', text: 'FROM a\n' });
});

test('what is not text, and sections of other languages, are refused', () => {
  refused(() => read('Dockerfile', 'FROM x\n\0'), 'E_RECIPE', /Dockerfile:2: it is not text/);
  refused(() => read('Dockerfile', 'FROM x', { sections: ['post'] }), 'E_RECIPE_UNSUPPORTED', /leave --section out/);
});

test('build arguments come from files and flags, and flags win', () => {
  const file = { path: 'args', text: '# c\n\nA=1\n B=two words = x \r\nE=\n' };
  const environment = (name: string): string | undefined => (name === 'H' ? 'host' : undefined);
  assert.equal(readBuildArgs(['A=2', 'H', 'NONE', 'C=a=b'], [file], environment), {
    A: '2',
    B: 'two words = x',
    E: '',
    H: 'host',
    C: 'a=b',
  });
  assert.is(Object.hasOwn(readBuildArgs(['__proto__=x'], [], environment), '__proto__'), true);
  refused(() => readBuildArgs(['=x'], [], environment), 'E_RECIPE_ARGUMENT', /--build-arg =x: "" is no name/);
  refused(() => readBuildArgs([], [{ path: 'args', text: 'A=1\nB' }], environment), 'E_RECIPE_ARGUMENT', /args:2: there is no "=" in "B"/);
});

test('the same recipe gives the same spec', () => {
  const text = 'FROM a AS b\nRUN <<E\nx\nE\nFROM b\nCOPY --from=b /x /y\n';
  assert.is(JSON.stringify(read('Dockerfile', text)), JSON.stringify(read('Dockerfile', text)));
});

test.run();
