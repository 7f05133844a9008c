/** The same runs where the kernel, or what the image lies on, refuses something: the launcher finds another way and the payload sees no difference. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { skip } from '../../helpers/skip.ts';
import { helperProgram, makeImage, type Op, ordinary, output, payload, root, type Setup, scratchDirectory, users } from './helpers.ts';

const test = suite('launcher: fallbacks');
const isRoot = process.getuid?.() === 0;

const source = scratchDirectory();
writeFileSync(join(source, 'file'), 'content\n');
mkdirSync(join(source, 'sub'));

const image = makeImage('proc', 'usr/lib/deep', 'etc', 'data', 'tmp');
writeFileSync(join(image, 'etc/passwd'), 'image\n');
writeFileSync(join(image, 'etc/other'), 'other\n');
chmodSync(join(image, 'usr/lib'), 0o555);
symlinkSync('usr/lib', join(image, 'lib'));
symlinkSync('../../../../../etc', join(image, 'usr/up'));

/** A run that uses most of what the launcher does, and what it has to show. */
const skeleton: readonly Op[] = [
  ['file', '/etc/passwd', 0o644, 'mine\n'],
  ['symlink', '/etc/link', 'other'],
  ['directory', '/usr/lib/made', 0o700],
];
const mounts: readonly Op[] = [
  ['bind', source, '/lib/new', 'ro'],
  ['bind', join(source, 'file'), '/usr/up/hosts', ''],
  ['bind', '/dev', '/dev', 'recursive,dev,ro'],
  ['tmpfs', '/tmp', 0o1777, 1 << 20],
  ['directory', '/tmp/x', 0o755],
  ['bind', source, '/tmp/x', ''],
];
const verbs =
  'ls / , ls /usr/lib , cat /etc/passwd /etc/link /etc/hosts , ls /lib/new , ls /tmp/x , ls /.. , ' +
  'write /lib/new/file x , write /etc/other x , mkdir /usr/lib/y , write /dev/shm/x y , write /dev/null x , write /tmp/z z';
const expected = [
  'bin data dev etc lib proc tmp usr ',
  'deep made new ',
  'mine',
  'other',
  'content',
  'file sub ',
  'file sub ',
  'bin data dev etc lib proc tmp usr ',
  'write: /lib/new/file: EROFS',
  'write: /etc/other: EROFS',
  'mkdir: /usr/lib/y: EROFS',
  'write: /dev/shm/x: EROFS',
  'written',
  'written',
  '',
].join('\n');

for (const user of users) {
  const setup: Setup = { image, user, skeleton, mounts };

  test(`${user.name}: with everything there`, () => {
    assert.is(output(setup, verbs), expected);
  });

  const refused: readonly (readonly [string, string, readonly string[]])[] = [
    ['without openat2 (before 5.6)', 'ENOSYS', ['openat2']],
    ['where openat2 is filtered with EPERM, as by old container runtimes', 'EPERM', ['openat2']],
    ['where mounts elsewhere on the machine keep openat2 from passing a ".."', 'EAGAIN', ['openat2']],
    ['without close_range (before 5.9)', 'ENOSYS', ['close_range']],
    ['without mount_setattr (before 5.12)', 'ENOSYS', ['mount_setattr']],
    [
      'without the new mount calls (before 5.2)',
      'ENOSYS',
      [
        'open_tree',
        'move_mount',
        'fsopen',
        'fsmount',
        'mount_setattr',
        'openat2',
        'close_range',
        'statx',
        'clone3',
        'pidfd_open',
        'faccessat2',
      ],
    ],
    ['on a host whose root cannot be pivoted (a node that runs from memory)', 'EINVAL', ['pivot_root']],
  ];
  for (const [name, error, calls] of refused) {
    const wrapper = [helperProgram('deny'), error, ...calls, '--'];

    test(`${user.name}: ${name}`, () => {
      assert.is(output({ ...setup, wrapper }, verbs), expected);
    });

    test(`${user.name}: ${name}, with its own PIDs`, () => {
      const own: Setup = { ...setup, wrapper, unshare: 'mount,pid', mounts: [['proc', '/proc'], ...mounts] };
      assert.is(output(own, `${verbs} , pids , ps`), `${expected}pid 2 ppid 1 pgid 0 sid 0\nliving 2 zombies 0\n`);
      assert.is(payload(own, 'raise 10').signal, 'SIGUSR1');
    });
  }

  test(`${user.name}: without any way to make a namespace it says so`, () => {
    const result = payload({ ...setup, wrapper: [helperProgram('deny'), 'EPERM', 'unshare', '--'] }, 'true');
    assert.equal(
      [result.status, result.err],
      [125, 'tsrun: cannot enter a user namespace: make one: Operation not permitted (E_LAUNCH)\n'],
    );
  });
}

/** A directory that no overlay can be made of: two overlays deep already. */
const twoOverlays = (into: string): string => {
  const at = scratchDirectory();
  const step = (name: string, lower: string): string =>
    `mkdir -p ${at}/${name}/e ${at}/${name}/m && mount -t overlay o -o lowerdir=${at}/${name}/e:${lower} ${at}/${name}/m`;
  return `${step('a', into)} && ${step('b', `${at}/a/m`)} && mount --bind ${at}/b/m ${into}`;
};

for (const user of users) {
  test(`${user.name}: an image that no overlay can be made of is shown by binds`, () => {
    if (!isRoot) return skip('needs root to mount overlays');
    const drop = user.uid === 0 ? [] : ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
    const wrapper = ['unshare', '-m', 'sh', '-c', `${twoOverlays(image)} && exec "$@"`, 'sh', ...drop];
    const setup: Setup = {
      image,
      user: root,
      userns: [
        ['userns', user.uid, user.gid],
        ['image_directory', image],
      ],
      skeleton,
      mounts,
      wrapper,
    };
    assert.is(output(setup, verbs), expected);
    assert.match(
      output({ ...setup, mounts: [['bind', '/proc', '/proc', 'recursive']] }, 'cat /proc/self/mountinfo'),
      / \/skeleton \/ ro,nosuid,nodev\S* - tmpfs /m,
    );
    const writable = payload({ ...setup, root: ['root', 'writable', 0] }, 'true');
    assert.is(writable.status, 125);
    assert.match(writable.err, /a writable overlay above the image/);
  });
}

for (const user of users) {
  test(`${user.name}: on a host whose mounts are shared, as under systemd, nothing of the run gets out`, () => {
    if (!isRoot) return skip('needs root to mount');
    const drop = user.uid === 0 ? [] : ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
    const wrapper = [
      'unshare',
      '-m',
      'sh',
      '-c',
      'mount --make-rshared / && "$@" && grep -c " tsrun " /proc/self/mountinfo',
      'sh',
      ...drop,
    ];
    const setup: Setup = {
      image,
      user: root,
      userns: [
        ['userns', user.uid, user.gid],
        ['image_directory', image],
      ],
      skeleton,
      mounts,
      wrapper,
    };
    assert.is(output(setup, verbs), `${expected}0\n`);
  });
}

test('an image with mounts below it is shown with them', () => {
  if (!isRoot) return skip('needs root to mount');
  const script = `mount -t tmpfs none ${image}/data && mkdir ${image}/data/below && exec "$@"`;
  const drop = ['setpriv', `--reuid=${ordinary.uid}`, `--regid=${ordinary.gid}`, '--clear-groups'];
  const wrapper = ['unshare', '-m', 'sh', '-c', script, 'sh', ...drop];
  const setup: Setup = {
    image,
    user: root,
    userns: [
      ['userns', ordinary.uid, ordinary.gid],
      ['image_directory', image],
    ],
    wrapper,
  };
  assert.is(
    output(setup, 'ls /data , write /data/x y , flags /data'),
    'below \nwrite: /data/x: EROFS\n/data ro nosuid nodev size 0\n'.replace(/size 0/, `size ${tmpfsSize()}`),
  );
});

const tmpfsSize = (): number =>
  Number(
    execFileSync('sh', ['-c', 'unshare -m sh -c "mount -t tmpfs none /mnt && stat -f -c \\"%b %S\\" /mnt"'], { encoding: 'utf8' })
      .split(' ')
      .reduce((a, b) => String(Number(a) * Number(b))),
  );

test.run();
