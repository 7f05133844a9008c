/** Which files of the host a run sees, and where it starts: carried out for real. What is decided is tested in test/plan/. */
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('files of the host in a run');
const place = scratch('files');
const image = makeBusyboxImage(place);
const user = testUser();

const ownDirectory = (path: string): string => {
  mkdirSync(path, { recursive: true });
  chownSync(path, user.uid, user.gid);
  return path;
};

test('the run starts in the directory it was called from', () => {
  const here = ownDirectory(join(place, 'work'));
  assert.is(tsrunOk(['exec', image, 'pwd'], { cwd: here }), `${here}\n`);
});

test('a file written in the current directory is there afterwards, owned by the caller', () => {
  const here = ownDirectory(join(place, 'write'));
  tsrunOk(['exec', image, 'sh', '-c', 'echo result > out.txt'], { cwd: here });
  assert.is(readFileSync(join(here, 'out.txt'), 'utf8'), 'result\n');
  assert.is(statSync(join(here, 'out.txt')).uid, user.uid);
});

test('the root directory stays the root directory', () => {
  assert.is(tsrunOk(['exec', image, 'pwd'], { cwd: '/' }), '/\n');
});

test('a current directory below a directory that the image also has is bound at its own path only', () => {
  const here = ownDirectory('/opt/tsrun-test-cwd');
  try {
    writeFileSync(join(here, 'host-file'), 'host\n');
    assert.is(
      tsrunOk(['exec', image, 'sh', '-c', 'pwd; cat host-file /opt/tool/data.txt'], { cwd: here }),
      `${here}\nhost\nfrom the image\n`,
    );
  } finally {
    rmSync(here, { recursive: true });
  }
});

test('a current directory that exists no more is an error or works, but never another place', () => {
  const here = ownDirectory(join(place, 'gone'));
  const ran = run('/bin/sh', ['-c', `rmdir "$PWD" && exec ${tsrunPath} exec ${image} sh -c 'echo started in; pwd'`], { cwd: here });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /--pwd/);
});

test('--pwd picks a directory of the image, and a missing one is an error', () => {
  assert.is(tsrunOk(['exec', '--pwd', '/opt/tool', image, 'cat', 'data.txt']), 'from the image\n');
  const missing = tsrun(['exec', '--pwd', '/no/such/place', image, 'pwd']);
  assert.is(missing.status, 125);
  assert.match(missing.stderr, /\/no\/such\/place/);
});

test('home is inside at its own path and is HOME', () => {
  assert.is(tsrunOk(['exec', image, 'sh', '-c', 'cd "$HOME" && pwd']), `${user.home}\n`);
});

test('--no-home leaves home outside', () => {
  assert.is(
    tsrun(['exec', '--no-home', image, 'ls', join(user.home, '.')], { cwd: '/' }).status === 0 ? existsSync(user.home) : true,
    true,
  );
  const marker = join(user.home, 'tsrun-test-marker');
  writeFileSync(marker, '');
  try {
    assert.is(tsrun(['exec', image, 'test', '-e', marker]).status, 0);
    assert.is(tsrun(['exec', '--no-home', image, 'test', '-e', marker], { cwd: '/' }).status, 1);
  } finally {
    rmSync(marker);
  }
});

test('a home reached through a symbolic link is there under both names', () => {
  const real = ownDirectory(join(place, 'gpfs/u/alice'));
  writeFileSync(join(real, 'mine'), 'mine\n');
  symlinkSync('gpfs/u', join(place, 'u'));
  const home = join(place, 'u/alice');
  const output = tsrunOk(['exec', image, 'sh', '-c', `cat "$HOME/mine" ${real}/mine; echo "$HOME"`], { cwd: '/', env: { HOME: home } });
  assert.is(output, `mine\nmine\n${home}\n`);
});

test('HOME unset: the home of the password file is used', () => {
  assert.is(tsrunOk(['exec', image, 'sh', '-c', 'echo "$HOME"'], { cwd: '/', env: { HOME: undefined } }), `${user.home}\n`);
});

test('a HOME that does not exist does not stop a run', () => {
  const ran = tsrun(['exec', image, 'true'], { cwd: '/', env: { HOME: '/no/such/home' } });
  assert.is(ran.status, 0, ran.stderr);
});

test('-B binds read-write, :ro read-only, and a missing target of the read-only image is made', () => {
  const data = ownDirectory(join(place, 'data'));
  writeFileSync(join(data, 'in'), 'input\n');
  assert.is(
    tsrunOk(['exec', '-B', `${data}:/new/deep/place`, image, 'sh', '-c', 'cat /new/deep/place/in; touch /new/deep/place/made']),
    'input\n',
  );
  assert.ok(existsSync(join(data, 'made')));
  const ro = tsrun(['exec', '-B', `${data}:/data:ro`, image, 'touch', '/data/no']);
  assert.is(ro.status, 1);
  assert.match(ro.stderr, /Read-only/);
});

test('--mount type=bind is the same', () => {
  const data = ownDirectory(join(place, 'data'));
  writeFileSync(join(data, 'in'), 'input\n');
  assert.is(tsrunOk(['exec', '--mount', `type=bind,source=${data},target=/data,readonly`, image, 'cat', '/data/in']), 'input\n');
});

test('a file can be bound on a file of the image and on a name it lacks', () => {
  const file = join(place, 'file.txt');
  writeFileSync(file, 'bound\n');
  assert.is(
    tsrunOk(['exec', '-B', `${file}:/opt/tool/data.txt,${file}:/etc/new.conf`, image, 'cat', '/opt/tool/data.txt', '/etc/new.conf']),
    'bound\nbound\n',
  );
});

test('a missing bind source is an error that names it, before the program starts', () => {
  const ran = tsrun(['exec', '-B', '/no/such/source:/data', image, 'echo', 'started']);
  assert.is(ran.status, 125);
  assert.is(ran.stdout, '');
  assert.match(ran.stderr, /\/no\/such\/source/);
  assert.match(ran.stderr, /hint: /);
});

test('the image is read-only, and --writable-tmpfs takes writes that are gone afterwards', () => {
  assert.is(tsrun(['exec', image, 'touch', '/opt/x']).status, 1);
  assert.is(
    tsrunOk([
      'exec',
      '--writable-tmpfs',
      image,
      'sh',
      '-c',
      'echo new > /opt/tool/data.txt; rm /etc/os-release; cat /opt/tool/data.txt; ls /etc/os-release 2>&1 || true',
    ]).split('\n')[0],
    'new',
  );
  assert.is(tsrunOk(['exec', image, 'cat', '/opt/tool/data.txt']), 'from the image\n');
});

test('--contain gives an empty home and /tmp', () => {
  const output = tsrunOk(['exec', '--contain', image, 'sh', '-c', 'ls -A /tmp "$HOME"; touch /tmp/x "$HOME/y" && echo writable'], {
    cwd: '/',
  });
  assert.match(output, /writable/);
  assert.not.match(output, /tsrun-files-/);
});

test('/tmp and /var/tmp are the host’s', () => {
  writeFileSync(join(place, 'seen'), '');
  assert.is(tsrun(['exec', image, 'test', '-e', join(place, 'seen')]).status, 0);
});

test('passwd has the caller, group has the group, and id says so', () => {
  assert.is(tsrunOk(['exec', image, 'id', '-un']), `${user.name}\n`);
  assert.is(tsrunOk(['exec', image, 'id', '-u']), `${user.uid}\n`);
  assert.match(tsrunOk(['exec', image, 'cat', '/etc/passwd']), /^root:x:0:0:/);
});

test('files of the image belong to the caller, so that ownership checks pass', () => {
  assert.is(tsrunOk(['exec', image, 'stat', '-c', '%u:%g', '/opt/tool/data.txt']), `${user.uid}:${user.gid}\n`);
});

test('a host directory mounted after the first run is seen by the next one', () => {
  const directory = ownDirectory(join(place, 'later'));
  const script = `mount -t tmpfs tsrun-test ${directory} && echo new > ${directory}/file && chmod 755 ${directory} && exec setpriv --reuid ${user.uid} --regid ${user.gid} --clear-groups ${tsrunPath} exec ${image} cat ${directory}/file`;
  tsrunOk(['exec', image, 'true']);
  const ran = run('unshare', ['--mount', 'sh', '-c', script], { as: 'root', env: { HOME: user.home } });
  assert.is(ran.stdout, 'new\n', ran.stderr);
});

test('symbolic links of a hostile image do not lead to the host', () => {
  const bad = scratch('hostile');
  const hostile = makeBusyboxImage(bad, (tree) => {
    rmSync(join(tree, 'srv'), { recursive: true });
    symlinkSync('../../../../../../..', join(tree, 'srv'));
  });
  writeFileSync(join(bad, 'secret'), 'host');
  assert.is(tsrun(['exec', '--contain', hostile, 'cat', `/srv${bad}/secret`], { cwd: '/' }).status, 1);
  const bound = tsrun(['exec', '--no-home', '-B', `${place}:/srv/inside`, hostile, 'ls', '/inside/image.sif'], { cwd: '/' });
  assert.is(bound.status, 0, bound.stderr);
  assert.not.ok(existsSync('/inside'));
});

test('an image whose /home leads into /proc is refused, and nothing is made on the host', () => {
  const hostile = makeBusyboxImage(scratch('hostile'), (tree) => {
    rmSync(join(tree, 'home'), { recursive: true });
    symlinkSync('/proc/1/root/home', join(tree, 'home'));
  });
  const ran = tsrun(['exec', '--contain', hostile, 'true'], { cwd: '/' });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /E_MOUNT/);
});

test.run();
