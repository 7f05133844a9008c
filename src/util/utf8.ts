/** Byte strings to text and back, for the few inputs that are text by definition (YAML). No TextDecoder: the embedded engine has none. */

/** Text of a byte string that holds UTF-8; null when it is not valid UTF-8. */
export const decodeUtf8 = (bytes: string): string | null => {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const first = bytes.charCodeAt(at);
    const length =
      first < 0x80 ? 1 : first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xc2 && first < 0xe0 ? 2 : 0;
    if (length === 0 || at + length > bytes.length) return null;
    let code = length === 1 ? first : first & (0x7f >> length);
    for (let next = 1; next < length; next++) {
      const byte = bytes.charCodeAt(at + next);
      if ((byte & 0xc0) !== 0x80) return null;
      code = (code << 6) | (byte & 0x3f);
    }
    const overlong = (length === 3 && code < 0x800) || (length === 4 && code < 0x10000);
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return null;
    text += String.fromCodePoint(code);
    at += length;
  }
  return text;
};

/** UTF-8 of a text, as a byte string. Lone surrogates become U+FFFD. */
export const encodeUtf8 = (text: string): string => {
  let bytes = '';
  for (const char of text) {
    const point = char.codePointAt(0) ?? 0;
    const code = point >= 0xd800 && point < 0xe000 ? 0xfffd : point;
    if (code < 0x80) bytes += char;
    else if (code < 0x800) bytes += String.fromCharCode(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    else if (code < 0x10000) bytes += String.fromCharCode(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    else bytes += String.fromCharCode(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 0x3f), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
  }
  return bytes;
};

/** For messages, which hold byte strings and text side by side: what is UTF-8 in it as text, all else as it is. */
export const readable = (text: string): string => text.replace(/[\xc2-\xf4][\x80-\xbf]{1,3}/g, (bytes) => decodeUtf8(bytes) ?? bytes);
