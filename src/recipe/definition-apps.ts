/**
 * Apps of definition files, laid out as the Scientific Filesystem has it (sci-f.github.io): /scif/apps/NAME with bin, lib and its own scripts,
 * /scif/data/NAME. Shapes and names of the files are those that Apptainer writes, so that `--app` finds them.
 */
import { labelsJson } from '../image/singularity.ts';
import { decodeUtf8 } from '../util/utf8.ts';
import { fileEntries, labelEntries } from './definition-entries.ts';
import { scriptFile } from './definition-scripts.ts';
import { appsOf, bodyOf, isEmpty, joined, type Section } from './definition-text.ts';
import { PLAIN_COPY, type Place, type Step } from './spec.ts';
import { type Lookup, literal } from './words.ts';

const homeOf = (app: string): string => `/scif/apps/${app}`;
const dataOf = (app: string): string => `/scif/data/${app}`;

/** Everything but what %appinstall does. */
export const appSteps = (sections: readonly Section[], environment: Lookup): readonly Step[] => {
  const apps = appsOf(sections);
  const first = sections.find(({ app }) => app !== undefined);
  if (first === undefined) return [];
  const shared = (path: string, content: string): Step => file(path, 0o755, `#!/bin/sh\n${content}`, first.at, '%app environment');
  return [
    ...apps.flatMap((app) => stepsOfApp(app, sections, environment)),
    shared('/.singularity.d/env/94-appsbase.sh', apps.map((app) => namesOf(app, sections)).join('')),
    shared('/.singularity.d/env/95-apps.sh', CHOSEN_APP),
  ];
};

/** To be added to %post: apps are installed by its shell, which still has its variables. */
export const appInstalls = (sections: readonly Section[]): string =>
  appsOf(sections)
    .flatMap((app) => {
      const install = joined(sections, 'appinstall', app);
      if (install === undefined) return [];
      const home = homeOf(app);
      return [`\ncd /\n. ${home}/scif/env/01-base.sh\ncd ${home}\n${bodyOf(install)}\ncd /\n`];
    })
    .join('');

const file = (path: string, mode: number, content: string, at: Place, title: string): Step => ({
  kind: 'file',
  path,
  mode,
  content,
  append: false,
  at,
  title,
});

const stepsOfApp = (app: string, sections: readonly Section[], environment: Lookup): readonly Step[] => {
  const home = homeOf(app);
  const meta = `${home}/scif`;
  const at = sections.find((section) => section.app === app)?.at as Place;
  const title = `%app ${app}`;
  const section = (name: string): Section | undefined => {
    const found = joined(sections, name, app);
    return found === undefined || isEmpty(found) ? undefined : found;
  };
  const written = (name: string, path: string, mode: number, content: (section: Section) => string): readonly Step[] => {
    const found = section(name);
    return found === undefined ? [] : [file(`${meta}/${path}`, mode, content(found), found.at, `%${name} ${app}`)];
  };
  const files = section('appfiles');
  const labels = section('applabels');
  const pairs = [['SCIF_APP_NAME', app], ...(labels === undefined ? [] : labelEntries(labels)).map(({ name, value }) => [name, value])];
  return [
    ...[`${home}/bin`, `${home}/lib`, `${meta}/env`, `${dataOf(app)}/input`, `${dataOf(app)}/output`].map(
      (path): Step => ({ kind: 'directory', path, mode: 0o755, at, title }),
    ),
    file(`${meta}/env/01-base.sh`, 0o755, ownNames(app), at, title),
    file(
      `${meta}/labels.json`,
      0o644,
      labelsJson(Object.fromEntries(pairs.map((pair) => pair.map((text = '') => decodeUtf8(text) ?? text)))),
      at,
      title,
    ),
    ...written('appenv', 'env/90-environment.sh', 0o755, bodyOf),
    ...written('apprun', 'runscript', 0o755, scriptFile),
    ...written('appstart', 'startscript', 0o755, scriptFile),
    ...written('apptest', 'test', 0o755, scriptFile),
    ...written('apphelp', 'runscript.help', 0o644, bodyOf),
    ...(files === undefined ? [] : fileEntries(files, environment)).map(
      ({ source, destination, at: place }): Step => ({
        kind: 'copy',
        from: { kind: 'context' },
        sources: [literal(source)],
        destination: literal(`${home}/${destination ?? source}`),
        manner: 'cp',
        ...PLAIN_COPY,
        at: place,
        title: `%appfiles ${app} ${source}`,
      }),
    ),
  ];
};

const ownNames = (app: string): string =>
  `#!/bin/sh\nexport SCIF_APPNAME=${app} SCIF_APPROOT=${homeOf(app)} SCIF_APPMETA=${homeOf(app)}/scif\n` +
  `export SCIF_DATA=/scif/data SCIF_APPDATA=${dataOf(app)} SCIF_APPINPUT=${dataOf(app)}/input SCIF_APPOUTPUT=${dataOf(app)}/output\n`;

/** For all apps, under names that end with the app's. */
const namesOf = (app: string, sections: readonly Section[]): string => {
  const suffix = app.replace(/[^A-Za-z0-9_]/g, '_');
  const home = homeOf(app);
  const has = (name: string): boolean => joined(sections, name, app) !== undefined;
  const pairs: readonly (readonly [string, string])[] = [
    ['APPDATA', dataOf(app)],
    ['APPMETA', `${home}/scif`],
    ['APPROOT', home],
    ['APPBIN', `${home}/bin`],
    ['APPLIB', `${home}/lib`],
    ['APPLABELS', `${home}/scif/labels.json`],
    ...(has('appenv') ? ([['APPENV', `${home}/scif/env/90-environment.sh`]] as const) : []),
    ...(has('apprun') ? ([['APPRUN', `${home}/scif/runscript`]] as const) : []),
  ];
  return pairs.map(([name, value]) => `export SCIF_${name}_${suffix}=${value}\n`).join('');
};

const CHOSEN_APP = `# The app that --app names.
scif_app="\${APPTAINER_APPNAME:-\${SINGULARITY_APPNAME:-}}"
if [ -n "$scif_app" ] && [ -d "/scif/apps/$scif_app" ]; then
    PATH="/scif/apps/$scif_app/bin:$PATH"
    LD_LIBRARY_PATH="/scif/apps/$scif_app/lib\${LD_LIBRARY_PATH:+:}\${LD_LIBRARY_PATH:-}"
    export PATH LD_LIBRARY_PATH
    for scif_script in "/scif/apps/$scif_app/scif/env/"*.sh; do
        if [ -f "$scif_script" ]; then . "$scif_script"; fi
    done
    unset scif_script
fi
unset scif_app
`;
