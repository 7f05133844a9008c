/** What is wrong with a recipe: always with the file and line, what was expected, and the name that was probably meant. */
import { type ErrorCode, TsrunError } from '../util/errors.ts';
import { nearest } from '../util/nearest.ts';
import { printableLine } from '../util/printable.ts';
import type { Place } from './spec.ts';

/** Bounds of what is read. Recipes that people write are far below them. */
export const LIMITS = { bytes: 1024 * 1024, stages: 200, steps: 5000, nesting: 20, words: 2000 } as const;

export type RecipeErrorCode = 'E_RECIPE' | 'E_RECIPE_ARGUMENT' | 'E_RECIPE_STAGE' | 'E_RECIPE_UNSUPPORTED' | 'E_RECIPE_LIMIT';

const refuseAs =
  (code: RecipeErrorCode) =>
  (at: Place, why: string, hint?: string | undefined): never => {
    throw recipeError(code, at, why, hint);
  };

export const recipeError = (code: ErrorCode, at: Place, why: string, hint?: string | undefined): TsrunError =>
  new TsrunError({
    code,
    what: `cannot use the recipe ${printableLine(at.file)}:${at.line}`,
    why: printableLine(why),
    hint: hint === undefined ? undefined : printableLine(hint),
  });

type Refuse = (at: Place, why: string, hint?: string | undefined) => never;

/** Not as the language has it. */
export const refuse: Refuse = refuseAs('E_RECIPE');
/** A build argument or variable without value, or one that nobody asked for. */
export const refuseArgument: Refuse = refuseAs('E_RECIPE_ARGUMENT');
/** A stage that is missing, comes later, or is the stage itself. */
export const refuseStage: Refuse = refuseAs('E_RECIPE_STAGE');
/** Well written, but nothing tsrun does. */
export const refuseUnsupported: Refuse = refuseAs('E_RECIPE_UNSUPPORTED');
export const refuseLimit: Refuse = refuseAs('E_RECIPE_LIMIT');

/** "did you mean RUN?", else the names that are known. */
export const meant = (word: string, names: readonly string[], known: string): string => {
  const near = nearest(word, names);
  return near === undefined ? known : `did you mean ${near}?`;
};

/** What the recipe says, in quotes and not too long. Never JSON: bytes stay bytes. */
export const quote = (text: string, most = 80): string => `"${text.length > most ? `${text.slice(0, most)}...` : text}"`;
