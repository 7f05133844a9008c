import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Credentials } from '../../src/registry/credential.ts';
import { findCredentials } from '../../src/registry/credentials.ts';
import { scratch } from '../helpers/store.ts';

const test = suite('credentials');

const pair = (username: string, password: string) => ({ auth: Buffer.from(`${username}:${password}`).toString('base64') });

type Files = Readonly<Record<string, unknown>>;

/** A home with these files (JSON, or text as it is), programs in bin/, and the look-up in it. */
const setUp = (files: Files, helperTimeout = 60_000) => {
  const home = scratch('tsrun-home');
  for (const [name, content] of Object.entries(files)) {
    const path = `${home}/${name}`;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    if (name.startsWith('bin/')) chmodSync(path, 0o755);
  }
  const warnings: string[] = [];
  const find = (registry: string, repository = 'a/b', env: Record<string, string> = {}): Promise<Credentials | undefined> =>
    findCredentials(registry, repository, {
      env: { HOME: home, PATH: `${home}/bin:/usr/bin:/bin`, ...env },
      helperTimeout,
      onWarning: (message) => warnings.push(message),
      useEnvironment: true,
    });
  return { home, warnings, find };
};

const user = (found: Credentials | undefined): string | undefined =>
  found?.kind === 'password' ? `${found.username}:${found.password}` : found?.kind;

test('the sources are asked in order', async () => {
  const auths = (name: string) => ({ auths: { 'r.example': pair(name, 'x') } });
  const { home, find } = setUp({
    'explicit.json': auths('explicit'),
    '.config/tsrun/auth.json': auths('own'),
    'run/containers/auth.json': auths('runtime'),
    '.config/containers/auth.json': auths('containers'),
    '.docker/config.json': auths('docker'),
    '.apptainer/docker-config.json': auths('apptainer'),
  });
  const { rmSync } = await import('node:fs');
  const env: Record<string, string> = {
    TSRUN_REGISTRY_USERNAME: 'tsrun',
    TSRUN_REGISTRY_PASSWORD: 'x',
    APPTAINER_DOCKER_USERNAME: 'apptainer-env',
    APPTAINER_DOCKER_PASSWORD: 'x',
    SINGULARITY_DOCKER_USERNAME: 'singularity-env',
    SINGULARITY_DOCKER_PASSWORD: 'x',
    REGISTRY_AUTH_FILE: `${home}/explicit.json`,
    XDG_RUNTIME_DIR: `${home}/run`,
  };
  const steps: [string, () => void][] = [
    ['tsrun:x', () => delete env['TSRUN_REGISTRY_PASSWORD']],
    ['apptainer-env:x', () => delete env['APPTAINER_DOCKER_USERNAME']],
    ['singularity-env:x', () => delete env['SINGULARITY_DOCKER_USERNAME']],
    ['explicit:x', () => delete env['REGISTRY_AUTH_FILE']],
    ['own:x', () => rmSync(`${home}/.config/tsrun/auth.json`)],
    ['runtime:x', () => delete env['XDG_RUNTIME_DIR']],
    ['containers:x', () => rmSync(`${home}/.config/containers/auth.json`)],
    ['docker:x', () => rmSync(`${home}/.docker/config.json`)],
    ['apptainer:x', () => rmSync(`${home}/.apptainer/docker-config.json`)],
  ];
  for (const [expected, take] of steps) {
    assert.is(user(await find('r.example', 'a/b', env)), expected);
    take();
  }
  assert.is(await find('r.example', 'a/b', env), undefined);
});

test('half a pair in the environment is not used, and said', async () => {
  const { find, warnings } = setUp({});
  assert.is(await find('r.example', 'a', { TSRUN_REGISTRY_USERNAME: 'ada' }), undefined);
  assert.match(warnings.join(), /TSRUN_REGISTRY_PASSWORD is not set/);
});

test("all spellings of a registry in docker's file are the same registry", async () => {
  for (const key of ['https://index.docker.io/v1/', 'index.docker.io', 'docker.io', 'https://docker.io', 'registry-1.docker.io']) {
    assert.is(user(await setUp({ '.docker/config.json': { auths: { [key]: pair('hub', 'p') } } }).find('docker.io')), 'hub:p', key);
  }
  const { find } = setUp({
    '.docker/config.json': { auths: { 'https://r.example:5000/v2/': pair('a', 'p'), 'r.example': pair('b', 'p') } },
  });
  assert.is(user(await find('r.example:5000')), 'a:p');
  assert.is(user(await find('r.example')), 'b:p');
  assert.is(await find('example'), undefined);
});

test("the longest name space of containers' auth.json wins", async () => {
  const { find } = setUp({
    '.config/containers/auth.json': {
      auths: { 'r.example': pair('all', 'p'), 'r.example/team': pair('team', 'p'), 'r.example/team/x': pair('x', 'p') },
    },
  });
  assert.is(user(await find('r.example', 'team/x')), 'x:p');
  assert.is(user(await find('r.example', 'team/xy')), 'team:p');
  assert.is(user(await find('r.example', 'other')), 'all:p');
});

test('colons in passwords, identity tokens and plain fields are understood', async () => {
  const { find } = setUp({
    '.docker/config.json': {
      auths: {
        'a.example': pair('ada', 'p:w:d'),
        'b.example': { auth: 'MDAwOg==', identitytoken: 'id' },
        'c.example': { username: 'carl', password: 'gauss' },
        'd.example': { registrytoken: 'ready' },
        'e.example': {},
        'f.example': { auth: '!!!' },
      },
    },
  });
  assert.is(user(await find('a.example')), 'ada:p:w:d');
  assert.is(user(await find('b.example')), 'identity');
  assert.is(user(await find('c.example')), 'carl:gauss');
  assert.is(user(await find('d.example')), 'bearer');
  assert.is(await find('e.example'), undefined);
  assert.is(await find('f.example'), undefined);
});

test('damaged files are passed over with a warning that quotes nothing of them', async () => {
  const { find, warnings } = setUp({
    '.config/tsrun/auth.json': '{"auths": {"r": "secret" oops',
    '.docker/config.json': { auths: { 'r.example': pair('docker', 'p') } },
  });
  assert.is(user(await find('r.example')), 'docker:p');
  assert.match(warnings.join(), /tsrun\/auth\.json are not used: it is not JSON/);
  assert.not.match(warnings.join(), /secret|oops/);
});

const HELPER = `#!/bin/sh
[ "$1" = get ] || exit 9
read -r server || true
echo "$server" >> "$HOME/asked"
printf '{"ServerURL":"%s","Username":"helper","Secret":"from %s"}' "$server" "\${0##*/}"
`;

test("credHelpers come before auths, credsStore after, each asked for docker's name of the server", async () => {
  const { home, find } = setUp({
    'bin/docker-credential-site': HELPER,
    'bin/docker-credential-store': HELPER,
    '.docker/config.json': {
      credHelpers: { 'r.example': 'site' },
      credsStore: 'store',
      auths: { 'r.example': pair('file', 'p'), 's.example': pair('file', 'p') },
    },
  });
  assert.is(user(await find('r.example')), 'helper:from docker-credential-site');
  assert.is(user(await find('s.example')), 'file:p');
  assert.is(user(await find('docker.io')), 'helper:from docker-credential-store');
  assert.equal(readFileSync(`${home}/asked`, 'utf8').split('\n').slice(0, -1), ['r.example', 'https://index.docker.io/v1/']);
});

test('a helper may answer with an identity token', async () => {
  const { find } = setUp({
    'bin/docker-credential-id': `#!/bin/sh\necho '{"Username":"<token>","Secret":"refresh"}'\n`,
    '.docker/config.json': { credsStore: 'id' },
  });
  assert.equal(await find('r.example'), { kind: 'identity', token: 'refresh', origin: 'docker-credential-id' });
});

test('a helper that knows nothing is silent, one that fails warns, and the next source is asked', async () => {
  const next = { '.apptainer/docker-config.json': { auths: { 'r.example': pair('next', 'p') } } };
  const cases: [script: string, warning: RegExp | undefined, helperTimeout?: number][] = [
    [`#!/bin/sh\necho credentials not found in native keychain\nexit 1\n`, undefined],
    [`#!/bin/sh\necho locked >&2\nexit 1\n`, /docker-credential-h failed for r\.example: locked/],
    [`#!/bin/sh\necho secret text\n`, /answer is not JSON$/],
    [`#!/bin/sh\necho '{"Username":1}'\n`, /no Username and Secret/],
    [`#!/bin/sh\nsleep 60 & sleep 60\n`, /no answer within 0\.4 s/, 400],
    [`#!/bin/sh\nexec cat /dev/zero\n`, /more than 65536 bytes/],
  ];
  for (const [script, expected, helperTimeout] of cases) {
    const files = { 'bin/docker-credential-h': script, '.docker/config.json': { credsStore: 'h' }, ...next };
    const { find, warnings } = setUp(files, helperTimeout);
    assert.is(user(await find('r.example')), 'next:p', script);
    if (expected === undefined) assert.equal(warnings, []);
    else assert.match(warnings.join(), expected);
    assert.not.match(warnings.join(), /secret/);
  }
});

test('a helper that is not there, or whose name is a path, is not run', async () => {
  const missing = setUp({ '.docker/config.json': { credsStore: 'nowhere' } });
  assert.is(await missing.find('r.example'), undefined);
  assert.match(missing.warnings.join(), /docker-credential-nowhere cannot be used .*not on PATH/);
  const path = setUp({ evil: '#!/bin/sh\ntouch "$HOME/ran"\n', '.docker/config.json': { credsStore: '../../evil' } });
  assert.is(await path.find('r.example'), undefined);
  assert.match(path.warnings.join(), /is not a program name/);
  assert.not(existsSync(`${path.home}/ran`));
});

test.run();
