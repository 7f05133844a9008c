import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RegistryReference } from '../../src/oci/reference.ts';
import { factsPath, imagePath, referencePath } from '../../src/store/layout.ts';
import { storePlaces } from '../../src/store/places.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('store places');

test('the first of TSRUN_STORE, config, APPTAINER_CACHEDIR, SINGULARITY_CACHEDIR, XDG_CACHE_HOME, HOME decides', () => {
  const env: Record<string, string> = {
    TSRUN_STORE: '/s/own',
    APPTAINER_CACHEDIR: '/s/apptainer',
    SINGULARITY_CACHEDIR: '/s/singularity/',
    XDG_CACHE_HOME: '/s/xdg',
    HOME: '/home/ada',
  };
  const expected = [
    ['TSRUN_STORE', '/s/own'],
    ['config', '/s/config'],
    ['APPTAINER_CACHEDIR', '/s/apptainer/tsrun'],
    ['SINGULARITY_CACHEDIR', '/s/singularity/tsrun'],
    ['XDG_CACHE_HOME', '/s/xdg/tsrun'],
    ['HOME', '/home/ada/.cache/tsrun'],
  ];
  let config: { store?: string } = { store: '/s/config' };
  for (const [origin = '', path = ''] of expected) {
    assert.equal(storePlaces(env, config, 7).store, { path, origin });
    if (origin === 'config') config = {};
    delete env[origin];
  }
});

test('without a home the passwd entry serves, and without that the node-local place', () => {
  assert.equal(storePlaces({}, {}, 7, '/home/b').store, { path: '/home/b/.cache/tsrun', origin: 'passwd' });
  assert.equal(storePlaces({ HOME: '' }, {}, 7).store, { path: '/tmp/tsrun-7/store', origin: 'no home' });
});

test('the node-local place is TSRUN_LOCAL, config, or /tmp with the uid', () => {
  assert.equal(storePlaces({ TSRUN_LOCAL: '/l/a' }, { local: '/l/b' }, 7).local, { path: '/l/a', origin: 'TSRUN_LOCAL' });
  assert.equal(storePlaces({}, { local: '/l/b/' }, 7).local, { path: '/l/b', origin: 'config' });
  assert.equal(storePlaces({}, {}, 7).local, { path: '/tmp/tsrun-7', origin: 'default' });
});

test('a relative place is refused where somebody meant it, and ignored in XDG_CACHE_HOME and HOME', async () => {
  for (const name of ['TSRUN_STORE', 'APPTAINER_CACHEDIR', 'TSRUN_LOCAL']) {
    assert.match((await failure(() => storePlaces({ [name]: 'cache' }, {}, 7), 'E_STORE_PLACE')).why, new RegExp(name));
  }
  assert.is(storePlaces({ XDG_CACHE_HOME: 'x', HOME: '/h' }, {}, 7).store.origin, 'HOME');
  assert.is(storePlaces({ HOME: 'x' }, {}, 7).store.origin, 'no home');
});

test('a tag and a repository of the same name have different paths', () => {
  const reference = (repository: string, tag: string): RegistryReference => ({
    kind: 'registry',
    registry: 'r:5000',
    repository,
    tag,
    text: '',
  });
  assert.is(referencePath('/s', reference('a', 'b')), '/s/refs/r:5000/a/:b');
  assert.is.not(referencePath('/s', reference('a/b', 'c')).startsWith(`${referencePath('/s', reference('a', 'b'))}/`), true);
});

test('keys of facts and images cannot leave their folder', async () => {
  assert.is(imagePath('/s', 'sha256-ab.v1'), '/s/images/sha256-ab.v1.sif');
  for (const key of ['', '.', '../x', 'a/b', 'a\0', '.hidden', 'x'.repeat(201)]) await failure(() => factsPath('/s', key), 'E_STORE_KEY');
});

test.run();
