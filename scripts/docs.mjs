// Prints the tables of the documentation from the tables in the source: `node scripts/docs.mjs` rewrites what stands between
// `<!-- NAME: … -->` and `<!-- end -->`; `--check` only says whether something would change (test/meta/docs.test.ts).
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { main, root, say } from './lib.mjs';

const row = (cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;

const spelling = ({ short, name, kind, value }) => {
  const names = short === undefined ? `--${name}` : `-${short}, --${name}`;
  if (value === undefined) return names;
  return kind === 'optional' ? `${names}[=${value}]` : `${names} ${value}`;
};

const flagTable = (flags) => [
  row(['Flag', 'Environment', 'Key', 'Meaning']),
  row(['---', '---', '---', '---']),
  ...flags.map((flag) =>
    row([
      `\`${spelling(flag)}\``,
      (flag.env ?? []).map((key) => `\`TSRUN_${key}\``).join(' '),
      flag.config === undefined ? '' : `\`${flag.config}\``,
      flag.help,
    ]),
  ),
];

const envTable = (rules) => [
  row(['Variables', 'Because each']),
  row(['---', '---']),
  ...rules.map((rule) => row([rule.names.map((name) => `\`${name}\``).join(' '), rule.why])),
];

const pages = async () => {
  const { ALL_FLAGS } = await import(join(root, 'src/request/flags.ts'));
  const { ENV_RULES } = await import(join(root, 'src/plan/env-rules.ts'));
  return [
    { file: 'docs/config.md', name: 'flags', lines: flagTable(ALL_FLAGS) },
    { file: 'docs/environment.md', name: 'env-rules', lines: envTable(ENV_RULES) },
  ];
};

await main(async () => {
  const check = process.argv.includes('--check');
  let stale = 0;
  for (const { file, name, lines } of await pages()) {
    const path = join(root, file);
    const before = readFileSync(path, 'utf8');
    const after = before.replace(
      new RegExp(`(<!-- ${name}: [^>]*-->\n)[^]*?(<!-- end -->)`),
      (_, head, tail) => `${head}${lines.join('\n')}\n${tail}`,
    );
    if (before === after) continue;
    stale += 1;
    if (check) say(`${file} is not what its table says: run node scripts/docs.mjs`);
    else writeFileSync(path, after);
  }
  return check && stale > 0 ? 1 : 0;
});
