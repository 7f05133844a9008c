/** Image facts from their JSON text. The text comes from an image, so every field is checked before anything uses it. */
import { IMAGE_FACTS_MAX_BYTES, IMAGE_FACTS_VERSION, type ImageFacts } from './facts.ts';

const MAX_ENTRIES = 16_384;

/** Without NUL: the whole text was looked through for it. */
const isText = (value: unknown): value is string => typeof value === 'string';

const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.length <= MAX_ENTRIES && value.every(isText);

const isPathOrNothing = (value: unknown): value is string => isText(value) && (value === '' || value.startsWith('/'));

/** The text's size bounds the number of entries. */
const isTree = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

type Parts = { readonly [Name in 'id' | 'version' | 'name' | 'kind']?: unknown } | null;

const isOs = (value: Parts): boolean =>
  typeof value === 'object' && value !== null && isText(value.id) && isText(value.version) && isText(value.name);

const isLibc = (value: Parts): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (value.kind === 'glibc' || value.kind === 'musl' || value.kind === 'none') &&
  isText(value.version);

/** True for a value with every field of ImageFacts, of this version. */
const isFacts = (value: unknown): value is ImageFacts => {
  if (typeof value !== 'object' || value === null) return false;
  const facts = value as Partial<Record<keyof ImageFacts, unknown>>;
  return (
    facts.version === IMAGE_FACTS_VERSION &&
    isText(facts.arch) &&
    isTexts(facts.env) &&
    isTexts(facts.entrypoint) &&
    isTexts(facts.cmd) &&
    isText(facts.workingDir) &&
    isText(facts.user) &&
    typeof facts.runscript === 'boolean' &&
    isTexts(facts.envScripts) &&
    isPathOrNothing(facts.sh) &&
    isPathOrNothing(facts.bash) &&
    isTree(facts.tree) &&
    isText(facts.passwd) &&
    isText(facts.group) &&
    isOs(facts.os as Parts) &&
    isLibc(facts.libc as Parts) &&
    isTexts(facts.locales) &&
    isPathOrNothing(facts.caBundle) &&
    isTexts(facts.mpi)
  );
};

/** An escape above 0xFF, which is no byte, or of NUL, which no path and no variable can hold. */
const BAD_ESCAPE = /(?:^|[^\\])(?:\\\\)*\\u(?!00(?!00))/;

/** Null when the text is no facts of this version: they are then found out anew. */
export const parseFacts = (text: string): ImageFacts | null => {
  // In the embedded engine split() looks for the first char, includes() compares at each place: ten times the work.
  if (text.length > IMAGE_FACTS_MAX_BYTES || (text.split('\\u', 2).length > 1 && BAD_ESCAPE.test(text))) return null;
  try {
    const value: unknown = JSON.parse(text);
    return isFacts(value) ? value : null;
  } catch {
    return null;
  }
};
