/** `RUN --mount=type=…`. Rules: Dockerfile reference, "RUN --mount". */

import type { Around } from './dockerfile-compile.ts';
import { fileMode, yesOrNo } from './dockerfile-forms.ts';
import { originOf } from './dockerfile-origin.ts';
import { meant, quote, refuse } from './errors.ts';
import type { Origin, Place, RunMount, Word } from './spec.ts';
import { literal, literalText, parseWord } from './words.ts';

type Options = ReadonlyMap<string, string>;

const ALIASES: Readonly<Record<string, string>> = { dst: 'target', destination: 'target', src: 'source', ro: 'readonly', rw: 'readwrite' };

const KNOWN: Readonly<Record<string, readonly string[]>> = {
  bind: ['type', 'target', 'source', 'from', 'readonly', 'readwrite'],
  cache: ['type', 'target', 'id', 'readonly', 'readwrite', 'sharing', 'mode', 'uid', 'gid', 'from', 'source'],
  tmpfs: ['type', 'target', 'size'],
  ssh: ['type', 'target', 'id', 'required', 'mode', 'uid', 'gid'],
  secret: ['type', 'target', 'id', 'env', 'required', 'mode', 'uid', 'gid'],
};

/** @throws TsrunError E_RECIPE, E_RECIPE_STAGE, E_RECIPE_UNSUPPORTED */
export const parseMount = (text: string, { current, stages, contexts, escapeChar }: Around, at: Place): RunMount => {
  const { type, options } = readOptions(text, at);
  const word = (name: string): Word => parseWord(options.get(name) ?? '', { at, escapeChar });
  const on = (name: string): boolean => options.has(name) && yesOrNo(options.get(name) ?? '', name, at);
  const origin = (): Origin | undefined =>
    options.has('from') ? originOf(options.get('from') ?? '', current, stages, at, contexts) : undefined;
  const mode = (usual: number): number => (options.has('mode') ? fileMode(options.get('mode') ?? '', 'mode', at) : usual);
  const ids = { uid: idOf(options, 'uid', at), gid: idOf(options, 'gid', at) };
  if ((type === 'cache' || type === 'tmpfs') && (options.get('target') ?? '') === '') {
    refuse(at, `--mount=${text} has no target`, `expected --mount=type=${type},target=PATH`);
  }
  switch (type) {
    case 'bind':
      return {
        type,
        from: origin() ?? { kind: 'context' },
        source: options.has('source') ? word('source') : literal('/'),
        // The working directory, as BuildKit has it.
        target: options.has('target') ? word('target') : literal('.'),
        readWrite: options.has('readwrite') ? on('readwrite') : options.has('readonly') && !on('readonly'),
      };
    case 'cache': {
      if (options.has('source') && !options.has('from')) refuse(at, `--mount=${text} has a source and no from`, 'expected from=STAGE too');
      const sharing = options.get('sharing') ?? 'shared';
      if (sharing !== 'shared' && sharing !== 'locked' && sharing !== 'private') {
        return refuse(at, `${quote(sharing)} is no value of sharing`, 'expected shared, locked or private');
      }
      const id = options.has('id') ? word('id') : word('target');
      const readOnly = options.has('readonly') ? on('readonly') : options.has('readwrite') && !on('readwrite');
      const begin = { from: origin(), source: options.has('source') ? word('source') : literal('/') };
      return { type, id, ...begin, target: word('target'), readOnly, mode: mode(0o755), ...ids, sharing };
    }
    case 'tmpfs':
      return { type, target: word('target'), size: sizeOf(options.get('size'), at) };
    case 'ssh': {
      const id = options.get('id') ?? 'default';
      // As BuildKit numbers them; a step has seldom more than one.
      const target = options.has('target') ? word('target') : literal('/run/buildkit/ssh_agent.0');
      return { type, id, target, required: on('required') };
    }
    case 'secret': {
      const target = options.has('target') ? word('target') : undefined;
      const env = options.get('env');
      const id = options.get('id') ?? literalText(target ?? [])?.replace(/^.*\//, '') ?? '';
      // The id names a file or variable of whoever builds.
      if (!/^[A-Za-z0-9_.-]+$/.test(id)) return refuse(at, `--mount=${text} has no id`, 'expected --mount=type=secret,id=NAME');
      return { type, id, target, env, required: on('required'), mode: mode(0o400), ...ids };
    }
    default:
      return type satisfies never;
  }
};

const readOptions = (text: string, at: Place): { readonly type: RunMount['type']; readonly options: Options } => {
  const options = new Map<string, string>();
  for (const field of text.split(',')) {
    const equals = field.indexOf('=');
    const word = (equals < 0 ? field : field.slice(0, equals)).replace(/"/g, '').toLowerCase();
    const name = Object.hasOwn(ALIASES, word) ? (ALIASES[word] ?? word) : word;
    if (options.has(name)) refuse(at, `${name} stands twice in --mount=${text}`, 'leave one of them out');
    options.set(name, equals < 0 ? 'true' : field.slice(equals + 1).replace(/"$/, ''));
  }
  const type = options.get('type') ?? 'bind';
  if (type !== 'bind' && type !== 'cache' && type !== 'tmpfs' && type !== 'secret' && type !== 'ssh') {
    return refuse(at, `${quote(type)} is no type of mount`, meant(type, Object.keys(KNOWN), 'expected bind, cache, tmpfs, secret or ssh'));
  }
  const known = KNOWN[type] ?? [];
  for (const name of options.keys()) {
    if (!known.includes(name)) {
      refuse(at, `a mount of type ${type} has no option ${quote(name)}`, meant(name, known, `its options: ${known.join(', ')}`));
    }
  }
  return { type, options };
};

const idOf = (options: Options, name: string, at: Place): number => {
  const text = options.get(name) ?? '0';
  return /^[0-9]{1,9}$/.test(text) ? Number(text) : refuse(at, `${quote(text)} is no value of ${name}`, 'expected a number');
};

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

const sizeOf = (text: string | undefined, at: Place): number | undefined => {
  if (text === undefined) return undefined;
  const found = /^([0-9]{1,12})([kmgt]?)i?b?$/i.exec(text);
  if (found === null) return refuse(at, `${quote(text)} is no size`, 'expected bytes, or 512m, 2g');
  return Number(found[1]) * (UNITS[(found[2] ?? '').toLowerCase()] ?? 1);
};
