import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ENV_RULES, spokenOf } from '../../src/plan/env-rules.ts';
import { fitLocale } from '../../src/plan/locale.ts';
import { environWith } from '../../src/run/host-calls.ts';
import { device, directory, socket } from '../helpers/machine.ts';
import { codeOf, envOf, facts, mountedAt, noticesOf, planned, type World } from '../helpers/planning.ts';

const test = suite('environment');

type Env = Readonly<Record<string, string>>;
const env = (command: string, host: Env = {}, world: World = {}): Env => envOf(planned(command, { ...world, env: host }));
const inside = (host: Env, world: World = {}): Env => env('exec IMG p', host, world);

test('host variables are passed', () => {
  const found = inside({ SLURM_JOB_ID: '7', OMP_NUM_THREADS: '4', CUDA_VISIBLE_DEVICES: '0', PMI_FD: '5', TERM: 'xterm' });
  for (const [name, value] of Object.entries({
    SLURM_JOB_ID: '7',
    OMP_NUM_THREADS: '4',
    CUDA_VISIBLE_DEVICES: '0',
    PMI_FD: '5',
    TERM: 'xterm',
  }))
    assert.is(found[name], value, name);
});

test("the image's values win over the host's, explicit ones over both", () => {
  const world = { facts: { env: ['A=image', 'B=image'] } };
  assert.is(inside({ A: 'host' }, world)['A'], 'image');
  assert.is(env('exec --env A=mine IMG p', { A: 'host' }, world)['A'], 'mine');
});

test("PATH is the image's, or a default; never the host's", () => {
  assert.is(inside({ PATH: '/host/bin' })['PATH'], '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin');
  assert.is(inside({ PATH: '/host/bin' }, { facts: { env: ['PATH=/opt/bin:/bin'] } })['PATH'], '/opt/bin:/bin');
});

const LEFT_OUT = [
  'PYTHONPATH',
  'PYTHONHOME',
  'LD_LIBRARY_PATH',
  'LD_PRELOAD',
  'PERL5LIB',
  'R_LIBS',
  'R_LIBS_USER',
  'R_LIBS_SITE',
  'CONDA_PREFIX',
  'CONDA_DEFAULT_ENV',
  'VIRTUAL_ENV',
  'JULIA_DEPOT_PATH',
  'BASH_ENV',
  'ENV',
  'BASH_FUNC_module%%',
  'SHELL',
  'OLDPWD',
  '_',
  'CLASSPATH',
  'GEM_PATH',
  'NODE_PATH',
  'LUA_PATH',
  'LUA_CPATH_5_3',
  'PKG_CONFIG_PATH',
  'OPAL_PREFIX',
  'LMOD_CMD',
  'TSRUN_X',
  'APPTAINER_X',
  'SINGULARITYENV_',
];
for (const name of LEFT_OUT) {
  test(`${name} of the host stays outside`, () => {
    assert.is(inside({ [name]: '/x' })[name], undefined);
  });
}

for (const name of [
  'PYTHONUNBUFFERED',
  'JULIA_NUM_THREADS',
  'R_MAX_NUM_DLLS',
  'LDFLAGS',
  'ENVIRONMENT',
  'CONDA',
  'MALLOC_ARENA_MAX',
  'DISPLAY',
  'http_proxy',
]) {
  test(`${name} is passed: only its neighbours do harm`, () => {
    assert.is(inside({ [name]: 'x' })[name], 'x');
  });
}

test('every rule says why, and no name is in two rules', () => {
  const names = ENV_RULES.flatMap((rule) => rule.names);
  assert.is(new Set(names).size, names.length);
  const { words, treatments } = spokenOf();
  for (const rule of ENV_RULES) {
    assert.ok(rule.why.length > 10);
    for (const name of rule.names) {
      const [number] = environWith(new Map([[name.replace('*', 'X'), '']]), words);
      assert.equal(treatments[Number(number)], { kind: 'outside', rule }, name);
    }
  }
});

test('--host-env passes them, with names only those; never those for tsrun itself', () => {
  const host = { LD_LIBRARY_PATH: '/l', CONDA_PREFIX: '/c', PYTHONPATH: '/p', TSRUN_QUIET: '1' };
  const all = env('exec --host-env IMG p', host);
  assert.equal([all['LD_LIBRARY_PATH'], all['CONDA_PREFIX'], all['PYTHONPATH'], all['TSRUN_QUIET']], ['/l', '/c', '/p', undefined]);
  const some = env('exec --host-env=CONDA_*,PYTHONPATH IMG p', host);
  assert.equal([some['LD_LIBRARY_PATH'], some['CONDA_PREFIX'], some['PYTHONPATH']], [undefined, '/c', '/p']);
});

test('user-site packages of Python are off; --host-python passes them and PYTHONPATH', () => {
  assert.is(inside({})['PYTHONNOUSERSITE'], '1');
  const found = env('exec --host-python IMG p', { PYTHONPATH: '/p', LD_PRELOAD: '/l' });
  assert.equal([found['PYTHONNOUSERSITE'], found['PYTHONPATH'], found['LD_PRELOAD']], [undefined, '/p', undefined]);
});

test("an image's own PYTHONPATH and LD_LIBRARY_PATH stay", () => {
  const found = inside({ PYTHONPATH: '/host' }, { facts: { env: ['PYTHONPATH=/image', 'LD_LIBRARY_PATH=/opt/lib'] } });
  assert.equal([found['PYTHONPATH'], found['LD_LIBRARY_PATH']], ['/image', '/opt/lib']);
});

test('--cleanenv passes TERM and the proxies only, with C.UTF-8', () => {
  const found = env('exec -e IMG p', { TERM: 'xterm', https_proxy: 'p', NO_PROXY: 'n', FOO: 'x', LANG: 'de_DE.UTF-8' });
  assert.equal(
    [found['TERM'], found['https_proxy'], found['NO_PROXY'], found['FOO'], found['LANG']],
    ['xterm', 'p', 'n', undefined, 'C.UTF-8'],
  );
});

test('--cleanenv still lets the image and explicit values in', () => {
  const found = env('exec -e --env A=1 IMG p', { APPTAINERENV_B: '2' }, { facts: { env: ['LANG=C', 'C=3'] } });
  assert.equal([found['A'], found['B'], found['C'], found['LANG']], ['1', '2', '3', 'C']);
});

test('TSRUNENV_X beats APPTAINERENV_X beats SINGULARITYENV_X, and --env beats them all', () => {
  const host = { SINGULARITYENV_X: 's', APPTAINERENV_X: 'a', TSRUNENV_X: 't' };
  assert.is(inside(host)['X'], 't');
  assert.is(inside({ SINGULARITYENV_X: 's', APPTAINERENV_X: 'a' })['X'], 'a');
  assert.is(env('exec --env X=e IMG p', host)['X'], 'e');
});

test('--env-file beats APPTAINERENV_, and --env beats --env-file, wherever it stands', () => {
  const world = { files: { '/f.env': 'X=file\nY=file\n' } };
  const found = env('exec --env X=flag --env-file /f.env IMG p', { APPTAINERENV_Y: 'a' }, world);
  assert.equal([found['X'], found['Y']], ['flag', 'file']);
});

test('a name alone takes the value of the host, also of one that is left out by default', () => {
  assert.is(env('exec --env LD_PRELOAD IMG p', { LD_PRELOAD: '/l' })['LD_PRELOAD'], '/l');
  assert.is(env('exec --env NOTHING IMG p')['NOTHING'], undefined);
});

test('an env file may be /dev/null', () => {
  assert.is(env('exec --env-file /dev/null --env A=1 IMG p')['A'], '1');
});

test('an env file that is missing or binary is named', () => {
  assert.is(
    codeOf(() => env('exec --env-file /nope IMG p')),
    'E_ENV_FILE',
  );
  assert.is(
    codeOf(() => env('exec --env-file /b IMG p', {}, { files: { '/b': 'A=\0' } })),
    'E_ENV_FILE',
  );
});

test('PREPEND_PATH, APPEND_PATH and PATH of APPTAINERENV_ edit the path of the image', () => {
  const world = { facts: { env: ['PATH=/bin'] } };
  assert.is(inside({ APPTAINERENV_PREPEND_PATH: '/a', SINGULARITYENV_APPEND_PATH: '/z' }, world)['PATH'], '/a:/bin:/z');
  assert.is(inside({ APPTAINERENV_PATH: '/only' }, world)['PATH'], '/only');
  assert.is(inside({ APPTAINERENV_PATH: '/only', APPTAINERENV_APPEND_PATH: '/z' }, world)['PATH'], '/only:/z');
  assert.is(inside({ APPTAINERENV_PREPEND_PATH: '/a' }, world)['PREPEND_PATH'], undefined);
});

test('$PATH in an explicit PATH is the one it replaces; nothing else is expanded', () => {
  const world = { facts: { env: ['PATH=/bin'] } };
  assert.is(env('exec --env PATH=/x:$PATH IMG p', {}, world)['PATH'], '/x:/bin');
  assert.is(env(`exec --env PATH=\${PATH}:/x IMG p`, {}, world)['PATH'], '/bin:/x');
  assert.is(env('exec --env A=$PATH IMG p', {}, world)['A'], '$PATH');
});

test("tsrun's own variables are there, under Apptainer's names too", () => {
  const found = inside({ APPTAINER_NAME: 'outer' });
  assert.equal(
    [
      found['APPTAINER_CONTAINER'],
      found['SINGULARITY_CONTAINER'],
      found['APPTAINER_NAME'],
      found['SINGULARITY_NAME'],
      found['TSRUN_IMAGE'],
    ],
    ['/images/x.sqfs', '/images/x.sqfs', 'x.sqfs', 'x.sqfs', '/images/x.sqfs'],
  );
});

test('values that are not UTF-8, hold line ends or equals signs go through', () => {
  assert.is(inside({ A: '\xff\n=x' })['A'], '\xff\n=x');
});

// --- variables that hold a path

test('a TMPDIR that is visible is kept; one elsewhere is mounted; one that is missing is left out', () => {
  assert.is(inside({ TMPDIR: '/tmp/job' })['TMPDIR'], '/tmp/job');
  const run = planned('exec IMG p', { env: { TMPDIR: '/local/job' }, files: { '/local/job': directory() } });
  assert.is(envOf(run)['TMPDIR'], '/local/job');
  assert.is(mountedAt(run, '/local/job'), '/local/job recursive,optional');
  assert.is(inside({ TMPDIR: '/gone' })['TMPDIR'], undefined);
  assert.is(inside({ TMPDIR: 'relative' })['TMPDIR'], undefined);
});

test('contained, TMPDIR and XDG_RUNTIME_DIR are left out', () => {
  const found = env(
    'exec -c IMG p',
    { TMPDIR: '/local/job', XDG_RUNTIME_DIR: '/run/user/1000' },
    { files: { '/local/job': directory(), '/run/user/1000': directory(0o700, 1000) } },
  );
  assert.equal([found['TMPDIR'], found['XDG_RUNTIME_DIR']], [undefined, undefined]);
});

test("XDG_RUNTIME_DIR is mounted when it is the caller's own", () => {
  const own = { '/run/user/1000': directory(0o700, 1000) };
  const run = planned('exec IMG p', { env: { XDG_RUNTIME_DIR: '/run/user/1000' }, files: own });
  assert.is(envOf(run)['XDG_RUNTIME_DIR'], '/run/user/1000');
  assert.is(mountedAt(run, '/run/user/1000'), '/run/user/1000 recursive,optional');
  assert.is(inside({ XDG_RUNTIME_DIR: '/run/user/0' }, { files: { '/run/user/0': directory(0o700, 0) } })['XDG_RUNTIME_DIR'], undefined);
});

const CACHES: readonly [string, boolean][] = [
  ['FILE:/tmp/krb5cc_1000', true],
  ['/tmp/krb5cc_1000', true],
  ['DIR:/run/user/1000/krb5cc', true],
  ['DIR::/run/user/1000/krb5cc/tkt', true],
  ['KCM:', true],
  ['KEYRING:session:x', true],
  ['KEYRING:persistent:1000', false],
  ['KEYRING:user:x', false],
  ['FILE:/gone/cc', false],
];
for (const [value, kept] of CACHES) {
  test(`the Kerberos cache ${value} is ${kept ? 'kept' : 'left out'}`, () => {
    const found = inside({ KRB5CCNAME: value }, { files: { '/run/user/1000/krb5cc/tkt': '' } });
    assert.is(found['KRB5CCNAME'], kept ? value : undefined);
  });
}

test('a certificate file is mounted, also over the one of the image', () => {
  const run = planned('exec IMG p', { env: { SSL_CERT_FILE: '/etc/pki/site.pem' }, files: { '/etc/pki/site.pem': '' } });
  assert.is(envOf(run)['SSL_CERT_FILE'], '/etc/pki/site.pem');
  assert.is(mountedAt(run, '/etc/pki/site.pem'), '/etc/pki/site.pem ro,optional');
  assert.is(inside({ SSL_CERT_FILE: '/gone.pem' })['SSL_CERT_FILE'], undefined);
});

test('several variables that name one path are passed, or left out, alike', () => {
  const names = ['SSL_CERT_FILE', 'CURL_CA_BUNDLE', 'REQUESTS_CA_BUNDLE', 'GIT_SSL_CAINFO'];
  const env = Object.fromEntries(names.map((name) => [name, '/x/ca.pem']));
  const shown = planned('exec IMG p', { env, files: { '/x/ca.pem': '' } });
  assert.equal(
    names.filter((name) => envOf(shown)[name] === '/x/ca.pem'),
    names,
  );
  assert.is(mountedAt(shown, '/x/ca.pem'), '/x/ca.pem ro,optional');
  const gone = inside(env);
  assert.equal(
    names.filter((name) => gone[name] !== undefined),
    [],
  );
});

test('a path that is left out for one variable is still shown for another', () => {
  const found = inside({ TMPDIR: '/x/ca.pem', SSL_CERT_FILE: '/x/ca.pem' }, { files: { '/x/ca.pem': '' } });
  assert.equal([found['TMPDIR'], found['SSL_CERT_FILE']], [undefined, '/x/ca.pem']);
});

test("a certificate directory of the host's distribution is left out: the image has its own", () => {
  assert.is(inside({ SSL_CERT_DIR: '/etc/ssl/certs' }, { files: { '/etc/ssl/certs/x': '' } })['SSL_CERT_DIR'], undefined);
});

test("what the image says of a path variable counts, and the host's path is not mounted", () => {
  const run = planned('exec IMG p', {
    env: { SSL_CERT_FILE: '/site.pem' },
    files: { '/site.pem': '' },
    facts: { env: ['SSL_CERT_FILE=/image.pem'] },
  });
  assert.is(envOf(run)['SSL_CERT_FILE'], '/image.pem');
  assert.is(mountedAt(run, '/site.pem'), undefined);
});

test('a socket or device named by a variable does no harm', () => {
  assert.is(inside({ KRB5CCNAME: 'FILE:/run/s' }, { files: { '/run/s': socket() } })['KRB5CCNAME'], 'FILE:/run/s');
  assert.is(inside({ TMPDIR: '/x' }, { files: { '/x': device() } })['TMPDIR'], undefined);
});

// --- locales

test('a locale the image lacks becomes C.UTF-8, one it has stays', () => {
  const found = inside({ LANG: 'de_DE.UTF-8', LC_TIME: 'en_US.utf8' }, { facts: { locales: ['C.UTF-8', 'en_US.UTF-8'] } });
  assert.equal([found['LANG'], found['LC_TIME']], ['C.UTF-8', 'en_US.utf8']);
});

test("an image that sets its locale is not overruled by the host's LC_ALL", () => {
  const found = inside({ LC_ALL: 'C.UTF-8', LANG: 'C' }, { facts: { env: ['LANG=C.UTF-8'] } });
  assert.equal([found['LC_ALL'], found['LANG']], [undefined, 'C.UTF-8']);
});

const LOCALES: readonly [string, Parameters<typeof facts>[0], string, string][] = [
  ['musl takes every name', { libc: { kind: 'musl', version: '1.2' }, locales: [] }, 'de_DE.UTF-8', 'de_DE.UTF-8'],
  ['C is always there', { locales: [] }, 'C', 'C'],
  ['code sets are compared as glibc does', { locales: ['de_DE.ISO-8859-1@euro'] }, 'de_DE.iso88591@euro', 'de_DE.iso88591@euro'],
  ['glibc 2.35 has C.UTF-8 built in', { libc: { kind: 'glibc', version: '2.35' }, locales: [] }, 'de_DE.UTF-8', 'C.UTF-8'],
  ['an old glibc without any locale gets C', { libc: { kind: 'glibc', version: '2.17' }, locales: [] }, 'de_DE.UTF-8', 'C'],
];
for (const [what, changes, value, result] of LOCALES) {
  test(`locales: ${what}`, () => {
    assert.is(fitLocale(facts(changes), value), result);
  });
}

// --- the line about what was left out

const POISON = { PYTHONPATH: '/p', LD_LIBRARY_PATH: '/l', SHELL: '/bin/zsh' };
const notice = (world: World): string => noticesOf(planned('exec IMG p', world)).join('\n');

test('on a terminal one line says what was left out and how to keep it', () => {
  assert.is(notice({ env: POISON, terminal: true }), 'tsrun: not passed in: PYTHONPATH LD_LIBRARY_PATH (keep: --host-env, --host-python)');
  assert.match(notice({ env: { PYTHONPATH: '/p' }, terminal: true }), /\(keep: --host-python\)/);
  assert.match(notice({ env: { PERL5LIB: '/p' }, terminal: true }), /\(keep: --host-env\)/);
});

test('without a terminal and outside of a job nothing is said', () => {
  assert.is(notice({ env: POISON }), '');
});

test('in a job the first rank says it, the others do not', () => {
  for (const rank of ['SLURM_PROCID', 'PMI_RANK', 'OMPI_COMM_WORLD_RANK', 'PMIX_RANK']) {
    assert.match(notice({ env: { ...POISON, SLURM_JOB_ID: '1', [rank]: '0' } }), /not passed in/, rank);
    assert.is(notice({ env: { ...POISON, SLURM_JOB_ID: '1', [rank]: '3' }, terminal: true }), '', rank);
  }
  assert.match(notice({ env: { ...POISON, PBS_JOBID: '1' } }), /not passed in/);
});

test('of two ranks that of the inner launcher counts, and what is empty says nothing', () => {
  const rank = (env: Record<string, string>): string => notice({ env: { ...POISON, SLURM_JOB_ID: '1', ...env } });
  assert.match(rank({ SLURM_PROCID: '3', PMIX_RANK: '0' }), /not passed in/);
  assert.is(rank({ SLURM_PROCID: '0', PMIX_RANK: '3' }), '');
  assert.match(rank({ SLURM_PROCID: '0', PMIX_RANK: '' }), /not passed in/);
  assert.is(notice({ env: { ...POISON, SLURM_JOB_ID: '' } }), '');
});

test('--quiet says nothing, and what does not matter is never said', () => {
  assert.equal(noticesOf(planned('exec -q IMG p', { env: POISON, terminal: true })), []);
  assert.is(notice({ env: { SHELL: '/bin/zsh', OLDPWD: '/x', MODULEPATH: '/m' }, terminal: true }), '');
});

test('many names are cut short', () => {
  const many = Object.fromEntries(Array.from({ length: 9 }, (_, at) => [`CONDA_${at}`, 'x']));
  assert.match(notice({ env: many, terminal: true }), /CONDA_0 CONDA_1 CONDA_2 CONDA_3 CONDA_4 and 4 more/);
});

test('a Kerberos cache that is mounted can be written, certificates cannot', () => {
  const files = { '/x/krb5cc': '', '/x/ca.pem': '' };
  const run = planned('exec IMG p', { files, env: { KRB5CCNAME: 'FILE:/x/krb5cc', SSL_CERT_FILE: '/x/ca.pem' } });
  assert.is(mountedAt(run, '/x/krb5cc'), '/x/krb5cc optional');
  assert.is(mountedAt(run, '/x/ca.pem'), '/x/ca.pem ro,optional');
});

test.run();
