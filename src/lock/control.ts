/** Stanzas of "Field: value" lines, as dpkg, Python metadata and R's DESCRIPTION write them; continuation lines are left out. */

export type Stanza = ReadonlyMap<string, string>;

/** @param text decoded. Only the first value of a field counts. */
export const parseStanzas = (text: string): readonly Stanza[] =>
  text
    .split(/\n\s*\n/)
    .map(parseStanza)
    .filter((stanza) => stanza.size > 0);

export const parseStanza = (text: string): Stanza => {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const parts = /^([!-9;-~]+):[ \t]*(.*?)[ \t\r]*$/.exec(line);
    if (parts !== null && !fields.has(parts[1] ?? '')) fields.set(parts[1] ?? '', parts[2] ?? '');
  }
  return fields;
};
