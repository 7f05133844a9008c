/** Completion scripts and the manual page say all that the tables of verbs and flags say, and their readers take them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { completionScript } from '../../src/cli/completion.ts';
import { manPage } from '../../src/cli/man.ts';
import { ALL_VERBS, type Verb } from '../../src/cli/verbs.ts';
import { flagsOf, RUN_VERBS } from '../../src/request/flags.ts';
import { must } from '../helpers/trees.ts';

const test = suite('completion and manual');
const place = mkdtempSync(join(tmpdir(), 'tsrun-tables-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

const script = (shell: string): string => {
  const path = join(place, shell);
  writeFileSync(path, completionScript(shell));
  return path;
};

/** What bash offers at the end of a line of words. */
const offered = (...words: readonly string[]): readonly string[] => {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is bash's
  const ask = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tsrun; printf "%s\\n" "${COMPREPLY[@]}"';
  const done = spawnSync('bash', ['-c', ask, script('bash'), ...words], { cwd: place, encoding: 'utf8' });
  assert.is(done.stderr, '');
  return done.stdout.split('\n').filter((line) => line !== '');
};

const shown: readonly Verb[] = ALL_VERBS.filter((verb: Verb) => verb.hidden !== true);

test('bash completes every verb and every option of it', () => {
  const first = offered('tsrun', '');
  for (const verb of RUN_VERBS) {
    assert.ok(first.includes(verb));
    const options = offered('tsrun', verb, '--');
    for (const { name } of flagsOf(verb)) assert.ok(options.includes(`--${name}`), `${verb} --${name}`);
  }
  for (const { name, options } of shown) {
    assert.ok(first.includes(name.split(' ')[0] ?? ''), name);
    const some = offered('tsrun', ...name.split(' '), '--');
    for (const option of options) assert.ok(some.includes(`--${option.name}`), `${name} --${option.name}`);
  }
  assert.not.ok(first.includes('__prepare'));
});

test('bash knows which options take a value, and that words behind the image belong to the program', () => {
  assert.equal(offered('tsrun', 'build', '--compress', 'g'), ['gzip']);
  assert.equal(offered('tsrun', 'build', 'x.sif', 'docker:'), ['docker://']);
  assert.equal(offered('tsrun', 'exec', '-B', '/data', '--pw'), ['--pwd']);
  writeFileSync(join(place, 'some.sif'), '');
  assert.equal(offered('tsrun', 'exec', 'so'), ['some.sif']);
  assert.equal(offered('tsrun', 'exec', 'some.sif', '--pw'), []);
  assert.equal(offered('tsrun', 'image', 'fa'), ['facts']);
});

test('zsh and fish read their scripts, which name every verb and option', () => {
  for (const shell of ['zsh', 'fish']) {
    must(shell, ['-n', script(shell)]);
    const text = completionScript(shell);
    for (const { name, options } of shown) {
      assert.ok(text.includes(name.split(' ').at(-1) ?? ''), name);
      for (const option of options)
        assert.ok(text.includes(shell === 'zsh' ? `--${option.name}[` : ` -l ${option.name} `), `${shell} ${option.name}`);
    }
  }
  assert.match(must('fish', ['-c', `source ${script('fish')}; complete -C 'tsrun build --off'`]).toString(), /^--offline\t/);
});

test('the manual page is clean for groff and names every verb, option and flag', () => {
  const path = join(place, 'tsrun.1');
  writeFileSync(path, manPage());
  const done = spawnSync('groff', ['-man', '-ww', '-Tutf8', '-P', '-cbou', path], { encoding: 'utf8' });
  assert.is(done.status, 0);
  assert.is(done.stderr, '');
  const text = done.stdout.replace(/[\s\u2010]+/g, '');
  for (const { name, options } of shown) {
    assert.ok(text.includes(`tsrun${name.replace(' ', '')}`), name);
    for (const option of options) assert.ok(text.includes(`--${option.name.replaceAll('-', '-')}`), option.name);
  }
  for (const { name } of RUN_VERBS.flatMap((verb) => flagsOf(verb))) assert.ok(text.includes(`--${name}`), name);
  assert.match(text, /EXITSTATUS.*125.*126.*127/);
});

test.run();
