/** What was asked, by whom: command line, variables, config files, --explain, and the lines a user gets. Carried out for real. */
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, type Ran, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { asTestUser, isRoot, testUser } from '../helpers/user.ts';

const test = suite('what was asked');
const place = scratch('request');
const image = makeBusyboxImage(place);

const data = join(place, 'data');
mkdirSync(data);
writeFileSync(join(data, 'name'), 'data\n');

test('binds of TSRUN_, APPTAINER_ and SINGULARITY_ variables are shown', () => {
  for (const name of ['TSRUN_BIND', 'TSRUN_BINDPATH', 'APPTAINER_BIND', 'APPTAINER_BINDPATH', 'SINGULARITY_BIND', 'SINGULARITY_BINDPATH'])
    assert.is(tsrunOk(['exec', image, 'cat', '/in/name'], { env: { [name]: `${data}:/in` } }), 'data\n', name);
  assert.is(tsrunOk(['exec', image, 'cat', '/in/name'], { env: { TSRUN_MOUNT: `type=bind,src=${data},dst=/in` } }), 'data\n');
});

test('variables of Apptainer set the program’s environment', () => {
  const env = { APPTAINERENV_A: 'apptainer', SINGULARITYENV_A: 'singularity', SINGULARITYENV_B: 'b', TSRUNENV_C: 'c' };
  assert.is(tsrunOk(['exec', image, 'sh', '-c', 'echo $A $B $C'], { env }), 'apptainer b c\n');
});

test('odd binds work or say why', () => {
  for (const name of ['a b', 'c,d', 'e:f']) mkdirSync(join(data, name));
  const lines: readonly [string[], string | RegExp][] = [
    [['-B', 'a b:/x y', image, 'ls', '-d', '/x y'], '/x y\n'],
    [['-B', 'c\\,d:/in', image, 'ls', '-d', '/in'], '/in\n'],
    [['-B', `${data}/e\\:f`, image, 'ls', '-d', `${data}/e:f`], `${data}/e:f\n`],
    [['--mount', `type=bind,"source=${data}/c,d",target=/in`, image, 'ls', '-d', '/in'], '/in\n'],
    [['-B', './:/in/', image, 'cat', '/in/name'], 'data\n'],
    [['-B', '../data:/in/../other', image, 'cat', '/other/name'], 'data\n'],
    [['-B', 'name:/etc/passwd', image, 'cat', '/etc/passwd'], 'data\n'],
    [['-B', 'name:/etc/resolv.conf', image, 'cat', '/etc/resolv.conf'], 'data\n'],
    [['-B', '.:/opt/tool/none/deep', image, 'cat', '/opt/tool/none/deep/name', '/opt/tool/data.txt'], 'data\nfrom the image\n'],
    [['-B', '.:/in,a b:/in', image, 'ls', '/in'], ''],
    [['-B', '/:/host:ro', image, 'cat', `/host${data}/name`], 'data\n'],
    [['-B', 'name:/opt/tool', image, 'true'], /the target is a directory, the source a file \(E_BIND_TARGET\)\nhint: name the file too/],
    [['-B', '.:/opt/tool/data.txt', image, 'true'], /the target is a file, the source a directory \(E_BIND_TARGET\)/],
    [['-B', '.:/opt/tool/data.txt/x', image, 'true'], /a part of the target is a file/],
    [['-B', '.:/dev/none', image, 'true'], /\/dev is shown at \/dev, and has no none to mount on/],
    [['-B', '.:/a', '-B', '.:/a/none', image, 'true'], /data is shown at \/a, and has no none to mount on/],
    [['-B', '.:/', image, 'true'], /nothing can be shown at \/ itself/],
    [['-B', '.:ro', image, 'true'], /SRC::ro/],
    [['-B', '~/none:/in', image, 'true'], /expanded by the shell only/],
    [['--mount', 'type=bind,src=.,dst=/in,ro=perhaps', image, 'true'], /neither yes nor no/],
  ];
  for (const [args, expected] of lines) {
    const ran = tsrun(['exec', ...args], { cwd: data });
    if (typeof expected === 'string') assert.is(ran.stdout, expected, `${args.join(' ')}: ${ran.stderr}`);
    else {
      assert.is(ran.status, 125, args.join(' '));
      assert.match(ran.stderr, expected);
      assert.match(ran.stderr, /\(E_[A-Z_]+\)\nhint: /);
    }
  }
});

test('a target through links of the image lands where they lead', () => {
  const linked = scratch('request-linked');
  const own = makeBusyboxImage(linked, (tree) => symlinkSync('../run', join(tree, 'var/run')));
  assert.is(tsrunOk(['exec', '-B', `${data}:/var/run/munge`, own, 'cat', '/run/munge/name']), 'data\n');
});

test('two thousand binds are carried out, and more than five thousand refused', () => {
  const many = Array.from({ length: 2000 }, (_, at) => `${data}:/m/${at}`).join();
  assert.is(tsrunOk(['exec', '-B', many, image, 'sh', '-c', 'ls /m | wc -l']).trim(), '2000');
  const tooMany = tsrun(['exec', '-B', Array.from({ length: 5001 }, (_, at) => `/tmp:/m/${at}`).join(), image, 'true']);
  assert.is(tooMany.status, 125);
  assert.match(tooMany.stderr, /cannot use 5001 binds/);
});

test('--env and --env-file take what people write', () => {
  const file = join(place, 'settings.env');
  writeFileSync(file, '\ufeffA=1\r\n# comment\nexport B="two words"\nC=\'$HOME `x`\'\nD="two\nlines"\nE=\nF\n');
  const print = ['sh', '-c', 'echo "$A|$B|$C|$D|$E|$F|"'];
  assert.is(tsrunOk(['exec', '--env-file', file, image, ...print], { env: { F: 'host' } }), '1|two words|$HOME `x`|two\nlines||host|\n');
  assert.is(tsrunOk(['exec', '--env-file', file, '--env', 'A=2,B=x=y', '--env', 'D=\n', image, ...print]), '2|x=y|$HOME `x`|\n|||\n');
  writeFileSync(file, 'A=1\nnot a name=2\n');
  assert.match(tsrun(['exec', '--env-file', file, image, 'true']).stderr, /settings\.env line 2: .*\(E_ENV_SPEC\)/);
  const piped = run('bash', ['-c', `${tsrunPath} exec --env-file <(echo A=piped) ${image} sh -c 'echo $A'`]);
  assert.is(piped.stdout, 'piped\n', piped.stderr);
  assert.match(
    tsrun(['exec', '--env-file', '/dev/stdin', image, 'true']).stderr,
    /not a regular file \(E_ENV_FILE\)\nhint: write the lines to a file/,
  );
});

/** With /etc/tsrun/config.yaml as given, seen by this one command. */
const withSiteConfig = (text: string, command: readonly string[], env: Readonly<Record<string, string>> = {}): Ran => {
  const file = join(place, 'site.yaml');
  writeFileSync(file, text);
  const script =
    'mount -t tmpfs none /etc && mkdir /etc/tsrun && cp "$1" /etc/tsrun/config.yaml && cp "$2"/passwd "$2"/group /etc && shift 2 && exec "$@"';
  const etc = join(place, 'etc');
  mkdirSync(etc, { recursive: true });
  for (const name of ['passwd', 'group']) writeFileSync(join(etc, name), readFileSync(join('/etc', name)));
  return run('unshare', ['-m', 'sh', '-c', script, 'sh', file, etc, ...asTestUser(command, { TSRUN_LINGER: '0', ...env })], { as: 'root' });
};

test('site and user config files are read, and --explain shows where each value is from', () => {
  if (!isRoot()) return skip('needs root to put a site config in place');
  const user = join(place, 'user-config');
  mkdirSync(join(user, 'tsrun'), { recursive: true });
  writeFileSync(join(user, 'tsrun/config.yaml'), `bind: ${data}:/of-user:ro\nenv: {WHO: user, COMMA: "a,b"}\n`);
  chmodSync(user, 0o755);
  const site = `bind: [${data}:/of-site, /not/there]\nenv: {WHO: site, SITE: 1}\nlinger: 0\n`;
  const env = { XDG_CONFIG_HOME: user, APPTAINER_BIND: `${data}:/of-env` };
  const script = 'cat /of-site/name /of-user/name /of-env/name; echo $WHO $SITE $COMMA; touch /of-user/x 2>/dev/null || echo read-only';
  const ran = withSiteConfig(site, [tsrunPath, 'exec', '--pwd', '/', image, 'sh', '-c', script], env);
  assert.is(ran.stdout, 'data\ndata\ndata\nuser 1 a,b\nread-only\n', ran.stderr);
  assert.is(ran.stderr, 'tsrun: /not/there is not there and was left out (/etc/tsrun/config.yaml)\n');

  const explained = withSiteConfig(
    site,
    [tsrunPath, 'exec', '--explain', '-B', `${data}:/of-line`, '--pwd', '/', image, 'true'],
    env,
  ).stdout;
  for (const [value, origin] of [
    ['of-site', '/etc/tsrun/config.yaml'],
    ['of-user:ro', `${user}/tsrun/config.yaml`],
    ['of-env', 'APPTAINER_BIND'],
    ['of-line', 'command line \\(-B\\)'],
  ])
    assert.match(explained, new RegExp(`bind +${data}:/${value} +${origin}\n`));
  assert.match(explained, /WHO=user +.*user-config/);

  const data2 = JSON.parse(withSiteConfig(site, [tsrunPath, 'exec', '--explain=json', image, 'true'], env).stdout) as {
    given: { text: string; origin: string }[];
    plan: { op: string; target?: string; why: string }[];
  };
  assert.ok(data2.given.some(({ text, origin }) => text === `${data}:/of-env` && origin === 'APPTAINER_BIND'));
  assert.ok(data2.plan.every(({ why }) => typeof why === 'string'));
  assert.ok(data2.plan.some(({ op, target, why }) => op === 'bind' && target === '/of-site' && why === '/etc/tsrun/config.yaml'));
});

test('a slip in a config file names the file and the nearest key', () => {
  if (!isRoot()) return skip('needs root to put a site config in place');
  const ran = withSiteConfig('binds: /x\n', [tsrunPath, 'exec', image, 'true']);
  assert.is(ran.status, 125);
  assert.is(
    ran.stderr,
    'tsrun: cannot use the config file /etc/tsrun/config.yaml: there is no key "binds" (E_CONFIG)\nhint: did you mean "bind"?\n',
  );
});

test('--explain starts nothing', () => {
  const ran = tsrun(['exec', '--explain', '-B', `${data}:/in`, image, 'touch', '/in/touched']);
  assert.is(ran.status, 0);
  assert.is(existsSync(join(data, 'touched')), false);
});

test('what was not passed in is said on a terminal and once for a step, and nowhere else', () => {
  const env = { PYTHONPATH: '/x', R_LIBS: '/y' };
  const line = /^tsrun: not passed in: PYTHONPATH R_LIBS \(keep: --host-env, --host-python\)\r?\n$/;
  assert.match(run('script', ['-qec', `${tsrunPath} exec ${image} true`, '/dev/null'], { env }).stdout, line);
  assert.is(run('script', ['-qec', `${tsrunPath} -q exec ${image} true`, '/dev/null'], { env }).stdout, '');
  assert.is(tsrun(['exec', image, 'true'], { env }).stderr, '');
  assert.match(tsrun(['exec', image, 'true'], { env: { ...env, SLURM_JOB_ID: '7', SLURM_PROCID: '0' } }).stderr, line);
  assert.is(tsrun(['exec', image, 'true'], { env: { ...env, SLURM_JOB_ID: '7', SLURM_PROCID: '1' } }).stderr, '');
});

test('what habit of other tools asks for is answered with what to write', () => {
  for (const [args, hint] of [
    [['run', '-v', '/a:/b', image], '--bind /a:/b'],
    [['run', '-e', 'A=B', image], '--env A=B'],
    [['run', '-p', '80:80', image], "the host's network"],
    [['run', '--rm', '-it', image], 'leaves nothing behind'],
    [
      ['run', '-it', '--rm', '-v', '/a:/b', '-p', '80:80', 'alpine', 'sh', '--rm'],
      "here -t: leave it out: the program has your terminal; --rm: leave it out: a run leaves nothing behind; -v: --bind /a:/b; -p: leave it out: programs use the host's network, their ports are the host's\n",
    ],
    [['run', '--gpus', 'all', image], '--nv'],
    [['exec', '--cpus', '3', image, 'true'], 'systemd-run'],
    [['exec', '--no-env', 'A', image, 'true'], 'env -u NAME tsrun ...'],
    [['exec', image, '--pwd', '/opt', 'pwd'], 'options of tsrun come before the image'],
  ] as const) {
    const ran = tsrun(args);
    assert.match(ran.stderr, /^tsrun: cannot .*\(E_(USAGE|NOT_FOUND)\)\nhint: /);
    assert.ok(ran.stderr.includes(hint), ran.stderr);
  }
});

test('paths that variables name are shown, or the variable is not passed', () => {
  const tmp = join(place, 'job-tmp');
  const runtime = join(place, 'runtime');
  for (const path of [tmp, runtime]) {
    mkdirSync(path);
    if (isRoot()) run('chown', [String(testUser().uid), path], { as: 'root' });
  }
  chmodSync(runtime, 0o700);
  writeFileSync(join(place, 'ca.pem'), 'certificate\n');
  const env = {
    TMPDIR: tmp,
    XDG_RUNTIME_DIR: runtime,
    KRB5CCNAME: 'KEYRING:persistent:1',
    SSL_CERT_FILE: join(place, 'ca.pem'),
    TMP: '/no/such',
  };
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell's
  const script = 'touch "$TMPDIR/x" "$XDG_RUNTIME_DIR/y" && cat "$SSL_CERT_FILE"; echo "${KRB5CCNAME-unset} ${TMP-unset}"';
  assert.is(tsrunOk(['exec', '--no-mount', 'tmp', image, 'sh', '-c', script], { env, cwd: '/' }), 'certificate\nunset unset\n');
  assert.ok(existsSync(join(tmp, 'x')) && existsSync(join(runtime, 'y')));
});

test.run();
