// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type DockerfileOptions, onBuildSteps, parseDockerfile } from '../../src/recipe/dockerfile.ts';
import type { BuildSpec, Step } from '../../src/recipe/spec.ts';
import { neededStages } from '../../src/recipe/stages.ts';
import { refused } from './helpers.ts';

const test = suite('dockerfile');

const parse = (text: string, options: Partial<DockerfileOptions> = {}): BuildSpec =>
  parseDockerfile(text, 'Dockerfile', { platform: 'linux/amd64', ...options });

/** Steps of the last stage, without place and title. */
const steps = (text: string, options: Partial<DockerfileOptions> = {}): readonly unknown[] =>
  (parse(`FROM scratch\n${text}`, options).stages.at(-1)?.steps ?? []).map(({ at: _at, title: _title, ...body }) => body);

const only = (text: string): unknown => {
  const all = steps(text);
  assert.is(all.length, 1, JSON.stringify(all));
  return all[0];
};

const run = (command: object, more: object = {}): object => ({ kind: 'run', command, mounts: [], network: 'host', ...more });
const shell = (text: string): object => run({ form: 'shell', text });
const config = (change: object): object => ({ kind: 'config', change });
const copy = (more: object): object => ({
  kind: 'copy',
  from: { kind: 'context' },
  manner: 'docker',
  unpack: false,
  checksum: undefined,
  owner: undefined,
  mode: undefined,
  exclude: [],
  parents: false,
  ...more,
});
const variable = (name: string): object => ({ variable: name, operator: undefined, operand: [] });

const TABLE: readonly (readonly [string, unknown])[] = [
  ['RUN echo hi', shell('echo hi')],
  ['run echo   hi  ', shell('echo   hi')],
  ['RUN echo "a  b" \\\n   && \\  \n# a comment\n\n  # another\n   true', shell('echo "a  b"    &&    true')],
  ['RUN echo a\\\\', shell('echo a\\\\')],
  ['RUN ["a b", "c\\"d", "\\u00e9"]', run({ form: 'argv', argv: ['a b', 'c"d', '\xc3\xa9'] })],
  ['RUN [ -e /x ] || touch /x', shell('[ -e /x ] || touch /x')],
  // Byte A0 ends many letters; it is no blank.
  ['RUN echo \xc3\xa0', shell('echo \xc3\xa0')],
  ['ENV A=\xc3\xa0', { kind: 'env', variables: [{ name: 'A', value: ['\xc3\xa0'] }] }],
  ['RUN --network=none make', run({ form: 'shell', text: 'make' }, { network: 'none' })],
  ['RUN --security=sandbox --network=default make', shell('make')],
  ['RUN <<EOF\necho a\n$x\nEOF', shell('echo a\n$x\n')],
  ['RUN <<"EOF"\n$x\nEOF', shell('$x\n')],
  ['RUN <<-EOF\n\t\tif x; then\n\t\t\ty\n\tEOF', shell('if x; then\ny\n')],
  [
    'RUN <<E\n#!/usr/bin/env python3\nprint(1)\nE',
    run({ form: 'script', interpreter: ['/usr/bin/env', 'python3'], text: '#!/usr/bin/env python3\nprint(1)\n', args: [] }),
  ],
  ['RUN <<E\n#! /bin/sh -e -u\nx\nE', run({ form: 'script', interpreter: ['/bin/sh', '-e -u'], text: '#! /bin/sh -e -u\nx\n', args: [] })],
  ['RUN cat <<A >/x && cat <<B >/y\na\nA\nb\nB', shell('cat <<A >/x && cat <<B >/y\na\nA\nb\nB\n')],
  ['RUN echo $((1<<3))', shell('echo $((1<<3))')],
  ['RUN cat <<EOF | sh\n# no comment \\\nEOF', shell('cat <<EOF | sh\n# no comment \\\nEOF\n')],
  ['CMD echo $HOME', config({ field: 'cmd', argv: { shell: 'echo $HOME' } })],
  ['CMD ["echo", "$HOME"]', config({ field: 'cmd', argv: ['echo', '$HOME'] })],
  ['CMD []', config({ field: 'cmd', argv: [] })],
  ['ENTRYPOINT ["/x"]', config({ field: 'entrypoint', argv: ['/x'] })],
  ['ENTRYPOINT exec /x "$@"', config({ field: 'entrypoint', argv: { shell: 'exec /x "$@"' } })],
  [
    'ENV A=1 B="two words" C=three\\ words D=\'$A\'',
    {
      kind: 'env',
      variables: [
        { name: 'A', value: ['1'] },
        { name: 'B', value: ['two words'] },
        { name: 'C', value: ['three words'] },
        { name: 'D', value: ['$A'] },
      ],
    },
  ],
  ['ENV A the "rest" of it', { kind: 'env', variables: [{ name: 'A', value: ['the rest of it'] }] }],
  ['ENV PATH=/opt/bin:$PATH', { kind: 'env', variables: [{ name: 'PATH', value: ['/opt/bin:', variable('PATH')] }] }],
  ['ENV A=', { kind: 'env', variables: [{ name: 'A', value: [] }] }],
  [
    'ENV A=1 \\\n    B=2',
    {
      kind: 'env',
      variables: [
        { name: 'A', value: ['1'] },
        { name: 'B', value: ['2'] },
      ],
    },
  ],
  ['LABEL "a b"="c d"', config({ field: 'label', name: ['a b'], value: ['c d'] })],
  ['LABEL version 1.0', config({ field: 'label', name: ['version'], value: ['1.0'] })],
  ['EXPOSE 80 443/tcp 1000-1010/UDP $P', config({ field: 'expose', ports: [['80'], ['443/tcp'], ['1000-1010/UDP'], [variable('P')]] })],
  ['VOLUME /data /x', config({ field: 'volume', paths: [['/data'], ['/x']] })],
  ['VOLUME ["/data x"]', config({ field: 'volume', paths: [['/data x']] })],
  ['USER $U:staff', { kind: 'user', user: [variable('U'), ':staff'] }],
  ['WORKDIR "/a b"', { kind: 'workdir', path: ['/a b'] }],
  ['STOPSIGNAL SIGTERM', config({ field: 'stopsignal', signal: ['SIGTERM'] })],
  ['SHELL ["/bin/bash", "-o", "pipefail", "-c"]', { kind: 'shell', argv: ['/bin/bash', '-o', 'pipefail', '-c'] }],
  ['MAINTAINER A. Person <a@example.org>', config({ field: 'author', name: ['A. Person <a@example.org>'] })],
  [
    'HEALTHCHECK NONE',
    config({ field: 'healthcheck', test: ['NONE'], interval: 0, timeout: 0, startPeriod: 0, startInterval: 0, retries: 0 }),
  ],
  [
    'HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f http://localhost',
    config({
      field: 'healthcheck',
      test: ['CMD-SHELL', 'curl -f http://localhost'],
      interval: 90e9,
      timeout: 5e8,
      startPeriod: 0,
      startInterval: 0,
      retries: 3,
    }),
  ],
  [
    'HEALTHCHECK CMD ["x"]',
    config({ field: 'healthcheck', test: ['CMD', 'x'], interval: 0, timeout: 0, startPeriod: 0, startInterval: 0, retries: 0 }),
  ],
  ['ONBUILD RUN make', config({ field: 'onbuild', instruction: 'RUN make' })],
  ['ONBUILD COPY <<E /x\nhi\nE', config({ field: 'onbuild', instruction: 'COPY <<E /x\nhi\nE' })],
  ['ARG A', { kind: 'arg', name: 'A', value: undefined }],
  ['ARG A=b$C', { kind: 'arg', name: 'A', value: ['b', variable('C')] }],
  ['ARG TARGETARCH', { kind: 'arg', name: 'TARGETARCH', value: ['amd64'] }],
  ['ARG TARGETARCH=arm', { kind: 'arg', name: 'TARGETARCH', value: ['arm'] }],
  ['COPY a b /dst/', copy({ sources: [['a'], ['b']], destination: ['/dst/'] })],
  ['COPY a b .', copy({ sources: [['a'], ['b']], destination: ['.'] })],
  ['COPY ["a b", "/dst"]', copy({ sources: [['a b']], destination: ['/dst'] })],
  ['COPY "a b" /dst', copy({ sources: [['a b']], destination: ['/dst'] })],
  [
    'COPY --chown=$U:g --chmod=0755 --link --parents --exclude=*.o --exclude=x a $D',
    copy({
      sources: [['a']],
      destination: [variable('D')],
      owner: [variable('U'), ':g'],
      mode: ['0755'],
      exclude: [['*.o'], ['x']],
      parents: true,
    }),
  ],
  ['COPY --from=alpine:3 /a /b', copy({ from: { kind: 'image', reference: 'docker://alpine:3' }, sources: [['/a']], destination: ['/b'] })],
  [
    'COPY <<EOF /etc/x\nA=$A \\$B "q"\nEOF',
    copy({
      from: { kind: 'inline', files: [{ name: 'EOF', content: ['A=', variable('A'), ' $B "q"\n'] }] },
      sources: [['EOF']],
      destination: ['/etc/x'],
    }),
  ],
  [
    "COPY <<-'EOF' /etc/x\n\tA=$A\n\tEOF",
    copy({ from: { kind: 'inline', files: [{ name: 'EOF', content: ['A=$A\n'] }] }, sources: [['EOF']], destination: ['/etc/x'] }),
  ],
  ['ADD a.tar.gz /x', copy({ sources: [['a.tar.gz']], destination: ['/x'], unpack: true })],
  ['ADD --unpack=false a.tar.gz /x', copy({ sources: [['a.tar.gz']], destination: ['/x'] })],
  [
    'ADD --checksum=sha256:$S https://example.org/x.tgz /x',
    copy({ sources: [['https://example.org/x.tgz']], destination: ['/x'], unpack: true, checksum: ['sha256:', variable('S')] }),
  ],
];

for (const [text, expected] of TABLE) test(JSON.stringify(text), () => assert.equal(only(text), expected));

test('COPY with here-documents and paths is one step for each kind', () => {
  const [inline, paths] = steps('COPY a <<x <<y b /d/\n1\nx\n2\ny') as readonly { sources: unknown; from: { kind: string } }[];
  assert.equal([inline?.from.kind, inline?.sources], ['inline', [['x'], ['y']]]);
  assert.equal([paths?.from.kind, paths?.sources], ['context', [['a'], ['b']]]);
});

const mountsOf = (flags: string): unknown => (only(`RUN ${flags} x`) as { mounts: unknown }).mounts;

test('mounts of RUN have the defaults of the reference', () => {
  assert.equal(mountsOf('--mount=type=cache,target=/root/.cache'), [
    {
      type: 'cache',
      id: ['/root/.cache'],
      from: undefined,
      source: ['/'],
      target: ['/root/.cache'],
      readOnly: false,
      mode: 0o755,
      uid: 0,
      gid: 0,
      sharing: 'shared',
    },
  ]);
  assert.equal(mountsOf('--mount=type=cache,id=p-$V,dst=/c,sharing=locked,ro,mode=0700,uid=10'), [
    {
      type: 'cache',
      id: ['p-', variable('V')],
      from: undefined,
      source: ['/'],
      target: ['/c'],
      readOnly: true,
      mode: 0o700,
      uid: 10,
      gid: 0,
      sharing: 'locked',
    },
  ]);
  assert.equal(mountsOf('--mount=target=/src'), [
    { type: 'bind', from: { kind: 'context' }, source: ['/'], target: ['/src'], readWrite: false },
  ]);
  assert.equal(mountsOf('--mount=type=bind,from=busybox,src=bin,dst=/b,rw'), [
    { type: 'bind', from: { kind: 'image', reference: 'docker://busybox' }, source: ['bin'], target: ['/b'], readWrite: true },
  ]);
  assert.equal(mountsOf('--mount=from=busybox'), [
    { type: 'bind', from: { kind: 'image', reference: 'docker://busybox' }, source: ['/'], target: ['.'], readWrite: false },
  ]);
  assert.equal(mountsOf('--mount=type=tmpfs,target=/t,size=2g'), [{ type: 'tmpfs', target: ['/t'], size: 2 ** 31 }]);
  assert.equal(mountsOf('--mount=type=secret,id=key'), [
    { type: 'secret', id: 'key', target: undefined, env: undefined, required: false, mode: 0o400, uid: 0, gid: 0 },
  ]);
  assert.equal(mountsOf('--mount=type=secret,id=k,env=TOKEN,required=true --mount=type=secret,target=/root/.netrc'), [
    { type: 'secret', id: 'k', target: undefined, env: 'TOKEN', required: true, mode: 0o400, uid: 0, gid: 0 },
    { type: 'secret', id: '.netrc', target: ['/root/.netrc'], env: undefined, required: false, mode: 0o400, uid: 0, gid: 0 },
  ]);
});

test('named contexts go before stages and images, in FROM and in --from', () => {
  const contexts = new Map([
    ['tools', { kind: 'image', reference: 'docker://registry.example/tools:2' }],
    ['data', { kind: 'directory', path: '/srv/data' }],
  ] as const);
  const text =
    'FROM x AS data\nFROM Tools\nCOPY --from=data a /a\nRUN --mount=from=tools,target=/t --mount=type=cache,target=/c,from=data x\n';
  const { stages, target } = parseDockerfile(text, 'Dockerfile', { platform: 'linux/amd64', contexts });
  assert.equal(stages[target]?.base, { kind: 'image', reference: 'docker://registry.example/tools:2' });
  const origins = stages[target]?.steps.flatMap((step) =>
    step.kind === 'copy' ? [step.from] : step.kind === 'run' ? step.mounts.map((mount) => ('from' in mount ? mount.from : undefined)) : [],
  );
  const data = { kind: 'context', directory: '/srv/data' };
  assert.equal(origins, [data, { kind: 'image', reference: 'docker://registry.example/tools:2' }, data]);
  refused(() => parseDockerfile('FROM data', 'D', { platform: 'linux/amd64', contexts }), 'E_RECIPE', /"data" is a directory.*COPY --from/);
});

test('stages are named by name, in any case, and by number; images are what is no stage', () => {
  const { stages, target } = parse(
    'FROM debian:12 AS Build\nRUN x\nFROM build as second\nFROM registry.example/a/b@sha256:' +
      `${'0'.repeat(64)}\nCOPY --from=BUILD /a /a\nCOPY --from=1 /b /b\nRUN --mount=type=bind,from=second,target=/s y\n`,
  );
  assert.is(target, 2);
  assert.equal(
    stages.map(({ name }) => name),
    ['build', 'second', undefined],
  );
  assert.equal(stages[0]?.base, { kind: 'image', reference: 'docker://debian:12' });
  assert.equal(stages[1]?.base, { kind: 'stage', index: 0 });
  assert.equal(stages[2]?.base, { kind: 'image', reference: `docker://registry.example/a/b@sha256:${'0'.repeat(64)}` });
  assert.equal(
    stages[2]?.steps.map((step) => (step.kind === 'copy' ? step.from : undefined)),
    [{ kind: 'stage', index: 0 }, { kind: 'stage', index: 1 }, undefined],
  );
  assert.equal(stages[2]?.at, { file: 'Dockerfile', line: 4 });
});

test('only stages that the target needs are built', () => {
  const text =
    'FROM a AS one\nFROM b AS two\nFROM c AS three\nCOPY --from=one /x /x\nFROM three AS four\nFROM d AS five\nRUN --mount=type=bind,from=two,target=/t x\n';
  assert.equal(neededStages(parse(text)), [1, 4]);
  assert.equal(neededStages(parse(text, { target: 'FOUR' })), [0, 2, 3]);
  assert.equal(neededStages(parse(text, { target: '0' })), [0]);
});

test('bases may be archives and files', () => {
  for (const name of [
    'oci-archive:x.tar',
    'docker-archive:x.tar:a:1',
    'oci:dir:tag',
    './base.sif',
    '/images/base.sif',
    'base.sif',
    'docker://alpine',
    'tar:root.tar',
  ]) {
    assert.equal(parse(`FROM ${name}`).stages[0]?.base, { kind: 'image', reference: name });
  }
  assert.equal(parse('FROM oci').stages[0]?.base, { kind: 'image', reference: 'docker://oci' });
});

test('arguments above FROM serve FROM, and stages that name them again', () => {
  const text =
    'ARG V=12\nARG BASE=debian:${V}\nARG NONE\nFROM --platform=$BUILDPLATFORM ${BASE}\nARG V\nARG NONE\nARG OWN=${V}x\nENV W=$V\n';
  const plain = parse(text, { platform: 'linux/arm64', buildPlatform: 'amd64' });
  assert.equal(plain.stages[0]?.base, { kind: 'image', reference: 'docker://debian:12' });
  assert.is(plain.stages[0]?.platform, 'linux/amd64');
  assert.equal(
    plain.stages[0]?.steps.map((step) => (step.kind === 'arg' ? [step.name, step.value] : step.kind)),
    [['V', ['12']], ['NONE', undefined], ['OWN', [variable('V'), 'x']], 'env'],
  );
  const given = parse(text, { buildArgs: { V: '13', OWN: 'mine', OTHER: 'x', http_proxy: 'http://p', BUILDKIT_INLINE_CACHE: '1' } });
  assert.equal(given.stages[0]?.base, { kind: 'image', reference: 'docker://debian:13' });
  assert.equal(
    given.stages[0]?.steps.map((step) => (step.kind === 'arg' ? [step.name, step.value] : step.kind)),
    [['http_proxy', ['http://p']], ['V', ['13']], ['NONE', undefined], ['OWN', ['mine']], 'env'],
  );
  assert.equal(given.unusedArguments, ['OTHER']);
});

test('values given for arguments are taken as they are, whatever is in them', () => {
  assert.equal(steps('ARG A', { buildArgs: { A: '$B "c" \\' } }), [{ kind: 'arg', name: 'A', value: ['$B "c" \\'] }]);
});

test('the escape directive changes what continues a line', () => {
  const { stages } = parse('# escape=`\n# syntax=docker/dockerfile:1.7\nFROM scratch\nRUN dir `\n  c:\\x\\\nENV A=`$B\n');
  assert.equal(
    stages[0]?.steps.map((step) => (step.kind === 'run' ? step.command : step.kind === 'env' ? step.variables : 0)),
    [{ form: 'shell', text: 'dir   c:\\x\\' }, [{ name: 'A', value: ['$B'] }]],
  );
});

test('directives end with the first line that is none; an unknown one is a comment', () => {
  assert.is(parse('# a comment\n# escape=`\nFROM scratch\nRUN a \\\n b').stages[0]?.steps.length, 1);
  assert.is(
    parse(
      '\xef\xbb\xbf#check=skip=all\r\n#SYNTAX = registry.example/docker/dockerfile-upstream:master\r\nFROM scratch\r\nRUN a \\\r\n b\r\n',
    ).stages[0]?.steps.length,
    1,
  );
});

test('a step knows the line it begins in, and its title is one line', () => {
  const { stages } = parse('\n# c\nFROM scratch\n\nRUN a \\\n  b\nCOPY <<E /x\nFROM y\nE\nRUN c');
  assert.equal(
    stages[0]?.steps.map(({ at, title }) => [at.line, title]),
    [
      [5, 'RUN a b'],
      [7, 'COPY <<E /x'],
      [10, 'RUN c'],
    ],
  );
  assert.is(parse(`FROM scratch\nRUN ${'x'.repeat(1000)}`).stages[0]?.steps[0]?.title.length, 200);
});

test('triggers of a base become steps', () => {
  const made: readonly Step[] = onBuildSteps(['COPY . /src', 'RUN make', 'ARG V'], 'docker://base', {
    platform: 'amd64',
    buildArgs: { V: '1' },
  });
  assert.equal(
    made.map(({ kind, at, title }) => [kind, at.line, title]),
    [
      ['copy', 1, 'COPY . /src'],
      ['run', 2, 'RUN make'],
      ['arg', 3, 'ARG V'],
    ],
  );
  refused(
    () => onBuildSteps(['RUN a', 'FROM x'], 'base', { platform: 'amd64' }),
    'E_RECIPE',
    /base \(ONBUILD\):2: ONBUILD cannot hold FROM/,
  );
});

test.run();
