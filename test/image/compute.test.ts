/** Image facts from trees in memory: what a run needs to know, found in images of all kinds. */
import { readFileSync, realpathSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { computeFacts, factsJson, lazyFacts } from '../../src/image/compute.ts';
import { IMAGE_FACTS_MAX_BYTES } from '../../src/image/facts.ts';
import { parseFacts } from '../../src/image/read-facts.ts';
import { parseExports } from '../../src/image/scripts.ts';
import { renderSingularity } from '../../src/image/singularity.ts';
import type { ImageView } from '../../src/image/view.ts';
import { EMPTY_CONFIG, parseRunConfig } from '../../src/oci/config.ts';
import { entryAt } from '../../src/plan/image-tree.ts';

const test = suite('image facts');

type Node = string | { readonly link: string } | 'dir';

/** A path that ends in a slash is a directory; parents are made. Values are contents, or links. */
const viewOf = (nodes: Readonly<Record<string, string | { readonly link: string }>>): ImageView => {
  const tree = new Map<string, Node>([['/', 'dir']]);
  for (const [path, node] of Object.entries(nodes)) {
    const parts = path.split('/').filter((part) => part !== '');
    for (let depth = 1; depth < parts.length; depth++) tree.set(`/${parts.slice(0, depth).join('/')}`, 'dir');
    tree.set(`/${parts.join('/')}`, path.endsWith('/') ? 'dir' : typeof node === 'string' ? `=${node}` : node);
  }
  const kind = (node: Node): 'directory' | 'link' | 'file' => (node === 'dir' ? 'directory' : typeof node === 'string' ? 'file' : 'link');
  return {
    lstat: (path) => {
      const node = tree.get(path);
      return node === undefined ? null : { kind: kind(node), mode: 0o755, size: typeof node === 'string' ? node.length - 1 : 0 };
    },
    readlink: (path) => {
      const node = tree.get(path);
      return typeof node === 'object' ? node.link : null;
    },
    readdir: (path) => {
      if (tree.get(path) !== 'dir') return null;
      const prefix = path === '/' ? '/' : `${path}/`;
      const below = [...tree].filter(([name]) => name !== '/' && name.startsWith(prefix) && !name.slice(prefix.length).includes('/'));
      return below.map(([name, node]) => ({ name: name.slice(prefix.length), kind: kind(node) }));
    },
    read: (path, limit, offset = 0) => {
      const node = tree.get(path);
      return typeof node === 'string' && node !== 'dir' ? node.slice(1 + offset, 1 + offset + limit) : null;
    },
  };
};

const libc = '/lib/x86_64-linux-gnu/libc.so.6';
const hostFile = (path: string): string => readFileSync(realpathSync(path), 'latin1');

test('a Debian-like image with merged /usr gives architecture, C library, shells, accounts and system', () => {
  const facts = computeFacts(
    viewOf({
      '/bin': { link: 'usr/bin' },
      '/lib': { link: 'usr/lib' },
      '/lib64': { link: '/usr/lib64' },
      '/usr/bin/dash': hostFile('/bin/sh'),
      '/usr/bin/sh': { link: 'dash' },
      '/usr/bin/bash': hostFile('/bin/bash'),
      [`/usr${libc}`]: hostFile(libc),
      '/usr/lib/x86_64-linux-gnu/libmpi.so.40': { link: 'libmpi.so.40.30.1' },
      '/usr/lib/x86_64-linux-gnu/libmpi.so.40.30.1': 'x',
      '/usr/lib/locale/C.utf8/LC_CTYPE': 'x',
      '/usr/lib/locale/de_DE.utf8/LC_CTYPE': 'x',
      '/etc/os-release': { link: '../usr/lib/os-release' },
      '/usr/lib/os-release': 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian \\"12\\""\n',
      '/etc/passwd': 'root:x:0:0::/root:/bin/sh\n',
      '/etc/group': 'root:x:0:\n',
      '/etc/ssl/certs/ca-certificates.crt': 'CERT',
      '/etc/hosts': '',
      '/home/ada/data/': '',
    }),
  );
  assert.is(facts.arch, process.arch === 'x64' ? 'amd64' : process.arch);
  assert.equal(facts.os, { id: 'debian', version: '12', name: 'Debian "12"' });
  assert.is(facts.libc.kind, 'glibc');
  assert.match(facts.libc.version, /^2\.\d\d$/);
  assert.equal([facts.sh, facts.bash], ['/usr/bin/dash', '/usr/bin/bash']);
  assert.equal(facts.mpi, ['libmpi.so.40']);
  assert.equal(facts.locales, ['C.UTF-8', 'de_DE.UTF-8']);
  assert.is(facts.caBundle, '/etc/ssl/certs/ca-certificates.crt');
  assert.is(facts.passwd, 'root:x:0:0::/root:/bin/sh\n');
  assert.equal(
    ['/bin', '/usr', '/usr/lib', '/etc/hosts', '/home/ada'].map((path) => entryAt(facts, path)),
    ['lusr/bin', 'd', 'd', 'f', undefined],
  );
  assert.equal(parseFacts(factsJson(facts)), facts);
});

test('a musl image is known by its loader, and needs no locales', () => {
  const facts = computeFacts(
    viewOf({ '/lib/ld-musl-x86_64.so.1': `ELF..\0musl libc\0${'1.2.4'}\0`, '/usr/lib/locale/C.utf8/LC_CTYPE': 'x' }),
  );
  assert.equal([facts.libc, facts.locales], [{ kind: 'musl', version: '1.2.4' }, []]);
});

test('an image with nothing in it has facts too', () => {
  const facts = computeFacts(viewOf({}), EMPTY_CONFIG, 'arm64');
  assert.equal([facts.arch, facts.sh, facts.libc.kind, facts.tree], ['arm64', '', 'none', {}]);
});

test('the OCI config gives environment, entry point and command as byte strings', () => {
  const config = parseRunConfig({
    created: '2020-01-01T00:00:00Z',
    config: { Env: ['A=ü', 'noequals', 5], Entrypoint: ['/x'], Cmd: 'wrong', WorkingDir: '/w', User: '1', Labels: { k: 'v', n: 1 } },
  });
  const facts = computeFacts(viewOf({}), config);
  assert.equal([facts.env, facts.entrypoint, facts.cmd, facts.workingDir, facts.user], [['A=\xc3\xbc'], ['/x'], [], '/w', '1']);
  assert.equal([config.labels, config.created], [{ k: 'v' }, 1_577_836_800]);
  assert.match(factsJson(facts), /A=\\u00c3\\u00bc/);
});

/** An image with what `renderSingularity` makes, and more. */
const rendered = (env: readonly string[], more: Record<string, string> = {}): ImageView =>
  viewOf({
    ...Object.fromEntries(
      renderSingularity({ ...EMPTY_CONFIG, env }).flatMap((file) => (file.kind === 'file' ? [[`/${file.path}`, file.content]] : [])),
    ),
    ...more,
  });

test('our own rendering is not taken for scripts of somebody, and is read back where the config is lost', () => {
  const env = ['PATH=/a:/b', 'Q="x" `y` $z \\'];
  const facts = computeFacts(rendered(env));
  assert.equal([facts.runscript, facts.envScripts, facts.env], [false, [], env]);
});

test('scripts that others wrote are named, comments alone are not worth a shell', () => {
  const own = computeFacts(
    rendered([], {
      '/.singularity.d/env/90-environment.sh': '#!/bin/sh\nexport MODULE=$(date)\n',
      '/.singularity.d/env/91-environment.sh': '#!/bin/sh\n# nothing\n',
      '/.singularity.d/env/01-base.sh': '#!/bin/sh\nexport X=stock\n',
      '/.singularity.d/runscript': '#!/bin/sh\nexec /opt/tool "$@"\n',
    }),
  );
  assert.equal([own.runscript, own.envScripts], [true, ['90-environment.sh']]);
});

test("Apptainer's rendering of ENV is read as data, and its runscript is replaced only when the config is known", () => {
  const scripts = {
    '/.singularity.d/env/10-docker2singularity.sh':
      '#!/bin/sh\nexport PATH="/usr/bin:/bin"\nexport A="$' + '{A:-"one two"}"\nexport B="$' + "{B:-'single $x'}\"\n",
    '/.singularity.d/runscript':
      "#!/bin/sh\nOCI_ENTRYPOINT=''\nOCI_CMD='\"/bin/sh\"'\neval \"set $" + '{SINGULARITY_OCI_RUN}"\nexec "$@"\n',
  };
  const without = computeFacts(viewOf(scripts));
  assert.equal([without.env, without.envScripts, without.runscript], [['PATH=/usr/bin:/bin', 'A=one two', 'B=single $x'], [], true]);
  const known = computeFacts(viewOf(scripts), { ...EMPTY_CONFIG, cmd: ['/bin/sh'] });
  assert.equal([known.runscript, known.cmd, known.env], [false, ['/bin/sh'], []]);
});

test('a script that does more than export plain values has to be sourced', () => {
  for (const line of ['export A="$(id)"', 'export A="$B"', 'A=1', 'export A="x"; rm -rf /', '. /etc/profile', 'export A="`id`"']) {
    assert.is(parseExports(`#!/bin/sh\n${line}\n`), undefined, line);
    const facts = computeFacts(viewOf({ '/.singularity.d/env/10-docker2singularity.sh': `${line}\n` }));
    assert.equal(facts.envScripts, ['10-docker2singularity.sh']);
  }
});

test('names of a locale archive are read from its head', () => {
  const names = 'en_US.utf8\0fr_FR\0';
  const archive = Buffer.alloc(80);
  for (const [at, value] of [
    [0, 0xde020109],
    [20, 80],
    [24, names.length],
  ] as const)
    archive.writeUInt32LE(value, at);
  const view = viewOf({ [libc]: hostFile(libc), '/usr/lib/locale/locale-archive': archive.toString('latin1') + names });
  assert.equal(
    computeFacts(view).locales.filter((name) => name !== 'C.UTF-8'),
    ['en_US.UTF-8', 'fr_FR'],
  );
});

test('links in circles, giant trees and damaged programs end, and facts stay within their bound', () => {
  const nodes: Record<string, string | { readonly link: string }> = {
    '/bin/sh': { link: '/bin/bash' },
    '/bin/bash': { link: 'sh' },
    '/usr/bin/env': `\x7fELF\x02\x01\x01${'\xff'.repeat(600)}`,
    '/etc/passwd': `${'x'.repeat(99)}\n`.repeat(2000),
    '/etc/os-release': { link: '/../../../../etc/../usr/lib/os-release' },
    '/usr/lib/os-release': 'ID=inside\n',
  };
  for (let i = 0; i < 3000; i++) nodes[`/opt/${'long-name-'.repeat(20)}${i}/`] = '';
  const facts = computeFacts(viewOf(nodes));
  assert.equal([facts.sh, facts.bash, facts.os.id], ['', '', 'inside']);
  assert.is(facts.passwd.length, 65_500);
  const text = factsJson(facts);
  assert.ok(text.length <= IMAGE_FACTS_MAX_BYTES, `${text.length} bytes`);
  assert.equal(parseFacts(text), facts);
});

const MIXED: Readonly<Record<string, string | { readonly link: string }>> = {
  '/bin/busybox': hostFile('/bin/sh'),
  '/bin/sh': { link: 'busybox' },
  '/lib/modules': { link: '/x' },
  '/lib/deep/er/': '',
  '/usr/local/': '',
  '/usr/tmp': { link: '../var/tmp' },
  '/home/ada/': '',
  '/etc/hosts': '',
  '/etc/fstab': '',
  '/etc/resolv.conf': { link: '/run/resolv.conf' },
  '/srv': { link: 'usr' },
  '/passwd': '',
};

test('facts that are found out when they are asked for are the same, and cost nothing before', () => {
  const asked: string[] = [];
  const view = viewOf(MIXED);
  const note = <T>(path: string, answer: T): T => {
    asked.push(path);
    return answer;
  };
  const watched: ImageView = {
    lstat: (path) => note(path, view.lstat(path)),
    readlink: (path) => note(path, view.readlink(path)),
    readdir: (path) => note(path, view.readdir(path)),
    read: (path, limit, offset) => note(path, view.read(path, limit, offset)),
  };
  const lazy = lazyFacts(watched);
  assert.equal(asked, []);
  assert.is(lazy.sh, '/bin/busybox');
  const before = asked.length;
  assert.is(lazy.sh, '/bin/busybox');
  assert.is(asked.length, before);
  const whole = computeFacts(view);
  for (const name of Object.keys(whole) as (keyof typeof whole)[]) if (name !== 'tree') assert.equal(lazy[name], whole[name], name);
});

test('a tree on demand has the entries of the listed one, and no others', () => {
  const lazy = lazyFacts(viewOf(MIXED));
  const whole = computeFacts(viewOf(MIXED));
  const paths = Object.keys(MIXED).flatMap((path) =>
    path
      .split('/')
      .map((_, depth, parts) => parts.slice(0, depth + 1).join('/'))
      .filter((each) => each !== ''),
  );
  for (const path of [...paths, '/none', '/usr/none', '/srv/local', '/', '//', '/usr/', 'usr', ''])
    assert.is(entryAt(lazy, path), entryAt(whole, path), path);
  assert.equal(
    ['/bin', '/bin/sh', '/lib/modules', '/lib/deep', '/lib/deep/er', '/usr/tmp', '/home/ada'].map((path) => entryAt(whole, path)),
    ['d', undefined, undefined, 'd', undefined, 'l../var/tmp', undefined],
  );
  assert.equal(
    ['/etc/hosts', '/etc/fstab', '/etc/resolv.conf'].map((path) => entryAt(lazy, path)),
    ['f', undefined, 'l/run/resolv.conf'],
  );
});

test.run();
