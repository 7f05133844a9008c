import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Descriptor, Platform } from '../../src/oci/descriptor.ts';
import { choosePlatform, formatPlatform, parsePlatform, platformFit } from '../../src/oci/platform.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('platform');

const entry = (platform: string | undefined, annotations?: Record<string, string>): Descriptor => {
  const [os = '', architecture = '', variant] = platform?.split('/') ?? [];
  return {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: `sha256:${Buffer.from(platform ?? 'none')
      .toString('hex')
      .padEnd(64, '0')
      .slice(0, 64)}`,
    size: 1,
    annotations,
    platform: platform === undefined ? undefined : { os, architecture, ...(variant === undefined ? {} : { variant }) },
  };
};

const chosen = (wanted: string, ...offered: string[]): string | undefined => {
  const [best] = choosePlatform(
    offered.map((platform) => entry(platform)),
    parsePlatform(wanted),
  ).fitting;
  return best?.platform === undefined ? undefined : formatPlatform(best.platform);
};

test('words of uname and of OCI name the same machine', () => {
  const same: Record<string, Platform> = {
    x86_64: { os: 'linux', architecture: 'amd64' },
    amd64: { os: 'linux', architecture: 'amd64' },
    aarch64: { os: 'linux', architecture: 'arm64' },
    'linux/arm/v7': { os: 'linux', architecture: 'arm', variant: 'v7' },
    armv6l: { os: 'linux', architecture: 'arm', variant: 'v6' },
    ppc64le: { os: 'linux', architecture: 'ppc64le' },
  };
  for (const [text, platform] of Object.entries(same)) assert.equal(parsePlatform(text), platform, text);
});

test('words that are no architecture are refused with those that are', async () => {
  for (const text of ['', 'intel', 'windows/amd64', 'amd64/v2/x', 'arm/']) {
    assert.match((await failure(() => parsePlatform(text), 'E_PLATFORM')).hint ?? '', /amd64 arm arm64/, text);
  }
});

test('arm takes the newest variant that the machine can run', () => {
  assert.is(chosen('arm/v7', 'linux/arm/v5', 'linux/arm/v7', 'linux/arm/v6'), 'linux/arm/v7');
  assert.is(chosen('arm/v6', 'linux/arm/v5', 'linux/arm/v7', 'linux/arm/v6'), 'linux/arm/v6');
  assert.is(chosen('arm', 'linux/arm/v6', 'linux/arm/v8'), 'linux/arm/v6');
  assert.is(chosen('arm/v5', 'linux/arm/v7'), undefined);
});

test('arm64 with and without v8 are the same', () => {
  assert.is(chosen('arm64', 'linux/amd64', 'linux/arm64/v8'), 'linux/arm64/v8');
  assert.is(chosen('arm64/v8', 'linux/arm64'), 'linux/arm64');
});

test('amd64 takes the baseline unless a level was asked for', () => {
  assert.is(chosen('amd64', 'linux/amd64/v3', 'linux/amd64'), 'linux/amd64');
  assert.is(chosen('amd64/v3', 'linux/amd64', 'linux/amd64/v4', 'linux/amd64/v3'), 'linux/amd64/v3');
  assert.is(chosen('amd64', 'linux/amd64/v3'), undefined);
});

test('another system never fits', () => {
  assert.is(platformFit({ os: 'windows', architecture: 'amd64' }, parsePlatform('amd64')), undefined);
});

test('attestations are not images, and entries without a platform are kept apart', () => {
  const attestation = entry('unknown/unknown', { 'vnd.docker.reference.type': 'attestation-manifest' });
  const choice = choosePlatform([attestation, entry(undefined), entry('linux/s390x')], parsePlatform('amd64'));
  assert.equal(choice.fitting, []);
  assert.is(choice.unlabelled.length, 1);
  assert.equal(choice.offered, ['linux/s390x']);
});

test.run();
