import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  formatRegistryReference,
  parseReference,
  parseRegistryHost,
  parseRegistryReference,
  type RegistryReference,
} from '../../src/oci/reference.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('reference');
const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}` as const;

const registry = (text: string): RegistryReference => {
  const reference = parseReference(text);
  if (reference.kind !== 'registry') throw new Error(`${text} is ${reference.kind}`);
  return reference;
};

test('a one-word name is an official image of Docker Hub with tag latest', () => {
  assert.equal(registry('docker://alpine'), {
    kind: 'registry',
    registry: 'docker.io',
    repository: 'library/alpine',
    tag: 'latest',
    text: 'docker://alpine',
  });
});

test('all names of Docker Hub are one registry', () => {
  for (const host of ['docker.io', 'index.docker.io', 'registry-1.docker.io', 'DOCKER.IO']) {
    assert.is(formatRegistryReference(registry(`docker://${host}/alpine:3`)), 'docker://docker.io/library/alpine:3', host);
  }
  assert.is(registry('docker://biocontainers/samtools:1.9').repository, 'biocontainers/samtools');
});

test('the first word is a host when it has a dot, a port, capitals, or is localhost', () => {
  assert.equal(pick(registry('docker://ghcr.io/org/tool:2')), ['ghcr.io', 'org/tool', '2']);
  assert.equal(pick(registry('docker://node7:5000/tool')), ['node7:5000', 'tool', 'latest']);
  assert.equal(pick(registry('docker://localhost/tool')), ['localhost', 'tool', 'latest']);
  assert.equal(pick(registry('docker://[::1]:5000/a/b:c')), ['[::1]:5000', 'a/b', 'c']);
  assert.equal(pick(registry('docker://HOST/tool')), ['host', 'tool', 'latest']);
});

test('tag and digest may both be given, and a digest alone brings no tag', () => {
  assert.equal(pick(registry(`docker://quay.io/a/b:1.2@${DIGEST}`)), ['quay.io', 'a/b', '1.2']);
  assert.is(registry(`docker://quay.io/a/b:1.2@${DIGEST}`).digest, DIGEST);
  assert.is(registry(`docker://quay.io/a/b@${DIGEST}`).tag, undefined);
});

test('a registry port is not taken for a tag', () => {
  assert.equal(pick(registry('docker://reg.example:443/a')), ['reg.example:443', 'a', 'latest']);
});

test('archives and layouts split their tag at the first colon, as skopeo does', () => {
  assert.equal(parseReference('oci:dir'), { kind: 'oci-layout', path: 'dir', text: 'oci:dir' });
  assert.equal(parseReference('oci:/d/x:reg.example/team/a:1'), {
    kind: 'oci-layout',
    path: '/d/x',
    tag: 'reg.example/team/a:1',
    text: 'oci:/d/x:reg.example/team/a:1',
  });
  assert.equal(parseReference('oci-archive:a.tar:v1'), { kind: 'oci-archive', path: 'a.tar', tag: 'v1', text: 'oci-archive:a.tar:v1' });
  assert.equal(parseReference('docker-archive:///tmp/a.tar'), {
    kind: 'docker-archive',
    path: '/tmp/a.tar',
    text: 'docker-archive:///tmp/a.tar',
  });
});

test('tar files, standard input and paths are told apart without looking', () => {
  assert.equal(parseReference('tar:root.tar.gz'), { kind: 'tar', path: 'root.tar.gz', text: 'tar:root.tar.gz' });
  assert.equal(parseReference('-'), { kind: 'stdin-tar', text: '-' });
  assert.equal(parseReference('tar:-'), { kind: 'stdin-tar', text: 'tar:-' });
  for (const path of ['pipeline.sif', './docker', '/gpfs/x:y.sif', 'name:with-colon', 'C:thing', 'run 3.sif']) {
    assert.equal(parseReference(path), { kind: 'path', path, text: path });
  }
});

test('schemes of other programs are refused with what to use instead', async () => {
  const hints: Record<string, RegExp> = {
    'library://lolcow': /Apptainer/,
    'shub://a/b': /Singularity Hub is closed/,
    'oras://ghcr.io/a/b:1': /oras pull/,
    'docker-daemon:alpine:3': /docker save/,
    'containers-storage:alpine': /podman save/,
    'https://ghcr.io/a/b': /docker:\/\/HOST/,
    'file:///tmp/a.sif': /write \/tmp\/a\.sif/,
    'weird://x': /known: docker/,
    'docker:alpine': /write docker:\/\/alpine/,
    'docker://nvcr.io#nvidia/pytorch:24': /write docker:\/\/nvcr\.io\/nvidia\/pytorch:24/,
  };
  for (const [text, hint] of Object.entries(hints))
    assert.match((await failure(() => parseReference(text), 'E_REFERENCE')).hint ?? '', hint, text);
});

test('what breaks the grammar is refused and named', async () => {
  const whys: Record<string, RegExp> = {
    '': /empty/,
    'docker://': /image name is missing/,
    'docker://ghcr.io/': /image name is missing/,
    'docker://a/../b': /not an image name/,
    'docker://a//b': /not an image name/,
    'docker://a/b:': /not a tag/,
    'docker://a/b:-x': /not a tag/,
    [`docker://a/b:${'t'.repeat(129)}`]: /not a tag/,
    'docker://a/b@sha256:12': /not a digest/,
    'docker://a/b@md5:0123': /not a digest/,
    'docker://-bad.example/a': /not a registry host/,
    'docker://user@host.example/a': /not a digest/,
    [`docker://a/${'x'.repeat(260)}`]: /255/,
    'oci:': /path is missing/,
    'tar:': /path is missing/,
    'a\0b': /NUL/,
  };
  for (const [text, why] of Object.entries(whys)) assert.match((await failure(() => parseReference(text), 'E_REFERENCE')).why, why, text);
});

test('a name in capitals is refused with the lower-case spelling', async () => {
  assert.match((await failure(() => parseReference('docker://BioContainers/samtools/X'), 'E_REFERENCE')).hint ?? '', /lower case/);
});

test('any text gives a reference or E_REFERENCE, and a formatted reference parses to itself', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((text) => `docker://${text}`),
        fc.stringMatching(/^docker:\/\/[a-z0-9./:@_-]{0,60}$/),
      ),
      (text) => {
        try {
          const reference = parseReference(text);
          if (reference.kind !== 'registry') return;
          const again = registry(formatRegistryReference(reference));
          assert.equal({ ...again, text: '' }, { ...reference, text: '' });
          for (const part of reference.repository.split('/')) assert.ok(part !== '' && part !== '.' && part !== '..');
        } catch (error) {
          if (!(error instanceof TsrunError && error.code === 'E_REFERENCE')) throw error;
        }
      },
    ),
    { numRuns: 2000, seed: 1 },
  );
});

test('the registry of a login may be written as a host or as a URL', async () => {
  for (const text of ['ghcr.io', 'https://ghcr.io', 'docker://ghcr.io/org/tool', 'GHCR.IO/'])
    assert.is(parseRegistryHost(text), 'ghcr.io', text);
  assert.is(parseRegistryHost('https://index.docker.io/v1/'), 'docker.io');
  assert.is(parseRegistryHost('node7'), 'node7');
  await failure(() => parseRegistryHost('a b'), 'E_REFERENCE');
});

test('a reference without a scheme can be parsed for config entries', () => {
  assert.is(parseRegistryReference('ghcr.io/a/b:1').text, 'ghcr.io/a/b:1');
});

const pick = ({ registry: host, repository, tag }: RegistryReference): unknown[] => [host, repository, tag];

test.run();
