/**
 * The ordinary user of the tests. Run as root (as in CI) they switch to the user `tsrunner` that the set-up makes; run by anybody
 * else, that person is the ordinary user.
 */
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';

export type TestUser = { readonly name: string; readonly uid: number; readonly gid: number; readonly home: string };

/** Another name lets two checkouts be tested side by side: their runs share nothing then. */
export const TEST_USER = process.env['TSRUN_TEST_USER'] ?? 'tsrunner';

export const isRoot = (): boolean => process.getuid?.() === 0;

/** Throws when the tests run as root and the set-up has not made the user. */
export const testUser = (): TestUser => {
  if (!isRoot()) {
    const { username, uid, gid, homedir } = userInfo();
    return { name: username, uid, gid, home: homedir };
  }
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${TEST_USER}:`));
  const [name, , uid, gid, , home] = line?.split(':') ?? [];
  if (name === undefined || home === undefined) throw new Error(`no user ${TEST_USER}: run node scripts/setup.mjs test`);
  return { name, uid: Number(uid), gid: Number(gid), home };
};

/** The command line that runs `argv` as the test user with a fresh environment (HOME, PATH, …) plus `environment`. */
export const asTestUser = (argv: readonly string[], environment: Readonly<Record<string, string>> = {}): string[] => {
  const user = testUser();
  const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  if (!isRoot()) {
    const own = ['HOME', 'PATH', 'USER', 'LOGNAME'].flatMap((name) =>
      process.env[name] === undefined ? [] : [`${name}=${process.env[name]}`],
    );
    return ['env', '-i', ...own, ...settings, ...argv];
  }
  return ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', '--reset-env', 'env', ...settings, ...argv];
};

const made: string[] = [];

const removeMade = (): void => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
};

/** A new empty directory that belongs to the test user and that it can reach; removed when the test process exits. */
export const userDirectory = (prefix: string): string => {
  const path = mkdtempSync(join(tmpdir(), `${prefix}-`));
  const { uid, gid } = testUser();
  if (isRoot()) chownSync(path, uid, gid);
  chmodSync(path, 0o755);
  if (made.length === 0) process.on('exit', removeMade);
  made.push(path);
  return path;
};
