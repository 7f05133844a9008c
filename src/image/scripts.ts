/** /.singularity.d of an image: what a run must source or start there, and what it can be told as data. */
import { ENV_SCRIPT_MARK, RUNSCRIPT_MARK } from './singularity.ts';
import type { ImageView } from './view.ts';
import { findFile, namesIn, readText } from './walk.ts';

const DIRECTORY = '/.singularity.d';
const OCI_ENV = '10-docker2singularity.sh';
const MAX_SCRIPT = 256 * 1024;
const MAX_SCRIPTS = 256;

/** Written by Apptainer, SingularityCE or tsrun into every image; what they do, tsrun does itself. */
const STOCK: ReadonlySet<string> = new Set(['01-base.sh', '94-appsbase.sh', '95-apps.sh', '99-base.sh', '99-runtimevars.sh']);

/** Each is found out when it is called. */
export type ScriptFacts = {
  readonly runscript: () => boolean;
  readonly env: () => readonly string[];
  readonly envScripts: () => readonly string[];
};

/** @param known the image's OCI config is at hand: scripts that only render it say nothing new */
export const scriptFacts = (view: ImageView, known: boolean): ScriptFacts => ({
  runscript: () => hasOwnRunscript(view, known),
  env: () => (known ? [] : (parseExports(readText(view, `${DIRECTORY}/env/${OCI_ENV}`, MAX_SCRIPT)) ?? [])),
  envScripts: () => ownScripts(view),
});

const ownScripts = (view: ImageView): readonly string[] =>
  namesIn(view, `${DIRECTORY}/env`)
    .filter((name) => {
      if (!name.endsWith('.sh') || name.includes('/') || STOCK.has(name)) return false;
      const text = readText(view, `${DIRECTORY}/env/${name}`, MAX_SCRIPT);
      if (name === OCI_ENV) return parseExports(text) === undefined && !text.includes(ENV_SCRIPT_MARK);
      return !isOnlyComments(text);
    })
    .slice(0, MAX_SCRIPTS);

const isOnlyComments = (text: string): boolean => text.split('\n').every((line) => /^\s*(#.*)?$/.test(line));

const hasOwnRunscript = (view: ImageView, known: boolean): boolean => {
  if (findFile(view, `${DIRECTORY}/runscript`) === null) return false;
  const text = readText(view, `${DIRECTORY}/runscript`, MAX_SCRIPT);
  if (text.includes(RUNSCRIPT_MARK)) return false;
  // Apptainer's rendering of ENTRYPOINT and CMD; it is only replaced when they are known.
  return !(known && /^OCI_(ENTRYPOINT|CMD)=/m.test(text) && text.includes('SINGULARITY_OCI_RUN'));
};

/**
 * The script Apptainer renders from an image's ENV, and nothing else: `export NAME="value"`, `export NAME="${NAME:-"value"}"` and the
 * same with single quotes. `undefined` when there is anything more in it.
 */
export const parseExports = (text: string): readonly string[] | undefined => {
  const entries: string[] = [];
  for (const line of text.split('\n')) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const parts = /^export ([A-Za-z_][A-Za-z0-9_]*)=(?:"\$\{\1:-"(.*)"\}"|"\$\{\1:-'(.*)'\}"|"(.*)"|'(.*)')$/.exec(line);
    const value = parts === null ? undefined : unquote(parts[2] ?? parts[4], parts[3] ?? parts[5]);
    if (parts === null || value === undefined) return undefined;
    entries.push(`${parts[1]}=${value}`);
  }
  return entries;
};

/** What the shell makes of the text between quotes; `undefined` when it would expand something. */
const unquote = (double: string | undefined, single: string | undefined): string | undefined => {
  if (single !== undefined) return single.includes("'") ? undefined : single;
  const text = double ?? '';
  if (/(?:^|[^\\])(?:\\\\)*["$`]/.test(text)) return undefined;
  return text.replace(/\\([\\"`$])/g, '$1');
};
