import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chooseSpace } from '../../../src/build/engine/space.ts';
import { scratch } from '../../helpers/product.ts';

const test = suite('where a build works');
const place = scratch('space');
const at = (name: string): string => {
  mkdirSync(join(place, name), { recursive: true });
  return join(place, name);
};
const places = { store: { path: at('store'), origin: 'HOME' }, local: { path: at('local'), origin: 'TMPDIR' } };

test('the first place with overlays is taken, also behind one without', async () => {
  const env = { TMPDIR: at('tmp') };
  const space = await chooseSpace(env, places, async (path) => (path.startsWith(env.TMPDIR) ? 'refused' : undefined));
  assert.equal([space.path, space.plain], [places.store.path, undefined]);
});

test('where the kernel makes none at all, the first place that is fit serves without', async () => {
  const env = { TMPDIR: 'relative', SINGULARITY_TMPDIR: at('tmp') };
  const space = await chooseSpace(env, places, async () => 'refused');
  assert.equal([space.path, space.plain], [at('tmp'), 'refused']);
});

test('who names no fit place is told why', async () => {
  try {
    await chooseSpace({ TSRUN_TMPDIR: 'relative' }, places, async () => 'refused');
    assert.unreachable();
  } catch (error) {
    assert.match(String((error as { why?: string }).why), /^relative \(TSRUN_TMPDIR\): it is no absolute path$/);
  }
});

test.run();
