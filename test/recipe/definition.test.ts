// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type DefinitionOptions, parseDefinition } from '../../src/recipe/definition.ts';
import type { Base, BuildSpec, Step } from '../../src/recipe/spec.ts';
import { neededStages } from '../../src/recipe/stages.ts';
import { refused } from './helpers.ts';

const test = suite('definition file');

const parse = (text: string, options: DefinitionOptions = {}): BuildSpec => parseDefinition(text, 'x.def', options);
const HEADER = 'Bootstrap: docker\nFrom: debian:12\n';
const steps = (text: string, options: DefinitionOptions = {}): readonly Step[] => parse(HEADER + text, options).stages.at(-1)?.steps ?? [];

/** Steps of a kind, without place. */
const of = (kind: Step['kind'], text: string, options: DefinitionOptions = {}): readonly unknown[] =>
  steps(text, options)
    .filter((step) => step.kind === kind)
    .map(({ at: _at, ...rest }) => rest);

const fileAt = (
  path: string,
  text: string,
  options: DefinitionOptions = {},
): { content: string; mode: number; append: boolean } | undefined =>
  steps(text, options).find((step) => step.kind === 'file' && step.path === path) as never;

const labels = (text: string): Record<string, string> =>
  Object.fromEntries(
    steps(text).flatMap((step) =>
      step.kind === 'config' && step.change.field === 'label' ? [[step.change.name.join(''), step.change.value.join('')]] : [],
    ),
  );

const HEADERS: readonly (readonly [string, Base])[] = [
  ['Bootstrap: docker\nFrom: alpine', { kind: 'image', reference: 'docker://alpine' }],
  ['# c\n\nBOOTSTRAP:docker # c\nfrom : alpine:3 # c\n# c', { kind: 'image', reference: 'docker://alpine:3' }],
  ['From: alpine:3\nBootstrap: docker', { kind: 'image', reference: 'docker://alpine:3' }],
  ['Bootstrap: docker\nRegistry: quay.io\nNamespace: a/b/\nFrom: c:1', { kind: 'image', reference: 'docker://quay.io/a/b/c:1' }],
  ['Bootstrap: docker\nFrom: docker://ghcr.io/a/b', { kind: 'image', reference: 'docker://ghcr.io/a/b' }],
  ['Bootstrap: docker\nFrom: ghcr.io/a/\\\n  b:\\\n2', { kind: 'image', reference: 'docker://ghcr.io/a/b:2' }],
  ['Bootstrap: oci\nFrom: dir:tag', { kind: 'image', reference: 'oci:dir:tag' }],
  ['Bootstrap: oci-archive\nFrom: a.tar', { kind: 'image', reference: 'oci-archive:a.tar' }],
  ['Bootstrap: docker-archive\nFrom: a.tar', { kind: 'image', reference: 'docker-archive:a.tar' }],
  ['Bootstrap: localimage\nFrom: base.sif', { kind: 'image', reference: 'base.sif' }],
  ['Bootstrap: scratch', { kind: 'scratch' }],
  [
    'Bootstrap: debootstrap\nOSVersion: bookworm\nMirrorURL: http://mirror.example/%{OSVERSION}/\nInclude: a b,c',
    { kind: 'debootstrap', suite: 'bookworm', mirror: 'http://mirror.example/bookworm/', packages: ['a', 'b', 'c'] },
  ],
  ['Bootstrap: busybox\nMirrorURL: https://busybox.example/busybox', { kind: 'busybox', mirror: 'https://busybox.example/busybox' }],
];

for (const [text, base] of HEADERS) test(`header ${JSON.stringify(text)}`, () => assert.equal(parse(text).stages[0]?.base, base));

test('%post is run by /bin/sh -ex, and told where environment and labels go', () => {
  assert.equal(
    steps('%post\n  apt-get update\n\n  # c\n%Post\nlast').map(({ at, title, ...body }) => [body.kind, at.line, title]),
    [
      ['layout', 1, '/.singularity.d'],
      ['arg', 3, '%post'],
      ['arg', 3, '%post'],
      ['arg', 3, '%post'],
      ['arg', 3, '%post'],
      ['run', 3, '%post'],
      ['config', 3, '%post'],
      ['config', 1, '%labels org.label-schema'],
      ['config', 1, '%labels org.label-schema.usage.singularity.deffile.bootstrap'],
      ['config', 1, '%labels org.label-schema.usage.singularity.deffile.from'],
      ['file', 1, 'definition'],
    ],
  );
  assert.equal(of('run', '%post\n  apt-get update\n\n  # c\n%Post\nlast'), [
    {
      kind: 'run',
      command: { form: 'script', interpreter: ['/bin/sh', '-ex'], text: '  apt-get update\n\n  # c\nlast\n', args: [] },
      mounts: [],
      network: 'host',
      title: '%post',
    },
  ]);
  assert.equal(of('arg', '%post\nx').slice(0, 2), [
    { kind: 'arg', name: 'APPTAINER_ENVIRONMENT', value: ['/.singularity.d/env/91-environment.sh'], title: '%post' },
    { kind: 'arg', name: 'APPTAINER_LABELS', value: ['/.build.labels'], title: '%post' },
  ]);
  assert.ok(of('config', '%post\nx').some((step) => JSON.stringify(step).includes('"label-file","path":"/.build.labels"')));
});

test('%post -c hands the script to another program, with its arguments', () => {
  const [step] = steps('%post -c /bin/sh -u # c\nx="a b"\necho "$x $0"').filter((each) => each.kind === 'run');
  assert.ok(step?.kind === 'run' && step.command.form === 'script');
  if (step?.kind !== 'run' || step.command.form !== 'script') return;
  assert.equal(step.command.interpreter, ['/bin/sh', '-ex', '-c', '/bin/sh -u "$0"']);
  // The engine appends the file's name, as here.
  const directory = mkdtempSync(join(tmpdir(), 'tsrun-definition-'));
  try {
    const file = join(directory, 'post');
    writeFileSync(file, step.command.text);
    const [program = '', ...args] = step.command.interpreter;
    const ran = spawnSync(program, [...args, file], { encoding: 'utf8' });
    assert.is(ran.stdout, `a b ${file}\n`, ran.stderr);
  } finally {
    rmSync(directory, { recursive: true });
  }
  assert.equal((steps('%post -u\nx').find((each) => each.kind === 'run') as { command: { interpreter: unknown } }).command.interpreter, [
    '/bin/sh',
    '-ex',
    '-u',
  ]);
});

test('host scripts come where Apptainer runs them', () => {
  const text = '%setup\ns\n%pre\np\n%files\na /b\n%post\nx';
  assert.equal(
    steps(text).flatMap((step) =>
      step.kind === 'host-run' ? [[step.title, step.beforeBase]] : step.kind === 'copy' || step.kind === 'run' ? [step.kind] : [],
    ),
    [['%pre', true], ['%setup', false], 'copy', 'run'],
  );
});

test('%files has a source and maybe a destination on each line', () => {
  const found = of('copy', '%files\n  a\n\n  # c\n/b/*.txt /dst/  # trailing\n"a b" "/c d"\n\'e\'\t/f\n') as readonly {
    sources: unknown;
    destination: unknown;
  }[];
  assert.equal(
    found.map(({ sources, destination }) => [sources, destination]),
    [
      [[['a']], ['a']],
      [[['/b/*.txt']], ['/dst/']],
      [[['a b']], ['/c d']],
      [[['e']], ['/f']],
    ],
  );
  assert.ok(found.every((step) => JSON.stringify(step).includes('"manner":"cp"')));
});

test('sources may hold variables of whoever builds, and never one without value', () => {
  const environment = (name: string): string | undefined => (name === 'PWD' ? '/here there' : undefined);
  const [step] = steps('%files\n$PWD/a ${B:-b}\n', { environment }).filter(({ kind }) => kind === 'copy');
  assert.ok(step?.kind === 'copy');
  if (step?.kind === 'copy') assert.equal([step.sources, step.destination], [[['/here there/a']], ['${B:-b}']]);
  refused(() => steps('%files\n$HOEM/a\n', { environment }), 'E_RECIPE_ARGUMENT', /x\.def:4: HOEM has no value in "\$HOEM\/a"/);
});

test('stages copy from those above', () => {
  const text = `Bootstrap: docker\nFrom: golang\nStage: build\n%post\nmake\n\nBootstrap: docker\nFrom: debian\nStage: other\n\nbootstrap: docker\nFrom: alpine\n%files from build # c\n/a /b\n%files\nc\n`;
  const spec = parse(text);
  assert.equal(
    spec.stages.map(({ name }) => name),
    ['build', 'other', undefined],
  );
  assert.is(spec.target, 2);
  const found = spec.stages[2]?.steps.filter((step) => step.kind === 'copy') ?? [];
  assert.equal(
    found.map((step) => (step.kind === 'copy' ? [step.from, step.at.line] : [])),
    [
      [{ kind: 'stage', index: 0 }, 14],
      [{ kind: 'context' }, 16],
    ],
  );
  assert.equal(neededStages(spec), [0, 2]);
  assert.is(parse(text, { target: 'build' }).target, 0);
  assert.equal(spec.stages[2]?.at, { file: 'x.def', line: 11 });
});

test('texts of the image stand where Apptainer looks for them', () => {
  const text =
    '%help\n  Use it.\n%environment\nexport A=1\n%runscript\n  exec x "$@"\n%startscript\ny\n%test\nz\n%labels\n# c\nAuthor  Voil\xc3\xa0\nEmpty\n';
  assert.equal(fileAt('/.singularity.d/runscript.help', text)?.content, '  Use it.\n');
  const environment = fileAt('/.singularity.d/env/90-environment.sh', text);
  assert.equal([environment?.content, environment?.mode, environment?.append], ['\nexport A=1\n', 0o755, true]);
  assert.is(fileAt('/.singularity.d/runscript', text)?.content, '#!/bin/sh\n  exec x "$@"\n');
  assert.is(fileAt('/.singularity.d/runscript', text)?.mode, 0o755);
  assert.is(fileAt('/.singularity.d/startscript', text)?.content, '#!/bin/sh\ny\n');
  assert.is(fileAt('/.singularity.d/test', text)?.content, '#!/bin/sh\nz\n');
  assert.is(fileAt('/.singularity.d/Singularity', text)?.content, HEADER + text);
  assert.equal(labels(text), {
    Author: 'Voil\xc3\xa0',
    Empty: '',
    'org.label-schema.usage': '/.singularity.d/runscript.help',
    'org.label-schema.usage.apptainer.runscript.help': '/.singularity.d/runscript.help',
    'org.label-schema.usage.singularity.deffile.bootstrap': 'docker',
    'org.label-schema.usage.singularity.deffile.from': 'debian:12',
  });
});

test('scripts of the image keep their own interpreter', () => {
  assert.is(
    fileAt('/.singularity.d/runscript', '%runscript\n\n  #!/usr/bin/env python3\nprint(1)\n')?.content,
    '#!/usr/bin/env python3\nprint(1)\n',
  );
  assert.is(fileAt('/.singularity.d/runscript', '%runscript -e # c\nx\n')?.content, '#!/bin/sh -e\nx\n');
  assert.is(fileAt('/.singularity.d/test', '%test -c /bin/bash # c\nx\n')?.content, '#!/bin/bash\nx\n');
  assert.is(fileAt('/.singularity.d/test', '%test\n#!/bin/bash\nx\n')?.content, '#!/bin/bash\nx\n');
});

test('the test is the last step, and left out with notest; its file stays', () => {
  assert.equal(of('test', '%test\nx'), [{ kind: 'test', command: { form: 'argv', argv: ['/.singularity.d/test'] }, title: '%test' }]);
  assert.is(steps('%test\nx').at(-1)?.kind, 'test');
  assert.equal(of('test', '%test\nx', { notest: true }), []);
  assert.ok(fileAt('/.singularity.d/test', '%test\nx', { notest: true }) !== undefined);
});

test('only the sections that were chosen count', () => {
  const text = '%post\nx\n%environment\ny\n%files\na\n%test\nz\n%apprun one\nw';
  const kinds = (sections: readonly string[]): string =>
    steps(text, { sections })
      .flatMap(({ kind, title }) => (kind === 'config' || kind === 'arg' ? [] : [title]))
      .join();
  assert.is(kinds(['post']), '/.singularity.d,%post,definition');
  assert.is(kinds(['%environment', 'files']), '/.singularity.d,%files a,%environment,definition');
  assert.is(kinds(['none']), '/.singularity.d,definition');
  assert.match(kinds(['all']), /%app one.*%files a,%post,%environment,%test,definition,%test/);
  refused(() => steps(text, { sections: ['psot'] }), 'E_RECIPE', /no section "psot" to choose -- did you mean post\?/);
});

test('sections that hold nothing leave no trace', () => {
  assert.equal(
    steps('%post\n\n%runscript\n\n%help\n').filter(({ kind }) => kind !== 'config'),
    steps('')
      .filter(({ kind }) => kind !== 'config')
      .map((step) => (step.kind === 'file' ? { ...step, content: `${HEADER}%post\n\n%runscript\n\n%help\n` } : step)),
  );
});

const TEMPLATED =
  'Bootstrap: docker\nFrom: debian:{{ VERSION }}\n%arguments\n# c\nVERSION=12\nWHO = the {{VERSION}}\n%post\necho {{WHO}} ${{{VERSION}}}\n# {{ NOT }}\necho x # {{ NOT }}\n';

test('templates are filled in from defaults, files and flags', () => {
  const plain = parse(TEMPLATED);
  assert.equal(plain.stages[0]?.base, { kind: 'image', reference: 'docker://debian:12' });
  const run = plain.stages[0]?.steps.find((step) => step.kind === 'run');
  assert.ok(run?.kind === 'run' && run.command.form === 'script');
  if (run?.kind === 'run' && run.command.form === 'script')
    assert.is(run.command.text, 'echo the 12 ${12}\n# {{ NOT }}\necho x # {{ NOT }}\n');
  const given = parse(TEMPLATED, { buildArgs: { VERSION: '13' } });
  assert.equal(given.stages[0]?.base, { kind: 'image', reference: 'docker://debian:13' });
});

test('a value cannot bring sections of its own', () => {
  const { stages } = parse('Bootstrap: scratch\n%post\n{{ A }}\n', { buildArgs: { A: 'x\n%setup\ntouch /owned' } });
  assert.is(
    stages[0]?.steps.some(({ kind }) => kind === 'host-run'),
    false,
  );
});

const APP =
  '%post\nexport V=1\n%appinstall one\nmake $V\n%appenv one\nexport E=1\n%apprun one\nexec x "$@"\n%applabels one\nA b\n%appfiles one\nf\ng bin/g\n%apphelp one\nhelp\n%apptest one\nt\n%appstart one\ns\n%apprun two.x\ny\n';

test('apps are laid out as the Scientific Filesystem has it', () => {
  assert.is(fileAt('/scif/apps/one/scif/runscript', APP)?.content, '#!/bin/sh\nexec x "$@"\n');
  assert.is(fileAt('/scif/apps/one/scif/env/90-environment.sh', APP)?.content, 'export E=1\n');
  assert.equal(JSON.parse(fileAt('/scif/apps/one/scif/labels.json', APP)?.content ?? ''), { A: 'b', SCIF_APP_NAME: 'one' });
  for (const [path, content] of [
    ['runscript.help', 'help\n'],
    ['test', '#!/bin/sh\nt\n'],
    ['startscript', '#!/bin/sh\ns\n'],
  ] as const) {
    assert.is(fileAt(`/scif/apps/one/scif/${path}`, APP)?.content, content);
  }
  assert.equal(
    steps(APP).flatMap((step) => (step.kind === 'directory' && step.path.includes('/one/') ? [step.path] : [])),
    ['/scif/apps/one/bin', '/scif/apps/one/lib', '/scif/apps/one/scif/env', '/scif/data/one/input', '/scif/data/one/output'],
  );
  assert.equal(
    steps(APP).flatMap((step) => (step.kind === 'copy' ? [[step.sources[0]?.join(''), step.destination.join('')]] : [])),
    [
      ['f', '/scif/apps/one/f'],
      ['g', '/scif/apps/one/bin/g'],
    ],
  );
  const run = steps(APP).find((step) => step.kind === 'run');
  assert.ok(run?.kind === 'run' && run.command.form === 'script');
  if (run?.kind === 'run' && run.command.form === 'script') {
    assert.is(run.command.text, 'export V=1\n\ncd /\n. /scif/apps/one/scif/env/01-base.sh\ncd /scif/apps/one\nmake $V\n\ncd /\n');
  }
});

test('the scripts of apps are taken by a shell, and name the app that was chosen', () => {
  const shell = (script: string | undefined, after: string, env: Record<string, string> = {}): string =>
    spawnSync('/bin/sh', ['-eu', '-c', `${script}\n${after}`], { env: { PATH: '/usr/bin:/bin', ...env }, encoding: 'utf8' }).stdout;
  assert.is(
    shell(fileAt('/.singularity.d/env/94-appsbase.sh', APP)?.content, 'echo $SCIF_APPROOT_one $SCIF_APPRUN_two_x $SCIF_APPENV_one'),
    '/scif/apps/one /scif/apps/two.x/scif/runscript /scif/apps/one/scif/env/90-environment.sh\n',
  );
  assert.is(
    shell(fileAt('/scif/apps/one/scif/env/01-base.sh', APP)?.content, 'echo $SCIF_APPNAME $SCIF_APPINPUT'),
    'one /scif/data/one/input\n',
  );
  assert.is(
    shell(fileAt('/.singularity.d/env/95-apps.sh', APP)?.content, 'echo $PATH', { APPTAINER_APPNAME: 'missing' }),
    '/usr/bin:/bin\n',
  );
});

test('CR LF and a byte order mark do no harm', () => {
  const { stages } = parse('\xef\xbb\xbfBootstrap: docker\r\nFrom: debian\r\n%post\r\nx\r\n');
  const run = stages[0]?.steps.find((step) => step.kind === 'run');
  assert.ok(run?.kind === 'run' && run.command.form === 'script' && run.command.text === 'x\n');
});

test('a definition file of the kind people have', () => {
  const { stages } = parse(REAL);
  assert.equal(
    stages[0]?.steps.map(({ title }) => title).filter((title) => !title.startsWith('%labels org')),
    [
      '/.singularity.d',
      '%setup',
      '%files requirements.txt /opt/',
      '%files src/* /opt/src/',
      '%post',
      '%post',
      '%post',
      '%post',
      '%post',
      '%post',
      '%help',
      '%labels Author',
      '%labels Version',
      '%environment',
      '%runscript',
      '%test',
      'definition',
      '%test',
    ],
  );
});

const REAL = `Bootstrap: docker
From: ubuntu:22.04

%setup
    mkdir -p \${APPTAINER_ROOTFS}/opt/src

%files
    requirements.txt /opt/
    src/*            /opt/src/

%labels
    Author  person@example.org
    Version v1.0

%help
    A container with tools for analysis.

%environment
    export LC_ALL=C
    export PATH=/opt/conda/bin:$PATH

%post
    export DEBIAN_FRONTEND=noninteractive
    apt-get update && apt-get install -y --no-install-recommends \\
        python3 python3-pip
    pip3 install -r /opt/requirements.txt
    echo "export BUILT=$(date +%F)" >> $APPTAINER_ENVIRONMENT

%runscript
    exec python3 "$@"

%test
    python3 --version
`;

test.run();
