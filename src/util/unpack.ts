/** Little-endian fields of bytes by a layout, as native/host.def says it of `unpack`: for hosts that are not the native program. */

const SIZES: Readonly<Record<string, number>> = { x: 1, s: 1, B: 1, H: 2, I: 4, E: 4, Q: 8 };

const parts = (layout: string): { readonly letter: string; readonly count: number }[] =>
  [...layout.matchAll(/(\d*)([xsBHIEQ])/g)].map(([, count, letter = '']) => ({ letter, count: Number(count) || 1 }));

/** In bytes. */
export const sizeOfLayout = (layout: string): number =>
  parts(layout).reduce((sum, { letter, count }) => sum + (SIZES[letter] ?? 0) * count, 0);

/** @param bytes sizeOfLayout(layout) of them, or more. */
export const unpack = (bytes: string, layout: string): (string | number)[] => {
  const fields: (string | number)[] = [];
  let at = 0;
  for (const { letter, count } of parts(layout)) {
    const size = SIZES[letter] ?? 0;
    const all = bytes.slice(at, at + size * count);
    if (letter === 's') fields.push(all.split('\0')[0] ?? '');
    else if (letter !== 'x') {
      for (let field = 0; field < count; field++) {
        const value = numberOf(all.slice(field * size, (field + 1) * size));
        if (value === 0 && letter === 'E') return fields;
        fields.push(value);
      }
    }
    at += size * count;
  }
  return fields;
};

const numberOf = (bytes: string): number => {
  let value = 0;
  for (let at = bytes.length - 1; at >= 0; at--) value = value * 256 + bytes.charCodeAt(at);
  return Number.isSafeInteger(value) ? value : -1;
};
