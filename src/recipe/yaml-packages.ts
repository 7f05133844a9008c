/** `packages:` → what is run to install them. */
import { quoteWord } from '../image/singularity.ts';
import { meant, quote, refuse, refuseUnsupported } from './errors.ts';
import type { Command, Place } from './spec.ts';
import { fields } from './text.ts';
import { textsOf, wordOf, type YamlNode } from './yaml-tree.ts';

/** Names come as `"$@"`. Each leaves no lists or caches behind. */
const TOOLS: Readonly<Record<string, string>> = {
  apt: 'export DEBIAN_FRONTEND=noninteractive\napt-get update\napt-get install -y --no-install-recommends "$@"\napt-get clean\nrm -rf /var/lib/apt/lists/*\n',
  dnf: 'dnf install -y --setopt=install_weak_deps=False "$@"\ndnf clean all\n',
  microdnf: 'microdnf install -y "$@"\nmicrodnf clean all\n',
  yum: 'yum install -y "$@"\nyum clean all\n',
  zypper: 'zypper --non-interactive install --no-recommends "$@"\nzypper clean --all\n',
  apk: 'apk add --no-cache "$@"\n',
  // Debian asks for it where Python belongs to the distribution; in an image it is ours.
  pip: 'export PIP_BREAK_SYSTEM_PACKAGES=1\npython3 -m pip install --no-cache-dir "$@"\n',
  conda:
    'for tool in micromamba mamba conda; do\n    if command -v "$tool" >/dev/null; then break; fi\ndone\n' +
    '"$tool" install -y -n base -c conda-forge "$@"\n"$tool" clean -afy\n',
};

/** Of distributions: which program tells that it is one of theirs. */
const DISTRIBUTIONS: readonly (readonly [program: string, tool: string])[] = [
  ['apt-get', 'apt'],
  ['dnf', 'dnf'],
  ['microdnf', 'microdnf'],
  ['yum', 'yum'],
  ['zypper', 'zypper'],
  ['apk', 'apk'],
];

export type PackageStep = { readonly command: Command; readonly title: string; readonly at: Place };

/** @throws TsrunError E_RECIPE, E_RECIPE_UNSUPPORTED */
export const packageSteps = (node: YamlNode): readonly PackageStep[] => {
  if (node.kind !== 'map') return installing('packages', anyTool(), node);
  return node.entries.flatMap(({ key, value, at }) => {
    const script = Object.hasOwn(TOOLS, key) ? TOOLS[key] : undefined;
    const tools = Object.keys(TOOLS);
    if (script === undefined)
      return refuse(at, `${quote(key)} is no package tool`, meant(key, tools, `expected one of ${tools.join(', ')}`));
    return installing(`packages ${key}`, script, value);
  });
};

const installing = (what: string, script: string, node: YamlNode): readonly PackageStep[] => {
  const names = textsOf(node, what).flatMap(({ text, at }) => (node.kind === 'text' ? fields(text) : [text]).map((name) => ({ name, at })));
  if (names.length === 0) return [];
  const words = names.map(({ name, at }) => shellWord(name, at));
  const command: Command = { form: 'script', interpreter: ['/bin/sh', '-e'], text: `set -- ${words.join(' ')}\n${script}`, args: [] };
  return [{ command, title: `${what} ${names.map(({ name }) => name).join(' ')}`, at: node.at }];
};

const anyTool = (): string => {
  const [first = '', ...others] = DISTRIBUTIONS.map(
    ([program, tool]) => `if command -v ${program} >/dev/null; then\n${(TOOLS[tool] ?? '').replace(/^(?=.)/gm, '    ')}`,
  );
  return `${[first, ...others.map((branch) => `el${branch}`)].join('')}else\n    echo 'no package tool found in this image' >&2\n    exit 1\nfi\n`;
};

/** Quoted for a shell; only variables are expanded, by it. */
const shellWord = (name: string, at: Place): string => {
  if (!/^[!-,.-~\x80-\xff][ -~\x80-\xff]*$/.test(name)) {
    refuse(at, `${quote(name)} is no package`, 'expected a name, maybe with a version; options of the tool go into run:');
  }
  return wordOf(name, at)
    .map((part) => {
      if (typeof part === 'string') return quoteWord(part);
      if (part.operator !== undefined || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(part.variable)) {
        return refuseUnsupported(at, `there is more than a plain variable in ${quote(name)}`, 'write $NAME');
      }
      return `"$${part.variable}"`;
    })
    .join('');
};
