/**
 * Names in layers, made safe: a path inside the image's root without leading slash, "." or "..", and what the name asks for
 * (image-spec layer.md: whiteouts; aufs left a few names of its own in old images).
 */
import { TsrunError } from '../util/errors.ts';

/** What Linux takes for a path, with its closing NUL. */
export const MAX_PATH = 4096;

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** aufs kept the first name of every hard-linked file in this directory of the root. */
export const AUFS_LINKS = '.wh..wh.plnk/';

export type LayerName =
  /** "" is the root. */
  | { readonly kind: 'entry'; readonly path: string }
  /** Hides `path` and everything below it in lower layers. */
  | { readonly kind: 'whiteout'; readonly path: string }
  /** Hides everything below the directory `path` in lower layers. */
  | { readonly kind: 'opaque'; readonly path: string }
  | { readonly kind: 'aufs-link'; readonly path: string }
  | { readonly kind: 'ignored' };

/** @throws TsrunError E_LAYER_PATH for a name that leads out of the root or that no Linux could hold. */
export const layerName = (raw: string, where: string): LayerName => {
  const path = cleanPath(raw, where);
  const at = path.lastIndexOf('/') + 1;
  if (path.charCodeAt(0) === 0x2e && path.startsWith('.wh..wh.') && path !== OPAQUE) {
    return path.startsWith(AUFS_LINKS) ? { kind: 'aufs-link', path } : { kind: 'ignored' };
  }
  if (!path.startsWith(WHITEOUT, at)) return { kind: 'entry', path };
  if (path.endsWith(OPAQUE) && path.length - at === OPAQUE.length) return { kind: 'opaque', path: path.slice(0, Math.max(at - 1, 0)) };
  const hidden = path.slice(at + WHITEOUT.length);
  if (hidden === '' || hidden === '.' || hidden === '..') throw refuse(raw, where, 'it is a whiteout of nothing that could exist');
  return { kind: 'whiteout', path: path.slice(0, at) + hidden };
};

/** Also for targets of hard links, which are paths from the root of the layer. @throws TsrunError E_LAYER_PATH */
export const cleanPath = (raw: string, where: string): string => {
  let path = raw;
  while (path.startsWith('/') || path.startsWith('./')) path = path.slice(path.startsWith('/') ? 1 : 2);
  if (path.endsWith('/')) path = path.replace(/\/+$/, '');
  if (/(?:^|\/)(?:\.{1,2})?(?:\/|$)/.test(path)) path = withoutDots(path, raw, where);
  if (path.length >= MAX_PATH) throw refuse(raw, where, `it is longer than the ${MAX_PATH - 1} bytes Linux takes`);
  return path;
};

const withoutDots = (path: string, raw: string, where: string): string => {
  const kept: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') kept.push(part);
    else if (kept.pop() === undefined) throw refuse(raw, where, 'it leads out of the root of the image');
  }
  return kept.join('/');
};

const refuse = (raw: string, where: string, why: string): TsrunError =>
  new TsrunError({
    code: 'E_LAYER_PATH',
    what: `cannot use the name ${JSON.stringify(raw.slice(0, 300))} in ${where}`,
    why,
    hint: 'the image is damaged or hostile: ask who made it',
  });
