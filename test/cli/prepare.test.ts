/** What happens before a first run: converted once however many ask, into the place the planner finds, without a network where there is none. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { archOfMachine, registryImageKey } from '../../src/image/identity.ts';
import { imagePath } from '../../src/store/layout.ts';
import { makeTar } from '../helpers/layers.ts';
import { type MiniRegistry, miniRegistry } from '../helpers/mini-registry.ts';
import { forNode, type RunResult, run, start } from '../helpers/proc.ts';
import { makeImage } from '../helpers/registry.ts';
import { skip } from '../helpers/skip.ts';
import { must } from '../helpers/trees.ts';
import { asTestUser, isRoot, userDirectory } from '../helpers/user.ts';

const test = suite('preparing images');
const place = mkdtempSync(join(tmpdir(), 'tsrun-prepare-'));
test.after(() => rmSync(place, { recursive: true, force: true }));
const main = resolve(import.meta.dirname, '../../src/cli/main.ts');
const architecture = archOfMachine(process.arch === 'x64' ? 'x86_64' : 'aarch64');
const image = makeImage({
  layers: [makeTar([{ path: 'opt/a', content: 'a\n' }]), makeTar([{ path: 'opt/b', content: 'b\n' }])],
  architecture,
});

let count = 0;
const freshStore = (): string => join(place, `store-${count++}`);

const environment = (store: string, more: Readonly<Record<string, string>> = {}): Record<string, string> => ({
  ...forNode(),
  HOME: place,
  TSRUN_STORE: store,
  TSRUN_LOCAL: `${store}-local`,
  ...more,
});

const tsrun = (args: readonly string[], store: string, more: Readonly<Record<string, string>> = {}): Promise<RunResult> =>
  run([process.execPath, main, ...args], { cwd: place, env: environment(store, more) });

const reference = (registry: MiniRegistry): string => `docker://${registry.host}/team/x:1`;
const preparedPath = (store: string): string => imagePath(store, registryImageKey(image.manifest.digest, architecture));

test('eight that meet an unprepared image at once convert it once, and ask the registry once', async () => {
  const registry = await miniRegistry({ image });
  try {
    const store = freshStore();
    const ran = await Promise.all(Array.from({ length: 8 }, () => tsrun(['__prepare', reference(registry)], store)));
    for (const { status, stderr } of ran) assert.is(status, 0, stderr);
    assert.ok(existsSync(preparedPath(store)));
    assert.is(registry.asked.filter(({ path, method }) => method === 'GET' && path.includes('/manifests/')).length, 1);
    for (const layer of image.layers) assert.is(registry.askedFor(layer).length, 1);
    assert.equal(readdirSync(`${store}/partial`), []);
  } finally {
    await registry.close();
  }
});

test('one that waits takes over when the one at work is killed, and leaves nothing of it', async () => {
  let held: (() => void) | undefined;
  const [slow] = image.layers;
  let tell: (() => void) | undefined;
  const asked = new Promise<void>((done) => {
    tell = done;
  });
  const registry = await miniRegistry({
    image,
    hook: ({ path }, response) => {
      if (held !== undefined || !path.endsWith(`/blobs/${slow?.digest}`)) return false;
      held = () => response.end();
      tell?.();
      return true;
    },
  });
  try {
    const store = freshStore();
    const first = start([process.execPath, main, '__prepare', reference(registry)], { cwd: place, env: environment(store) });
    await asked;
    await first.stop('SIGKILL');
    const second = await tsrun(['__prepare', reference(registry)], store);
    assert.is(second.status, 0, second.stderr);
    assert.ok(existsSync(preparedPath(store)));
    assert.equal(readdirSync(`${store}/partial`), []);
  } finally {
    held?.();
    await registry.close();
  }
});

test('where the store cannot be written, the lasting one of the node serves, and the next run needs no network', async () => {
  if (!isRoot()) return skip('a store of somebody else needs root');
  const registry = await miniRegistry({ image });
  const own = userDirectory('prepare');
  const store = join(own, 'site');
  mkdirSync(store, { mode: 0o755 });
  chmodSync(store, 0o555);
  try {
    const env = { TSRUN_STORE: store, TSRUN_LOCAL: join(own, 'local') };
    const ran = await run(asTestUser([process.execPath, main, '__prepare', reference(registry)], env), { cwd: own });
    assert.is(ran.status, 0, ran.stderr);
    assert.match(ran.stderr, /the store .*site \(TSRUN_STORE\) cannot be written: permission denied; using .*local\/store on this node/);
    assert.ok(existsSync(preparedPath(join(own, 'local/store'))));
    const again = await run(asTestUser([process.execPath, main, '__prepare', reference(registry)], { ...env, TSRUN_OFFLINE: '1' }), {
      cwd: own,
    });
    assert.is(again.status, 0, again.stderr);
  } finally {
    await registry.close();
  }
});

test('the facts of one foreign image are found out once by eight that ask', async () => {
  const tree = join(place, 'tree');
  mkdirSync(join(tree, 'etc'), { recursive: true });
  writeFileSync(join(tree, 'etc/os-release'), 'ID=x\n');
  const bare = join(place, 'bare.squashfs');
  must('mksquashfs', [tree, bare, '-quiet', '-no-progress']);
  const store = freshStore();
  const ran = await Promise.all(Array.from({ length: 8 }, () => tsrun(['__prepare', bare], store)));
  for (const { status, stderr } of ran) assert.is(status, 0, stderr);
  assert.is(readdirSync(`${store}/facts`).length, 1);
  assert.equal(readdirSync(`${store}/partial`), []);
});

test('offline, by flag, environment or configuration, asks nobody: what the store has is used, what it lacks is an error', async () => {
  const registry = await miniRegistry({ image });
  try {
    const store = freshStore();
    assert.match((await tsrun(['build', '--offline', 'a.sif', reference(registry)], store)).stderr, /E_OFFLINE.*\nhint: .*tsrun pull/);
    assert.is((await tsrun(['pull', 'b.sif', reference(registry)], store)).status, 0);
    const before = registry.asked.length;
    assert.is((await tsrun(['build', '--offline', 'c.sif', reference(registry)], store)).status, 0);
    assert.is((await tsrun(['__prepare', reference(registry)], store, { TSRUN_OFFLINE: '1' })).status, 0);
    mkdirSync(join(place, '.config/tsrun'), { recursive: true });
    writeFileSync(join(place, '.config/tsrun/config.yaml'), 'offline: true\n');
    assert.is((await tsrun(['build', 'd.sif', reference(registry)], store)).status, 0);
    assert.match((await tsrun(['build', 'e.sif', reference(registry)], freshStore())).stderr, /E_OFFLINE/);
    assert.is(registry.asked.length, before);
  } finally {
    rmSync(join(place, '.config'), { recursive: true, force: true });
    await registry.close();
  }
});

test('Ctrl-C during a download ends by the signal, keeps what has come, and leaves no output', async () => {
  const [layer] = image.layers;
  let stalled = false;
  let told: (() => void) | undefined;
  const half = new Promise<void>((done) => {
    told = done;
  });
  const registry = await miniRegistry({
    image,
    hook: ({ path }, response) => {
      if (stalled || layer === undefined || !path.endsWith(`/blobs/${layer.digest}`)) return false;
      stalled = true;
      response.writeHead(200, { 'content-length': String(layer.size) });
      response.write(layer.bytes.subarray(0, 20), () => told?.());
      return true;
    },
  });
  try {
    const store = freshStore();
    const directory = join(place, 'interrupted');
    mkdirSync(directory);
    const building = start([process.execPath, main, 'build', 'x.sif', reference(registry)], { cwd: directory, env: environment(store) });
    await half;
    await building.stop('SIGINT');
    assert.equal(await building.ended, { status: null, signal: 'SIGINT' });
    assert.is(building.output(), '');
    assert.equal(readdirSync(directory), []);
    assert.equal(
      readdirSync(`${store}/partial`).filter((name) => name.includes('.lease')),
      [],
    );
    const again = await tsrun(['build', 'x.sif', reference(registry)], store);
    assert.is(again.status, 0, again.stderr);
  } finally {
    await registry.close();
  }
});

test.run();
