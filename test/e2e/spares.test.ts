/** Calls that differ in a bind find a root with all the rest made ahead (native/spare.h); what they see is what they would have mounted themselves. */
import { spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isBefore } from '../helpers/kernels.ts';
import { runsInOwnMounts } from '../helpers/own-mounts.ts';
import { childrenOf, nameOf, neighboursOf, openIn, textOf } from '../helpers/processes.ts';
import { environmentOf, makeBusyboxImage, type Ran, type RunOptions, run, scratch, tsrunOk, tsrunPath } from '../helpers/product.ts';
import {
  endOf,
  killServer,
  processesOf,
  runtimeIn,
  type Staying,
  servingOf,
  startStaying,
  startTraced,
  until,
} from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { isRoot, testUser } from '../helpers/user.ts';

const test = suite('spares');
const place = scratch('spares');
const image = makeBusyboxImage(place);
const user = testUser();
const MOUNTS = 'cat /proc/self/mountinfo';

type Scope = { readonly runtime: string; readonly env: Record<string, string> };
const scopeOf = (name: string, linger = '20'): Scope => {
  const runtime = runtimeIn(place, name);
  return { runtime, env: { XDG_RUNTIME_DIR: runtime, TSRUN_LINGER: linger } };
};
const runsThere = await runsInOwnMounts();
const ran = (words: readonly string[], { env }: Scope, cwd = '/tmp'): Ran => runsThere(tsrunPath, words, { env, cwd });
const ok = (words: readonly string[], scope: Scope, cwd = '/tmp'): string => {
  const { status, stdout, stderr } = ran(words, scope, cwd);
  assert.equal([status, stderr], [0, '']);
  return stdout;
};
const inScope = (scope: Scope, words: readonly string[], script: string, cwd = '/tmp'): string =>
  ok(['exec', ...words, image, 'sh', '-c', script], scope, cwd);

let numbers = 0;
const directory = (name = `bound-${numbers++}`): string => {
  const path = join(place, name);
  mkdirSync(path);
  writeFileSync(join(path, 'note'), `${name}\n`);
  chownSync(path, user.uid, user.gid);
  return path;
};

/** Whether the mounts are those of a root made ahead: its overlay is one in which names could still be made. */
const isSpare = (mountinfo: string): boolean => / \/ \/ ro,\S+ - overlay .*upperdir=/.test(mountinfo);
const someSource = directory();
/** Calls that differ until one of them finds a root made ahead; then another one is about to be. False: this kernel makes none. */
const untilSpares = (scope: Scope): boolean => {
  for (let i = 0; i < 50; i++) if (isSpare(inScope(scope, ['--bind', `${someSource}:/srv/${numbers++}`], MOUNTS))) return true;
  return false;
};
/** What a call with these words sees when it uses a root made ahead; not every one is in time for that. */
const fromSpare = (scope: Scope, words: readonly string[], script: string): string => {
  for (let i = 0; i < 50; i++) {
    const text = inScope(scope, [...words, '--bind', `${someSource}:/srv/${numbers++}`], `${script}; echo --; ${MOUNTS}`);
    const [said = '', mounts = ''] = text.split('--\n');
    if (isSpare(mounts)) return said;
  }
  throw new Error('no root was made ahead');
};
const spares = untilSpares(scopeOf('any'));

test('a root made ahead shows what the run would have mounted itself', () => {
  if (!spares) return skip('this kernel has no such roots');
  const scope = scopeOf('same');
  const bound = directory();
  const words = ['--bind', `${bound}:/mnt/here`, '--bind', `${join(bound, 'note')}:/etc/deep/note:ro`];
  const script = `cut -d ' ' -f 4-6 /proc/self/mountinfo | grep -v /srv | sort; for d in / /mnt /mnt/here /etc /etc/deep /home /usr /opt; do stat -c '%n %a %u %g' $d; ls $d | grep -v '^[0-9]*$' | sort; done
id; cat /etc/passwd /mnt/here/note /etc/deep/note /opt/tool/data.txt; touch /x /mnt/x /etc/x /etc/deep/note /opt/x 2>&1; pwd; echo $HOME; df / | tail -n 1 | cut -d ' ' -f 1`;
  const alone = inScope(scope, [...words, '--bind', `${someSource}:/srv/first`], script);
  assert.ok(untilSpares(scope));
  const ahead = fromSpare(scope, words, script);
  assert.equal(ahead.split('\n'), alone.split('\n'));
  assert.match(ahead, /touch: \/x: Read-only file system/);
});

test('nothing of one call is seen by the next', () => {
  if (!spares) return skip('this kernel has no such roots');
  const scope = scopeOf('apart');
  assert.ok(untilSpares(scope));
  for (let i = 0; i < 3; i++) assert.is(fromSpare(scope, [], 'ls /srv | wc -l'), '1\n');
});

test('the same call again enters the namespace of the one before', () => {
  if (!spares) return skip('this kernel has no such roots');
  const scope = scopeOf('again');
  assert.ok(untilSpares(scope));
  const words = ['--bind', `${directory()}:/mnt/again`];
  const look = () => inScope(scope, words, 'readlink /proc/self/ns/mnt; ls /mnt');
  const first = look();
  assert.is(look(), first);
  assert.match(first, /\nagain\n$/);
});

test('a current directory of its own is one of the differences', () => {
  if (!isRoot()) return skip('needs root for directories that are not shown anyway');
  const scope = scopeOf('current');
  const script = `
tsrun() { setpriv --reuid=${user.uid} --regid=${user.gid} --clear-groups ${tsrunPath} "$@"; }
mount -t tmpfs -o mode=755 none /media
for i in $(seq 20); do mkdir /media/$i; echo $i > /media/$i/note; cd /media/$i; tsrun exec ${image} sh -c 'echo $(pwd) $(ls /media) $(cat note) $(grep -c upperdir= /proc/self/mountinfo)'; done`;
  const { stdout, stderr } = run('unshare', ['-m', 'sh', '-ec', script], { as: 'root', env: { ...scope.env, HOME: user.home }, cwd: '/' });
  assert.is(stderr, '');
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  for (const [at, line] of lines.entries()) assert.equal(line.slice(0, 3), [`/media/${at + 1}`, String(at + 1), String(at + 1)]);
  assert.is(lines.length, 20);
  if (spares) assert.ok(lines.some(([, , , count]) => count === '1'));
});

test('what does not fit into such a root is mounted the long way, with the same result', () => {
  const scope = scopeOf('unfit');
  const bound = directory('unfit-bound');
  mkdirSync(join(bound, 'tmp'));
  mkdirSync(join(bound, 'below'));
  const look = (words: readonly string[], script: string): string => {
    const fresh = inScope(scopeOf(`unfit-${numbers++}`), words, script);
    if (spares) assert.ok(untilSpares(scope));
    for (let i = 0; i < 2; i++) assert.is(inScope(scope, words, script), fresh);
    return fresh;
  };
  const at = (target: string): string[] => ['--bind', `${bound}:${target}`];
  assert.is(look(at('/opt/tool'), 'ls /opt/tool; ls -d /opt'), 'below\nnote\ntmp\n/opt\n');
  assert.is(look(at('/opt/new'), 'ls /opt; ls /opt/new'), 'new\ntool\nbelow\nnote\ntmp\n');
  // The default /var/tmp lies in it.
  assert.match(look(at('/var'), `ls /var; grep -c ' /var/tmp ' /proc/self/mountinfo`), /^below\nnote\ntmp\n1\n$/);
  assert.is(
    look(['--bind', '/:/srv/host'], 'ls -d /srv/host/proc; ls /srv/host/opt/tool 2>/dev/null || echo none'),
    '/srv/host/proc\nnone\n',
  );
  assert.is(look([...at('/srv/a'), '--bind', `${bound}:/srv/a/below`], 'ls /srv/a/below'), 'below\nnote\ntmp\n');
  const refused = ran(['exec', '--bind', `${join(bound, 'note')}:/etc`, image, 'true'], scope);
  assert.match(refused.stderr, /cannot mount \S+\/note on \/etc: the target is a directory, the source a file \(E_BIND_TARGET\)/);
  assert.is(refused.status, 125);
  const missing = ran(['exec', ...at('/srv/a'), '--bind', `${bound}:/srv/a/none`, image, 'true'], scope);
  assert.match(missing.stderr, /cannot mount \S+ on \/srv\/a\/none: .* has no none to mount on \(E_BIND_TARGET\)/);
  assert.is(missing.status, 125);
});

test('a run that is mounting the long way after all when its server is killed has another one, also where others have that already', async () => {
  if (!spares) return skip('this kernel has no such roots');
  if (!isRoot()) return skip('needs root to be another user than its own');
  if (!existsSync('/usr/bin/strace')) return skip('strace is not installed');
  const bound = directory('there');
  const another = (): string[] => ['exec', '--bind', `${bound}:/srv/${numbers++}`, image, 'sh', '-c', 'cat /opt/tool/data.txt /srv/*/note'];
  for (const isFollowed of [false, true]) {
    // Where there is a root made ahead, the first such call is for the target in it: refused, the run asks again; meanwhile it is stopped.
    const joins = async (tries = 50): Promise<{ readonly run: Staying; readonly options: RunOptions & Pick<Scope, 'env'> }> => {
      assert.ok(tries > 0, 'a run finds a root made ahead');
      const { env, runtime } = scopeOf(`left-${isFollowed}-${tries}`, '1');
      const options = { env, cwd: '/tmp' };
      for (let i = 0; i < 4; i++) tsrunOk(another(), options);
      const trace = join(runtime, 'trace');
      const run = startTraced(
        trace,
        ['-e', 'trace=openat2', '-e', 'inject=openat2:error=EACCES:signal=SIGSTOP:when=1'],
        another(),
        options,
      );
      await until(() => textOf(trace).includes('stopped by SIGSTOP') || run.exitCode !== null, 'the run has stopped, or ended');
      if (/"srv\/\d+".*INJECTED/.test(textOf(trace))) return { run, options };
      for (const pid of childrenOf(run.pid ?? 0)) process.kill(pid, 'SIGCONT');
      await endOf(run);
      return joins(tries - 1);
    };
    const { run, options } = await joins();
    await killServer(options.env);
    if (isFollowed) tsrunOk(['exec', image, 'true'], options);
    for (const pid of childrenOf(run.pid ?? 0)) process.kill(pid, 'SIGCONT');
    assert.equal([await endOf(run), run.text()], [0, 'from the image\nthere\n']);
    assert.is(tsrunOk(another(), options), 'from the image\nthere\n');
  }
});

test('a link of the image on the way to a target is followed', () => {
  const tree = join(place, 'linked');
  assert.is(spawnSync('cp', ['-a', join(place, 'tree'), tree]).status, 0);
  symlinkSync('/srv', join(tree, 'link'));
  const scope = scopeOf('links');
  const linked = join(place, 'linked.sif');
  tsrunOk(['build', linked, tree]);
  const bound = directory();
  for (let i = 0; i < 5; i++) assert.is(ok(['exec', '--bind', `${bound}:/link/x${i}`, linked, 'ls', `/srv/x${i}`], scope), 'note\n');
});

test('what is mounted and unmounted on the host is seen by the next call', () => {
  if (!isRoot()) return skip('needs root to mount');
  if (!spares) return skip('this kernel has no such roots');
  const scope = scopeOf('mounts');
  const target = directory();
  const script = `
tsrun() { setpriv --reuid=${user.uid} --regid=${user.gid} --clear-groups ${tsrunPath} "$@"; }
look() { for i in 1 2 3 4 5; do n=$((n+1)); tsrun exec --bind ${someSource}:/srv/$n ${image} cat ${target}/note; done; }
look; look
mount -t tmpfs -o mode=777 none ${target}; echo mounted > ${target}/note
look; look
umount ${target}
look`;
  const { stdout, stderr } = run('unshare', ['-m', 'sh', '-ec', script], {
    as: 'root',
    env: { ...scope.env, HOME: user.home },
    cwd: target,
  });
  const name = target.slice(place.length + 1);
  assert.is(stderr, '');
  assert.equal(stdout.trim().split('\n'), [...Array(10).fill(name), ...Array(10).fill('mounted'), ...Array(5).fill(name)]);
});

test('a home that was replaced is seen as it is now', () => {
  const scope = scopeOf('replaced');
  const home = directory('home');
  const env = { ...scope.env, HOME: home };
  const look = (): string => inScope({ ...scope, env }, ['--bind', `${someSource}:/srv/${numbers++}`], 'cat ~/note');
  for (let i = 0; i < 6; i++) assert.is(look(), 'home\n');
  renameSync(home, `${home}.old`);
  mkdirSync(home);
  writeFileSync(join(home, 'note'), 'new\n');
  for (let i = 0; i < 6; i++) assert.is(look(), 'new\n');
});

const crowd = (scope: Scope, count: number): Promise<readonly string[]> =>
  Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const child = spawn(
        tsrunPath,
        ['exec', '--bind', `${someSource}:/srv/${i}`, image, 'sh', '-c', `cat /srv/${i}/note; ls /srv; cat /opt/tool/data.txt`],
        {
          env: environmentOf(scope),
          ...(isRoot() ? { uid: user.uid, gid: user.gid } : {}),
          cwd: '/tmp',
          stdio: ['ignore', 'pipe', 'pipe'],
        },
      );
      let text = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
      const closed = new Promise((resolve) => child.on('close', resolve));
      await closed;
      return `${child.exitCode} ${text}`;
    }),
  );
const expected = (count: number): readonly string[] => Array.from({ length: count }, (_, i) => `0 bound-0\n${i}\nfrom the image\n`);

test('256 different calls at once are right', async () => {
  const scope = scopeOf('crowd');
  untilSpares(scope);
  assert.equal(await crowd(scope, 256), expected(256));
});

test('calls are right while the serving process is killed and stopped, and the processes that make roots are', async () => {
  if (!isRoot()) return skip("needs root to signal the server's processes");
  const scope = scopeOf('killed');
  const staying = await startStaying(scope.runtime, [image, 'sh', '-c', 'echo ready; read line']);
  const { server } = processesOf(staying.pid ?? 0);
  let going = true;
  const disturb = (async () => {
    for (let i = 0; going; i++) {
      const serving = servingOf(server);
      const makers = childrenOf(server).filter((pid) => nameOf(pid) === 'tsrun-spare');
      try {
        if (i % 20 === 0 && serving !== undefined) process.kill(serving, i % 40 === 0 ? 'SIGKILL' : 'SIGSTOP');
        for (const maker of makers) process.kill(maker, i % 2 === 0 ? 'SIGKILL' : 'SIGSTOP');
      } catch {
        // It has ended meanwhile.
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  for (let i = 0; i < 5; i++) assert.equal(await crowd(scope, 8), expected(8));
  going = false;
  await disturb;
  staying.stdin?.end('go\n');
  assert.is(await endOf(staying), 0);
});

test('nothing is left when nobody needs them, or when the server is killed', async () => {
  if (!isRoot()) return skip('needs root to look into the server');
  for (const end of ['linger', 'kill'] as const) {
    const scope = scopeOf(`left-${end}`, '1');
    const staying = await startStaying(scope.runtime, [image, 'sh', '-c', 'echo ready; read line']);
    const { server } = processesOf(staying.pid ?? 0);
    const children = (): readonly number[] => childrenOf(server).filter((pid) => nameOf(pid) === 'tsrun-spare');
    const held = (): number => openIn(server).filter((path) => path.includes('mnt:')).length;
    untilSpares(scope);
    if (end === 'linger') {
      await until(() => held() === 1 && children().length === 0, 'only the namespace of the run that stays is kept');
      staying.stdin?.end('go\n');
      assert.is(await endOf(staying), 0);
      await until(() => !existsSync(`/proc/${server}`), 'the server ends');
      assert.equal(readdirSync(join(scope.runtime, 'tsrun')), []);
    } else {
      inScope(scope, ['--bind', `${someSource}:/srv/last`], 'true');
      const makers = children();
      process.kill(server, 'SIGKILL');
      await until(() => !existsSync(`/proc/${server}`));
      await until(() => makers.every((pid) => !existsSync(`/proc/${pid}`)), 'who makes a root ends with the server');
      staying.kill('SIGKILL');
      await endOf(staying);
    }
  }
});

test('a scope that is asked nothing does not run: neither its server, nor who serves, nor who makes roots ahead', async () => {
  if (!isRoot()) return skip('needs root to look into the server');
  const scope = scopeOf('idle');
  const stays = await startStaying(scope.runtime, [image, 'sh', '-c', 'echo ready; read line']);
  if (spares) assert.ok(untilSpares(scope));
  const processes = neighboursOf(stays.pid ?? 0).filter((pid) => nameOf(pid).startsWith('tsrun-'));
  const names = processes.map(nameOf);
  for (const name of ['tsrun-server', 'tsrun-image', ...(spares ? ['tsrun-spare'] : [])]) assert.ok(names.includes(name), String(names));
  /** How often a thread of theirs has been given a processor or has given it up. */
  const switches = (): number =>
    processes
      .flatMap((pid) => readdirSync(`/proc/${pid}/task`).map((thread) => textOf(`/proc/${pid}/task/${thread}/status`)))
      .flatMap((status) => status.match(/(?<=ctxt_switches:\s*)\d+/g) ?? [])
      .reduce((sum, count) => sum + Number(count), 0);
  // What is done once after the last request is; who looked again each second would be seen in all windows. Before Linux 5.3 the server does: nobody tells it
  // that a run has ended.
  const atMost = isBefore('5.3') ? 4 : 0;
  const ran: number[] = [];
  while ((ran.at(-1) ?? Number.POSITIVE_INFINITY) > atMost && ran.length < 10) {
    const before = switches();
    assert.ok(before > 0);
    await new Promise((end) => setTimeout(end, 1200));
    ran.push(switches() - before);
  }
  assert.ok((ran.at(-1) ?? Number.NaN) <= atMost, `switches in 1.2 s each: ${ran}`);
  stays.stdin?.end('\n');
  await endOf(stays);
});

test.run();
