/** What build steps need of the launcher: layers, an upper one that keeps what is written, and user namespaces of several ids. */
import { execFileSync, type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { busyboxImage, outputOf, ownedDirectory, ownImage, ranges, several, shell, tree, uppers } from './build-helpers.ts';
import { encodePlan, makePlan, type Op, ordinary, type Setup, tsrun, users } from './helpers.ts';

const test = suite('launcher: build steps');

for (const user of users) {
  const image = ownImage(user);
  const alone: Op = ['userns', 0, 0];
  const on = (userns: Op, ...layers: readonly Op[]): Setup => ({ user, userns: [userns, ['image_directory', image], ...layers] });

  test(`${user.name}: what is written goes into upper, the image and mount points do not`, () => {
    const { upper, op } = uppers(user);
    const setup: Setup = {
      ...on(alone, op),
      skeleton: [['file', '/etc/content', 0o644, 'content\n']],
      mounts: [
        ['proc', '/proc'],
        ['bind', image, '/mnt/image', 'ro'],
        ['bind', join(image, 'etc/passwd'), '/etc/resolv.conf', 'ro'],
        ['tmpfs', '/tmp', 0o1777, 0],
      ],
    };
    const out = outputOf(
      setup,
      'cat /etc/content /etc/resolv.conf; echo new > /etc/new; echo x > /tmp/x; rm -r /gone; mkdir /gone; echo y >> /data/sub/file; stat -c "%a %Y" /etc',
    );
    assert.match(out, /^content\nroot:.*\n751 \d+\n$/);
    assert.equal(tree(upper), ['data', 'data/sub', 'data/sub/file', 'etc', 'etc/new', 'gone']);
    assert.is(readFileSync(join(upper, 'data/sub/file'), 'latin1'), 'file\ny\n');
    assert.is(readFileSync(join(image, 'data/sub/file'), 'latin1'), 'file\n');
  });

  test(`${user.name}: directories above mount points keep the image's mode and times`, () => {
    const { op } = uppers(user);
    const setup: Setup = { ...on(alone, op), mounts: [['bind', image, '/etc/made/here', '']] };
    assert.is(outputOf(setup, 'stat -c "%a %Y" /etc; chmod g+s /etc; stat -c "%a %Y" /etc'), '751 1000000000\n2751 1000000000\n');
  });

  test(`${user.name}: layers lie over each other, deletions included, and are not written`, () => {
    const first = uppers(user);
    const second = uppers(user);
    const third = uppers(user);
    outputOf(on(alone, first.op), 'echo 1 > /etc/one; echo 1 > /etc/both; mkdir /made; echo a > /made/a');
    outputOf(
      on(alone, ['layer', first.upper], second.op),
      'echo 2 > /etc/both; rm -r /made /gone /data/sub; mkdir /made; echo b > /made/b',
    );
    const out = outputOf(
      { ...on(alone, ['layer', first.upper], ['layer', second.upper], third.op), mounts: [['bind', image, '/gone/again', '']] },
      'cat /etc/one /etc/both; ls /made /data /gone; rm /etc/one',
    );
    assert.is(out, '1\n2\n/data:\n\n/gone:\nagain\n\n/made:\nb\n');
    assert.equal(tree(third.upper), ['etc', 'etc/one deleted']);
    assert.equal(tree(first.upper), ['etc', 'etc/both', 'etc/one', 'made', 'made/a']);
    const frozen = shell(on(alone, ['layer', first.upper], ['layer', second.upper]), 'ls /made; echo x > /etc/x');
    assert.is(frozen.out, 'b\n');
    assert.match(frozen.err, /Read-only file system/);
  });

  test(`${user.name}: two hundred layers`, () => {
    const place = ownedDirectory(user);
    const layers: Op[] = [];
    for (let i = 0; i < 200; i++) {
      const layer = join(place, `a rather long name, with a comma and a colon: ${i}`);
      mkdirSync(join(layer, 'etc'), { recursive: true });
      writeFileSync(join(layer, `etc/layer${i}`), `${i}\n`);
      writeFileSync(join(layer, 'etc/top'), `${i}\n`);
      layers.push(['layer', layer]);
    }
    execFileSync('chown', ['-R', `${user.uid}:${user.gid}`, place]);
    const { op } = uppers(user);
    assert.is(
      outputOf(on(alone, ...layers, op), 'cat /etc/top /etc/layer0 /etc/layer57; ls /etc | wc -l; touch /etc/more'),
      '199\n0\n57\n202\n',
    );
  });

  test(`${user.name}: a layer or upper that is not there is named`, () => {
    const { op, upper, place } = uppers(user);
    for (const [ops, name] of [
      [[['layer', '/nowhere'], op], '/nowhere'],
      [[['upper', '/nowhere', upper]], '/nowhere'],
      [[['upper', upper, join(place, 'none')]], join(place, 'none')],
    ] as const) {
      const result = shell(on(alone, ...ops), 'true');
      assert.is(result.status, 125);
      assert.match(result.err, new RegExp(`cannot merge the layers: ${name}: No such file or directory`));
    }
  });

  test(`${user.name}: in_place writes into the directory itself`, () => {
    const place = busyboxImage('etc');
    execFileSync('chown', ['-R', `${user.uid}:${user.gid}`, place]);
    const setup: Setup = {
      user,
      userns: [alone, ['image_directory', place]],
      skeleton: [['file', '/etc/content', 0o640, 'content\n']],
      root: ['root', 'in_place', 0],
      mounts: [
        ['proc', '/proc'],
        ['bind', image, '/mnt', 'ro'],
      ],
    };
    assert.is(
      outputOf(setup, 'cat /etc/content; echo new > /etc/new; rm /bin/wc; ls /proc/self/status; touch /mnt/x 2>&1 || true'),
      'content\n/proc/self/status\ntouch: /mnt/x: Read-only file system\n',
    );
    assert.is(readFileSync(join(place, 'etc/new'), 'latin1'), 'new\n');
    assert.not(existsSync(join(place, 'bin/wc')));
    assert.equal(readdirSync(join(place, 'mnt')), []);
  });

  test(`${user.name}: a file of the run is seen at another place too, read-only, and nothing of it in upper`, () => {
    const { upper, op } = uppers(user);
    const setup: Setup = {
      ...on(alone, op),
      mounts: [
        ['tmpfs', '/dev', 0o755, 0],
        ['file', '/dev/secret', 0o400, 'silence\n'],
        ['bind', '/dev/secret', '/etc/passwd', 'ro,inside'],
        ['bind', '/dev/secret', '/etc/new', 'ro,inside'],
      ],
    };
    const out = outputOf(setup, 'cat /etc/passwd /etc/new; stat -c %a /etc/new; touch /etc/new 2>&1 || true');
    assert.is(out, 'silence\nsilence\n400\ntouch: /etc/new: Read-only file system\n');
    assert.not.match(tree(upper).join(' '), /passwd|new/);
    const missing = shell(
      {
        ...on(alone, uppers(user).op),
        mounts: [
          ['tmpfs', '/dev', 0o755, 0],
          ['bind', '/dev/secret', '/etc/new', 'ro,inside'],
        ],
      },
      'true',
    );
    assert.is(missing.status, 125);
    assert.match(missing.err, /\/dev\/secret/);
  });

  test(`${user.name}: whose parent is not the one it was told of does nothing`, () => {
    const { upper, op } = uppers(user);
    const words = ['sh', '-c', 'touch /made'];
    const bytes = encodePlan(makePlan({ unshare: 'mount,pid,leash', env: ['PATH=/bin'], file: '/bin/sh', ...on(alone, op) }, words));
    for (const [parent, status, made] of [
      [process.pid + 1, 125, []],
      [process.pid, 0, ['made']],
    ] as const) {
      const plan = join(ownedDirectory(user), 'plan');
      writeFileSync(plan, bytes);
      const fd = openSync(plan, 'r');
      const options: SpawnSyncOptions = { uid: user.uid, gid: user.gid, cwd: '/', env: {}, stdio: ['ignore', 'pipe', 'pipe', fd] };
      assert.is(spawnSync(tsrun, ['@plan', '3', String(parent)], options).status, status);
      closeSync(fd);
      assert.equal(tree(upper), made);
    }
  });

  test(`${user.name}: several ids are real ones inside`, () => {
    const { upper, op } = uppers(user);
    const script =
      'id -u; touch /a /b; chown 33:34 /a; chown -R 100:65000 /b; chmod 4755 /a; stat -c "%u %g %a" /a /b; cat /proc/self/uid_map | wc -l';
    const out = outputOf({ ...on(several(user), op), mounts: [['proc', '/proc']] }, script);
    assert.is(out, `0\n33 34 4755\n100 65000 644\n${user.uid === 0 ? 1 : 2}\n`);
    const uid = statSync(join(upper, 'a')).uid;
    assert.is(uid, user.uid === 0 ? 33 : (ranges('/etc/subuid', user)?.[0] ?? 0) + 32);
  });

  test(`${user.name}: the payload takes the ids of the plan, and set-id programs lead back where suid says so`, () => {
    const settle: readonly Op[] = [['ids', 1000, 1001, '5 1002']];
    const { op, upper } = uppers(user);
    const run = (...layers: readonly Op[]): Setup => on(several(user), ...layers, uppers(user).op);
    outputOf(on(several(user), op), 'cp /bin/payload /bin/set-id; chmod 4755 /bin/set-id; mkdir -p /home/a; chown 1000:1001 /home/a');
    const script = 'id -u; id -G; touch /home/a/x; stat -c "%u %g" /home/a/x; /bin/set-id ids';
    const seen = '1000\n1001 5 1002\n1000 1001\n';
    assert.is(outputOf({ ...run(['layer', upper]), settle }, script), `${seen}uid 1000 gid 1001\n`);
    assert.is(outputOf({ ...run(['layer', upper]), settle, root: ['root', 'suid', 0] }, script), `${seen}uid 0 gid 1001\n`);
  });

  test(`${user.name}: a map that may not be had is named, with what the program says`, () => {
    const userns: Op =
      user.uid === 0
        ? ['userns_ranges', '', '', '0 0 1 0 1 1', '0 0 1']
        : ['userns_ranges', '/usr/bin/newuidmap', '/usr/bin/newgidmap', `0 ${user.uid} 1 1 5 100`, `0 ${user.gid} 1`];
    const result = shell(on(userns), 'true');
    assert.is(result.status, 125);
    assert.match(result.err, /cannot enter a user namespace: .* write the uid_map "0 .*": ./);
  });
}

test('the ranges of somebody else cannot be had by naming a program that is not there', () => {
  const result = shell(
    {
      user: ordinary,
      userns: [
        ['userns_ranges', '/nowhere/newuidmap', '/nowhere/newgidmap', '0 1 1', '0 1 1'],
        ['image_directory', '/'],
      ],
    },
    'true',
  );
  assert.match(result.err, /\/nowhere\/newuidmap cannot write the uid_map .*No such file or directory/);
});

test.run();
