/**
 * Which program starts, with which arguments. Where an image has environment scripts of its own, its own shell sources them just before: a fixed
 * script, to which everything is handed as arguments and environment; no value ever becomes code.
 */
import { isVariableName } from '../request/env-spec.ts';
import type { Request } from '../request/request.ts';
import { EXIT_TSRUN, TsrunError } from '../util/errors.ts';
import type { Host } from '../util/host.ts';
import { nameOf } from '../util/paths.ts';
import { DEFAULT_PATH, finalEnv, inherited, isBelowEnvScripts, type PlannedEnv } from './env.ts';
import { OWN_VARIABLES } from './env-rules.ts';
import type { MountTable } from './mount-table.ts';
import type { Op, Variable } from './ops.ts';
import type { Situation } from './situation.ts';

const RUNSCRIPT = '/.singularity.d/runscript';
const TEST = '/.singularity.d/test';
/** An image without a test passes, as in Apptainer. */
const TEST_SCRIPT = `if [ -e ${TEST} ]; then exec ${TEST} "$@"; fi; echo 'tsrun: the image has no test' >&2`;

const APPS = '/scif/apps';
const NO_APP = 'E_NO_APP';
/** The same for an app. */
const APP_TEST_SCRIPT = 'if [ -e "$0" ]; then exec "$0" "$@"; fi; echo "tsrun: the app has no test" >&2';

export type Command = { readonly file: string; readonly args: readonly string[]; readonly why: string };

const appOf = ({ app }: Request) =>
  app === undefined
    ? undefined
    : { runscript: `${APPS}/${app.text}/scif/runscript`, test: `${APPS}/${app.text}/scif/test`, why: `the image's app ${app.text}` };

/** Errors: E_NOTHING_TO_RUN, E_NO_SHELL. */
export const chooseCommand = ({ request, image }: Situation): Command => {
  const { facts } = image;
  const app = appOf(request);
  switch (request.verb) {
    case 'exec':
      return { file: request.args[0] ?? '', args: request.args, why: 'the command line' };
    case 'run': {
      if (app !== undefined) return { file: app.runscript, args: [app.runscript, ...request.args], why: app.why };
      if (facts.runscript) return { file: RUNSCRIPT, args: [RUNSCRIPT, ...request.args], why: "the image's runscript" };
      const words = [...facts.entrypoint, ...(request.args.length > 0 ? request.args : facts.cmd)];
      const file = words[0] ?? '';
      if (file !== '')
        return {
          file,
          args: words,
          why:
            facts.entrypoint.length > 0 ? "the image's entry point" : request.args.length > 0 ? 'the command line' : "the image's command",
        };
      throw new TsrunError({
        code: 'E_NOTHING_TO_RUN',
        what: `cannot run ${image.reference}`,
        why: 'the image names no entry point, command or runscript',
        hint: `name a command: tsrun exec ${image.reference} COMMAND, or tsrun shell ${image.reference}`,
      });
    }
    case 'test':
      if (app !== undefined)
        return facts.sh === ''
          ? { file: app.test, args: [app.test, ...request.args], why: app.why }
          : { file: facts.sh, args: ['sh', '-c', APP_TEST_SCRIPT, app.test, ...request.args], why: app.why };
      return facts.sh === ''
        ? { file: TEST, args: [TEST, ...request.args], why: "the image's test" }
        : { file: facts.sh, args: ['sh', '-c', TEST_SCRIPT, 'test', ...request.args], why: "the image's test" };
    case 'shell': {
      if (request.shell !== undefined)
        return { file: request.shell.text, args: [request.shell.text, ...request.args], why: request.shell.origin };
      if (facts.bash !== '') return { file: facts.bash, args: ['bash', '--norc', ...request.args], why: "the image's bash" };
      if (facts.sh !== '') return { file: facts.sh, args: ['sh', ...request.args], why: "the image's sh" };
      throw new TsrunError({
        code: 'E_NO_SHELL',
        what: `cannot start a shell in ${image.reference}`,
        why: 'the image has neither bash nor sh',
        hint: 'start a program of the image with tsrun exec, or name a shell with --shell',
      });
    }
  }
};

/** For a command that is not there. */
export const NOT_FOUND_HINT = 'it has to be in the image, or in a directory that is mounted';
export const OPTION_HINT = 'options of tsrun come before the image';

/**
 * Arguments: count of host values, those values (NAME=value), count of explicit values, those values, the command. Scripts see the image's
 * environment only, as in Apptainer; then the host's values fill what is unset, then explicit ones win. `export "$1"` assigns without evaluating,
 * and names given to eval have been checked to be identifiers. A function, so that scripts do not see our arguments. What the launcher would say
 * about a command that cannot be run is said here: shells name themselves and a line number instead.
 */
export const SOURCING_SCRIPT = `tsrun_source() {
for tsrun_script in /.singularity.d/env/*.sh; do
if [ -f "$tsrun_script" ]; then . "$tsrun_script"; fi
done
unset tsrun_script
}
tsrun_source
unset -f tsrun_source
tsrun_count=$1
shift
while [ "$tsrun_count" -gt 0 ]; do
eval "tsrun_old=\\\${\${1%%=*}:-}"
if [ -z "$tsrun_old" ]; then export "$1"; fi
shift
tsrun_count=$((tsrun_count - 1))
done
tsrun_count=$1
shift
while [ "$tsrun_count" -gt 0 ]; do
export "$1"
shift
tsrun_count=$((tsrun_count - 1))
done
unset tsrun_old tsrun_count
PATH=\${TSRUN_PATH_BEFORE:+$TSRUN_PATH_BEFORE:}\${PATH:-${DEFAULT_PATH}}\${TSRUN_PATH_AFTER:+:$TSRUN_PATH_AFTER}
LD_LIBRARY_PATH=\${TSRUN_LIBS_BEFORE:+$TSRUN_LIBS_BEFORE:}\${LD_LIBRARY_PATH:-}\${TSRUN_LIBS_AFTER:+\${LD_LIBRARY_PATH:+:}$TSRUN_LIBS_AFTER}
if [ -n "$LD_LIBRARY_PATH" ]; then export LD_LIBRARY_PATH; else unset LD_LIBRARY_PATH; fi
export PATH
unset TSRUN_PATH_BEFORE TSRUN_PATH_AFTER TSRUN_LIBS_BEFORE TSRUN_LIBS_AFTER
tsrun_refuse() {
printf 'tsrun: cannot run %s: %s (%s)\\n' "$1" "$2" "$3" >&2
if [ -n "$5" ]; then printf 'hint: %s\\n' "$5" >&2; fi
exit "$4"
}
case $1 in
-*) tsrun_refuse "$1" 'no program is called like an option' E_NOT_FOUND 127 '${OPTION_HINT}' ;;
*/*) if [ ! -e "$1" ]; then tsrun_refuse "$1" 'there is no such file' E_NOT_FOUND 127 '${NOT_FOUND_HINT}'
elif [ -d "$1" ]; then tsrun_refuse "$1" 'it is a directory' E_NOT_EXECUTABLE 126 ''
elif [ ! -x "$1" ]; then tsrun_refuse "$1" 'it is not executable' E_NOT_EXECUTABLE 126 ''
fi ;;
*) if ! command -v "$1" >/dev/null 2>&1; then tsrun_refuse "$1" "it is in no directory of PATH ($PATH)" E_NOT_FOUND 127 '${NOT_FOUND_HINT}'
fi ;;
esac
exec "$@"
`;

/**
 * In front of it, when an app is asked for: nothing is run in place of one that is not there. What scripts of Apptainer's images say about that names
 * neither cause nor cure.
 */
export const APP_SCRIPT = `if [ ! -d "${APPS}/$APPTAINER_APPNAME" ]; then
tsrun_apps=
for tsrun_app in ${APPS}/*/; do
tsrun_app=\${tsrun_app%/}
if [ -d "$tsrun_app" ]; then tsrun_apps="$tsrun_apps \${tsrun_app##*/}"; fi
done
printf 'tsrun: cannot run the app %s: the image has no such app (${NO_APP})\\nhint: its apps:%s\\n' "$APPTAINER_APPNAME" "\${tsrun_apps:- none}" >&2
exit ${EXIT_TSRUN}
fi
`;

/** True when a shell has to run first: the image says so, or the user mounted a script there (as module tools do). */
const needsSourcing = ({ image, request }: Situation, table: MountTable): boolean => {
  if (request.app !== undefined || image.facts.envScripts.length > 0) return true;
  let mounted = false;
  if (request.binds.length === 0) return mounted;
  table.entries.forEach((_, target) => {
    mounted ||= isBelowEnvScripts(target);
  });
  return mounted;
};

const assignments = (variables: ReadonlyMap<string, Variable>, skip: ReadonlyMap<string, Variable>): string[] => {
  const list: string[] = [];
  for (const [name, variable] of variables) if (isVariableName(name) && !skip.has(name)) list.push(`${name}=${variable.value}`);
  return list;
};

const envOp = (variables: ReadonlyMap<string, Variable>): Op => ({ op: 'env', variables, why: 'the environment' });

const argOps = (args: readonly string[], why: string): Op[] => args.map((text) => ({ op: 'arg', text, why }));

/** environ, env, arg and exec ops. */
export const planPayload = (situation: Situation, table: MountTable, env: PlannedEnv, command: Command): Op[] => {
  const { facts, reference } = situation.image;
  if (!needsSourcing(situation, table)) return direct(situation.host, command, env);
  if (facts.sh === '') {
    situation.warnings.push(`the environment scripts of ${reference} were not read: it has no /bin/sh`);
    return direct(situation.host, command, env);
  }
  return sourced(
    situation.host,
    command,
    env,
    facts.sh,
    situation.request.app === undefined ? SOURCING_SCRIPT : APP_SCRIPT + SOURCING_SCRIPT,
  );
};

const direct = (host: Host, command: Command, env: PlannedEnv): Op[] => [
  ...environmentOps(host, env),
  ...argOps(command.args, command.why),
  { op: 'exec', file: command.file, why: command.why },
];

const environmentOps = (host: Host, env: PlannedEnv): Op[] => {
  const variables = finalEnv(env);
  const leftOut = env.outside?.join('=');
  if (leftOut === undefined) return [envOp(variables)];
  if (!host.isLauncher) return [envOp(new Map([...inherited(host, leftOut, variables), ...variables]))];
  return [{ op: 'environ', leftOut, why: 'host variables that nothing speaks against' }, envOp(variables)];
};

/** A shell's exec gives the program its own path as name; what has many names (busybox) has to be called by the right one. */
const fileFor = ({ file, args }: Command): string =>
  (args[0] === 'sh' || args[0] === 'bash') && nameOf(file) !== args[0] ? `/bin/${args[0]}` : file;

const sourced = (host: Host, command: Command, env: PlannedEnv, sh: string, script: string): Op[] => {
  const first = new Map([...env.defaults, ...env.image, ...env.own]);
  for (const { name, before, after } of env.around) {
    const key = name === 'PATH' ? 'PATH' : 'LIBS';
    if (before !== '') first.set(`TSRUN_${key}_BEFORE`, { value: before, why: 'for the sourcing script' });
    if (after !== '') first.set(`TSRUN_${key}_AFTER`, { value: after, why: 'for the sourcing script' });
  }
  const why = "the image's shell, to read its environment scripts";
  const { outside, given } = env;
  const passed = outside === undefined ? given : new Map([...inherited(host, [...outside, ...OWN_VARIABLES].join('='), given), ...given]);
  const fromHost = assignments(passed, env.own);
  const explicit = assignments(env.explicit, new Map());
  const args = [
    'sh',
    '-c',
    script,
    'tsrun',
    String(fromHost.length),
    ...fromHost,
    String(explicit.length),
    ...explicit,
    fileFor(command),
    ...command.args.slice(1),
  ];
  return [envOp(first), ...argOps(args, why), { op: 'exec', file: sh, why }];
};
