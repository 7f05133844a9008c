// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { BuildSpec, Step } from '../../src/recipe/spec.ts';
import { neededStages } from '../../src/recipe/stages.ts';
import { expandWord } from '../../src/recipe/words.ts';
import { parseYamlRecipe, STAGE_KEYS, TOP_KEYS, type YamlOptions } from '../../src/recipe/yaml.ts';
import { FILE_KEYS } from '../../src/recipe/yaml-files.ts';
import { refused } from './helpers.ts';

const test = suite('yaml recipe');

const parse = (text: string, options: Partial<YamlOptions> = {}): BuildSpec =>
  parseYamlRecipe(text, 'r.yaml', { platform: 'linux/amd64', ...options });
const steps = (text: string, options: Partial<YamlOptions> = {}): readonly Step[] =>
  parse(`from: debian:12\n${text}`, options).stages.at(-1)?.steps ?? [];
const bodies = (text: string, options: Partial<YamlOptions> = {}): readonly unknown[] =>
  steps(text, options)
    .slice(1)
    .map(({ at: _at, title: _title, ...body }) => body);
const script = (text: string): object => ({ form: 'script', interpreter: ['/bin/sh', '-e'], text, args: [] });
const run = (text: string): object => ({ kind: 'run', command: script(text), mounts: [], network: 'host' });
const variable = (name: string): object => ({ variable: name, operator: undefined, operand: [] });

const TABLE: readonly (readonly [string, readonly unknown[]])[] = [
  ['', []],
  ['run: make', [run('make\n')]],
  ['run: |\n  a\n  b', [run('a\nb\n')]],
  ['run: [a, "b c"]', [run('a\n'), run('b c\n')]],
  [
    "env: {A: 1, B: \"$A/x\", C: 'it''s', D: a\\d, E: \\$A, F: , G: 3.10}",
    [
      {
        kind: 'env',
        variables: [
          { name: 'A', value: ['1'] },
          { name: 'B', value: [variable('A'), '/x'] },
          { name: 'C', value: ["it's"] },
          { name: 'D', value: ['a\\d'] },
          { name: 'E', value: ['$A'] },
          { name: 'F', value: [] },
          { name: 'G', value: ['3.10'] },
        ],
      },
    ],
  ],
  ['workdir: /w', [{ kind: 'workdir', path: ['/w'] }]],
  ['user: 1000:1000', [{ kind: 'user', user: ['1000:1000'] }]],
  ['entry: python3 -m "my tool"', [{ kind: 'config', change: { field: 'entrypoint', argv: ['python3', '-m', 'my tool'] } }]],
  ['cmd: [--help, "$X"]', [{ kind: 'config', change: { field: 'cmd', argv: ['--help', '$X'] } }]],
  ['labels: {a.b: "c d"}', [{ kind: 'config', change: { field: 'label', name: ['a.b'], value: ['c d'] } }]],
  ['help: Use it.', [{ kind: 'file', path: '/.singularity.d/runscript.help', mode: 0o644, content: 'Use it.\n', append: false }]],
  [
    'test: [a, b]',
    [
      { kind: 'file', path: '/.singularity.d/test', mode: 0o755, content: '#!/bin/sh -e\na\nb\n', append: false },
      { kind: 'test', command: script('a\n') },
      { kind: 'test', command: script('b\n') },
    ],
  ],
  ['run:\nfiles:\nenv: ~\n', []],
  [
    'help: \xc3\xa9\xe2\x82\xac',
    [{ kind: 'file', path: '/.singularity.d/runscript.help', mode: 0o644, content: '\xc3\xa9\xe2\x82\xac\n', append: false }],
  ],
];

for (const [text, expected] of TABLE) test(JSON.stringify(text), () => assert.equal(bodies(text), expected));

const copies = (text: string): readonly unknown[] =>
  steps(text).flatMap((step) =>
    step.kind === 'copy' ? [[step.from, step.sources, step.destination, step.owner, step.mode, step.manner]] : [],
  );

test('files are a map of sources, or a list that can say more', () => {
  assert.equal(copies('files: {a: /b, "c/*": /d/}'), [
    [{ kind: 'context' }, [['a']], ['/b'], undefined, undefined, 'cp'],
    [{ kind: 'context' }, [['c/*']], ['/d/'], undefined, undefined, 'cp'],
  ]);
  assert.equal(
    copies(
      'files:\n- {src: [a, b], dst: /d/, owner: "$U:1", mode: 0644}\n- {src: /x, dst: /y, from: alpine}\n- dst: /etc/z\n  text: |\n    $A\n',
    ),
    [
      [{ kind: 'context' }, [['a'], ['b']], ['/d/'], [variable('U'), ':1'], ['0644'], 'cp'],
      [{ kind: 'image', reference: 'docker://alpine' }, [['/x']], ['/y'], undefined, undefined, 'cp'],
      [{ kind: 'inline', files: [{ name: 'z', content: ['$A\n'] }] }, [['z']], ['/etc/z'], undefined, undefined, 'cp'],
    ],
  );
});

test('what a recipe says is done in one order', () => {
  const text = 'test: t\nuser: u\nlabels: {l: l}\nrun: r\nfiles: {f: /f}\nworkdir: /w\nenv: {E: e}\npackages: [p]\nargs: {A: a}\nentry: x';
  assert.equal(
    parse(`${text}\nfrom: debian`).stages[0]?.steps.map(({ title }) => title),
    ['args A', 'user root', 'packages p', 'env E', 'workdir /w', 'files f', 'run r', 'entry', 'labels l', 'user u', 'test', 'test t'],
  );
});

test('arguments have defaults, may name each other, and can be given', () => {
  const text = 'args: {V: 12, BASE: "debian:${V}"}\nfrom: $BASE\n';
  assert.equal(parse(text).stages[0]?.base, { kind: 'image', reference: 'docker://debian:12' });
  assert.equal(parse(text, { buildArgs: { V: '13', no_proxy: 'x' } }).stages[0]?.base, { kind: 'image', reference: 'docker://debian:13' });
  const given = parse(text, { buildArgs: { V: '13', no_proxy: 'x' } }).stages[0]?.steps.filter((step) => step.kind === 'arg');
  assert.equal(
    given?.map((step) => (step.kind === 'arg' ? [step.name, step.value] : [])),
    [
      ['no_proxy', ['x']],
      ['V', ['13']],
      ['BASE', ['debian:13']],
    ],
  );
  refused(() => parse('args: {V: }\nfrom: x'), 'E_RECIPE_ARGUMENT', /r\.yaml:1: the argument V has no value.*--build-arg V=/);
  refused(
    () => parse(text, { buildArgs: { W: '1', VV: '' } }),
    'E_RECIPE_ARGUMENT',
    /nothing in it uses the build argument "W" -- did you mean V\?/,
  );
  refused(
    () => parse('args: {VERSION: 1}\nfrom: a:$VERSOIN'),
    'E_RECIPE_ARGUMENT',
    /VERSOIN has no value in "from" -- did you mean VERSION\?/,
  );
  assert.equal(parse('from: a:$TARGETARCH').stages[0]?.base, { kind: 'image', reference: 'docker://a:amd64' });
});

test('stages come before the image, and give it files', () => {
  const spec = parse(
    'from: debian\nstages:\n  build:\n    from: golang\n    run: make\n  more: {from: build}\n  unused: {from: x}\nfiles:\n- {src: /a, dst: /b, from: more}\n',
  );
  assert.equal(
    spec.stages.map(({ name, base }) => [name, base]),
    [
      ['build', { kind: 'image', reference: 'docker://golang' }],
      ['more', { kind: 'stage', index: 0 }],
      ['unused', { kind: 'image', reference: 'docker://x' }],
      [undefined, { kind: 'image', reference: 'docker://debian' }],
    ],
  );
  assert.equal(neededStages(spec), [0, 1, 3]);
  assert.is(parse('from: a\nstages: {b: {from: c}}', { target: 'b' }).target, 0);
  refused(() => parse('from: a\nstages: {b: {from: c}, c: {from: d}}'), 'E_RECIPE_STAGE', /"c" comes later/);
  refused(() => parse('from: a\nstages: {build: {from: c}}', { target: 'biuld' }), 'E_RECIPE_STAGE', /did you mean build/);
});

/** Runs an install script where only these tools are found: they show their arguments. */
const install = (text: string, tools: readonly string[], env: Record<string, string> = {}): string => {
  const step = steps(text).find((each) => each.kind === 'run');
  if (step?.kind !== 'run' || step.command.form !== 'script') throw new Error('no script');
  const directory = mkdtempSync(join(tmpdir(), 'tsrun-packages-'));
  try {
    const show = '#!/bin/sh\nprintf %s "${0##*/}"; printf " <%s>" "$@"; echo\n';
    for (const tool of tools) writeFileSync(join(directory, tool), show, { mode: 0o755 });
    writeFileSync(join(directory, 'rm'), '#!/bin/sh\n', { mode: 0o755 });
    const ran = spawnSync('/bin/sh', ['-e', '-c', step.command.text], { env: { ...env, PATH: directory }, encoding: 'utf8' });
    return `${ran.stdout}${ran.stderr}${ran.status === 0 ? '' : `status ${ran.status}`}`;
  } finally {
    rmSync(directory, { recursive: true });
  }
};

test('packages are installed with the tool that the base has', () => {
  assert.is(
    install('packages: [a, "b=1*", "c d$(x)"]', ['apt-get']),
    'apt-get <update>\napt-get <install> <-y> <--no-install-recommends> <a> <b=1*> <c d$(x)>\napt-get <clean>\n',
  );
  assert.is(install('packages: a b', ['dnf', 'yum']), 'dnf <install> <-y> <--setopt=install_weak_deps=False> <a> <b>\ndnf <clean> <all>\n');
  assert.is(install('packages: a', ['apk']), 'apk <add> <--no-cache> <a>\n');
  assert.is(install('packages: a', ['zypper']), 'zypper <--non-interactive> <install> <--no-recommends> <a>\nzypper <clean> <--all>\n');
  assert.is(install('packages: a', []), 'no package tool found in this image\nstatus 1');
});

test('packages of one tool are named by it', () => {
  assert.is(
    install('packages: {pip: ["numpy>=1,<2", "it\'s", "x==$V"]}', ['python3'], { V: '3 $W' }),
    "python3 <-m> <pip> <install> <--no-cache-dir> <numpy>=1,<2> <it's> <x==3 $W>\n",
  );
  assert.is(
    install('packages: {conda: [a]}', ['mamba', 'conda']),
    'mamba <install> <-y> <-n> <base> <-c> <conda-forge> <a>\nmamba <clean> <-afy>\n',
  );
  assert.is(steps('packages: {apt: [a], pip: [b], dnf: []}').filter(({ kind }) => kind === 'run').length, 2);
});

test('aliases stand for what they name; billions of them do not', () => {
  assert.is(steps('packages: &p [a]\nrun: *p').filter(({ kind }) => kind === 'run').length, 2);
  const bomb = `a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n${Array.from({ length: 9 }, (_, index) => `a${index + 1}: &a${index + 1} [${Array(10).fill(`*a${index}`).join()}]`).join('\n')}`;
  refused(() => parse(bomb), 'E_RECIPE_LIMIT', /r\.yaml:\d+: it stands for more than 20000 values/);
});

const refusals: readonly (readonly [string, string, RegExp])[] = [
  ['', 'E_RECIPE', /r\.yaml:1: it is not a map/],
  ['- a', 'E_RECIPE', /not a map/],
  ['run: x', 'E_RECIPE', /"from" is missing -- expected from: IMAGE/],
  ['from: a\nfrom: b', 'E_RECIPE', /r\.yaml:2: the key "from" stands there twice/],
  ['from: a\n\npakages: [x]', 'E_RECIPE', /r\.yaml:3: there is no key "pakages" -- did you mean packages\?/],
  ['from: a\nzzzzzz: 1', 'E_RECIPE', /keys: from, packages/],
  ['from: a\nstages: {b: {from: c, args: {}}}', 'E_RECIPE', /no key "args"/],
  ['from: a\nstages: {B: {from: c}}', 'E_RECIPE', /cannot be the name of a stage/],
  ['from: a\nrun: [x', 'E_RECIPE', /r\.yaml:\d: it is not YAML/],
  ['from: a\n\trun: x', 'E_RECIPE', /r\.yaml:2: it is not YAML/],
  ['from: [a]', 'E_RECIPE', /"from" is a list -- expected from: TEXT/],
  ['from: a\nrun: {x: y}', 'E_RECIPE', /"run" is a map.*list of texts/],
  ['from: a\nenv: [A=1]', 'E_RECIPE', /"env" is a list -- expected env: and lines NAME: VALUE/],
  ['from: a\nenv: {A-B: 1}', 'E_RECIPE', /"A-B" is no name of a variable/],
  ['from: a\nenv: {A: "${"}', 'E_RECIPE', /name of a variable is missing/],
  ['from: a\nfiles: [x y]', 'E_RECIPE', /entry of files is a text/],
  ['from: a\nfiles: [{src: x}]', 'E_RECIPE', /no dst/],
  ['from: a\nfiles: [{dst: x}]', 'E_RECIPE', /either src or text/],
  ['from: a\nfiles: [{dest: x}]', 'E_RECIPE', /did you mean dst\?/],
  ['from: a\nfiles: [{src: x, dst: y, mode: rw}]', 'E_RECIPE', /"rw" is no mode/],
  ['from: a\nfiles: [{text: x, dst: y, from: z}]', 'E_RECIPE', /both text and from/],
  ['from: a\npackages: {atp: [x]}', 'E_RECIPE', /did you mean apt\?/],
  ['from: a\npackages: [-x]', 'E_RECIPE', /"-x" is no package/],
  ['from: a\npackages: ["${A:-x}"]', 'E_RECIPE_UNSUPPORTED', /more than a plain variable/],
  ['from: a\nentry: a && b', 'E_RECIPE', /is for a shell.*\[\/bin\/sh, -c/],
  ['from: a\nentry: ""', 'E_RECIPE', /"entry" is empty/],
  ['from: Debian', 'E_RECIPE', /no image name/],
  ['from: !!str a', 'E_RECIPE', /there is a tag "!!str"/],
  ['from: a\nrun: !!js/function x', 'E_RECIPE', /r\.yaml:2: there is a tag/],
  ['from: &a [*a]', 'E_RECIPE', /nothing above is called &a/],
  ['from: a\n---\nfrom: b', 'E_RECIPE', /r\.yaml:3: it holds more than one/],
  ['from: "a\\0b"', 'E_RECIPE', /NUL/],
  ['? [a]\n: b', 'E_RECIPE', /a key is not a text/],
  ['from: \xff', 'E_RECIPE', /not UTF-8/],
  [`from: ${'['.repeat(1000)}`, 'E_RECIPE', /not YAML/],
  [`from: a\nrun: [${'x,'.repeat(6000)}]`, 'E_RECIPE_LIMIT', /more than 5000 steps/],
  [`from: ${'a'.repeat(2 ** 20)}`, 'E_RECIPE_LIMIT', /longer/],
];

for (const [text, code, pattern] of refusals)
  test(`refused: ${JSON.stringify(text.slice(0, 60))}`, () => refused(() => parse(text), code, pattern));

test('the schema for editors has the keys that are read', () => {
  const schema = JSON.parse(readFileSync(join(import.meta.dirname, '../../src/recipe/yaml.schema.json'), 'utf8'));
  const stage = schema.$defs.stage.properties;
  assert.equal(Object.keys(stage).sort(), [...STAGE_KEYS].sort());
  assert.equal([...Object.keys(stage), ...Object.keys(schema.properties)].sort(), [...TOP_KEYS].sort());
  const { properties } = stage.files.oneOf[1].items;
  assert.equal(Object.keys(properties).sort(), [...FILE_KEYS].sort());
  for (const [mode, isOne] of [
    ['0644', true],
    ['755', true],
    ['04755', true],
    ['9x', false],
    ['u+x', false],
    ['64', false],
  ] as const) {
    assert.is(new RegExp(properties.mode.pattern).test(mode), isOne, mode);
    const read = (): BuildSpec => parse(`from: scratch\nfiles: [{src: a, dst: /a, mode: "${mode}"}]`);
    if (isOne) assert.ok(read());
    else refused(read, 'E_RECIPE', /is no mode/);
  }
  for (const tool of Object.keys(stage.packages.oneOf[1].properties)) assert.is(bodies(`packages: {${tool}: [x]}`).length, 1);
});

test('the recipes of the documentation are read', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/recipes.md'), 'latin1');
  const recipes = [...page.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map((found) => found[1] ?? '');
  assert.is(recipes.length, 2);
  for (const recipe of recipes) assert.ok(parse(recipe).stages.length > 0);
  const table = [...page.slice(page.indexOf('| Key |'), page.indexOf('The order of keys')).matchAll(/^\| (`.*?) \|/gm)].flatMap((found) =>
    [...(found[1] ?? '').matchAll(/`(\w+)`/g)].map((name) => name[1] ?? ''),
  );
  assert.equal(table.sort(), [...TOP_KEYS].sort());
});

test('a recipe of the kind people write', () => {
  const spec = parse(REAL);
  const env = spec.stages.at(-1)?.steps.find((step) => step.kind === 'env');
  assert.ok(env?.kind === 'env');
  if (env?.kind === 'env')
    assert.is(
      expandWord(env.variables[0]?.value ?? [], () => '/bin', { file: '', line: 1 }),
      '/opt/tool/bin:/bin',
    );
  assert.equal(
    spec.stages.at(-1)?.steps.map(({ kind, at }) => [kind, at.line]),
    [
      ['arg', 1],
      ['user', 2],
      ['run', 14],
      ['run', 15],
      ['env', 17],
      ['workdir', 18],
      ['copy', 20],
      ['copy', 21],
      ['run', 25],
      ['config', 27],
      ['config', 29],
      ['file', 31],
      ['file', 33],
      ['test', 33],
    ],
  );
});

const REAL = `# A tool and its Python.
args:
  RELEASE: 12
from: debian:\${RELEASE}
stages:
  build:
    from: debian:\${RELEASE}
    packages: [gcc, make]
    files:
      src: /src
    run: make -C /src install PREFIX=/opt/tool

packages:
  apt: [python3-pip, python3-numpy]
  pip: [tqdm==4.66]
env:
  PATH: /opt/tool/bin:$PATH
workdir: /work
files:
  - {src: /opt/tool, dst: /opt/tool, from: build}
  - dst: /etc/tool.conf
    text: |
      threads = 4
run: |
  tool --version
  ldconfig
entry: tool
labels:
  Author: A. Person
help: |
  tool FILE
test: |
  tool --version
  python3 -c 'import numpy'
`;

test('a text that ends too early is refused at its last line', () => {
  refused(() => parse('from: x\nrun: |\nfoo\n'), 'E_RECIPE', /:3: it is not YAML/);
});

test.run();
