import { chmodSync, copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodePlan, helperProgram, makeImage, makePlan, ordinary, payload, type Result, root, runBytes, type Setup } from './helpers.ts';

const test = suite('launcher: exec');

const image = makeImage('tools', 'locked', 'second');
const put = (path: string, content: string | Buffer, mode = 0o755): void => {
  writeFileSync(join(image, path), content);
  chmodSync(join(image, path), mode);
};
/** A copy of the payload, changed: an ELF file that says something else. */
const program = readFileSync(helperProgram('payload'));
const patched = (offset: number, value: number): Buffer => {
  const copy = Buffer.from(program);
  copy.writeUInt16LE(value, offset);
  return copy;
};
/** The smallest file of which the kernel looks up the loader: an ELF header and a PT_INTERP segment. */
const withLoader = (loader: string): Buffer => {
  const header = Buffer.from(program.subarray(0, 64));
  header.writeUInt16LE(3, 16); // ET_DYN
  header.writeBigUInt64LE(64n, 32); // e_phoff
  header.writeUInt16LE(56, 54); // e_phentsize
  header.writeUInt16LE(1, 56); // e_phnum
  const segment = Buffer.alloc(56);
  segment.writeUInt32LE(3, 0); // PT_INTERP
  segment.writeBigUInt64LE(120n, 8);
  const text = Buffer.from(`${loader}\0`);
  segment.writeBigUInt64LE(BigInt(text.length), 32);
  segment.writeBigUInt64LE(BigInt(text.length), 40);
  return Buffer.concat([header, segment, text, Buffer.alloc(4096)]);
};

put('tools/script', '#!/bin/payload echo\n');
put('tools/orphan-script', '#!/usr/bin/python9 -s\n');
put('tools/dos-script', '#!/bin/payload\r\n');
put('tools/plain', 'no first line\n');
put('tools/data', program, 0o644);
put('tools/aarch64', patched(18, 183));
put('tools/garbage', Buffer.from([1, 2, 3, 0, 5]));
put('tools/musl', withLoader('/lib/ld-musl-x86_64.so.1'));
put('tools/script-of-data', '#!/tools/data\n');
put('locked/payload', 'x', 0o644);
copyFileSync(helperProgram('payload'), join(image, 'second/payload'));
chmodSync(join(image, 'second/payload'), 0o755);
mkdirSync(join(image, 'second/tools'));
symlinkSync('/nowhere', join(image, 'tools/dangling'));

const setup: Setup = { image };
const run = (file: string, args: readonly string[] = ['name', 'one'], env: readonly string[] = ['PATH=/bin']): Result =>
  runBytes(encodePlan(makePlan({ ...setup, file, env }, args)), setup);
const says = (result: Result, status: number, text: string): void => {
  assert.is(result.err, `tsrun: cannot run the program: ${text} (E_LAUNCH)\n`);
  assert.is(result.status, status);
};

test('a script runs by its interpreter', () => {
  assert.equal(run('/tools/script').out, '/tools/script\none\n');
});

test('exit status and signal are the payload’s', () => {
  assert.is(payload(setup, 'exit 42').status, 42);
  assert.is(payload(setup, 'raise 15').signal, 'SIGTERM');
  assert.is(payload({ ...setup, unshare: 'mount,pid' }, 'exit 42').status, 42);
  assert.is(payload({ ...setup, unshare: 'mount,pid' }, 'raise 9').signal, 'SIGKILL');
});

test('a missing file is 127', () => {
  says(run('/tools/none'), 127, '/tools/none: there is no such file');
  says(run('/tools/dangling'), 127, '/tools/dangling: there is no such file');
  says(run('/tools/data/x'), 127, '/tools/data/x: there is no such file');
});

test('a name in no directory of PATH is 127, and says which PATH', () => {
  says(run('nothing', ['nothing'], ['PATH=/bin:/tools']), 127, 'nothing: it is in no directory of PATH (/bin:/tools)');
  says(run('nothing', ['nothing'], []), 127, 'nothing: it is in no directory of PATH ()');
});

test('PATH is searched in order, past what cannot be run', () => {
  assert.is(run('payload', ['payload', 'echo', 'found'], ['PATH=/none:/locked:/second:/bin']).out, 'found\n');
  says(run('payload', ['payload'], ['PATH=/none:/locked']), 126, '/locked/payload: it is not executable');
});

test('a missing interpreter of a script is 127 and named', () => {
  says(run('/tools/orphan-script'), 127, '/tools/orphan-script: its interpreter /usr/bin/python9 is missing');
});

test('a script with DOS line ends is explained', () => {
  says(
    run('/tools/dos-script'),
    127,
    '/tools/dos-script: its first line ends with a carriage return, so the interpreter is not found (#!/bin/payload)',
  );
});

test('a missing loader is 127 and named', () => {
  says(
    run('/tools/musl'),
    127,
    '/tools/musl: its loader /lib/ld-musl-x86_64.so.1 is missing (it was built for another C library or system)',
  );
});

test('a program for another machine is 126 and both are named', () => {
  says(run('/tools/aarch64'), 126, '/tools/aarch64: it is a program for aarch64, this machine is x86_64');
});

test('what is no program is 126', () => {
  says(run('/tools/garbage'), 126, '/tools/garbage: it is neither a program nor a script');
  says(run('/tools/data'), 126, '/tools/data: it is not executable');
  says(run('/tools'), 126, '/tools: it is a directory');
  says(run('/tools/script-of-data'), 126, '/tools/script-of-data: its interpreter /tools/data is not executable');
});

test('text without #! needs /bin/sh', () => {
  says(run('/tools/plain'), 126, '/tools/plain: it has no #! line, and /bin/sh cannot run it (No such file or directory)');
});

test('text without #! is run by /bin/sh where there is one, with all arguments', () => {
  const withShell: Setup = {
    ...setup,
    // The payload takes the place of the shell: its verb is then the script's own path, which it does not know.
    mounts: [['bind', helperProgram('payload'), '/bin/sh', '']],
    file: '/tools/plain',
  };
  const result = runBytes(encodePlan(makePlan(withShell, ['plain', 'one', 'two'])), withShell);
  assert.equal([result.status, result.err], [99, 'payload: unknown verb or too few arguments: /tools/plain\n']);
});

test('a file system mounted noexec is named', () => {
  const result = runBytes(
    encodePlan(
      makePlan(
        {
          ...setup,
          userns: [
            ['userns', 0, 0],
            ['image_directory', image],
          ],
          unshare: 'mount,pid',
          mounts: [['proc', '/tools']],
          file: '/tools/self/comm',
        },
        ['x'],
      ),
    ),
    setup,
  );
  assert.is(result.status, 126);
  assert.match(result.err, /\/tools\/self\/comm: it is not executable/);
});

test('arguments that are too long are 125 and explained', () => {
  const result = run('/bin/payload', ['payload', 'echo', 'x'.repeat(200_000)]);
  says(result, 125, '/bin/payload: its arguments and environment are longer than the kernel takes');
});

test('failures before exec are 125', () => {
  assert.is(payload({ ...setup, image: '/none' }, 'true').status, 125);
  assert.is(payload({ ...setup, settle: [['chdir', '/none']] }, 'true').status, 125);
});

test('with its own PIDs a failure comes out as well', () => {
  const missing = runBytes(encodePlan(makePlan({ ...setup, unshare: 'mount,pid', file: '/none' }, ['x'])), setup);
  says(missing, 127, '/none: there is no such file');
  const early = payload({ ...setup, unshare: 'mount,pid', settle: [['chdir', '/none']] }, 'true');
  assert.equal([early.status, early.err], [125, 'tsrun: cannot enter the directory: /none: No such file or directory (E_LAUNCH)\n']);
});

test('root gets the same answers', () => {
  if (process.getuid?.() !== 0) return;
  const asRoot: Setup = { ...setup, user: root, file: '/tools/data' };
  assert.is(runBytes(encodePlan(makePlan(asRoot, ['x'])), asRoot).status, 126);
  assert.is.not(ordinary.uid, 0);
});

test.run();
