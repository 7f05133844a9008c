/** Runs that have the same mounted share one finished mount namespace, and nobody can tell: what changes on the host is seen, what is private stays so. */
import { spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runsInOwnMounts } from '../helpers/own-mounts.ts';
import { childrenOf, openIn, textOf } from '../helpers/processes.ts';
import { makeBusyboxImage, type Ran, run, scratch, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { endOf, killServer, processesOf, runtimeIn, startStaying, startTraced, until } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { isRoot, testUser } from '../helpers/user.ts';
import { helperProgram } from './launcher/helpers.ts';

const test = suite('layouts');
const place = scratch('layouts');
const image = makeBusyboxImage(place);
const user = testUser();
const NAMESPACE = 'readlink /proc/self/ns/mnt';

type Scope = { readonly runtime: string; readonly env: Record<string, string> };
const scopeOf = (name: string, linger = '20'): Scope => {
  const runtime = runtimeIn(place, name);
  return { runtime, env: { XDG_RUNTIME_DIR: runtime, TSRUN_LINGER: linger } };
};

const runsThere = await runsInOwnMounts();
const runThere = (program: string, args: readonly string[], { env }: Scope, cwd = '/tmp'): Ran => runsThere(program, args, { env, cwd });
const okThere = (words: readonly string[], scope: Scope, cwd = '/tmp'): string => {
  const ran = runThere(tsrunPath, words, scope, cwd);
  assert.equal([ran.status, ran.stderr], [0, '']);
  return ran.stdout;
};
const inScope = (scope: Scope, words: readonly string[], script: string): string[] =>
  okThere(['exec', ...words, image, 'sh', '-c', script], scope).split('\n');

/** How many finished namespaces the scope's server has. */
const layoutsOf = ({ env }: Scope): number => JSON.parse(tsrunOk(['image', 'stats', '--json'], { env })).servers[0].images[0].layouts;

const directory = (name: string, content: string): string => {
  const path = join(place, name);
  mkdirSync(path);
  writeFileSync(join(path, 'note'), content);
  return path;
};

/** Root's script in a mount namespace of its own; `tsrun` is the user's there. */
const withOwnMounts = ({ env }: Scope, script: string): Ran => {
  const as = `setpriv --reuid=${user.uid} --regid=${user.gid} --clear-groups`;
  return run('unshare', ['-m', 'sh', '-ec', `tsrun() { ${as} ${tsrunPath} "$@"; }\nimage=${image}\n${script}`], {
    as: 'root',
    env: { ...env, HOME: user.home },
    cwd: '/tmp',
  });
};

test('runs of the same mounts share a namespace; environment, directory, arguments and umask are their own', () => {
  const scope = scopeOf('same');
  const script = `${NAMESPACE}; echo $WORD; pwd; umask; cat /opt/tool/data.txt; touch /opt/new 2>&1`;
  const first = inScope(scope, ['--env', 'WORD=one', '--pwd', '/var'], `${script}; true`);
  const ran = runThere(
    'sh',
    ['-c', 'umask 027; exec "$@"', 'sh', tsrunPath, 'exec', '--env', 'WORD=two', '--pwd', '/usr', image, 'sh', '-c', script],
    scope,
  );
  const second = ran.stdout.split('\n');
  assert.equal(first.slice(1), ['one', '/var', '0022', 'from the image', 'touch: /opt/new: Read-only file system', '']);
  assert.equal(second.slice(1), ['two', '/usr', '0027', 'from the image', 'touch: /opt/new: Read-only file system', '']);
  assert.is(first[0], second[0]);
  assert.is(layoutsOf(scope), 1);
});

test('runs of other mounts have another one, and the first is found again', () => {
  const scope = scopeOf('other');
  const bound = directory('bound', 'bound\n');
  const plain = inScope(scope, [], NAMESPACE)[0];
  const other = inScope(scope, ['--bind', `${bound}:/mnt`], `${NAMESPACE}; cat /mnt/note`);
  const readOnly = inScope(scope, ['--bind', `${bound}:/mnt:ro`], `${NAMESPACE}; touch /mnt/x 2>&1; true`);
  assert.is(other[1], 'bound');
  assert.match(String(readOnly[1]), /Read-only/);
  assert.is(new Set([plain, other[0], readOnly[0]]).size, 3);
  assert.is(inScope(scope, [], NAMESPACE)[0], plain);
});

test('a directory or a file that was replaced is seen as it is now', () => {
  const scope = scopeOf('replaced');
  const bound = directory('replaced-directory', 'old directory\n');
  const file = join(bound, 'note');
  const look = () => inScope(scope, ['--bind', `${bound}:/mnt`, '--bind', `${file}:/srv/note`], 'cat /mnt/note /srv/note').slice(0, 2);
  assert.equal(look(), ['old directory', 'old directory']);
  writeFileSync(`${file}.new`, 'new file\n');
  renameSync(`${file}.new`, file);
  assert.equal(look(), ['new file', 'new file']);
  renameSync(bound, `${bound}.old`);
  mkdirSync(bound);
  writeFileSync(file, 'new directory\n');
  assert.equal(look(), ['new directory', 'new directory']);
  // Its inode is free for the next one.
  rmSync(bound, { recursive: true });
  mkdirSync(bound);
  writeFileSync(file, 'made again\n');
  assert.equal(look(), ['made again', 'made again']);
});

test('each current directory is its own', () => {
  const scope = scopeOf('current');
  const paths = ['one', 'two'].map((name) => directory(`current-${name}`, `${name}\n`));
  const seen = [...paths, ...paths].map((cwd) => okThere(['exec', image, 'sh', '-c', 'pwd; cat note'], scope, cwd));
  const expected = paths.map((path, i) => `${path}\n${['one', 'two'][i]}\n`);
  assert.equal(seen, [...expected, ...expected]);
});

test('what is mounted, remounted and unmounted on the host is seen by the next run', () => {
  if (!isRoot()) return skip('needs root to mount');
  const scope = scopeOf('mounts');
  const target = directory('target', 'below\n');
  const look = `tsrun exec --bind ${target}:/mnt $image sh -c '${NAMESPACE}; cat /mnt/note ${target}/note; touch /mnt/new 2>&1 || true'`;
  const ran = withOwnMounts(
    scope,
    `chmod 777 ${target}
${look}; ${look}
mount -t tmpfs -o mode=777 none ${target}; echo mounted > ${target}/note
${look}; ${look}
mount -o remount,bind,ro ${target}
${look}
umount ${target}
${look}`,
  );
  assert.is(ran.stderr, '');
  const lines = ran.stdout.trim().split('\n');
  const namespaces = lines.filter((line) => line.startsWith('mnt:'));
  const rest = lines.filter((line) => !line.startsWith('mnt:'));
  assert.equal([namespaces[1], namespaces[3]], [namespaces[0], namespaces[2]]);
  const readOnly = ['mounted', 'mounted', 'touch: /mnt/new: Read-only file system'];
  assert.equal(rest, [...Array(4).fill('below'), ...Array(4).fill('mounted'), ...readOnly, 'below', 'below']);
});

test('who sees other files than another run of the scope gets another namespace', () => {
  if (!isRoot()) return skip('needs root to mount');
  const scope = scopeOf('views');
  const look = `tsrun exec --bind /mnt $image sh -c '${NAMESPACE}; cat /mnt/word'`;
  const ran = withOwnMounts(
    scope,
    `mount -t tmpfs none /mnt; echo first > /mnt/word
${look}
unshare -m sh -ec "$(cat <<'END'
tsrun() { setpriv --reuid=${user.uid} --regid=${user.gid} --clear-groups ${tsrunPath} "$@"; }
image=${image}
${look}
mount -t tmpfs none /mnt; echo second > /mnt/word
${look}
END
)"
${look}`,
  );
  assert.is(ran.stderr, '');
  const lines = ran.stdout.trim().split('\n');
  assert.equal(
    [1, 3, 5, 7].map((i) => lines[i]),
    ['first', 'first', 'second', 'first'],
  );
  assert.is(new Set([lines[0], lines[2], lines[4]]).size, 3);
});

test('a caller with another root directory works, beside one without', () => {
  if (!isRoot()) return skip('needs root to mount');
  const scope = scopeOf('chroot');
  const root = join(place, 'root');
  const inside = `chroot ${root} setpriv --reuid=${user.uid} --regid=${user.gid} --clear-groups ${tsrunPath} exec ${image} sh -c 'pwd; cat /opt/tool/data.txt; ls -d /opt/tool'`;
  const ran = withOwnMounts(
    scope,
    `mkdir ${root}; tsrun exec $image true\nmount --rbind / ${root}\n${inside}; ${inside}\ntsrun exec $image cat /opt/tool/data.txt`,
  );
  const once = '/\nfrom the image\n/opt/tool\n';
  assert.equal([ran.stdout, ran.stderr], [`${once}${once}from the image\n`, '']);
});

test('what a run has for itself is not shared', () => {
  const scope = scopeOf('private');
  const left = `/tmp/tsrun-left-${process.pid}`;
  for (const words of [['--contain'], ['--writable-tmpfs'], ['--pid'], ['--containall']]) {
    const script = `ls ${left} /opt/left 2>/dev/null; touch ${left}; touch /opt/left 2>/dev/null; true`;
    const [, second] = [0, 1].map(() => inScope(scope, words, script).join('\n'));
    assert.is(second, words[0]?.startsWith('--contain') ? '' : `${left}\n`, words.join(' '));
  }
  rmSync(left);
  assert.is(layoutsOf(scope), 0);
});

test('sixty-four runs at once are right, and share; where there is a namespace already, all of them that one', () => {
  const scope = scopeOf('many');
  const script = `for i in $(seq 64); do "$@" & done; wait`;
  const words = [tsrunPath, 'exec', image, 'sh', '-c', `echo $(${NAMESPACE}) $(cat /opt/tool/data.txt) $PWD`];
  const crowd = (): readonly string[] => {
    const ran = runThere('sh', ['-c', script, 'sh', ...words], scope);
    assert.is(ran.stderr, '');
    const lines = ran.stdout.trim().split('\n');
    assert.is(lines.length, 64);
    for (const line of lines) assert.match(line, /^mnt:\[\d+\] from the image \/tmp$/);
    return [...new Set(lines)];
  };
  // Who has waited for a second, where the first one gets no processor, makes its own.
  assert.ok(crowd().length < 64);
  inScope(scope, [], 'true');
  assert.is(crowd().length, 1);
});

test('a run that is killed, or slow, while it makes the namespace keeps nobody waiting', async () => {
  const scope = scopeOf('slow');
  const deny = helperProgram('deny');
  const killed = run(deny, ['KILL', 'mount', '--', tsrunPath, 'exec', image, 'true'], scope);
  assert.is(killed.signal, 'SIGSYS');
  assert.is(inScope(scope, [], 'cat /opt/tool/data.txt')[0], 'from the image');
  if (!existsSync('/usr/bin/strace')) return skip('strace is not installed');
  const bound = directory('slow-bound', 'bound\n');
  chownSync(bound, user.uid, user.gid);
  const words = ['exec', '--bind', `${bound}:/mnt`, image, 'cat', '/mnt/note'];
  // It stops itself behind the first of its mounts, when it has joined.
  const trace = join(bound, 'trace');
  const slow = startTraced(trace, ['-e', 'inject=mount:signal=SIGSTOP:when=1'], words, { env: scope.env, cwd: '/tmp' });
  await until(() => textOf(trace).includes('stopped by SIGSTOP'), 'the slow run has stopped');
  assert.is(tsrunOk(words, { env: scope.env, cwd: '/tmp' }), 'bound\n');
  for (const pid of childrenOf(slow.pid ?? 0)) process.kill(pid, 'SIGCONT');
  assert.equal([await endOf(slow), slow.text()], [0, 'bound\n']);
});

test('where namespaces may not be entered, each run makes its own', () => {
  const scope = scopeOf('refused');
  const words = ['exec', image, 'sh', '-c', `${NAMESPACE}; cat /opt/tool/data.txt`];
  const first = okThere(words, scope).split('\n');
  const ran = runThere(helperProgram('deny'), ['EPERM', 'setns_mount', '--', tsrunPath, ...words], scope);
  const second = ran.stdout.split('\n');
  assert.equal([ran.stderr, second[1]], ['', 'from the image']);
  assert.is.not(second[0], first[0]);
});

test('a run whose server is killed while it joins has another one, also where others have that already', async () => {
  if (!isRoot()) return skip('needs root to be another user than its own');
  if (!existsSync('/usr/bin/strace')) return skip('strace is not installed');
  const words = ['exec', image, 'cat', '/opt/tool/data.txt'];
  for (const isFollowed of [false, true]) {
    const scope = scopeOf(`left-${isFollowed}`, '1');
    const options = { env: scope.env, cwd: '/tmp' };
    assert.is(tsrunOk(words, options), 'from the image\n');
    const trace = join(scope.runtime, 'trace');
    // Refused the namespace that is there, it asks again; meanwhile it is stopped.
    const run = startTraced(trace, ['-e', 'trace=setns', '-e', 'inject=setns:error=EPERM:signal=SIGSTOP:when=2'], words, options);
    await until(() => textOf(trace).includes('stopped by SIGSTOP'), 'the run has stopped');
    await killServer(scope.env);
    if (isFollowed) assert.is(tsrunOk(words, options), 'from the image\n');
    for (const pid of childrenOf(run.pid ?? 0)) process.kill(pid, 'SIGCONT');
    assert.equal([await endOf(run), run.text()], [0, 'from the image\n']);
    assert.is(tsrunOk(words, options), 'from the image\n');
  }
});

test('there are few of them', () => {
  const scope = scopeOf('few');
  for (let i = 0; i < 12; i++) inScope(scope, ['--bind', `${place}:/mnt/${i}`], 'true');
  assert.is(layoutsOf(scope), 8);
});

test('they end when nobody needs them, and the server keeps nothing of them', async () => {
  if (!isRoot()) return skip('needs root to look into the server');
  const scope = scopeOf('ends', '1');
  const staying = await startStaying(scope.runtime, [image, 'sh', '-c', 'echo ready; read line; cat /opt/tool/data.txt']);
  const { server } = processesOf(staying.pid ?? 0);
  const held = (): number => openIn(server).filter((path) => path.startsWith('mnt:') || path.includes('mountinfo')).length;
  for (let i = 0; i < 4; i++) inScope(scope, ['--bind', `${place}:/mnt/${i}`], 'true');
  await until(() => layoutsOf(scope) === 1, 'nobody has asked for the others for a while');
  await until(() => held() === 2, 'the namespace of the run that stays, and the list of mounts that it goes by');
  staying.stdin?.end('go\n');
  assert.is(await endOf(staying), 0);
  await until(() => !existsSync(`/proc/${server}`), 'the server ends');
  assert.equal(readdirSync(join(scope.runtime, 'tsrun')), []);
});

test('a daemon that a run leaves keeps its files after layout and server have gone', async () => {
  const scope = scopeOf('daemon', '0');
  const said = join(place, 'said');
  mkdirSync(said, { mode: 0o777 });
  spawnSync('chmod', ['777', said]);
  const script = `(while [ ! -e ${said}/go ]; do sleep 0.05; done; cat /opt/tool/data.txt > ${said}/data) >/dev/null 2>&1 </dev/null &`;
  inScope(scope, ['--bind', said], 'true');
  inScope(scope, ['--bind', said], script);
  await until(() => !readdirSync(join(scope.runtime, 'tsrun')).some((name) => name.endsWith('.sock')) || layoutsOf(scope) === 0);
  writeFileSync(join(said, 'go'), '');
  await until(() => existsSync(join(said, 'data')) && spawnSync('cat', [join(said, 'data')], { encoding: 'utf8' }).stdout !== '');
  assert.is(spawnSync('cat', [join(said, 'data')], { encoding: 'utf8' }).stdout, 'from the image\n');
});

test.run();
