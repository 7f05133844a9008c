/**
 * /.singularity.d: what Apptainer and SingularityCE look for in an image. With it they run our images as they run their own; tsrun itself
 * goes by the image facts. What an image brings itself always wins. Texts are ours; names and meaning are those of Apptainer's images.
 *
 * Nothing here depends on where the image came from, so the same image gives the same tree by every way.
 */
import type { RunConfig } from '../oci/config.ts';

export type RenderedFile = {
  /** Relative to the root; parents come first. */
  readonly path: string;
  readonly mode: number;
} & (
  | { readonly kind: 'directory' }
  | { readonly kind: 'file' /** Byte string. */; readonly content: string }
  | { readonly kind: 'symlink'; readonly target: string }
);

/** First lines of what we render, by which compute.ts knows it from somebody's own script. */
export const RUNSCRIPT_MARK = '# Rendered by tsrun from ENTRYPOINT and CMD of the image.';
export const ENV_SCRIPT_MARK = '# Rendered by tsrun from ENV of the image.';

export const renderSingularity = (config: RunConfig): readonly RenderedFile[] => [
  ...MOUNT_POINTS.map(directory),
  ...['.singularity.d', '.singularity.d/actions', '.singularity.d/env', '.singularity.d/libs'].map(directory),
  script('.singularity.d/actions/exec', sourceAnd('exec "$@"\n')),
  script('.singularity.d/actions/run', sourceAnd('exec /.singularity.d/runscript "$@"\n')),
  script('.singularity.d/actions/shell', sourceAnd('exec /bin/sh "$@"\n')),
  script('.singularity.d/actions/start', sourceAnd('exec /.singularity.d/startscript "$@"\n')),
  script('.singularity.d/actions/test', sourceAnd('exec /.singularity.d/test "$@"\n')),
  script('.singularity.d/env/10-docker2singularity.sh', `${ENV_SCRIPT_MARK}\n${config.env.map(exportLine).join('')}`),
  script('.singularity.d/env/90-environment.sh', '# Environment of the image, for those who add to it.\n'),
  script(
    '.singularity.d/env/99-base.sh',
    '# Libraries the runtime brings from the host are found last.\n' +
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell's
      'LD_LIBRARY_PATH="$LD_LIBRARY_PATH${LD_LIBRARY_PATH:+:}/.singularity.d/libs"\nexport LD_LIBRARY_PATH\n',
  ),
  script('.singularity.d/runscript', runscript(config)),
  script('.singularity.d/startscript', ''),
  { kind: 'file', path: '.singularity.d/labels.json', mode: 0o644, content: labelsJson(config.labels) },
  symlink('singularity', '.singularity.d/runscript'),
  symlink('.exec', '.singularity.d/actions/exec'),
  symlink('.run', '.singularity.d/actions/run'),
  symlink('.shell', '.singularity.d/actions/shell'),
  symlink('.test', '.singularity.d/actions/test'),
  symlink('environment', '.singularity.d/env/90-environment.sh'),
];

/** Directories that runs mount over; made where an image lacks them. */
const MOUNT_POINTS = ['dev', 'etc', 'home', 'proc', 'root', 'sys', 'tmp', 'var', 'var/tmp'];

const STICKY: ReadonlySet<string> = new Set(['tmp', 'var/tmp']);

const directory = (path: string): RenderedFile => ({
  kind: 'directory',
  path,
  mode: STICKY.has(path) ? 0o1777 : path === 'root' ? 0o700 : 0o755,
});

const script = (path: string, body: string): RenderedFile => ({ kind: 'file', path, mode: 0o755, content: `#!/bin/sh\n${body}` });

const symlink = (path: string, target: string): RenderedFile => ({ kind: 'symlink', path, mode: 0o777, target });

const sourceAnd = (rest: string): string => `for script in /.singularity.d/env/*.sh; do . "$script"; done\n${rest}`;

/** PATH is the image's; every other variable keeps a value it already has, which runtimes set on purpose. */
const exportLine = (entry: string): string => {
  const equals = entry.indexOf('=');
  const name = entry.slice(0, equals);
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return '';
  const value = entry.slice(equals + 1).replace(/[\\"`$]/g, '\\$&');
  return name === 'PATH' ? `export PATH="${value}"\n` : `export ${name}="\${${name}:-"${value}"}"\n`;
};

/** As Docker: arguments replace CMD and follow ENTRYPOINT; no word is expanded a second time. */
const runscript = ({ entrypoint, cmd }: RunConfig): string => {
  const command = [...entrypoint.map(quoteWord), '"$@"'].join(' ');
  const defaults = cmd.length === 0 ? '' : `if [ $# -eq 0 ]; then set -- ${cmd.map(quoteWord).join(' ')}; fi\n`;
  const nothing = entrypoint.length > 0 || cmd.length > 0 ? '' : 'if [ $# -eq 0 ]; then set -- /bin/sh; fi\n';
  return `${RUNSCRIPT_MARK}\n${defaults}${nothing}exec ${command}\n`;
};

/** For POSIX sh. */
export const quoteWord = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** Sorted, so that the same labels give the same bytes; UTF-8 as byte string. */
export const labelsJson = (labels: Readonly<Record<string, string>>): string => {
  const sorted = Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
  // JSON escapes keep the text ASCII, whatever the labels hold.
  return `${JSON.stringify(sorted, undefined, '\t').replace(/[\u0080-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;
};
