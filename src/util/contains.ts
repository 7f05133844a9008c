/**
 * As `text.includes(part)`, for long texts in which the part mostly is not: the embedded engine's includes and indexOf compare at each place, its split looks
 * for the first char, which is less than half the work.
 */
export const contains = (text: string, part: string): boolean => text.split(part, 2).length > 1;
