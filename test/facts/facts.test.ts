import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findCwd } from '../../src/facts/cwd.ts';
import { networkFileSystem } from '../../src/facts/file-systems.ts';
import { findHome } from '../../src/facts/home.ts';
import { findLine, identifyCaller } from '../../src/facts/identity.ts';
import { cgroupOf, runtimeDirectory, scopeKey, userNamespace } from '../../src/facts/scope.ts';
import { whyNoUserNamespaces } from '../../src/facts/userns.ts';
import { directory, link, type MachineOptions, machine, type Tree } from '../helpers/machine.ts';

const test = suite('facts of the machine');

const envOf = (env: Readonly<Record<string, string>>) => new Map(Object.entries(env));
const who = (options: MachineOptions) => identifyCaller(machine(options), envOf(options.env ?? {}));

const PASSWD = 'root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000:Me,,,:/home/me:/bin/zsh\n';
const FILES: Tree = { '/etc/passwd': PASSWD, '/etc/group': 'users:x:1000:\nproject:x:2000:me\n' };

test('a name or a comment that no line of passwd could hold is not taken', () => {
  const odd = { '/etc/passwd': 'me:x:1000:1000:M\0e:/home/me:/bin/sh\n', '/etc/group': 'us\0ers:x:1000:\nproj\0ect:x:2000:\n' };
  const me = who({ files: odd, groups: [1000, 2000] });
  assert.equal([me.name, me.gecos, me.groupName, me.otherGroups], ['me', '', '', []]);
});

test('the caller is found in /etc/passwd, without asking anybody', () => {
  const host = machine({ files: FILES });
  const me = identifyCaller(host, envOf({}));
  assert.equal(
    [me.name, me.gecos, me.home, me.shell, me.groupName, me.source],
    ['me', 'Me,,,', '/home/me', '/bin/zsh', 'users', '/etc/passwd'],
  );
  assert.not.ok(host.calls.some((call) => call.startsWith('getent')));
});

test('supplementary groups get the names of /etc/group', () => {
  assert.equal(who({ files: FILES, groups: [1000, 2000, 3000] }).otherGroups, [{ gid: 2000, name: 'project' }]);
});

test('an LDAP user is known by a complete environment', () => {
  const me = who({ uid: 5000, files: FILES, env: { USER: 'ada', LOGNAME: 'ada', HOME: '/home/ada', SHELL: '/bin/bash' } });
  assert.equal([me.name, me.home, me.shell, me.source], ['ada', '/home/ada', '/bin/bash', 'environment']);
});

const LDAP = { 'passwd 5000': 'ada:*:5000:5000:Ada:/home/ada:/bin/tcsh\n', 'group 5000': 'science:*:5000:ada\n' };

test('without an environment getent is asked', () => {
  const me = who({ uid: 5000, gid: 5000, files: FILES, getent: LDAP });
  assert.equal([me.name, me.gecos, me.home, me.groupName, me.source], ['ada', 'Ada', '/home/ada', 'science', 'getent']);
});

for (const [what, env] of Object.entries({
  'the name of a local account': { USER: 'root', LOGNAME: 'root', HOME: '/root' },
  'two names': { USER: 'ada', LOGNAME: 'bob', HOME: '/home/ada' },
  'no home': { USER: 'ada', LOGNAME: 'ada' },
  'a name that is no name': { USER: 'a:b', LOGNAME: 'a:b', HOME: '/home/ada' },
})) {
  test(`an environment with ${what} is not believed`, () => {
    assert.is(who({ uid: 5000, files: FILES, env, getent: LDAP }).source, 'getent');
  });
}

test('a caller nobody knows is called after the uid', () => {
  const me = who({ uid: 7777, gid: 7777, files: {} });
  assert.equal([me.name, me.home, me.groupName, me.source], ['user7777', '', '', 'none']);
});

test('getent answering for somebody else is not believed', () => {
  assert.is(who({ uid: 5000, files: FILES, getent: { 'passwd 5000': 'eve:x:5001:1::/:/bin/sh' } }).name, 'user5000');
});

test('a line is found by the field, not by a number that stands elsewhere', () => {
  assert.equal(findLine('a:x:1:1000::/:\nb:x:1000:1::/:\n', 2, '1000')?.[0], 'b');
  assert.is(findLine('a:1000:5:1::/:\n', 2, '1000'), undefined);
  assert.equal(findLine('bob:x:1:1\nrob:x:2:2', 0, 'rob')?.[2], '2');
  assert.is(findLine('xrob:x:1:1\n', 0, 'rob'), undefined);
});

test('a usual home costs one call', () => {
  const host = machine({ files: { '/home/me/x': '' } });
  assert.equal(findHome(host, envOf({ HOME: '/home/me' }), '', ''), { path: '/home/me', real: '/home/me', origin: 'HOME' });
  assert.is(host.calls.length, 1);
});

test('a home around the current directory is known without a question', () => {
  const host = machine({ files: { '/home/me/x': '' } });
  const home = { path: '/home/me', real: '/home/me', origin: 'HOME' };
  assert.equal(findHome(host, envOf({ HOME: '/home/me' }), '', '/home/me/project'), home);
  assert.equal(findHome(host, envOf({ HOME: '/home/me' }), '', '/home/me'), home);
  assert.is(host.calls.length, 0);
  assert.equal(findHome(host, envOf({ HOME: '/home/me' }), '', '/home/me2'), home);
  assert.is(host.calls.length, 1);
});

test('HOME comes before the account, which comes before /', () => {
  const host = machine({ files: { '/a/x': '', '/b/x': '' } });
  assert.is(findHome(host, envOf({ HOME: '/a/' }), '/b', '').path, '/a');
  assert.is(findHome(host, envOf({ HOME: 'a' }), '/b', '').path, '/b');
  assert.equal(findHome(host, envOf({}), '', ''), { path: '/', real: '/', origin: 'none' });
  assert.is(findHome(host, envOf({ HOME: '/nope' }), '', '').real, undefined);
});

test('PWD is taken for the current directory only when it is the same one', () => {
  const files = { '/data/x': directory(), '/l': link('/data/x'), '/other': directory() };
  const cwd = (pwd: string) => findCwd(machine({ files, cwd: '/data/x' }), envOf({ PWD: pwd }));
  assert.equal(cwd('/l'), { kind: 'known', path: '/data/x', spelled: '/l' });
  for (const pwd of ['/other', '/gone', 'relative', '/data/./x', ''])
    assert.equal(cwd(pwd), { kind: 'known', path: '/data/x', spelled: '/data/x' }, pwd);
});

test('PWD that is right costs no call', () => {
  const host = machine({ files: { '/data/x': directory() }, cwd: '/data/x' });
  findCwd(host, envOf({ PWD: '/data/x' }));
  assert.equal(host.calls, []);
});

test('a directory that was deleted or is out of reach is lost', () => {
  assert.is(findCwd(machine({ cwd: null }), envOf({})).kind, 'lost');
  assert.is(findCwd(machine({ cwd: '(unreachable)/x' }), envOf({})).kind, 'lost');
});

// --- scope

const scope = (changes: MachineOptions & { cgroup?: string; userns?: string } = {}): string => {
  const files = {
    '/proc/self/ns/user': link(changes.userns ?? 'user:[1]'),
    '/proc/self/ns/pid': link('pid:[2]'),
    '/proc/self/cgroup': changes.cgroup ?? '0::/a\n',
  };
  const host = machine({ ...changes, files });
  return scopeKey(host, host.ids(), userNamespace(host));
};

test('a scope key has only the letters its rule allows', () => {
  assert.match(scope(), /^[a-z0-9.-]{1,80}$/);
  assert.match(scope({ uid: 4294967294, gid: 4294967294 }), /^[a-z0-9.-]{1,80}$/);
});

test('uid, gid, groups, user namespace and cgroup make a scope, the environment and the order of groups do not', () => {
  const usual = scope();
  for (const other of [{ uid: 1 }, { gid: 1 }, { groups: [5] }, { userns: 'user:[9]' }, { cgroup: '0::/b\n' }])
    assert.is.not(scope(other), usual, JSON.stringify(other));
  assert.is(scope({ env: { HOME: '/x' }, cwd: '/y' }), usual);
  assert.is(scope({ groups: [1, 2] }), scope({ groups: [2, 1] }));
});

for (const [what, task, step] of [
  ['cgroup v2', '0::/system.slice/slurmstepd.scope/job_5/step_0/user/task_3\n', '0::/system.slice/slurmstepd.scope/job_5/step_0\n'],
  [
    'cgroup v1',
    '9:memory:/slurm/uid_1000/job_5/step_batch/task_0\n4:cpuset:/slurm/uid_1000/job_5/step_batch\n0::/\n',
    '9:memory:/slurm/uid_1000/job_5/step_batch\n4:cpuset:/slurm/uid_1000/job_5/step_batch\n0::/\n',
  ],
  ['no Slurm', '0::/user.slice/session-1.scope\n', '0::/user.slice/session-1.scope\n'],
  ['a job without step', '0::/batch/job_5/task_3\n', '0::/batch/job_5/task_3\n'],
] as const) {
  test(`the cgroup is cut at the Slurm step: ${what}`, () => {
    assert.is(cgroupOf(task), step);
  });
}

test('sockets lie in XDG_RUNTIME_DIR when it is what it should be, else in /tmp', () => {
  const at = (entry: ReturnType<typeof directory>, fileSystems: Record<string, number> = {}): string => {
    const host = machine({ files: { '/run/me': entry }, fileSystems });
    return runtimeDirectory(host, envOf({ XDG_RUNTIME_DIR: '/run/me' }), host.ids(), userNamespace(host));
  };
  assert.is(at(directory(0o700, 1000)), '/run/me/tsrun');
  assert.is(at(directory(0o755, 1000)), '/tmp/tsrun-1000');
  assert.is(at(directory(0o700, 1)), '/tmp/tsrun-1000');
  assert.is(at(directory(0o700, 1000), { '/run/me': 0x6969 }), '/tmp/tsrun-1000');
  const host = machine();
  assert.is(runtimeDirectory(host, envOf({}), host.ids(), userNamespace(host)), '/tmp/tsrun-1000');
  assert.is(runtimeDirectory(host, envOf({ XDG_RUNTIME_DIR: '/gone' }), host.ids(), userNamespace(host)), '/tmp/tsrun-1000');
});

test('in a user namespace everybody has the directory of the user behind', () => {
  const at = (map: string, euid = 0): string => {
    const host = machine({ files: { '/proc/self/uid_map': map } });
    return runtimeDirectory(host, envOf({}), { ...host.ids(), euid }, userNamespace(host));
  };
  assert.is(at('      1234       1001          1\n', 1234), '/tmp/tsrun-1001');
  assert.is(at('         0     100000       1234\n      1234       1001          1\n', 1234), '/tmp/tsrun-1001');
  assert.is(at('         0     100000      65536\n', 1234), '/tmp/tsrun-101234');
  assert.is(at('         0          0 4294967295\n'), '/tmp/tsrun-0');
  assert.is(at('         0       1001          1\n'), '/tmp/tsrun-1001');
  assert.is(at('         1     100000      65536\n         0       1001          1\n'), '/tmp/tsrun-1001');
  assert.is(at(''), '/tmp/tsrun-0');
});

test('network file systems are known by their numbers', () => {
  assert.is(networkFileSystem(0x6969), 'NFS');
  assert.is(networkFileSystem(0x0bd00bd0), 'Lustre');
  assert.is(networkFileSystem(0x01021994), undefined);
});

// --- user namespaces

for (const [name, value, cure] of [
  ['kernel/unprivileged_userns_clone', '0', /unprivileged_userns_clone=1.*sysctl --system/],
  ['user/max_user_namespaces', '0', /max_user_namespaces=15000/],
  ['user/max_mnt_namespaces', '0', /max_mnt_namespaces=15000/],
  [
    'kernel/apparmor_restrict_unprivileged_userns',
    '1',
    /profile tsrun "\/opt\/tsrun\/bin\/tsrun" flags=\(unconfined\).*apparmor_parser -r/,
  ],
] as const) {
  test(`${name} = ${value} is named, with the one command that changes it`, () => {
    const refusal = whyNoUserNamespaces(machine({ files: { [`/proc/sys/${name}`]: `${value}\n` } }));
    assert.match(refusal?.why ?? '', new RegExp(name.split('/')[1] ?? ''));
    assert.match(refusal?.cure ?? '', cure);
  });
}

test('where nothing forbids them no reason is given', () => {
  assert.is(
    whyNoUserNamespaces(
      machine({ files: { '/proc/sys/user/max_user_namespaces': '500\n', '/proc/sys/kernel/unprivileged_userns_clone': '1\n' } }),
    ),
    undefined,
  );
});

test.run();
