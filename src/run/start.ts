/** From argv to an answer for the launcher: the whole story of a start. Runs in the engine and in Node, over whatever Host it is given. */
import { findCwd } from '../facts/cwd.ts';
import { findHome } from '../facts/home.ts';
import { identifyCaller } from '../facts/identity.ts';
import type { Prepare } from '../image/image.ts';
import { openImage } from '../image/open.ts';
import { type Fields, fieldsOfAnswer } from '../plan/encode.ts';
import { explainJson, explainText } from '../plan/explain.ts';
import { explainFailure, parseFailure } from '../plan/failure.ts';
import { placesOf } from '../plan/image-ops.ts';
import { makePlan } from '../plan/make.ts';
import type { Answer, Plan } from '../plan/ops.ts';
import type { Situation } from '../plan/situation.ts';
import { givenByConfig } from '../request/from-config.ts';
import { type Environment, givenByEnvironment, ownVariables } from '../request/from-env.ts';
import { parseCommandLine } from '../request/parse.ts';
import { makeRequest, type Request } from '../request/request.ts';
import { EXIT_TSRUN, formatError, TsrunError } from '../util/errors.ts';
import type { Host } from '../util/host.ts';
import { printable } from '../util/printable.ts';
import { type Read, recordingHost } from '../util/recording-host.ts';

/**
 * @param input '' at first, 'prepared' after the full program has done what a "prepare" answer asked for, 'nofuse' when the kernel refused the mount of the plan
 * before. Errors: TsrunError.
 */
export const plan = (machine: Host, input: string): Answer => {
  const line = parseCommandLine(machine.args().slice(1));
  if ('node' in line) return { kind: 'node' };

  const reads: Read[] = [];
  const host = line.given.some((each) => each.flag === 'explain') ? recordingHost(machine, reads) : machine;
  const environment: Environment = { get: host.getenv };
  const own = ownVariables(host);
  const config = givenByConfig(host, environment, own);
  const request = makeRequest(line, config.given.concat(givenByEnvironment(own), line.given), config.rest);

  const situation = look(host, request, environment, own, input);
  if ('prepare' in situation) return { kind: 'prepare', args: situation.prepare };
  kept.situation = situation;
  const made = makePlan(situation);
  if (request.explain === 'json') return { kind: 'print', text: explainJson(situation, made, reads), status: 0 };
  if (request.explain === 'text') return { kind: 'print', text: explainText(situation, made, reads), status: 0 };
  if (request.verbosity === 'debug') {
    for (const each of explainText(situation, made, reads).trimEnd().split('\n')) host.log(each);
  }
  return { kind: 'plan', plan: made };
};

/**
 * Of the latest start: its plan is being carried out, and may be asked for in the words about a failure; the rest is kept so that it is not taken apart value by
 * value just before the process becomes another program.
 */
const kept: { situation?: Situation | undefined; plan?: Plan | undefined } = {};

/** What the machine and the image say. */
const look = (host: Host, request: Request, environment: Environment, own: Situation['own'], input: string): Situation | Prepare => {
  const identity = identifyCaller(host, environment);
  const cwd = findCwd(host, environment);
  const image = openImage(host, request.image, {
    // The second one serves where the first cannot be written.
    stores: () => {
      const { store, local } = placesOf({ environment, request, identity });
      return [store.path, `${local.path}/store`];
    },
    prepared: input !== '',
    cwd: cwd.kind === 'known' ? cwd.path : '',
  });
  if ('prepare' in image) return image;
  return {
    host,
    request,
    image,
    environment,
    own,
    identity,
    home: findHome(host, environment, identity.home, cwd.kind === 'known' ? cwd.path : ''),
    cwd,
    fuseRefused: input === 'nofuse',
    warnings: [],
    remarks: [],
  };
};

/** Every way to fail, in words; what is no TsrunError is a mistake of tsrun's own. */
export const failureOf = (error: unknown): Answer => {
  if (error instanceof TsrunError) return { kind: 'fail', text: printable(formatError(error)), status: error.exitCode };
  const text = error instanceof Error ? `${error.message}\n${error.stack ?? ''}` : String(error);
  return {
    kind: 'fail',
    text: `tsrun: internal error: ${text.trimEnd()} (E_INTERNAL)\nhint: please report this, with the command line\n`,
    status: EXIT_TSRUN,
  };
};

export const keptOfStart = (): readonly unknown[] => [kept.situation, kept.plan];

/** Before the engine's image is made: else each start would take apart what the warm-up has kept. */
export const forget = (): void => {
  kept.situation = undefined;
  kept.plan = undefined;
};

/** globalThis.tsrunStart: the strings of the answer. */
export const start = (host: Host, input: string): readonly Fields[] => {
  let answer: Answer;
  try {
    answer = plan(host, input);
  } catch (error) {
    answer = failureOf(error);
  }
  kept.plan = answer.kind === 'plan' ? answer.plan : undefined;
  try {
    return fieldsOfAnswer(answer);
  } catch (error) {
    return fieldsOfAnswer(failureOf(error));
  }
};

/** globalThis.tsrunFailure: the words for a failure of the launcher. */
export const failure = (host: Host, input: string): readonly Fields[] => {
  try {
    return fieldsOfAnswer(failureOf(explainFailure(host, kept.plan, parseFailure(input))));
  } catch (error) {
    return fieldsOfAnswer(failureOf(error));
  }
};
