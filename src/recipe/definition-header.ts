/** The header of a stage: which agent brings the base, and what it needs to know. */

import type { Line } from './definition-text.ts';
import { imageReference } from './dockerfile-origin.ts';
import { meant, quote, refuse, refuseUnsupported } from './errors.ts';
import type { Base, Place } from './spec.ts';
import { trim, trimStart } from './text.ts';

export type Header = ReadonlyMap<string, { readonly value: string; readonly at: Place }>;

const KEYS: readonly string[] = [
  'bootstrap',
  'from',
  'stage',
  'registry',
  'namespace',
  'library',
  'fingerprints',
  'osversion',
  'mirrorurl',
  'updateurl',
  'include',
  'includecmd',
  'setopt',
  'confurl',
  'product',
  'user',
  'regcode',
  'productpgp',
  'registerurl',
  'modules',
  'frontend',
  'filename',
  'target',
  'buildargs',
];

/** As people know them. */
const SPELLED: Readonly<Record<string, string>> = {
  bootstrap: 'Bootstrap',
  from: 'From',
  stage: 'Stage',
  osversion: 'OSVersion',
  mirrorurl: 'MirrorURL',
  include: 'Include',
};

/** `Key: value # comment`; a backslash at the end continues the value. @throws TsrunError E_RECIPE */
export const readHeader = (lines: readonly Line[]): Header => {
  const header = new Map<string, { readonly value: string; readonly at: Place }>();
  let open: { key: string; value: string; at: Place } | undefined;
  const close = (): void => {
    if (open !== undefined) header.set(open.key, { value: open.value, at: open.at });
    open = undefined;
  };
  for (const { text, at } of lines) {
    const body = trim((trimStart(text).startsWith('#') ? '' : text).split('#')[0] ?? '');
    if (body === '') {
      close();
      continue;
    }
    if (open === undefined) {
      const { key, value } = keyAndValue(body, at);
      if (header.has(key)) refuse(at, `${SPELLED[key] ?? key} stands there twice in one header`, 'leave one of them out');
      open = { key, value: '', at };
      open.value = value;
    } else open.value += body;
    if (!open.value.endsWith('\\')) close();
    else open.value = open.value.slice(0, -1).replace(/\\n$/, '\n');
  }
  close();
  return header;
};

const keyAndValue = (body: string, at: Place): { readonly key: string; readonly value: string } => {
  const colon = body.indexOf(':');
  if (colon < 0) return refuse(at, `${quote(body)} is no line of a header`, 'expected KEY: VALUE, or a section such as %post');
  const key = trim(body.slice(0, colon)).toLowerCase();
  if (!KEYS.includes(key) && !/^otherurl[0-9]{1,3}$/.test(key)) {
    refuse(
      at,
      `${quote(body.slice(0, colon))} is no key of a header`,
      meant(key, KEYS, 'expected Bootstrap, From, Stage, Include, OSVersion or MirrorURL'),
    );
  }
  return { key, value: trim(body.slice(colon + 1)) };
};

const FROM_IMAGE = 'use an image of the distribution: Bootstrap: docker, From: ';

/** Agents of Apptainer that tsrun has not, and what serves in their place. */
const INSTEAD: Readonly<Record<string, string>> = {
  library: 'take an image of a registry (Bootstrap: docker), or pull it with Apptainer once and use Bootstrap: localimage',
  oras: 'pull the SIF with Apptainer or oras once, and use Bootstrap: localimage',
  shub: 'Singularity Hub is closed; look for the image in a registry (Bootstrap: docker)',
  'docker-daemon': 'save it first: docker save NAME -o image.tar; then Bootstrap: docker-archive, From: image.tar',
  yum: `${FROM_IMAGE}rockylinux:9`,
  dnf: `${FROM_IMAGE}fedora:42`,
  zypper: `${FROM_IMAGE}opensuse/leap:15`,
  arch: `${FROM_IMAGE}archlinux`,
  dockerfile: 'give tsrun build the Dockerfile itself',
  buildkit: 'give tsrun build the Dockerfile itself',
};

const AGENTS: readonly string[] = ['docker', 'oci', 'oci-archive', 'docker-archive', 'localimage', 'scratch', 'debootstrap', 'busybox'];

/** @throws TsrunError E_RECIPE, E_RECIPE_UNSUPPORTED */
export const baseOfHeader = (header: Header, at: Place): Base => {
  const agent = header.get('bootstrap')?.value.toLowerCase() ?? '';
  const where = header.get('bootstrap')?.at ?? at;
  const signers = header.get('fingerprints');
  if (signers !== undefined) {
    refuseUnsupported(
      signers.at,
      'it asks for signatures of the base (Fingerprints)',
      'check them before (apptainer verify), and leave the line out',
    );
  }
  const need = (key: string): string => {
    const value = header.get(key)?.value ?? '';
    const name = SPELLED[key] ?? key;
    return value === '' ? refuse(where, `Bootstrap: ${agent} needs ${name}`, `expected a line ${name}: ...`) : value;
  };
  switch (agent) {
    case 'docker': {
      const prefix = ['registry', 'namespace'].flatMap((key) => header.get(key)?.value.replace(/\/+$/, '') || []);
      const name = need('from').replace(/^(?:docker:)?\/\//, '');
      return { kind: 'image', reference: imageReference(`docker://${[...prefix, name].join('/')}`, header.get('from')?.at ?? where) };
    }
    case 'oci':
    case 'oci-archive':
    case 'docker-archive':
      return { kind: 'image', reference: imageReference(`${agent}:${need('from')}`, header.get('from')?.at ?? where) };
    case 'localimage':
      return { kind: 'image', reference: need('from') };
    case 'scratch':
      return { kind: 'scratch' };
    case 'debootstrap': {
      const suite = need('osversion');
      const packages = (header.get('include')?.value ?? '').split(/[ \t,\n]+/).filter((name) => name !== '');
      return { kind: 'debootstrap', suite, mirror: mirrorOf(need('mirrorurl'), suite), packages };
    }
    case 'busybox':
      return { kind: 'busybox', mirror: mirrorOf(need('mirrorurl'), header.get('osversion')?.value ?? '') };
    case '':
      return refuse(where, 'Bootstrap has no value', `expected one of ${AGENTS.join(', ')}`);
    default:
      if (Object.hasOwn(INSTEAD, agent)) return refuseUnsupported(where, `tsrun has no build agent ${quote(agent)}`, INSTEAD[agent]);
      return refuse(where, `${quote(agent)} is no build agent`, meant(agent, AGENTS, `expected one of ${AGENTS.join(', ')}`));
  }
};

const mirrorOf = (url: string, version: string): string => url.replace(/%\{OSVERSION\}/gi, () => version);
