// `node scripts/bundle.mjs planner|cli [DIRECTORY]`: the two bundles, in DIRECTORY (build).
//
// planner  DIRECTORY/planner.js: one classic script for the engine inside bin/tsrun. It may import nothing of Node: a build that
//          would need a Node API fails here (tsconfig.planner.json refuses Node's globals as well).
// cli      DIRECTORY/cli/: the full command line for Node 24 as ES modules, big parts in chunks that load on use.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { main, root, Stop } from './lib.mjs';

const planner = (directory) => ({
  entryPoints: ['src/planner.ts'],
  outfile: join(directory, 'planner.js'),
  format: 'iife',
  platform: 'neutral',
  target: 'es2022',
  legalComments: 'none',
});

/** Worker threads are started by file name: src/squashfs/worker.ts becomes squashfs-worker.js beside what starts it. */
const workerEntries = () =>
  readdirSync(join(root, 'src'), { recursive: true })
    .filter((name) => name.endsWith('worker.ts'))
    .map((name) => ({ in: join('src', name), out: name.replaceAll('/', '-').replace(/\.ts$/, '') }));

const cli = (directory) => ({
  entryPoints: [{ in: 'src/cli/main.ts', out: 'main' }, ...workerEntries()],
  outdir: directory,
  format: 'esm',
  splitting: true,
  platform: 'node',
  target: 'node24',
  external: ['react-devtools-core'],
  define: { 'process.env.NODE_ENV': '"production"' },
  // Some dependencies are CommonJS and call require() for Node's own modules.
  banner: { js: "import { createRequire as requireFor } from 'node:module'; const require = requireFor(import.meta.url);" },
  legalComments: 'linked',
});

const replaceDirectory = (fresh, place) => {
  const old = `${place}.${process.pid}.old`;
  if (existsSync(place)) renameSync(place, old);
  renameSync(fresh, place);
  rmSync(old, { recursive: true, force: true });
};

await main(async () => {
  const [wanted, directory = 'build'] = process.argv.slice(2);
  if (wanted !== 'planner' && wanted !== 'cli') throw new Stop('usage: node scripts/bundle.mjs planner|cli [DIRECTORY]');
  const { build } = await import('esbuild');
  const into = resolve(root, directory);
  mkdirSync(into, { recursive: true });
  // A command line that runs meanwhile finds the old bundle or the new one, never half of one.
  const fresh = join(into, `cli.${process.pid}`);
  const options = wanted === 'planner' ? planner(into) : cli(fresh);
  try {
    await build({ absWorkingDir: root, bundle: true, charset: 'ascii', logLevel: 'warning', ...options });
    if (wanted === 'cli') replaceDirectory(fresh, join(into, 'cli'));
  } catch (error) {
    throw new Stop(`bundling ${wanted} failed: ${error.message}`);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
});
