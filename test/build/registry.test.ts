/** docker:// through a real registry: converted, converted again without the network, and found by the planner's rule. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { objectText, openSquashFile } from '../../src/build/squash-file.ts';
import { archOfMachine, registryImageKey } from '../../src/image/identity.ts';
import { imagePath } from '../../src/store/layout.ts';
import { makeTar, writeLayout } from '../helpers/layers.ts';
import { forNode } from '../helpers/proc.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { must } from '../helpers/trees.ts';

const test = suite('images of a registry');
const place = mkdtempSync(join(tmpdir(), 'tsrun-docker-'));
const main = resolve(import.meta.dirname, '../../src/cli/main.ts');
let registry: TestRegistry;
let manifestDigest = '';

test.before(async () => {
  registry = await startRegistry();
  const layout = join(place, 'layout');
  const { manifest } = writeLayout(layout, {
    layers: [makeTar([{ path: 'opt/base', content: 'base\n' }]), makeTar([{ path: 'opt/top', content: 'top\n' }])],
    config: { Cmd: ['/opt/top'] },
    architecture: archOfMachine(process.arch === 'x64' ? 'x86_64' : 'aarch64'),
  });
  manifestDigest = manifest.digest;
  must('skopeo', [
    'copy',
    '--quiet',
    '--insecure-policy',
    '--dest-tls-verify=false',
    `oci:${layout}:latest`,
    `docker://${registry.host}/team/image:1.0`,
  ]);
});
test.after(async () => {
  await registry.stop();
  rmSync(place, { recursive: true, force: true });
});

/** Asynchronous: the registry's output is read by this process. */
const tsrun = (args: readonly string[], env: Readonly<Record<string, string>> = {}): { status: number | null; stderr: string } => {
  const all = { ...forNode(), HOME: place, TSRUN_STORE: join(place, 'store'), ...env };
  const { status, stderr } = spawnSync(process.execPath, [main, ...args], { cwd: place, env: all, encoding: 'utf8' });
  return { status, stderr };
};
const hash = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

test('build and pull make the same image, with the manifest and where it came from inside', () => {
  const reference = `docker://${registry.host}/team/image:1.0`;
  for (const args of [
    ['build', 'built.sif', reference],
    ['pull', reference],
  ]) {
    const ran = tsrun(args);
    assert.is(ran.status, 0, ran.stderr);
    assert.is(ran.stderr, '');
  }
  const file = openSquashFile(join(place, 'built.sif'));
  assert.is(objectText(file, 'definition'), `bootstrap: docker\nfrom: ${registry.host}/team/image:1.0\n\n`);
  assert.is(JSON.parse(objectText(file, 'generic-json', 'tsrun-build.json')).source.manifestDigest, manifestDigest);
  assert.is(hash(join(place, 'built.sif')), hash(join(place, 'image_1.0.sif')));
});

test('__prepare puts the converted image where the planner looks for it', () => {
  const ran = tsrun(['__prepare', `docker://${registry.host}/team/image:1.0`]);
  assert.is(ran.status, 0, ran.stderr);
  const arch = archOfMachine(process.arch === 'x64' ? 'x86_64' : 'aarch64');
  assert.ok(existsSync(imagePath(join(place, 'store'), registryImageKey(manifestDigest, arch))));
  assert.equal(readdirSync(join(place, 'store/partial')), []);
});

test('what is not there, or not for this machine, is named and leaves nothing', () => {
  const missing = tsrun(['build', 'missing.sif', `docker://${registry.host}/team/none:1`]);
  assert.is(missing.status, 125);
  assert.match(missing.stderr, /E_IMAGE_NOT_FOUND/);
  const foreign = tsrun(['build', '--arch', 's390x', 'foreign.sif', `docker://${registry.host}/team/image:1.0`]);
  assert.is(foreign.status, 125);
  assert.match(foreign.stderr, /E_PLATFORM/);
  assert.equal(
    readdirSync(place).filter((name) => name.includes('missing') || name.includes('foreign')),
    [],
  );
});

test('a layer whose unpacked bytes are not those of the config is refused although its digest is right', () => {
  const layout = join(place, 'lying');
  const honest = writeLayout(layout, { layers: [makeTar([{ path: 'a', content: 'a' }])] });
  const blobs = join(layout, 'blobs/sha256');
  const manifest = JSON.parse(readFileSync(join(blobs, honest.manifest.digest.slice(7)), 'utf8'));
  const config = readFileSync(join(blobs, manifest.config.digest.slice(7)), 'utf8').replace(
    /"diff_ids":\["sha256:../,
    '"diff_ids":["sha256:00',
  );
  const put = (text: string): { digest: string; size: number } => {
    const digest = `sha256:${createHash('sha256').update(text).digest('hex')}`;
    writeFileSync(join(blobs, digest.slice(7)), text);
    return { digest, size: text.length };
  };
  const changed = put(JSON.stringify({ ...manifest, config: { ...manifest.config, ...put(config) } }));
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType: manifest.mediaType, ...changed }] }),
  );
  const ran = tsrun(['build', 'lying.sif', `oci:${layout}`]);
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /unpacked content.*E_DIGEST_MISMATCH/);
  assert.not.ok(existsSync(join(place, 'lying.sif')));
});

test.run();
