import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isBefore } from '../../helpers/kernels.ts';
import { makeImage, type Op, output, payload, type Setup, scratchDirectory, users } from './helpers.ts';

const test = suite('launcher: targets of mounts');

const source = scratchDirectory();
writeFileSync(join(source, 'file'), 'content\n');
mkdirSync(join(source, 'sub'));
const file = join(source, 'file');

/** An image whose links try to lead out. */
const image = makeImage('proc', 'real/deep', 'sealed');
const links: readonly (readonly [string, string])[] = [
  ['../../../../../../var/lib', 'etc'],
  ['../../../../../../self', 'self'],
  ['/proc/1/root', 'tmp'],
  ['/proc/self/root', 'cwd'],
  ['real', 'relative'],
  ['/real/deep', 'absolute'],
  ['/missing/one', 'dangling'],
  ['../run/systemd/resolve/stub', 'real/resolv.conf'],
  ['loop', 'loop'],
  ['/bin/payload', 'program'],
];
for (const [text, at] of links) symlinkSync(text, join(image, at));
chmodSync(join(image, 'sealed'), 0o555);
const everything = (directory: string): string => execFileSync('find', [directory, '-printf', '%p %m %s\\n'], { encoding: 'latin1' });
const imageBefore = everything(image);

for (const user of users) {
  const setup: Setup = { image, user };
  const bound = (target: string, from = source, flags = ''): Setup => ({ ...setup, mounts: [['bind', from, target, flags]] });

  test(`${user.name}: a missing target is made, with its parents`, () => {
    assert.is(output(bound('/gpfs/project/u/data'), 'ls /gpfs/project/u/data , ls /gpfs'), 'file sub \nproject \n');
    assert.is(output(bound('/conf/app/file', file), 'cat /conf/app/file'), 'content\n');
  });

  test(`${user.name}: in a directory of the image, which keeps its permissions and its names`, () => {
    assert.is(output(bound('/sealed/x'), 'ls /sealed/x'), 'file sub \n');
    assert.match(output(bound('/sealed/x'), 'stat /sealed'), /^\/sealed 040555 /);
    assert.is(output(bound('/real/x'), 'ls /real'), 'deep resolv.conf x \n');
    assert.is(output(bound('/x'), 'ls /'), 'absolute bin cwd dangling etc loop proc program real relative sealed self tmp x \n');
  });

  test(`${user.name}: below links of the image`, () => {
    assert.is(output(bound('/relative/x'), 'ls /real/x'), 'file sub \n');
    assert.is(output(bound('/absolute/x'), 'ls /real/deep/x'), 'file sub \n');
    assert.is(output(bound('/absolute'), 'ls /real/deep'), 'file sub \n');
  });

  test(`${user.name}: a dangling link's target is made inside`, () => {
    assert.is(output(bound('/real/resolv.conf', file), 'cat /real/resolv.conf , cat /run/systemd/resolve/stub'), 'content\n'.repeat(2));
    assert.is(output(bound('/dangling'), 'ls /missing/one'), 'file sub \n');
    assert.not(existsSync('/missing'));
  });

  test(`${user.name}: a link that climbs out ends in the image`, () => {
    assert.is(output(bound('/etc/passwd', file), 'ls /etc , cat /etc/passwd'), 'passwd \ncontent\n');
    assert.is(
      output({ ...setup, skeleton: [['file', '/etc/passwd', 0o644, 'mine\n']] }, 'ls /etc , cat /var/lib/passwd'),
      'passwd \nmine\n',
    );
    assert.not(existsSync('/var/lib/passwd'));
    assert.match(payload(bound('/self/x'), 'true').err, /\/self\/x \(at \/\): Too many levels of symbolic links/);
  });

  test(`${user.name}: a link into /proc/1/root shows nothing of the host`, () => {
    const mounts: readonly Op[] = [
      ['bind', '/proc', '/proc', 'recursive'],
      ['bind', source, '/tmp/x', ''],
    ];
    const result = payload({ ...setup, mounts: mounts.slice(1) }, 'ls /proc/1/root/x');
    assert.is(result.out, 'file sub \n', 'made in the image where its /proc is empty');
    const refused = payload({ ...setup, mounts }, 'true');
    assert.is(refused.status, 125);
    assert.match(refused.err, /cannot open the target: \/tmp\/x: (Permission denied|Too many levels of symbolic links)/);
  });

  test(`${user.name}: a link to /proc/self/root of a bound /proc is refused as a target`, () => {
    const mounts: readonly Op[] = [
      ['bind', '/proc', '/proc', 'recursive'],
      ['bind', source, '/cwd/real', ''],
    ];
    // A walk by hand takes such a link for what it says, "/", and that is the image's own.
    if (isBefore('5.6')) return assert.is(output({ ...setup, mounts }, 'ls /cwd/real'), 'file sub \n');
    const refused = payload({ ...setup, mounts }, 'true');
    assert.is(refused.err, 'tsrun: cannot open the target: /cwd/real: Too many levels of symbolic links (E_LAUNCH)\n');
    assert.is(refused.status, 125);
    assert.is(output({ ...setup, mounts: [mounts[0] as Op, ['bind', source, '/cwd/real', 'optional']] }, 'echo ran'), 'ran\n');
  });

  test(`${user.name}: a loop of links is named`, () => {
    const result = payload(bound('/loop/x'), 'true');
    assert.is(result.status, 125);
    assert.match(result.err, /\/loop\/x \(at \/\): Too many levels of symbolic links/);
    assert.is(output(bound('/loop/x', source, 'optional'), 'echo ran'), 'ran\n');
  });

  test(`${user.name}: a target of the wrong kind is named`, () => {
    const onFile = payload(bound('/bin/payload'), 'true');
    assert.match(onFile.err, /\/bin\/payload is not a directory, what is to be mounted on it is one/);
    const onDirectory = payload(bound('/real', file), 'true');
    assert.match(onDirectory.err, /\/real is a directory, what is to be mounted on it is not/);
    const throughFile = payload(bound('/program/x'), 'true');
    assert.match(throughFile.err, /\/program\/x \(at \/bin\/payload\): Not a directory/);
    assert.equal([onFile.status, onDirectory.status, throughFile.status], [125, 125, 125]);
  });

  test(`${user.name}: below an earlier mount a target must be there`, () => {
    const mounts: readonly Op[] = [
      ['bind', source, '/data', ''],
      ['bind', file, '/data/file', 'ro'],
      ['bind', image, '/data/sub', 'ro'],
    ];
    assert.is(output({ ...setup, mounts }, 'ls /data/sub/bin , write /data/file x'), 'payload \nwrite: /data/file: EROFS\n');
    const missing = payload({ ...setup, mounts: [mounts[0] as Op, ['bind', source, '/data/missing', '']] }, 'true');
    assert.is(missing.status, 125);
    assert.is(missing.err, 'tsrun: cannot open the target: /data/missing: No such file or directory (E_LAUNCH)\n');
    assert.equal(readdirSync(source), ['file', 'sub'], 'nothing was made in what is bound');
  });

  test(`${user.name}: links in what was bound before cannot lead out either`, () => {
    const hostile = scratchDirectory();
    symlinkSync('../../../../../../..', join(hostile, 'up'));
    const mounts: readonly Op[] = [
      ['bind', hostile, '/data', ''],
      ['bind', source, '/data/up/real', ''],
    ];
    assert.is(output({ ...setup, mounts }, 'ls /real'), 'file sub \n');
  });

  test(`${user.name}: later mounts lie above earlier ones`, () => {
    const mounts: readonly Op[] = [
      ['bind', source, '/a', ''],
      ['bind', image, '/a', ''],
    ];
    assert.match(output({ ...setup, mounts }, 'ls /a'), /bin/);
  });

  test(`${user.name}: names that are not UTF-8`, () => {
    const target = Buffer.from('/caf\xe9/\xff', 'latin1');
    assert.is(output({ ...setup, mounts: [['bind', source, target, '']] }, 'ls /'), `absolute bin caf\xe9 ${imageRest}`);
  });
}

const imageRest = 'cwd dangling etc loop proc program real relative sealed self tmp \n';

test('the image itself was not touched', () => {
  assert.is(everything(image), imageBefore);
});

test.run();
