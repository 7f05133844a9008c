import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ofEachUser, parseConfig, userConfigPath } from '../../src/request/from-config.ts';
import { givenByEnvironment, ownVariables } from '../../src/request/from-env.ts';
import { machine } from '../helpers/machine.ts';
import { codeOf, envOf, errorOf, mountedAt, only, opsOf, planned } from '../helpers/planning.ts';

const test = suite('environment and config');

const byEnv = (...entries: string[]): string[] => {
  const env = Object.fromEntries(entries.map((entry) => entry.split(/=(.*)/s).slice(0, 2)));
  return givenByEnvironment(ownVariables(machine({ env }))).map((each) => `${each.flag}=${each.text} (${each.origin})`);
};

test('flags are read from TSRUN_, APPTAINER_ and SINGULARITY_ variables', () => {
  assert.equal(byEnv('TSRUN_NV=1'), ['nv=true (TSRUN_NV)']);
  assert.equal(byEnv('APPTAINER_CONTAIN=yes'), ['contain=true (APPTAINER_CONTAIN)']);
  assert.equal(byEnv('SINGULARITY_BINDPATH=/a'), ['bind=/a (SINGULARITY_BINDPATH)']);
});

test('SINGULARITY_ values count only where APPTAINER_ says nothing', () => {
  assert.equal(byEnv('SINGULARITY_BIND=/s', 'APPTAINER_BIND=/a'), ['bind=/a (APPTAINER_BIND)']);
});

test('TSRUN_ binds are added behind the others', () => {
  assert.equal(byEnv('TSRUN_BIND=/t', 'APPTAINER_BIND=/a'), ['bind=/a (APPTAINER_BIND)', 'bind=/t (TSRUN_BIND)']);
});

test('an empty value counts as not given', () => {
  assert.equal(byEnv('TSRUN_NV=', 'APPTAINER_BIND='), []);
});

test('a switch that is neither yes nor no is an error that names the variable', () => {
  assert.match(
    errorOf(() => byEnv('APPTAINER_NV=maybe')),
    /APPTAINER_NV=maybe/,
  );
});

test('variables an outer container has set are no flags', () => {
  assert.equal(byEnv('APPTAINER_CONTAINER=/x.sif', 'SINGULARITY_NAME=x', 'TSRUN_IMAGE=/x', 'APPTAINER_COMMAND=exec'), []);
});

test('specs in a MOUNT variable are lines', () => {
  assert.is(byEnv('APPTAINER_MOUNT=type=bind,source=/a,target=/b\ntype=bind,source=/c,target=/d').length, 2);
});

const config = (text: string) => parseConfig('/etc/tsrun/config.yaml', text);

test('a config key gives the flag of its name', () => {
  const { given } = config('bind: [/gpfs, "/data:/mnt/data:ro"]\nnv: true\nenv: {A: 1, B: "x,C=y"}\n');
  assert.equal(
    given.map((each) => `${each.flag}=${each.text}`),
    ['bind=/gpfs', 'bind=/data:/mnt/data:ro', 'nv=true', 'env=A=1', 'env=B=x\\,C=y'],
  );
});

test('keys that are no flags are kept with their file', () => {
  assert.equal(config('store: /scratch/store\n').rest, { store: { value: '/scratch/store', origin: '/etc/tsrun/config.yaml' } });
});

test('config text is UTF-8 and becomes bytes', () => {
  assert.is(config('bind: /caf\xc3\xa9\n').given[0]?.text, '/caf\xc3\xa9');
  assert.match(
    errorOf(() => config('bind: /caf\xe9\n')),
    /not UTF-8/,
  );
});

test('a slip in a key is an error that names the nearest key and the file', () => {
  assert.match(
    errorOf(() => config('binds: [/x]\n')),
    /config\.yaml.*"binds".*did you mean "bind"\?/s,
  );
  assert.is(
    codeOf(() => config('xyzzy: 1\n')),
    'E_CONFIG',
  );
});

test('a config that is no YAML, no mapping, or of the wrong kind is refused', () => {
  for (const text of ['bind: [', '- a\n', 'nv: perhaps\n', 'bind: {a: [1]}\n'])
    assert.is(
      codeOf(() => config(text)),
      'E_CONFIG',
      text,
    );
  assert.equal(config('').given, []);
});

test('a config with a NUL in a name or a value is refused before anything is planned with it', () => {
  for (const text of ['env: {A: "a\\0b"}\n', 'env: {"A\\0": b}\n', 'bind: ["/tm\\0p"]\n', 'home: "/h\\0"\n', 'store: "/s\\0"\n'])
    assert.match(
      errorOf(() => parseConfig('/c.yaml', text)),
      /NUL/,
    );
});

test('the user file lies in XDG_CONFIG_HOME or in ~/.config', () => {
  assert.is(
    userConfigPath(
      new Map([
        ['XDG_CONFIG_HOME', '/c'],
        ['HOME', '/h'],
      ]),
    ),
    '/c/tsrun/config.yaml',
  );
  assert.is(
    userConfigPath(
      new Map([
        ['XDG_CONFIG_HOME', 'c'],
        ['HOME', '/h'],
      ]),
    ),
    '/h/.config/tsrun/config.yaml',
  );
  assert.is(userConfigPath(new Map()), undefined);
});

const SITE = '/etc/tsrun/config.yaml';
const USER = '/home/me/.config/tsrun/config.yaml';

test('binds of the site, the user, the environment and the command line add up', () => {
  const run = planned('exec -B /d IMG p', {
    files: { [SITE]: 'bind: /a', [USER]: 'bind: [/b]', '/a/x': '', '/b/x': '', '/c/x': '', '/d/x': '' },
    env: { APPTAINER_BIND: '/c' },
  });
  for (const path of ['/a', '/b', '/c', '/d']) assert.ok(mountedAt(run, path)?.startsWith(path), path);
});

test('the command line wins over the environment, that over the user, that over the site', () => {
  const files = { [SITE]: 'contain: true\nwritable-tmpfs: true', [USER]: 'contain: false' };
  assert.is(mountedAt(planned('exec IMG p', { files }), '/tmp'), '/tmp recursive,optional');
  assert.is(mountedAt(planned('exec IMG p', { files, env: { TSRUN_CONTAIN: '1' } }), '/tmp'), 'tmpfs');
  assert.is(mountedAt(planned('exec --contain=false IMG p', { files, env: { TSRUN_CONTAIN: '1' } }), '/tmp'), '/tmp recursive,optional');
  assert.equal(only(planned('exec IMG p', { files }), 'root').flags, ['writable']);
});

test('a config bind that is not there is left out with one line', () => {
  const run = planned('exec IMG p', { files: { [SITE]: 'bind: [/gpfs]' } });
  assert.is(mountedAt(run, '/gpfs'), undefined);
  assert.match(opsOf(run, 'notice')[0]?.text ?? '', /\/gpfs is not there and was left out \(\/etc\/tsrun\/config\.yaml\)/);
});

test('config variables are set, and --env wins over them', () => {
  const files = { [SITE]: 'env: {A: site, B: site}' };
  assert.is(envOf(planned('exec IMG p', { files }))['A'], 'site');
  assert.is(envOf(planned('exec --env A=mine IMG p', { files }))['A'], 'mine');
});

test('linger is in seconds, cache memory in bytes or with a unit', () => {
  const scope = (text: string) => only(planned('exec IMG p', { files: { [SITE]: text } }), 'scope');
  assert.is(scope('linger: 0').lingerMs, 0);
  assert.is(scope('linger: 2.5').lingerMs, 2500);
  assert.is(scope('').lingerMs, 10_000);
  assert.is(scope('cache-memory: 32M').cacheBytes, 32 * 1024 * 1024);
  assert.is(scope('cache-memory: 1 ').cacheBytes, 1);
  assert.is(
    codeOf(() => scope('linger: soon')),
    'E_CONFIG',
  );
  assert.is(
    codeOf(() => scope('cache-memory: much')),
    'E_CONFIG',
  );
});

test('the store of the config is where facts and images are looked for', () => {
  const run = planned('exec IMG p', {
    files: { [USER]: 'store: /home/me/.cache/tsrun' },
    env: { TSRUN_STORE: '', XDG_CACHE_HOME: '/elsewhere' },
  });
  assert.ok(run.machine.calls.some((call) => call.startsWith('read /home/me/.cache/tsrun/facts/')));
});

test('in the places that a site names each user has a directory of their own; a user names their own', () => {
  const staged = (files: Readonly<Record<string, string>>) => only(planned('exec --stage IMG p', { files }), 'stage').path;
  assert.match(staged({ [SITE]: 'local: /local/' }), /^\/local\/tsrun-1000\/staged\//);
  assert.match(staged({ [SITE]: 'local: /local', [USER]: 'local: /mine' }), /^\/mine\/staged\//);
  const { rest } = parseConfig(SITE, 'store: /scratch\nlinger: 3');
  assert.equal(
    ofEachUser(rest, () => 7),
    { store: { value: '/scratch/tsrun-7', origin: SITE }, linger: { value: 3, origin: SITE } },
  );
  assert.is(
    codeOf(() => staged({ [SITE]: 'local: here' })),
    'E_CONFIG',
  );
});

test('a user config that cannot be read is as good as none, a site config is not', () => {
  assert.ok(planned('exec IMG p', { files: { '/home/me/.config/tsrun/config.yaml/x': '' } }));
  assert.is(
    codeOf(() => planned('exec IMG p', { files: { '/etc/tsrun/config.yaml/x': '' } })),
    'E_CONFIG',
  );
});

test('a switch of a config file may be yes or on, as people write in YAML', () => {
  for (const [text, value] of [
    ['nv: yes', 'true'],
    ['nv: "on"', 'true'],
    ['nv: True', 'true'],
    ['nv: off', 'false'],
    ['nv: false', 'false'],
  ])
    assert.is(config(`${text}\n`).given[0]?.text, value, text);
  for (const text of ['nv: [true]', 'nv: 2', 'nv: {a: 1}'])
    assert.is(
      codeOf(() => config(text)),
      'E_CONFIG',
      text,
    );
});

test('paths of a config file are absolute: it has no current directory', () => {
  for (const text of ['home: work', 'store: cache', 'local: ~/x', 'bind: $HOME/x', 'bind: [data]'])
    assert.match(
      errorOf(() => planned('exec IMG p', { files: { [SITE]: text } })),
      /config file .*not an absolute path.*(begin it with|write) ?/s,
      text,
    );
});

test('what a config file says in other letters is told in bytes', () => {
  const text = errorOf(() => config('a: *\xc3\xbc\n'));
  assert.match(text, /it is not YAML/);
  assert.not.match(text, /[^\0-\xff]/);
});

test('there is a limit of binds, over all of them', () => {
  const many = Array.from({ length: 5001 }, (_, at) => `--bind=/tmp:/m/${at}`);
  assert.match(
    errorOf(() => planned(['exec', ...many, 'IMG', 'p'])),
    /cannot use 5001 binds/,
  );
});

test('TSRUN_LINGER and TSRUN_CACHE_MEMORY win over the config files', () => {
  const scope = (env: Record<string, string>) => only(planned('exec IMG p', { files: { [SITE]: 'linger: 3\n' }, env }), 'scope');
  assert.is(scope({}).lingerMs, 3000);
  assert.is(scope({ TSRUN_LINGER: '0' }).lingerMs, 0);
  assert.is(scope({ TSRUN_CACHE_MEMORY: '1M' }).cacheBytes, 1024 * 1024);
  assert.match(
    errorOf(() => scope({ TSRUN_LINGER: 'long' })),
    /cannot use TSRUN_LINGER=long: .*TSRUN_LINGER=10 \(seconds\)/s,
  );
  assert.is(scope({ TSRUN_LINGER: '2147483' }).lingerMs, 2_147_483_000);
  assert.match(
    errorOf(() => scope({ TSRUN_LINGER: '2147484' })),
    /cannot use TSRUN_LINGER=2147484: it is too large/,
  );
});

test.run();
