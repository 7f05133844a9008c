// `node scripts/bundle.mjs planner|cli`: the two bundles.
//
// planner  build/planner.js: one classic script for the engine inside bin/tsrun. It may import nothing of Node: a build that
//          would need a Node API fails here (tsconfig.planner.json refuses Node's globals as well).
// cli      build/cli/: the full command line for Node 24 as ES modules, big parts in chunks that load on use.
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { main, root, Stop } from './lib.mjs';

const planner = {
  entryPoints: ['src/planner.ts'],
  outfile: 'build/planner.js',
  format: 'iife',
  platform: 'neutral',
  target: 'es2022',
  legalComments: 'none',
};

/** Worker threads are started by file name: src/squashfs/worker.ts becomes squashfs-worker.js beside what starts it. */
const workerEntries = () =>
  readdirSync(join(root, 'src'), { recursive: true })
    .filter((name) => name.endsWith('worker.ts'))
    .map((name) => ({ in: join('src', name), out: name.replaceAll('/', '-').replace(/\.ts$/, '') }));

const cli = () => ({
  entryPoints: [{ in: 'src/cli/main.ts', out: 'main' }, ...workerEntries()],
  outdir: 'build/cli',
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

await main(async () => {
  const wanted = process.argv[2];
  if (wanted !== 'planner' && wanted !== 'cli') throw new Stop('usage: node scripts/bundle.mjs planner|cli');
  const { build } = await import('esbuild');
  mkdirSync(join(root, 'build'), { recursive: true });
  if (wanted === 'cli' && existsSync(join(root, 'build/cli'))) rmSync(join(root, 'build/cli'), { recursive: true });
  const options = wanted === 'planner' ? planner : cli();
  try {
    await build({ absWorkingDir: root, bundle: true, charset: 'ascii', logLevel: 'warning', ...options });
  } catch (error) {
    throw new Stop(`bundling ${wanted} failed: ${error.message}`);
  }
});
