/** Who runs it and from where: callers without an account, groups, homes, current directories, root, runs within runs. Carried out for real. */
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, makeBusyboxTree, type RunOptions, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { isRoot, testUser } from '../helpers/user.ts';

const test = suite('callers and where they stand');
const place = scratch('caller');
const image = makeBusyboxImage(place, (tree) => mkdirSync(join(tree, 'usr/lib/deep/own'), { recursive: true }));
const user = testUser();

const own = (path: string, uid = user.uid): string => {
  mkdirSync(path, { recursive: true });
  if (isRoot()) chownSync(path, uid, uid);
  return path;
};

/** As somebody whom /etc/passwd does not know. */
const STRANGER = 54321;
const asStranger = (command: readonly string[], env: Readonly<Record<string, string>>, groups = ''): ReturnType<typeof run> =>
  run(
    'setpriv',
    [
      `--reuid=${STRANGER}`,
      `--regid=${STRANGER}`,
      ...(groups === '' ? ['--clear-groups'] : [`--groups=${groups}`]),
      'env',
      '-i',
      'PATH=/usr/bin:/bin',
      'TSRUN_LINGER=0',
      ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
      ...command,
    ],
    { as: 'root' },
  );

test('a caller from a directory service is known by the environment of the login', () => {
  if (!isRoot()) return skip('needs root to be somebody else');
  const home = own(join(place, 'ldap-home'), STRANGER);
  const ran = asStranger([tsrunPath, 'exec', image, 'sh', '-c', 'id -un; cd && pwd; tail -n 1 /etc/passwd; touch mine'], {
    USER: 'ldapuser',
    LOGNAME: 'ldapuser',
    HOME: home,
  });
  assert.is(ran.stdout, `ldapuser\n${home}\nldapuser:x:${STRANGER}:${STRANGER}::${home}:/bin/sh\n`, ran.stderr);
  assert.ok(existsSync(join(home, 'mine')));
});

test('without that environment getent is asked, and without an answer the caller is called after the uid', () => {
  if (!isRoot()) return skip('needs root to put another getent in place');
  const home = own(join(place, 'asked-home'), STRANGER);
  const getent = join(place, 'getent');
  writeFileSync(
    getent,
    `#!/bin/sh\ncase "$*" in\n*passwd*${STRANGER}*) echo 'asked.user:*:${STRANGER}:${STRANGER}:Asked U.,,:${home}:/bin/zsh';;\n*group*${STRANGER}*) echo 'asked:*:${STRANGER}:';;\n*) exit 2;;\nesac\n`,
    { mode: 0o755 },
  );
  const command = ['sh', '-c', 'id -un; id -gn; echo "$HOME"; tail -n 1 /etc/passwd'];
  const asked = run(
    'unshare',
    [
      '-m',
      'sh',
      '-c',
      'mount --bind "$1" /usr/bin/getent && shift && exec "$@"',
      'sh',
      getent,
      'setpriv',
      `--reuid=${STRANGER}`,
      `--regid=${STRANGER}`,
      '--clear-groups',
      'env',
      '-i',
      'PATH=/usr/bin:/bin',
      tsrunPath,
      'exec',
      image,
      ...command,
    ],
    { as: 'root' },
  );
  assert.is(asked.stdout, `asked.user\nasked\n${home}\nasked.user:x:${STRANGER}:${STRANGER}:Asked U.,,:${home}:/bin/sh\n`, asked.stderr);
  const unknown = asStranger([tsrunPath, 'exec', image, ...command], {});
  assert.match(unknown.stdout, new RegExp(`^user${STRANGER}\ngroup${STRANGER}\n/\n`), unknown.stderr);
});

test('supplementary groups that the host names have a name inside', () => {
  if (!isRoot()) return skip('needs root to have other groups');
  const ran = asStranger([tsrunPath, 'exec', image, 'sh', '-c', 'id; cat /etc/group'], { USER: 'a', LOGNAME: 'a', HOME: '/' }, '100,20');
  assert.is(ran.status, 0, ran.stderr);
  assert.match(ran.stdout, /users:x:100:a\n/);
  assert.match(ran.stdout, /dialout:x:20:a\n/);
  assert.not.match(ran.stdout, /unknown/);
});

test('a HOME that is not there does not stop a run, also in a directory of the host', () => {
  for (const home of ['/nonexistent/me', join(place, 'missing/me')]) {
    const ran = tsrun(['exec', image, 'sh', '-c', 'echo "$HOME"'], { env: { HOME: home } });
    assert.is(ran.stdout, `${home}\n`, ran.stderr);
    assert.match(ran.stderr, /^tsrun: home .* is not there/);
  }
  assert.is(existsSync(join(place, 'missing')), false);
  assert.is(tsrunOk(['exec', image, 'sh', '-c', 'touch ~/x && echo written'], { env: { HOME: '/nonexistent/me' } }), 'written\n');
});

test('a HOME of / or none is no obstacle', () => {
  assert.is(tsrunOk(['exec', image, 'sh', '-c', 'echo "$HOME"; pwd'], { env: { HOME: '/' }, cwd: '/' }), '/\n/\n');
  assert.is(tsrunOk(['exec', image, 'sh', '-c', 'echo "$HOME"'], { env: { HOME: '' } }), `${user.home}\n`);
});

test('a current directory is spelled inside as outside, through links too', () => {
  const real = own(join(place, 'real/dir'));
  symlinkSync('real', join(place, 'link'));
  const spelled = join(place, 'link/dir');
  const ran = run('sh', ['-c', `cd ${spelled} && exec ${tsrunPath} exec ${image} sh -c 'echo "$PWD"; pwd -P'`]);
  assert.is(ran.stdout, `${spelled}\n${real}\n`, ran.stderr);
});

test('a current directory below a closed one works where it is bound itself', () => {
  if (!isRoot()) return skip('needs root to make a directory in /');
  const top = '/tsrun-test-closed';
  const inner = own(join(own(top), 'in'));
  try {
    const script = `cd ${inner} && chmod 0 ${top} && ${tsrunPath} exec ${image} pwd; echo $?; chmod 755 ${top}`;
    assert.is(run('sh', ['-c', script]).stdout, `${inner}\n0\n`);
  } finally {
    rmSync(top, { recursive: true });
  }
});

test('a closed current directory is an error that names --pwd, and with --pwd it does not matter', () => {
  if (!isRoot()) return skip('needs root to make a directory in /');
  const closed = own('/tsrun-test-closed2');
  try {
    const script = `cd ${closed} && chmod 0 . && ${tsrunPath} exec ${image} pwd; echo $?; ${tsrunPath} exec --pwd /opt ${image} pwd`;
    const ran = run('sh', ['-c', script]);
    assert.is(ran.stdout, '125\n/opt\n', ran.stderr);
    assert.match(ran.stderr, /E_CWD.*--pwd/s);
  } finally {
    chmodSync(closed, 0o755);
    rmSync(closed, { recursive: true });
  }
});

test('a host directory never hides what the image has deep in its system directories', () => {
  if (!isRoot()) return skip('needs root to make a directory in /usr');
  const both = own('/usr/lib/deep/own');
  const mine = own('/usr/lib/deep/mine');
  try {
    const refused = tsrun(['exec', image, 'true'], { cwd: both });
    assert.is(refused.status, 125);
    assert.match(refused.stderr, /cannot start in \/usr\/lib\/deep\/own: the image has its own directory there.*\(E_CWD\)\nhint: .*--pwd/);
    assert.is(tsrunOk(['exec', '--pwd', '/', image, 'pwd'], { cwd: both }), '/\n');
    writeFileSync(join(mine, 'file'), '');
    assert.is(tsrunOk(['exec', image, 'sh', '-c', 'pwd; ls; ls ..'], { cwd: mine }), `${mine}\nfile\nmine\nown\n`);
  } finally {
    rmSync('/usr/lib/deep', { recursive: true });
  }
});

test('a directory image keeps its deep directories as well', () => {
  if (!isRoot()) return skip('needs root to make a directory in /usr');
  const tree = makeBusyboxTree(own(join(place, 'as-directory')));
  mkdirSync(join(tree, 'usr/lib/deep/own'), { recursive: true });
  const both = own('/usr/lib/deep/own');
  try {
    assert.match(tsrun(['exec', tree, 'true'], { cwd: both }).stderr, /E_CWD/);
  } finally {
    rmSync('/usr/lib/deep', { recursive: true });
  }
});

test('kernel directories are places to start in like others', () => {
  for (const cwd of ['/proc', '/sys/class', '/dev/shm', '/tmp']) assert.is(tsrunOk(['exec', image, 'pwd'], { cwd }), `${cwd}\n`);
});

test('root can run programs too, as root', () => {
  if (!isRoot()) return skip('needs root');
  assert.is(
    tsrunOk(['exec', image, 'sh', '-c', 'id -u; echo "$HOME"; cat /opt/tool/data.txt'], { as: 'root' }),
    '0\n/root\nfrom the image\n',
  );
});

test('the root of a user namespace is not taken for root, whose directory in /tmp is another', () => {
  const within = (args: readonly string[], options: RunOptions = {}) =>
    run('unshare', [...args, tsrunPath, 'exec', image, 'sh', '-c', 'id -u; cat /opt/tool/data.txt'], options);
  if (isRoot()) tsrunOk(['exec', image, 'true'], { as: 'root' });
  const ran = within(['--user', '--map-root-user']);
  assert.is(ran.stdout, '0\nfrom the image\n', ran.stderr);
});

test('a run within a run works, contained or not', () => {
  const bind = ['-B', `${tsrunPath}:/opt/tsrun,${image}:/opt/image.sif`];
  for (const flags of [[], ['--contain'], ['--containall']]) {
    const ran = tsrun([
      'exec',
      ...flags,
      ...bind,
      '--pwd',
      '/',
      image,
      '/opt/tsrun',
      'exec',
      '/opt/image.sif',
      'sh',
      '-c',
      'id -u; cat /opt/tool/data.txt',
    ]);
    assert.is(ran.stdout, `${user.uid}\nfrom the image\n`, `${flags.join()} ${ran.stderr}`);
  }
});

test('a run leaves nothing in the current directory, home or /var/tmp', () => {
  if (!isRoot()) return skip('needs root for a /var/tmp that nobody else writes to');
  const here = own(join(place, 'clean'));
  const become = `setpriv --reuid=${user.uid} --regid=${user.gid} --init-groups`;
  const script = `mount -t tmpfs -o mode=1777 none /var/tmp && ${become} "$@" && ls -A /var/tmp`;
  const words = ['-m', 'sh', '-c', script, 'sh', tsrunPath, 'exec', '--writable-tmpfs', image, 'echo', 'ran'];
  const ran = run('unshare', words, { as: 'root', cwd: here, env: { HOME: here } });
  assert.equal([ran.stdout, ran.stderr], ['ran\n', '']);
  assert.equal(readdirSync(here), []);
});

test.run();
