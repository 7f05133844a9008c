/** Databases of rpm of every kind, read as rpm itself reads them. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { gunzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Package } from '../../src/lock/packages.ts';
import { packageOf, rpmPackages } from '../../src/lock/rpm.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('databases of rpm');
const place = mkdtempSync(join(tmpdir(), 'tsrun-rpm-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

const known = (each: Package): object => Object.fromEntries(Object.entries(each).filter(([, value]) => value !== undefined));

/** A header as rpm stores it. */
const header = (values: readonly (readonly [tag: number, value: string | number])[]): Buffer => {
  const index = Buffer.alloc(8 + 16 * values.length);
  const store: Buffer[] = [];
  index.writeUInt32BE(values.length, 0);
  for (const [at, [tag, value]] of values.entries()) {
    const bytes = typeof value === 'number' ? Buffer.alloc(4) : Buffer.from(`${value}\0`);
    if (typeof value === 'number') bytes.writeUInt32BE(value);
    const entry = [tag, typeof value === 'number' ? 4 : 6, store.reduce((sum, each) => sum + each.length, 0), 1];
    for (const [word, number] of entry.entries()) index.writeUInt32BE(number, 8 + 16 * at + 4 * word);
    store.push(bytes);
  }
  const data = Buffer.concat(store);
  index.writeUInt32BE(data.length, 4);
  return Buffer.concat([index, data]);
};

const BASH = header([
  [273, 'ee'.repeat(32)],
  [1000, 'bash'],
  [1001, '5.1.8'],
  [1002, '9.el9'],
  [1022, 'x86_64'],
  [9999, 'other'],
]);

test('rpm headers are read from its SQLite database', async () => {
  const file = join(place, 'rpmdb.sqlite');
  const database = new DatabaseSync(file);
  database.exec('CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)');
  const insert = database.prepare('INSERT INTO Packages (blob) VALUES (?)');
  for (const blob of [
    BASH,
    header([
      [1000, 'e'],
      [1001, '1'],
      [1002, '2'],
      [1003, 3],
      [1022, 'noarch'],
    ]),
    header([
      [1000, 'gpg-pubkey'],
      [1001, 'x'],
      [1002, 'y'],
    ]),
  ])
    insert.run(blob);
  database.close();
  assert.equal((await rpmPackages(file)).map(known), [
    { manager: 'rpm', name: 'bash', version: '5.1.8-9.el9', architecture: 'x86_64', digest: `sha256:${'ee'.repeat(32)}` },
    { manager: 'rpm', name: 'e', version: '3:1-2', architecture: 'noarch' },
  ]);
});

test('a damaged rpm header gives no package and no harm, wherever it is cut or changed', () => {
  for (let length = 0; length < BASH.length; length++) packageOf(BASH.subarray(0, length));
  for (let at = 0; at < BASH.length; at++) {
    const changed = Buffer.from(BASH);
    changed[at] = 0xff;
    assert.ok(packageOf(changed).length <= 1);
  }
  assert.equal(packageOf(Buffer.alloc(0)), []);
});

const ok = (program: string, ...args: readonly string[]): string => {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: place, encoding: 'utf8' });
  assert.is(status, 0, `${program} ${args.join(' ')}: ${error?.message ?? stderr}`);
  return stdout;
};
const hasProgram = (program: string): boolean => spawnSync(program, ['--version']).error === undefined;

const spec = (name: string, requires: number): string => `Name: ${name}
Version: 1.2
Release: 3
Epoch: 4
Summary: s
License: MIT
BuildArch: noarch
${Array.from({ length: requires }, (_, at) => `Requires: another-${at}\n`).join('')}
%description
d
%files
`;

/** What rpm says is in the database. */
const listed = (...options: readonly string[]): readonly string[] =>
  ok('rpm', ...options, '-qa', '--qf', '%{NAME} %{EPOCH}:%{VERSION}-%{RELEASE} %{ARCH} sha256:%{SHA256HEADER}\n')
    .trim()
    .split('\n')
    .sort();
const found = async (file: string): Promise<readonly string[]> =>
  (await rpmPackages(file)).map(({ name, version, architecture, digest }) => `${name} ${version} ${architecture} ${digest}`).sort();

test('of a database that rpm has made the packages are those it lists, as SQLite and as Berkeley DB', async () => {
  if (!hasProgram('rpmbuild')) return skip('rpm is not installed');
  // Headers of different lengths: one within a page of 4096 bytes, some in chains of pages.
  const names = ['small', 'middle', 'large'].map((name, at) => {
    writeFileSync(join(place, `${name}.spec`), spec(name, 500 * at));
    ok('rpmbuild', '-bb', '--define', `_topdir ${place}/build`, `${name}.spec`);
    return join(place, `build/RPMS/noarch/${name}-1.2-3.noarch.rpm`);
  });
  const sqlite = join(place, 'sqlite');
  ok('rpm', '--dbpath', sqlite, '-i', '--justdb', '--nodeps', ...names);
  const expected = listed('--dbpath', sqlite);
  assert.is(expected.length, 3);
  assert.equal(await found(join(sqlite, 'rpmdb.sqlite')), expected);

  if (!hasProgram('db5.3_load')) return skip('db5.3-util is not installed');
  const rows = new DatabaseSync(join(sqlite, 'rpmdb.sqlite')).prepare('SELECT hnum, blob FROM Packages').all();
  const hex = (bytes: Uint8Array): string => ` ${Buffer.from(bytes).toString('hex')}\n`;
  const numbered = rows
    .map(({ hnum, blob }) => hex(new Uint8Array(Uint32Array.of(Number(hnum)).buffer)) + hex(blob as Uint8Array))
    .join('');
  for (const pageSize of [512, 4096, 65_536]) {
    const directory = join(place, `bdb-${pageSize}`);
    mkdirSync(directory);
    // Its first entry is not a package, but the number of the last one.
    const text = `VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=${pageSize}\nHEADER=END\n 00000000\n 03000000\n${numbered}DATA=END\n`;
    writeFileSync(join(place, 'dump'), text);
    ok('db5.3_load', '-f', 'dump', join(directory, 'Packages'));
    assert.equal(await found(join(directory, 'Packages')), expected);
    assert.equal(listed('--define', '_db_backend bdb_ro', '--dbpath', directory), expected, 'rpm reads it too');
  }
});

/** Made by rpm 6.1 with `_db_backend ndb`: libtool-x and tool. */
const NDB = gunzipSync(
  Buffer.from(
    'H4sIAAAAAAACA+2YXYhc1R3A78yu+dJobKKmkoeF5iGCMznfH33wK7HdQKpLY0FLKj2fyeBuZpmdhE1RSIqFCgqCYGkrJQ9C+1Jpax9UxOpL8cEHKVIiRPAhQhTtB6j4EI3/O/e/s+NBUUsffJiBO5' +
      'ff/Z9z7v/cOef+f7s/XF5aqOAzA0cLz5OfQ4v9YX29Dp5GbsP5NPAp5LL9lKc85SlPecpTnvKUpzzlKU95ylP+ZvFti/5QC//2v7BxdOmmqpqtzzfDAVfaj8B5GxwRjk3YDZrPXIDzBjjayG8jX4H8' +
      'DvI25HfhvBmObyG/h7wD+V9Vc+OdyP/G/ruQ/4vxOeQPMb4b+SMcbw/yxxgXyJ8gf7fh2Vkcb38zh9kN+O+Pg8ibkReQt2D7u5Avx+dxGPkK5N8hb8X2Z5CvwvgfkLch/wV5B+b3POZ3DfZ/DePXYf' +
      'tzGN+J8QtNnrPfxvj7yNc33NqHvKcZv3UP9v9+07/1Uxx/Hvko8gHsv4x8N8aH2P8ejK8iH8b4KWz/E4z/Evle5F8he8znj9g/Iv8VOSE/i5yRX0BeRH4ReYj3X3tex5HPIZ/A+59vePtjGL/Y9N/+' +
      '92a8Nq7v7eeb9u0NyG817dvzyG9j/GDDrRbGzyBfhvvnyWYPtLbi+Di/1tXIb+D6/E/TfwbX9+xleH035n8txnF9zx5BvhH5KDLB/D5p8psRON9LGK/3SXtftdjzw35/sbNakS6vaLUy2uD3tT9+/c' +
      'TSaI9f+YMDd1U/OraynEIv91KEHseOr1bH+m4Qjk68Qq689b3T9RxHfeujijmHqDXRNrAcbCQ2RG6pVV7JTEwwVBgaqCORZU4oDzLY4DWzREoTQp4YfNCH91XxNc68A5l3aHdlELqD5aXqEn7WZzZ6' +
      'EFvWDmgDoT37+kvLg7SykuL3eovpDreUVm6oMFZf2d87klaG69cW3MnFvhs1Xpl3J9LCIOXe6g0V75Ku6NBKdFWXjM7NNzVdgmtofLRxOptGGa9Pr7Wea4bxq7395eHe5nsc2Vt17mRznSNVWO71qy' +
      'M/6y1XFn+FTky+5451ml+m+LRib5DCsD84Wd16aN+BA3PDtLr27t90fJg7porec24llzEK+LZZeJskNUxbz0VIlpqsBKfUZ56Mldp4a7LPXmvKWU7NWNH4QIWWWucYUjaS5uSp18EmrgMxzkshKWPB' +
      'uUh4CMoTnpJxRPpotHDjYnPp0sVXsWDA1vjx838efDC7uvOFdxZ+/Ys3fvu37SYmFmRWkEkwPGghnIpUc5KUs0YqLrIXgocKlhnlhBBvCFdCc2aslc5BXpYJqxnxUXMNUyJe6AyDBpMY4zBJC7NN9Y' +
      'a5b2ajw8f4aP3+rDnJEDN0ISkwEVyOPjtliYChFSxmF5j0nghYxArySlJ6QyVx3vJIPMuuEiw5rWF3MMEsJ1b4kC3sEhqYi8EZxUhiPkrIyhIlrfcywU8C05Jaee4DNEowY8mTz4yIQFUOSoroA4Nk' +
      'klZwt8CZcNIxTSM3QvucqXdEQV64r+oasWVyoew/+PNdde0HF7i99oE2LtjzYx+YuTjhAw99TR/YWPjA5YUPbC184KrCB3YUPrCz8IFdhQ/MFT6wu/ABUviAKnzglsIH5gsfOFj4wELhA3cXPvCbwg' +
      'eeKHzgycIHnip84JnCB14pfOC1wgfONeexD7yLvOYDtyOv+cDhwgdi4QOLhQ8MCx9YLXzg/sIHHix84OHCBx4vfOD3hQ88VfjA04UPPFP4wHOFD7xa+MDZwgfeLHzgo8/6wNgP1nygXfjA/sIH5gsf' +
      'eKLwgTOFD/yp8IHXCx/YVfjAXOEDuwsf2FP4wI2FD5DCB95vfKAuNhXtsrEK1PX8LLrA5q/oApsnXOBsfVSRpSCsTIKLROtKI6Hg+5Q0ETRqa2xmAd69jksPZYa6lAk1ROpoKKU8my9xgVGJhKwnNG' +
      'DsAaMZrb+gxh6wXnP/z0bwpUrw+U4wSn+ibo/yLnWgvvi/msBXcgEVoCJJDsZGQcpsMozB78FUEEpAdSIsZgolnbnMuLEs2hyh8jCVbF07TVMtN/mkNBMQMlpFEVMIUGE5/KDJEShyUkCNVI4GzaQl' +
      'PjlwP62yJhkG4kqaL3CBO//xz5Nx4YHvXNN/6fjMy0+fqoLiYIpcGBgfvII7TQIzPgOlDJUazAPumGQFbqChGJp6VpQ4RnSMUO2dhGqeY7LWUJii00IKIRlzULPrNcmhDGtuOf2sCzy45gIiC5gmo0' +
      'RyD2NRWNrBC6YdTFpY48EjdIaCbYmrlzW0A9mAO8WgQUxUrGD2nINDgDLpoKmqV76DjQJz8jGGSLSWIAdKyBwNZ/Co4JlyrRz3kmktYApOME6VsALuDDpkcya5FpiQE1R7S8EcjNbwJDTnUtW7zTFv' +
      'dRJEcT3hAva2Ox49j/X/U9CvNDUQIAAA',
    'base64',
  ),
);

test('an ndb has the packages that rpm put there', async () => {
  const file = join(place, 'Packages.db');
  writeFileSync(file, NDB);
  assert.equal(await found(file), [
    'libtool-x 0.3-1 noarch sha256:b6513000b803647328995aa51f9249720bd737f3e0b47fe2cc8e223bf39643e4',
    'tool 1.2-1 noarch sha256:e6a7a278f1f310a207dd8e2a5e5cfde99816c4a74544522ab8189f23bd573931',
  ]);
});

test('a damaged database gives what is left, or is refused as none, and does no harm', async () => {
  const file = join(place, 'damaged');
  const bdb = join(place, 'bdb-512/Packages');
  const whole = [NDB, ...(hasProgram('db5.3_load') && hasProgram('rpmbuild') ? [readFileSync(bdb)] : [])];
  for (const bytes of whole) {
    for (let at = 0; at < bytes.length; at += at < 600 ? 1 : 37) {
      const damaged = Buffer.from(bytes);
      damaged.fill(0xff, at, at + 4);
      writeFileSync(file, damaged);
      const packages = await rpmPackages(file).catch(() => []);
      assert.ok(packages.length <= 3);
      writeFileSync(file, bytes.subarray(0, at));
      await rpmPackages(file).catch((error: Error) => assert.match(error.message, /no database|SQLite/i));
    }
  }
});

test.run();
