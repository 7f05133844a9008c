/** Credential helpers: `docker-credential-NAME get`, the server on stdin, JSON on stdout (docker/docker-credential-helpers). */
import { spawn } from 'node:child_process';
import type { CredentialOptions, Credentials } from './credential.ts';

const OUTPUT_LIMIT = 64 * 1024;

/** @returns `undefined` when the helper knows nothing, or (with a warning) does not work: other sources and anonymous access are still left. */
export const askHelper = async (name: string, server: string, options: CredentialOptions): Promise<Credentials | undefined> => {
  const program = `docker-credential-${name}`;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
    options.onWarning(`credential helper ${JSON.stringify(name)} is not a program name`);
    return undefined;
  }
  try {
    const { status, stdout, stderr } = await runHelper(program, server, options);
    if (status === 0) return parseAnswer(stdout, program);
    const said = `${stdout} ${stderr}`.replace(/\s+/g, ' ').trim();
    // The helpers' own words for "nothing stored for this server": no reason to worry anybody.
    if (!/credentials not found/i.test(said))
      options.onWarning(`${program} failed for ${server}: ${said.slice(0, 200) || `status ${status}`}`);
  } catch (error) {
    options.onWarning(`${program} cannot be used for ${server}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return undefined;
};

type HelperResult = { readonly status: number; readonly stdout: string; readonly stderr: string };

const runHelper = (program: string, server: string, { env, helperTimeout }: CredentialOptions): Promise<HelperResult> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { env: { ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    const out = { stdout: '', stderr: '' };
    const fail = (why: string): void => {
      child.kill('SIGKILL');
      // A grandchild may hold the pipes open for ever.
      child.stdout.destroy();
      child.stderr.destroy();
      reject(new Error(why));
    };
    const timer = setTimeout(() => fail(`no answer within ${helperTimeout / 1000} s`), helperTimeout);
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => {
        out[stream] += text;
        if (out[stream].length > OUTPUT_LIMIT) fail(`more than ${OUTPUT_LIMIT} bytes of output`);
      });
    }
    child.on('error', (error) => {
      clearTimeout(timer);
      reject('code' in error && error.code === 'ENOENT' ? new Error('it is not on PATH') : error);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ status: code ?? 1, ...out });
    });
    // It may end without reading.
    child.stdin.on('error', () => undefined);
    child.stdin.end(server);
  });

const parseAnswer = (text: string, program: string): Credentials | undefined => {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    // Its text is not quoted: it may be a secret.
    throw new Error('its answer is not JSON');
  }
  const { Username: username, Secret: secret } = (typeof answer === 'object' && answer !== null ? answer : {}) as Partial<
    Record<string, unknown>
  >;
  if (typeof username !== 'string' || typeof secret !== 'string') throw new Error('its answer has no Username and Secret');
  if (secret === '') return undefined;
  return username === '<token>'
    ? { kind: 'identity', token: secret, origin: program }
    : { kind: 'password', username, password: secret, origin: program };
};
