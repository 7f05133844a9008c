/** The commands of a page: the lines that begin with `$ ` in its `console` blocks, each with what it prints as far as the page says so. */
export type Command = { readonly text: string; readonly expected: string };

export const commandsOf = (page: string): readonly Command[] => {
  const commands: { text: string; expected: string }[] = [];
  for (const block of page.matchAll(/^```console\n([\s\S]*?)^```$/gm)) {
    for (const line of (block[1] ?? '').split('\n')) {
      const last = commands.at(-1);
      if (line.startsWith('$ ')) commands.push({ text: line.slice(2), expected: '' });
      else if (last !== undefined && line !== '') last.expected += `${line}\n`;
    }
  }
  return commands;
};
