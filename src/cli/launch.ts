/**
 * `tsrun __launch PROGRAM WORD…`: what the native program asks for when it was built without the engine. The run verbs are planned here and carried out by
 * PROGRAM in the place of this process; all else is an ordinary command.
 */
import { launchFromNode } from '../run/node-launch.ts';

/** @param command does an ordinary command, its failure is in process.exitCode */
export const launch = async (
  program: string,
  words: readonly string[],
  command: (words: readonly string[]) => Promise<void>,
): Promise<void> => {
  const status = await launchFromNode({
    program,
    args: words,
    prepare: async (asked) => {
      await command(asked);
      return Number(process.exitCode ?? 0);
    },
  });
  if (status === null) await command(words);
  else process.exitCode = status;
};
