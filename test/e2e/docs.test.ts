// time limit: 900 s
/**
 * Every command of README.md and docs/ that stands in a `console` block is run, in order, as the test user, in a directory with the files
 * the pages speak of; a command must end with 0 and print what the page says it prints.
 */
import { spawnSync } from 'node:child_process';
import { chownSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { commandsOf } from '../helpers/doc-commands.ts';
import { makeBusyboxTree, makePythonTree, run, scratch, tsrunPath } from '../helpers/product.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('commands in the documentation');
const top = resolve(import.meta.dirname, '../..');
const user = testUser();

const own = (path: string): void => chownSync(path, user.uid, user.gid);

const pages = [
  'README.md',
  ...readdirSync(join(top, 'docs'))
    // Slurm's page needs a cluster: test/slurm/docs.test.ts
    .filter((name) => name.endsWith('.md') && name !== 'slurm.md')
    .sort()
    .map((name) => `docs/${name}`),
];
const place = scratch('docs');

/** The recipes that the pages speak of. */
const recipes: Readonly<Record<string, string>> = {
  Dockerfile: [
    'ARG VERSION=1',
    'FROM registry.example/team/pipeline:1.2 AS runtime',
    'ARG VERSION',
    'COPY analysis.py /opt/tool/analysis.py',
    'RUN ["/usr/bin/python3", "-c", "open(\'/opt/tool/made\', \'w\').write(\'made\')"]',
    'LABEL version=$VERSION',
    '',
  ].join('\n'),
  'tool.def': [
    'Bootstrap: localimage',
    'From: pipeline.sif',
    '',
    '%arguments',
    '    VERSION=1',
    '%files',
    '    analysis.py /opt/tool/analysis.py',
    '%labels',
    '    Version {{ VERSION }}',
    '%runscript',
    '    exec python3 /opt/tool/analysis.py "$@"',
    '',
  ].join('\n'),
  'recipe.yaml': 'from: ./pipeline.sif\nfiles:\n  analysis.py: /opt/tool/\nentry: python3 /opt/tool/analysis.py\n',
  'versions.txt': 'VERSION=2\n',
};
const layout = join(place, 'layout');

/** The image that the pages speak of, in a registry of its own that the configuration knows as registry.example. */
const publish = async (): Promise<TestRegistry> => {
  const tree = join(place, 'tree');
  mkdirSync(tree);
  makePythonTree(tree);
  const must = (program: string, args: readonly string[]): void => {
    const done = spawnSync(program, args, { encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr}`);
  };
  must('umoci', ['init', '--layout', layout]);
  must('umoci', ['new', '--image', `${layout}:1.2`]);
  must('umoci', ['insert', '--image', `${layout}:1.2`, tree, '/']);
  must('umoci', ['config', '--image', `${layout}:1.2`, '--config.entrypoint', '/usr/bin/python3']);
  must('chmod', ['-R', 'a+rX', layout]);
  const registry = await startRegistry({});
  must('skopeo', [
    'copy',
    '--quiet',
    '--insecure-policy',
    '--dest-tls-verify=false',
    `oci:${layout}:1.2`,
    `docker://${registry.host}/team/pipeline:1.2`,
  ]);
  mkdirSync(join(place, 'config/tsrun'), { recursive: true });
  own(join(place, 'config/tsrun'));
  writeFileSync(join(place, 'config/tsrun/config.yaml'), `mirrors:\n  registry.example: [${registry.url}]\n`);
  return registry;
};

const registry = await publish();
test.after(() => registry.stop());

const pipeline = join(place, 'pipeline.sif');
const built = run(tsrunPath, ['build', '-q', pipeline, `oci:${layout}:1.2`]);
if (built.status !== 0) throw new Error(built.stderr);

for (const page of pages) {
  const commands = commandsOf(readFileSync(join(top, page), 'utf8'));
  if (commands.length === 0) continue;
  test(`${page}: its ${commands.length} commands work as shown`, () => {
    const directory = scratch('docs-page');
    mkdirSync(join(directory, 'data'));
    writeFileSync(join(directory, 'data/input.csv'), 'x,y\n1,2\n');
    writeFileSync(join(directory, 'analysis.py'), 'import json, sys\nprint(json.dumps({"python": sys.version_info[0]}))\n');
    for (const [name, text] of Object.entries(recipes)) writeFileSync(join(directory, name), text);
    own(join(directory, 'data'));
    mkdirSync(join(directory, 'rootfs'));
    makeBusyboxTree(join(directory, 'rootfs'));
    const env = {
      PATH: `${join(tsrunPath, '..')}:/usr/bin:/bin`,
      XDG_CONFIG_HOME: join(place, 'config'),
      TSRUN_STORE: join(place, 'store'),
    };
    if (!commands[0]?.text.startsWith('tsrun build pipeline.sif')) cpSync(pipeline, join(directory, 'pipeline.sif'));
    for (const command of commands) {
      // Logging in goes to the registry itself, never to a mirror.
      const text = command.text.includes('tsrun log') ? command.text.replace('registry.example', registry.host) : command.text;
      const ran = run('/bin/bash', ['-c', text], { cwd: directory, env });
      assert.is(ran.status, 0, `${command.text}\n${ran.stdout}${ran.stderr}`);
      if (command.expected !== '') assert.is(ran.stdout, command.expected, command.text);
    }
  });
}

test.run();
