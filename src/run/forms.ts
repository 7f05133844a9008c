/**
 * The engine keeps a form for each list of names that objects have, and for each beginning of it; it forgets a form with the last object that has it. An object
 * whose forms are known is made in a third of the instructions: so the engine's image holds an object of each form that a start needs.
 */
const examples: object[] = [];

/** @param seen what has been looked at, or is not to be. */
export const keepForms = (value: unknown, seen: Set<unknown>): void => {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  seen.add(value);
  if (value instanceof Map) for (const each of value.values()) keepForms(each, seen);
  else if (Array.isArray(value)) for (const each of value) keepForms(each, seen);
  else {
    const names = Object.keys(value);
    for (let count = 1; count <= names.length; count++) {
      const example: Record<string, unknown> = Object.create(Object.getPrototypeOf(value));
      for (const name of names.slice(0, count)) example[name] = undefined;
      examples.push(example);
    }
    for (const each of Object.values(value)) keepForms(each, seen);
  }
};
