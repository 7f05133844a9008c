import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Identity } from '../../src/facts/identity.ts';
import { groupText, passwdText } from '../../src/plan/identity.ts';
import { nodeHost } from '../../src/run/host-node.ts';
import { facts, fileAt, planned } from '../helpers/planning.ts';

const test = suite('passwd and group');
const HOST = nodeHost({ args: [] });

const ME: Identity = {
  ids: { uid: 1000, euid: 1000, gid: 100, egid: 100, groups: [100, 2000] },
  name: 'me',
  gecos: 'Me',
  home: '/home/me',
  shell: '/bin/bash',
  groupName: 'users',
  otherGroups: [{ gid: 2000, name: 'project' }],
  source: '/etc/passwd',
};
const ROOT: Identity = {
  ...ME,
  ids: { uid: 0, euid: 0, gid: 0, egid: 0, groups: [0] },
  name: 'admin',
  gecos: 'Admin',
  groupName: 'root',
  otherGroups: [],
};

const passwd = (text: string, who: Identity = ME, home = '/home/me'): string => passwdText(HOST, facts({ passwd: text }), who, home);
const group = (text: string, who: Identity = ME): string => groupText(HOST, facts({ group: text }), who);

test('the caller is added to what the image has', () => {
  assert.is(passwd('root:x:0:0::/root:/bin/sh\n'), 'root:x:0:0::/root:/bin/sh\nme:x:1000:100:Me:/home/me:/bin/bash\n');
});

test('a last line without its end does not swallow the caller', () => {
  assert.is(passwd('root:x:0:0::/root:/bin/sh').split('\n').length, 3);
});

test('a line of the image for the same uid keeps its group and shell, and gets name, gecos and home', () => {
  assert.is(
    passwd('ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/sh\nx:x:5:5::/:/x\n'),
    'me:x:1000:1000:Me:/home/me:/bin/sh\nx:x:5:5::/:/x\n',
  );
});

test('a line with the same name and another uid goes', () => {
  assert.is(passwd('xme:x:5:5::/:/bin/sh\nme:x:5:5::/:/bin/sh\n'), 'xme:x:5:5::/:/bin/sh\nme:x:1000:100:Me:/home/me:/bin/bash\n');
});

test('root keeps the name and gecos of the image, and gets the home', () => {
  assert.is(passwd('root:x:0:0:root:/root:/bin/ash\n', ROOT, '/srv/root'), 'root:x:0:0:root:/srv/root:/bin/ash\n');
});

test('an image without passwd gets root and the caller', () => {
  assert.is(passwd(''), 'root:x:0:0:root:/root:/bin/sh\nme:x:1000:100:Me:/home/me:/bin/bash\n');
  assert.is(passwd('', ROOT), 'admin:x:0:0:Admin:/home/me:/bin/bash\n');
});

test('lines nobody can read stay as they are', () => {
  assert.match(passwd('+@netgroup\n# comment\n\nroot:x:0:0::/:/x\n'), /^\+@netgroup\n# comment\n\nroot/);
});

test('the shell is one the image has', () => {
  const shell = (changes: Parameters<typeof facts>[0], wanted: string): string | undefined =>
    passwdText(HOST, facts({ passwd: '', ...changes }), { ...ME, shell: wanted }, '/h')
      .trimEnd()
      .split(':')
      .at(-1);
  assert.is(shell({}, '/usr/bin/zsh'), '/bin/sh');
  assert.is(shell({ bash: '' }, '/bin/bash'), '/bin/sh');
  assert.is(shell({}, '/usr/local/bin/bash'), '/bin/bash');
  assert.is(shell({ sh: '' }, '/bin/zsh'), '/bin/bash');
});

test('characters that part fields cannot get in', () => {
  assert.is(passwdText(HOST, facts({ passwd: '' }), ME, '/h:x\nroot:x:0').split('\n').length, 3);
  assert.not.ok(passwd('root:x:0:0::/:/x\0\n').includes('\0'));
});

test("the caller's groups are added, with 65534 for those the namespace does not map", () => {
  assert.is(group('root:x:0:\n'), 'root:x:0:\nusers:x:100:me\nproject:x:2000:me\nnogroup:x:65534:\n');
  assert.is(group('root:x:0:\nnobody:x:65534:\nstaff:x:100:\n'), 'root:x:0:\nnobody:x:65534:\nstaff:x:100:\nproject:x:2000:me\n');
});

test('a group without a name gets one, and a name means one group', () => {
  assert.match(group('root:x:0:\n', { ...ME, groupName: '' }), /group100:x:100:me/);
  assert.is(group('users:x:5:\n', { ...ME, ids: { ...ME.ids, groups: [100] }, otherGroups: [] }), 'users:x:100:me\n');
});

test('both files are part of every plan, before the root is made', () => {
  const run = planned('exec IMG p');
  assert.match(fileAt(run, '/etc/passwd') ?? '', /^me:x:1000:1000:Me Myself:\/home\/me:\/bin\/bash$/m);
  assert.match(fileAt(run, '/etc/group') ?? '', /^me:x:1000:me$/m);
  const names = run.ops.map((op) => op.op);
  assert.ok(names.indexOf('file') < names.indexOf('root'));
});

test.run();
