import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { insteadOf } from '../../src/request/docker-flags.ts';
import { ALL_FLAGS, flagsOf, LATER_FLAGS } from '../../src/request/flags.ts';
import { type CommandLine, type Given, parseCommandLine } from '../../src/request/parse.ts';
import { codeOf, errorOf } from '../helpers/planning.ts';

const test = suite('command line');

const parsed = (line: string): CommandLine => {
  const result = parseCommandLine(line.split(' '));
  if ('node' in result) throw new Error('answered node');
  return result;
};

const values = (line: string): string[] => parsed(line).given.map((each: Given) => `${each.flag}=${each.text}`);

test('everything behind the image belongs to the program', () => {
  const line = parsed('exec -B /a x.sif prog --bind /b -- --pid');
  assert.equal(line.image, 'x.sif');
  assert.equal(line.args, ['prog', '--bind', '/b', '--', '--pid']);
  assert.equal(values('exec -B /a x.sif prog --bind /b'), ['bind=/a']);
});

test('values follow as --flag value, --flag=value, -Fvalue, -F value and -F=value', () => {
  for (const form of ['--bind /a', '--bind=/a', '-B/a', '-B /a', '-B=/a']) assert.equal(values(`exec ${form} x.sif p`), ['bind=/a'], form);
});

test('letters of switches may be written together, the last one may take a value', () => {
  assert.equal(values('exec -ceB /a x.sif p'), ['contain=true', 'cleanenv=true', 'bind=/a']);
});

test('a switch can be taken back', () => {
  assert.equal(values('exec --contain=false --pid=yes x.sif p'), ['contain=false', 'pid=true']);
  assert.is(
    codeOf(() => parsed('exec --contain=perhaps x.sif p')),
    'E_USAGE',
  );
});

test('-- ends the options, so an image may begin with a hyphen', () => {
  assert.is(parsed('exec -- -odd.sif p').image, '-odd.sif');
});

test('an optional value only counts behind an equals sign', () => {
  assert.equal(values('exec --explain x.sif p'), ['explain=']);
  assert.equal(values('exec --explain=json --host-env=A,B x.sif p'), ['explain=json', 'host-env=A,B']);
  assert.is(parsed('exec --explain x.sif p').image, 'x.sif');
});

test('an alias means its flag', () => {
  assert.equal(values('exec --cwd /a x.sif p'), ['pwd=/a']);
});

test('message flags may stand before the verb', () => {
  assert.equal(values('-q exec x.sif p'), ['quiet=true']);
  assert.equal(values('-s exec --pid x.sif p'), ['silent=true', 'pid=true']);
});

test('-s is the shell for the verb shell, and silence elsewhere', () => {
  assert.equal(values('shell -s /bin/zsh x.sif'), ['shell=/bin/zsh']);
  assert.equal(values('exec -s x.sif p'), ['silent=true']);
});

for (const line of [
  'build x.sif docker://y',
  'pull docker://y',
  '--version',
  '--help',
  '',
  'exec --help',
  'run -h x.sif',
  'exec --version',
  '-v --help',
  'frobnicate',
]) {
  test(`"${line}" is for the full program`, () => {
    assert.equal(parseCommandLine(line === '' ? [] : line.split(' ')), { node: true });
  });
}

test('--help behind the image is for the program in it', () => {
  assert.equal(parsed('exec x.sif prog --help').args, ['prog', '--help']);
});

test('a slip in a flag is answered with the flag that was meant', () => {
  assert.match(
    errorOf(() => parsed('exec --biind /a x.sif p')),
    /no such option.*did you mean --bind\?/s,
  );
  assert.match(
    errorOf(() => parsed('exec --writeable-tmpfs x.sif p')),
    /--writable-tmpfs/,
  );
  assert.is(
    codeOf(() => parsed('exec --zzzzzz x.sif p')),
    'E_USAGE',
  );
});

test('flags of Apptainer that are not there yet name what to do today', () => {
  assert.match(
    errorOf(() => parsed('exec --overlay o.img x.sif p')),
    /not available yet.*--writable-tmpfs/s,
  );
  assert.match(
    errorOf(() => parsed('exec -w x.sif p')),
    /-w.*not available yet/s,
  );
  assert.match(
    errorOf(() => parsed('exec --fakeroot x.sif p')),
    /not available yet/,
  );
});

test('a missing value, image or command is named', () => {
  assert.match(
    errorOf(() => parsed('exec --bind')),
    /its value is missing/,
  );
  assert.match(
    errorOf(() => parsed('exec --pid')),
    /the image is missing/,
  );
  assert.match(
    errorOf(() => parsed('exec x.sif')),
    /the command is missing.*tsrun run x\.sif/s,
  );
  assert.is(parsed('run x.sif').args.length, 0);
});

test('no two flags of a verb share a name, an alias or, but for the documented s, a letter', () => {
  for (const verb of ['exec', 'run', 'shell'] as const) {
    const names = flagsOf(verb).flatMap((flag) => [flag.name as string, ...(flag.aliases ?? [])]);
    assert.is(new Set(names).size, names.length, verb);
    const letters = flagsOf(verb).flatMap((flag) => flag.short ?? []);
    const twice = letters.filter((letter, at) => letters.indexOf(letter) !== at);
    assert.equal(twice, verb === 'shell' ? ['s'] : [], verb);
  }
});

test('no flag is both there and not available yet, and no environment key means two flags', () => {
  const names = ALL_FLAGS.flatMap((flag) => [flag.name as string, ...(flag.aliases ?? [])]);
  assert.equal(
    LATER_FLAGS.filter((flag) => names.includes(flag.name)),
    [],
  );
  const keys = ALL_FLAGS.flatMap((flag) => flag.env ?? []);
  assert.is(new Set(keys).size, keys.length);
});

test('options of Docker are answered with what to write here', () => {
  for (const [line, hint] of [
    ['run -v /a:/b x.sif', '--bind /a:/b'],
    ['run -v ~/a:/b:ro x.sif', '--bind ~/a:/b:ro'],
    ['run -e A=1 x.sif', '--env A=1'],
    ['exec -qe A=1 x.sif p', undefined],
    ['run -p 8080:80 x.sif', "the host's network"],
    ['run -u 1000:1000 x.sif', 'programs run as you'],
    ['run --rm x.sif', 'leaves nothing behind'],
    ['run -it x.sif sh', 'has your terminal'],
    ['run --volume /a:/b x.sif', '--bind SRC:DST'],
    ['run --volume=/a:/b x.sif', '--bind SRC:DST'],
    ['run --gpus all x.sif', '--nv'],
    ['run --entrypoint sh x.sif', 'tsrun exec IMAGE PROGRAM'],
    ['run -w /opt x.sif', '--pwd DIR'],
    ['run --pid=host x.sif', "the host's unless asked"],
  ] as const) {
    if (hint === undefined) assert.is(parsed(line).image, 'A=1');
    else assert.ok(errorOf(() => parsed(line)).includes(hint), line);
  }
});

test('switches before images that only look like values stay switches', () => {
  for (const [line, image] of [
    ['run -v docker://a/b:1', 'docker://a/b:1'],
    ['run -v oci:dir:tag', 'oci:dir:tag'],
    ['run -e ./A=1', './A=1'],
    ['run -v ./a:b.sif', './a:b.sif'],
    ['run -u x.sif', 'x.sif'],
  ] as const)
    assert.is(parsed(line).image, image);
});

test('no option of Docker is one of ours', () => {
  for (const flag of [...ALL_FLAGS, ...LATER_FLAGS]) {
    assert.is(insteadOf(`--${flag.name}`), undefined, flag.name);
    if (flag.short !== undefined) assert.is(insteadOf(`-${flag.short}`), undefined, flag.short);
  }
});

test.run();
