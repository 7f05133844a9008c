/** The engine's rules that need no machine: keys, places of copies, accounts, modes, ids, the config of a stage. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { accountOf, ownerOf } from '../../../src/build/engine/accounts.ts';
import { chooseIds, type IdSources, rangeFor } from '../../../src/build/engine/ids.ts';
import { keyOf } from '../../../src/build/engine/key.ts';
import { modeChange } from '../../../src/build/engine/mode.ts';
import { destinationOf, type Named, placements, prefixesOf, spotOf } from '../../../src/build/engine/placement.ts';
import {
  applyChange,
  configBytes,
  DEFAULT_PATH,
  inherit,
  parseConfig,
  plainChange,
  stateOf,
  variablesOf,
  withArg,
  withEnv,
} from '../../../src/build/engine/stage-state.ts';
import { TsrunError } from '../../../src/util/errors.ts';

const test = suite('rules of the build engine');

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return '';
  } catch (error) {
    if (error instanceof TsrunError) return error.code;
    throw error;
  }
};

test('a key follows from its parts whatever their order, and from nothing else', () => {
  const key = keyOf({ a: 1, b: ['x', 'y'], c: undefined });
  assert.is(keyOf({ c: undefined, b: ['x', 'y'], a: 1 }), key);
  assert.match(key, /^[0-9a-f]{32}$/);
  const others = [
    { a: 2, b: ['x', 'y'] },
    { a: 1, b: ['y', 'x'] },
    { a: 1, b: ['xy'] },
    { a: '1', b: ['x', 'y'] },
    { a: 1, b: 'x,y' },
    { a: 1, b: ['x', 'y'], d: null },
  ];
  const keys = others.map((parts) => keyOf(parts));
  assert.is(new Set([key, ...keys]).size, others.length + 1);
});

test('destinations are read as Docker reads them', () => {
  assert.equal(destinationOf('x', '/job'), { path: '/job/x', mustBeDirectory: false });
  assert.equal(destinationOf('./x/', '/job'), { path: '/job/x', mustBeDirectory: true });
  assert.equal(destinationOf('.', '/job'), { path: '/job', mustBeDirectory: true });
  assert.equal(destinationOf('/a/../../b/.', '/job'), { path: '/b', mustBeDirectory: true });
  assert.equal(destinationOf('/a.b', '/'), { path: '/a.b', mustBeDirectory: false });
  assert.equal(prefixesOf('/a/b/c'), ['/a/b/c', '/a/b', '/a']);
  assert.equal(prefixesOf('/'), []);
});

test('a spot is behind the links of what is there, and knows what is missing on the way', () => {
  assert.equal(spotOf('/a/b/c', [undefined, undefined, { path: '/real/a', type: 'd' }]), {
    path: '/real/a/b/c',
    type: undefined,
    missing: ['/real/a/b'],
  });
  assert.equal(spotOf('/a', [{ path: '/z', type: 'f' }]), { path: '/z', type: 'other', missing: [] });
  assert.equal(spotOf('/a/b', [undefined, undefined]), { path: '/a/b', type: undefined, missing: ['/a'] });
  assert.equal(spotOf('/', []), { path: '/', type: 'd', missing: [] });
});

const file = (name: string, path = name): Named => ({ name, path, directory: false });
const directory = (name: string): Named => ({ name, path: name, directory: true });

const targets = (
  sources: readonly Named[],
  text: string,
  type: 'd' | 'other' | undefined,
  manner: 'cp' | 'docker',
  parents = false,
): unknown =>
  placements(
    sources,
    destinationOf(text, '/'),
    { path: destinationOf(text, '/').path, type, missing: [] },
    manner,
    parents,
    sources.length === 1,
  )?.map((each) => each.target);

test('a file goes to the name given, or into the directory; the content of a directory is copied by COPY, the directory by cp', () => {
  assert.equal(targets([file('a')], '/x', undefined, 'docker'), ['/x']);
  assert.equal(targets([file('a')], '/x/', undefined, 'docker'), ['/x/a']);
  assert.equal(targets([file('a')], '/x', 'd', 'docker'), ['/x/a']);
  assert.equal(targets([file('a'), directory('d')], '/x/', undefined, 'docker'), ['/x/a', '/x']);
  assert.equal(targets([directory('d')], '/x', undefined, 'docker'), ['/x']);
  assert.equal(targets([directory('d')], '/x', 'd', 'cp'), ['/x/d']);
  assert.equal(targets([directory('d')], '/x', undefined, 'cp'), ['/x']);
  assert.equal(targets([file('a')], '/', 'd', 'docker'), ['/a']);
  assert.equal(targets([file('c', 'a/b/c')], '/x/', undefined, 'docker', true), ['/x/a/b/c']);
  assert.is(targets([file('a'), file('b')], '/x', undefined, 'docker'), undefined);
});

const ACCOUNTS = {
  passwd: 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:100:Alice:/home/alice:/bin/sh\nodd:x:y:z::\n',
  group: 'root:x:0:\nusers:x:100:\naudio:x:29:bob,alice\nvideo:x:44:alice\n',
};

test('users and groups are those of the image, by name or number', () => {
  assert.equal(accountOf(ACCOUNTS, 'alice', 'x:1'), { uid: 1000, gid: 100, name: 'alice', home: '/home/alice', groups: [29, 44] });
  assert.equal(accountOf(ACCOUNTS, '1000', 'x:1').home, '/home/alice');
  assert.equal(accountOf(ACCOUNTS, 'alice:audio', 'x:1'), { uid: 1000, gid: 29, name: 'alice', home: '/home/alice', groups: [] });
  assert.equal(accountOf(ACCOUNTS, '7:8', 'x:1'), { uid: 7, gid: 8, name: '', home: '/', groups: [] });
  assert.equal(ownerOf(ACCOUNTS, '55', 'x:1'), { uid: 55, gid: 55 });
  assert.equal(ownerOf(ACCOUNTS, 'alice', 'x:1'), { uid: 1000, gid: 100 });
  for (const text of ['nobody', 'odd', 'alice:nogroup', '', '99999999999'])
    assert.is(
      codeOf(() => accountOf(ACCOUNTS, text, 'x:1')),
      'E_ACCOUNT',
      text,
    );
});

test('modes are digits or letters as chmod takes them', () => {
  assert.is(modeChange('644', '')(0o755, false), 0o644);
  assert.is(modeChange('4755', '')(0, false), 0o4755);
  assert.is(modeChange('u+x,go-w', '')(0o666, false), 0o744);
  assert.is(modeChange('a=rX', '')(0o600, false), 0o444);
  assert.is(modeChange('a=rX', '')(0o600, true), 0o555);
  assert.is(modeChange('+x', '')(0o644, false), 0o755);
  assert.is(modeChange('u=rwX,go=', '')(0o755, false), 0o700);
  for (const text of ['', 'rwx', '888', '77777', 'u~x'])
    assert.is(
      codeOf(() => modeChange(text, '')),
      'E_MODE',
      text,
    );
});

const SOURCES: IdSources = {
  uid: 1000,
  gid: 1001,
  name: 'alice',
  subuid: 'bob:1:65536\nalice:100000:65536\n',
  subgid: '1000:200000:70000\n',
  program: (name) => `/usr/bin/${name}`,
  wish: undefined,
};

test('a build uses the ranges of the user where they are long enough and can be mapped, else one id', () => {
  assert.equal(chooseIds(SOURCES), {
    kind: 'ranges',
    uidMap: '0 1000 1 1 100000 65536',
    gidMap: '0 1001 1 1 200000 70000',
    newuidmap: '/usr/bin/newuidmap',
    newgidmap: '/usr/bin/newgidmap',
  });
  for (const other of [{ subuid: 'alice:100000:1000\n' }, { subgid: '' }, { program: () => undefined }, { wish: 'single' }])
    assert.equal(chooseIds({ ...SOURCES, ...other }), { kind: 'single' });
  assert.is(chooseIds({ ...SOURCES, uid: 0 }).kind, 'ranges');
  assert.is(rangeFor('alice:x:65536\nalice:1:2:3\nalice\n:1:65536\nalice:4294967295:65536', 'alice', 1000), undefined);
});

const created = 1_700_000_000;
const written = (state: ReturnType<typeof stateOf>): Record<string, unknown> =>
  JSON.parse(Buffer.from(configBytes(state, 'amd64', created)).toString('utf8')) as Record<string, unknown>;

test('what the base image says holds until the stage says otherwise, and unknown members are passed on', () => {
  const base = parseConfig(
    JSON.stringify({
      architecture: 'arm64',
      variant: 'v8',
      history: [{}],
      rootfs: { type: 'layers', diff_ids: ['sha256:0'] },
      config: { Env: ['PATH=/a', 'NAME=caf\u00e9'], WorkingDir: '/w', User: 'u', Cmd: ['c'], Labels: { a: '1' }, Odd: [1] },
    }),
  );
  const state = stateOf(base);
  assert.is(state.env.get('NAME'), 'caf\xc3\xa9');
  const { config, ...rest } = written(withEnv(state, 'NEW', 'x=y')) as { config: Record<string, unknown> };
  assert.equal(rest, {
    architecture: 'arm64',
    os: 'linux',
    variant: 'v8',
    created: '2023-11-14T22:13:20Z',
    rootfs: { type: 'layers', diff_ids: [] },
  });
  assert.equal(config['Env'], ['PATH=/a', 'NAME=caf\u00e9', 'NEW=x=y']);
  assert.equal([config['WorkingDir'], config['User'], config['Cmd'], config['Odd']], ['/w', 'u', ['c'], [1]]);
  assert.equal(stateOf({}).env, new Map([['PATH', DEFAULT_PATH]]));
});

test('an ENTRYPOINT takes the CMD of the base away, not the one of its own stage; shell forms go through the shell of the stage', () => {
  const state = stateOf(parseConfig('{"config":{"Cmd":["base"]}}'));
  const entry = { field: 'entrypoint', argv: ['e'] } as const;
  const cmd = { field: 'cmd', argv: { shell: 'echo $HOME' } } as const;
  const configOf = (each: typeof state): Record<string, unknown> => written(each)['config'] as Record<string, unknown>;
  assert.is(configOf(applyChange(state, entry))['Cmd'], undefined);
  assert.equal(configOf(applyChange(applyChange(state, cmd), entry))['Cmd'], ['/bin/sh', '-c', 'echo $HOME']);
  assert.equal(configOf(applyChange({ ...state, shell: ['bash', '-lc'] }, cmd))['Cmd'], ['bash', '-lc', 'echo $HOME']);
  assert.is(configOf(applyChange(inherit(applyChange(state, cmd)), entry))['Cmd'], undefined);
});

test('labels, ports, volumes and the rest are added to those of the base', () => {
  let state = stateOf(parseConfig('{"config":{"Labels":{"a":"1","b":"2"},"ExposedPorts":{"1/tcp":{}}}}'));
  const expand = (word: readonly unknown[]): string => word.join('');
  for (const change of [
    { field: 'label', name: ['b'], value: ['3'] },
    { field: 'expose', ports: [['80 443/udp']] },
    { field: 'volume', paths: [['/v']] },
    { field: 'stopsignal', signal: ['SIGINT'] },
    { field: 'author', name: ['me'] },
    { field: 'onbuild', instruction: 'RUN x' },
    { field: 'healthcheck', test: ['CMD', 'x'], interval: 5, timeout: 0, startPeriod: 0, startInterval: 0, retries: 3 },
  ] as const)
    state = applyChange(state, plainChange(change, expand));
  const out = written(state);
  assert.is(out['author'], 'me');
  assert.equal(out['config'], {
    Labels: { a: '1', b: '3' },
    ExposedPorts: { '1/tcp': {}, '80/tcp': {}, '443/udp': {} },
    Volumes: { '/v': {} },
    StopSignal: 'SIGINT',
    OnBuild: ['RUN x'],
    Healthcheck: { Test: ['CMD', 'x'], Interval: 5, Retries: 3 },
    Env: [`PATH=${DEFAULT_PATH}`],
  });
});

test('ENV wins over ARG, and a stage built on another has its arguments', () => {
  const state = withArg(withEnv(stateOf({}), 'X', 'env'), 'X', 'arg');
  assert.is(variablesOf(state).get('X'), 'env');
  assert.is(variablesOf(withArg(state, 'Y', 'arg')).get('Y'), 'arg');
  assert.is(variablesOf(inherit(withArg(state, 'Y', 'arg'))).get('Y'), 'arg');
});

test.run();
