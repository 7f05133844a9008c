import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { prompt } from '../../src/plan/env.ts';
import { APP_SCRIPT, SOURCING_SCRIPT } from '../../src/plan/payload.ts';
import { argsOf, codeOf, envOf, noticesOf, only, planned, type World } from '../helpers/planning.ts';

const test = suite('payload');

const command = (line: string, facts: World['facts'] = {}): string => {
  const run = planned(line, { facts });
  return [only(run, 'exec').file, '|', ...argsOf(run)].join(' ');
};

test('exec runs the command as it is', () => {
  assert.is(command('exec IMG python3 -c x'), 'python3 | python3 -c x');
});

test('run joins entry point and command; arguments take the place of the command', () => {
  const facts = { entrypoint: ['/bin/tool', '-v'], cmd: ['help'] };
  assert.is(command('run IMG', facts), '/bin/tool | /bin/tool -v help');
  assert.is(command('run IMG a b', facts), '/bin/tool | /bin/tool -v a b');
});

test('run without entry point takes the command, or the arguments', () => {
  assert.is(command('run IMG', { cmd: ['bash'] }), 'bash | bash');
  assert.is(command('run IMG ls -l', { cmd: ['bash'] }), 'ls | ls -l');
});

test('arguments of entry points are never looked at by a shell', () => {
  assert.equal(argsOf(planned(['run', 'IMG', '$HOME', "a'b"], { facts: { entrypoint: ['/t', '$X'] } })), ['/t', '$X', '$HOME', "a'b"]);
});

test("run takes the image's own runscript, and hands it the arguments", () => {
  assert.is(command('run IMG a', { runscript: true, entrypoint: ['/x'] }), '/.singularity.d/runscript | /.singularity.d/runscript a');
});

test('an app runs its own script behind the scripts of the image, which are told its name', () => {
  const run = planned('run --app tool IMG a');
  assert.is(argsOf(run)[2], APP_SCRIPT + SOURCING_SCRIPT);
  assert.equal(argsOf(run).slice(-2), ['/scif/apps/tool/scif/runscript', 'a']);
  assert.is(envOf(run)['APPTAINER_APPNAME'], 'tool');
  assert.is(envOf(run)['SINGULARITY_APPNAME'], 'tool');
  assert.equal(argsOf(planned('exec IMG p', { env: { APPTAINER_APPNAME: 'tool' } })).slice(-1), ['p']);
  assert.is(envOf(planned('exec IMG p', { env: { APPTAINER_APPNAME: 'tool' } }))['APPTAINER_APPNAME'], 'tool');
  assert.is(envOf(planned('exec IMG p'))['APPTAINER_APPNAME'], undefined);
  for (const name of ['', '.', '..', 'a/b'])
    assert.is(
      codeOf(() => planned(['exec', `--app=${name}`, 'IMG', 'p'])),
      'E_USAGE',
    );
});

test('an image with nothing to run says so', () => {
  assert.is(
    codeOf(() => command('run IMG')),
    'E_NOTHING_TO_RUN',
  );
});

test('shell is bash without its rc files, else sh, else an error', () => {
  assert.is(command('shell IMG'), '/usr/bin/bash | bash --norc');
  assert.is(command('shell IMG', { bash: '' }), '/usr/bin/dash | sh');
  assert.is(command('shell IMG', { bash: '', sh: '/bin/busybox' }), '/bin/busybox | sh');
  assert.is(
    codeOf(() => command('shell IMG', { bash: '', sh: '' })),
    'E_NO_SHELL',
  );
  assert.is(command('shell -s /bin/zsh IMG -l'), '/bin/zsh | /bin/zsh -l');
  assert.is(command('shell IMG -c x'), '/usr/bin/bash | bash --norc -c x');
});

test('the prompt names the image, whatever its name holds', () => {
  assert.is(envOf(planned('shell IMG'))['PS1'], '(x.sqfs) \\w\\$ ');
  const name = '/images/$(rm -rf x)`y`\\u.sqfs';
  assert.is(prompt(name, true), '($?rm?-rf?x??y??u.sqfs) \\w\\$ '.replace('$', '?'));
  assert.is(envOf(planned('exec IMG p'))['PS1'], undefined);
});

test('images without a shell run their programs', () => {
  assert.is(command('exec IMG /prog', { sh: '', bash: '' }), '/prog | /prog');
});

test('environment scripts are sourced by the image’s own shell, everything else handed over as arguments', () => {
  const run = planned('exec --env E=2 IMG prog a', { facts: { envScripts: ['90-environment.sh'], env: ['I=3'] }, env: { H: '1' } });
  assert.is(only(run, 'exec').file, '/usr/bin/dash');
  const args = argsOf(run);
  assert.equal(args.slice(0, 4), ['sh', '-c', SOURCING_SCRIPT, 'tsrun']);
  const host = Number(args[4]);
  assert.ok(args.slice(5, 5 + host).includes('H=1'));
  assert.equal(args.slice(5 + host), ['1', 'E=2', 'prog', 'a']);
  assert.is(envOf(run)['I'], '3');
  assert.is(envOf(run)['H'], undefined);
});

test('a script bound into /.singularity.d/env is sourced too, as module tools expect', () => {
  const run = planned('exec -B /w/99-shpc.sh:/.singularity.d/env/99-shpc.sh IMG p', { files: { '/w/99-shpc.sh': '' } });
  assert.is(argsOf(run)[2], SOURCING_SCRIPT);
});

test('a shell behind environment scripts is called by its own name, which busybox goes by', () => {
  const last = (facts: World['facts']) =>
    argsOf(planned('shell IMG', { facts: { envScripts: ['x.sh'], ...facts } }))
      .slice(-2)
      .join(' ');
  assert.is(last({ bash: '', sh: '/bin/busybox' }), '0 /bin/sh');
  assert.is(last({ bash: '/usr/bin/bash' }), '/usr/bin/bash --norc');
});

test('scripts of an image without a shell are left out, with a line', () => {
  const run = planned('exec IMG p', { facts: { envScripts: ['x.sh'], sh: '' } });
  assert.is(only(run, 'exec').file, 'p');
  assert.match(noticesOf(run).join(), /has no \/bin\/sh/);
});

// --- the script itself, run by a real shell with the directory moved to a temporary one

const sourced = (
  scripts: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>>,
  args: readonly string[],
  shell = ['sh'],
): string => {
  const directory = mkdtempSync(join(tmpdir(), 'tsrun-source-'));
  try {
    mkdirSync(join(directory, 'env'));
    for (const [name, text] of Object.entries(scripts)) writeFileSync(join(directory, 'env', name), text);
    const script = SOURCING_SCRIPT.replaceAll('/.singularity.d/env', join(directory, 'env'));
    const [file = '', ...before] = shell;
    const { stdout, stderr, status } = spawnSync(file, [...before, '-c', script, 'tsrun', ...args], {
      env,
      encoding: 'utf8',
      argv0: 'sh',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return status === 0 && stderr === '' ? stdout : `${status} ${stdout}${stderr}`;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

const print = (...names: string[]): string[] => ['/bin/sh', '-c', names.map((name) => `printf '%s\\n' "\${${name}-unset}"`).join(';')];

for (const shell of [['sh'], ['bash'], ['bash', '--posix'], ['sh', '-u']]) {
  const name = shell.join(' ');
  test(`${name}: scripts run in order, see nothing of the host, and win over it`, () => {
    const scripts = {
      '10-a.sh': `export A="\${A:-image}"\nexport B=one\n`,
      '20-b.sh': `export B="$B-two"\nexport SAW="\${H-nothing}"\n`,
      'not-a-script': 'export A=wrong\n',
    };
    assert.is(
      sourced(scripts, { PATH: '/bin' }, ['2', 'A=host', 'H=host', '0', ...print('A', 'B', 'H', 'SAW')], shell),
      'image\none-two\nhost\nnothing\n',
    );
  });

  test(`${name}: explicit values win over scripts`, () => {
    assert.is(sourced({ 'a.sh': 'export A=image\n' }, { PATH: '/bin' }, ['0', '1', 'A=mine', ...print('A')], shell), 'mine\n');
  });

  test(`${name}: a command that cannot be run is told as the launcher would`, () => {
    const refused = (command: string) => sourced({}, { PATH: '/bin' }, ['0', '0', command], shell);
    assert.match(
      refused('no-such'),
      /^127 tsrun: cannot run no-such: it is in no directory of PATH \(\/bin\) \(E_NOT_FOUND\)\nhint: it has to be/,
    );
    assert.match(refused('/no/such'), /^127 tsrun: cannot run \/no\/such: there is no such file \(E_NOT_FOUND\)\n/);
    assert.is(refused('/etc'), '126 tsrun: cannot run /etc: it is a directory (E_NOT_EXECUTABLE)\n');
    assert.is(refused('/etc/passwd'), '126 tsrun: cannot run /etc/passwd: it is not executable (E_NOT_EXECUTABLE)\n');
    assert.match(refused('--pwd'), /^127 tsrun: cannot run --pwd: .*\nhint: options of tsrun come before the image\n$/);
  });

  test(`${name}: values are never code`, () => {
    const value = '$(echo bad)`echo bad`"\';echo bad\n$HOME \\';
    assert.is(sourced({}, { PATH: '/bin' }, ['1', `A=${value}`, '1', `B=${value}`, ...print('A', 'B')], shell), `${value}\n${value}\n`);
  });

  test(`${name}: scripts cannot change the arguments, and get none`, () => {
    assert.is(sourced({ 'a.sh': 'export N=$#\nset -- x y z\n' }, { PATH: '/bin' }, ['0', '0', ...print('N')], shell), '0\n');
  });

  test(`${name}: what goes around PATH and LD_LIBRARY_PATH is put there behind the scripts`, () => {
    const env = { PATH: '/bin', TSRUN_PATH_BEFORE: '/b', TSRUN_PATH_AFTER: '/z', TSRUN_LIBS_AFTER: '/libs' };
    assert.is(
      sourced(
        { 'a.sh': 'export PATH=/s:$PATH LD_LIBRARY_PATH=/l\n' },
        env,
        ['0', '0', ...print('PATH', 'LD_LIBRARY_PATH', 'TSRUN_LIBS_AFTER')],
        shell,
      ),
      '/b:/s:/bin:/z\n/l:/libs\nunset\n',
    );
    assert.is(sourced({}, { PATH: '/bin' }, ['0', '0', ...print('PATH', 'LD_LIBRARY_PATH')], shell), '/bin\nunset\n');
  });
}

test('a script that exits ends the run with its status; the program replaces the shell', () => {
  assert.match(sourced({ 'a.sh': 'exit 7\n' }, { PATH: '/bin' }, ['0', '0', 'true']), /^7 /);
  assert.is(sourced({}, { PATH: '/bin' }, ['0', '0', 'sh', '-c', 'test "$(cat /proc/self/comm)" = cat && echo ok']), 'ok\n');
});

test('nothing of the script is left in the environment', () => {
  const text = sourced({}, { PATH: '/bin' }, ['1', 'H=1', '1', 'E=1', 'env']);
  assert.equal(
    text
      .split('\n')
      .map((line) => line.split('=')[0])
      .filter((name) => /^tsrun|^TSRUN/.test(name ?? '')),
    [],
  );
});

test.run();
