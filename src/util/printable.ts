/** Names from outside may hold terminal controls: they are shown as "?". Bytes above 0x7F, and so UTF-8, go through. */

/** Keeps tabs and line ends. */
export const printable = (text: string): string => text.replace(/[^\t\n -~\x80-\uffff]/g, '?');

export const printableLine = (text: string): string => text.replace(/[^ -~\x80-\uffff]/g, '?');
