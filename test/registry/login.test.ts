import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type LoginOptions, login } from '../../src/cli/login.ts';
import { logout } from '../../src/cli/logout.ts';
import { registryConfig } from '../../src/registry/config.ts';
import { miniRegistry, openClient } from '../helpers/mini-registry.ts';
import { pushImage, startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { scratch } from '../helpers/store.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('login and logout');

const within = async (work: (registry: TestRegistry, home: string) => Promise<void>): Promise<void> => {
  const registry = await startRegistry({ password: true });
  try {
    await work(registry, scratch('tsrun-home'));
  } finally {
    await registry.stop();
  }
};

const collect = (): { readonly stream: PassThrough; readonly text: () => string } => {
  const stream = new PassThrough();
  let text = '';
  stream.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  return { stream, text: () => text };
};

const logIn = async (home: string, password: string, options: Partial<LoginOptions> = {}): Promise<string> => {
  const stdin = new PassThrough();
  stdin.end(password);
  const out = collect();
  await login({
    username: 'ada',
    passwordStdin: true,
    config: registryConfig(),
    env: { HOME: home },
    stdin,
    stderr: out.stream,
    ...options,
  });
  return out.text();
};

const authFile = (home: string): string => `${home}/.config/tsrun/auth.json`;

test('a login is tried, kept in a file that only its owner reads, and used by the next pull', () =>
  within(async (registry, home) => {
    await pushImage(registry, { repository: 'team/x', tag: '1', layers: [Buffer.from('x')] });
    const { password = '' } = registry.login ?? {};
    const text = await logIn(home, `${password}\n`, { registry: `http://${registry.host}/` });
    assert.match(text, new RegExp(`logged in to ${registry.host}; kept in ${authFile(home)}`));
    assert.is(statSync(authFile(home)).mode & 0o777, 0o600);
    assert.is(statSync(`${home}/.config/tsrun`).mode & 0o777, 0o700);
    assert.equal(readdirSync(`${home}/.config/tsrun`), ['auth.json']);
    const client = await openClient({ env: { HOME: home } });
    await client.resolve(`${registry.host}/team/x:1`);
    await client.registry.close();

    const out = collect();
    await logout({ registry: registry.host, env: { HOME: home }, stderr: out.stream });
    assert.is(out.text(), `logged out of ${registry.host}\n`);
    await failure(async () => (await openClient({ env: { HOME: home } })).resolve(`${registry.host}/team/x:1`), 'E_REGISTRY_AUTH');
  }));

test('a wrong password is refused and not kept', () =>
  within(async (registry, home) => {
    const error = await failure(() => logIn(home, 'wrong\n', { registry: registry.host }), 'E_REGISTRY_AUTH');
    assert.match(error.what, /cannot log in to/);
    assert.not(existsSync(authFile(home)));
  }));

test('what else is in the file stays, and a symlink to it stays one', () =>
  within(async (registry, home) => {
    mkdirSync(`${home}/.config/tsrun`, { recursive: true });
    writeFileSync(`${home}/dotfile`, JSON.stringify({ auths: { 'other.example': { auth: 'eDp5' } }, credHelpers: { 'z.example': 'z' } }));
    symlinkSync(`${home}/dotfile`, authFile(home));
    await logIn(home, registry.login?.password ?? '', { registry: registry.host });
    const file = JSON.parse(readFileSync(`${home}/dotfile`, 'utf8'));
    assert.equal(Object.keys(file.auths), ['other.example', registry.host]);
    assert.equal(file.credHelpers, { 'z.example': 'z' });

    const out = collect();
    await logout({ all: true, env: { HOME: home }, stderr: out.stream });
    assert.equal(JSON.parse(readFileSync(`${home}/dotfile`, 'utf8')), { auths: {}, credHelpers: { 'z.example': 'z' } });
    assert.match(out.text(), /logged out of other\.example\nlogged out of localhost/);
  }));

test('a file that is not credentials is left as it is', () =>
  within(async (registry, home) => {
    mkdirSync(`${home}/.config/tsrun`, { recursive: true });
    writeFileSync(authFile(home), 'precious notes');
    await failure(() => logIn(home, registry.login?.password ?? '', { registry: registry.host }), 'E_CREDENTIALS_FILE');
    assert.is(readFileSync(authFile(home), 'utf8'), 'precious notes');
  }));

test('a registry open to all keeps the password but says that it was not tried', async () => {
  const registry = await miniRegistry({});
  const home = scratch('tsrun-home');
  assert.match(await logIn(home, 'x', { registry: registry.host }), /kept without being tried/);
  await registry.close();
});

test('logging out of where one is not logged in, or still is by another program, is said', async () => {
  const home = scratch('tsrun-home');
  mkdirSync(`${home}/.docker`);
  writeFileSync(`${home}/.docker/config.json`, JSON.stringify({ auths: { 'ghcr.io': { auth: Buffer.from('a:b').toString('base64') } } }));
  const out = collect();
  await logout({ registry: 'ghcr.io', env: { HOME: home }, stderr: out.stream });
  assert.match(out.text(), /it was not logged in to ghcr\.io\ntsrun: credentials for ghcr\.io are still found in .*\.docker\/config\.json/);
});

test('without a terminal the password must come from standard input, and may not be empty', async () => {
  const home = scratch('tsrun-home');
  const asked = await failure(() => logIn(home, '', { registry: 'ghcr.io', passwordStdin: false }), 'E_LOGIN');
  assert.match(asked.hint ?? '', /--password-stdin/);
  assert.match((await failure(() => logIn(home, '\n', { registry: 'ghcr.io' }), 'E_LOGIN')).why, /empty/);
  assert.match((await failure(() => logIn(home, 'x', { registry: 'ghcr.io', username: 'a:b' }), 'E_LOGIN')).why, /colon/);
});

/** Runs `command` on a terminal of its own; types each answer when its question is there. @returns everything shown */
const onTerminal = (command: string, answers: readonly (readonly [question: RegExp, typed: string])[]): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn('script', ['-qfec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const left = [...answers];
    let shown = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      shown += part;
      const [question, typed] = left[0] ?? [/$^/, ''];
      if (!question.test(shown)) return;
      left.shift();
      child.stdin.write(typed);
    });
    child.on('error', reject);
    child.on('close', () => resolve(shown));
  });

const PROGRAM = new URL('./fixtures/login.ts', import.meta.url).pathname;

test('on a terminal the password is asked for and not shown', () =>
  within(async (registry, home) => {
    const shown = await onTerminal(`${process.execPath} ${PROGRAM} ${registry.host} ${home}`, [
      // A slip taken back with ^U; a wrong letter erased.
      [/User name for localhost:\d+: $/, 'addx\x15ada\r'],
      [/Password or token for ada: $/, `${registry.login?.password}z\x7f\r`],
    ]);
    assert.match(shown, /logged in to localhost/);
    assert.not.match(shown.slice(shown.indexOf('Password or token')), /love|1843/);
  }));

test('a name and a password that are pasted together are both taken', () =>
  within(async (registry, home) => {
    const shown = await onTerminal(`${process.execPath} ${PROGRAM} ${registry.host} ${home}`, [
      [/User name for localhost:\d+: $/, `ada\r${registry.login?.password}\r`],
    ]);
    assert.match(shown, /logged in to localhost/);
  }));

test('Ctrl-C at the question cancels and leaves the terminal as it was', () =>
  within(async (registry, home) => {
    const shown = await onTerminal(`${process.execPath} ${PROGRAM} ${registry.host} ${home}; echo status $?; stty -a`, [
      [/User name for localhost:\d+: $/, 'ada\r'],
      [/Password or token for ada: $/, 'sec\x03'],
    ]);
    assert.match(shown, /cannot ask for a login: it was cancelled/);
    assert.match(shown, /status 125/);
    assert.match(shown, / icanon /);
    assert.match(shown, / echo /);
    assert.not(existsSync(authFile(home)));
  }));

test.run();
