/** Dockerfiles that are refused, each with its reason. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
import { suite } from 'uvu';
import { type DockerfileOptions, parseDockerfile } from '../../src/recipe/dockerfile.ts';
import type { BuildSpec } from '../../src/recipe/spec.ts';
import { refused } from './helpers.ts';

const test = suite('dockerfile, refused');

const parse = (text: string, options: Partial<DockerfileOptions> = {}): BuildSpec =>
  parseDockerfile(text, 'Dockerfile', { platform: 'linux/amd64', ...options });

const refusals: readonly (readonly [string, string, RegExp])[] = [
  ['', 'E_RECIPE', /Dockerfile:1: it has no FROM -- expected FROM IMAGE/],
  ['RUN x', 'E_RECIPE', /Dockerfile:1: RUN stands before FROM/],
  ['FORM x', 'E_RECIPE', /Dockerfile:1: "FORM" is no instruction -- did you mean FROM\?/],
  ['FROM x\n\nRNU y', 'E_RECIPE', /Dockerfile:3: "RNU" is no instruction -- did you mean RUN\?/],
  ['FROM x\nZZZZZ y', 'E_RECIPE', /such as RUN or COPY/],
  ['FROM', 'E_RECIPE', /FROM names no image/],
  ['FROM x # comment', 'E_RECIPE', /a comment needs a line of its own/],
  ['FROM x y', 'E_RECIPE', /expected FROM IMAGE \[AS NAME\]/],
  ['FROM x AS 1a', 'E_RECIPE', /cannot be the name of a stage/],
  ['FROM x AS scratch', 'E_RECIPE', /cannot be called scratch/],
  ['FROM Upper/Case', 'E_RECIPE', /lower case: upper\/case$/],
  [`FROM x\nRUN --netwrok=none y`, 'E_RECIPE', /did you mean --network\?/],
  ['FROM Debian', 'E_RECIPE', /no image name.*lower case: debian$/],
  ['FROM a b\n', 'E_RECIPE', /follows the image/],
  ['FROM --platfrom=x y', 'E_RECIPE', /did you mean --platform\?/],
  ['FROM --platform=linux/vax y', 'E_RECIPE', /"linux\/vax" is no platform/],
  ['FROM $BASE', 'E_RECIPE_ARGUMENT', /BASE has no value, so FROM names no image -- write ARG BASE=VALUE above/],
  ['ARG BASE\nFROM $BASE', 'E_RECIPE_ARGUMENT', /--build-arg BASE=VALUE/],
  ['ARG BASE=x\nFROM $BSAE', 'E_RECIPE_ARGUMENT', /did you mean BASE\?/],
  ['FROM x\nRUN', 'E_RECIPE', /Dockerfile:2: RUN says nothing -- expected RUN and a command/],
  ['FROM x\nRUN []', 'E_RECIPE', /runs nothing/],
  ["FROM x\nCMD ['a', 'b']", 'E_RECIPE', /is not JSON.*double quotes/],
  ['FROM x\nCMD ["a",]', 'E_RECIPE', /is not JSON/],
  ['FROM x\nCMD ["a", 1]', 'E_RECIPE', /something else than texts/],
  ['FROM x\nRUN --monut=type=cache x', 'E_RECIPE', /did you mean --mount\?/],
  ['FROM x\nRUN --mount=type=cahce,target=/x y', 'E_RECIPE', /did you mean cache\?/],
  ['FROM x\nRUN --mount=type=cache,tarket=/x y', 'E_RECIPE', /did you mean target\?/],
  ['FROM x\nRUN --mount=type=cache y', 'E_RECIPE', /has no target/],
  ['FROM x\nRUN --mount=type=cache,target=/x,mode=9 y', 'E_RECIPE', /octal/],
  ['FROM x\nRUN --mount=type=secret y', 'E_RECIPE', /has no id/],
  ['FROM x\nRUN --security=insecure y', 'E_RECIPE_UNSUPPORTED', /without privileges/],
  ['FROM x\nRUN --network=lan y', 'E_RECIPE', /expected default, host or none/],
  ['FROM x\nCOPY a', 'E_RECIPE', /names no destination/],
  ['FROM x\nCOPY a b c', 'E_RECIPE', /several sources, and "c" is no directory -- .*c\//],
  ['FROM x\nCOPY --chonw=a b c', 'E_RECIPE', /did you mean --chown\?/],
  ['FROM x\nCOPY --chown a b', 'E_RECIPE', /expected --chown=VALUE/],
  ['FROM x\nADD https://example.org/a.git /a', 'E_RECIPE_UNSUPPORTED', /Git repository/],
  ['FROM x\nADD --keep-git-dir=true a /a', 'E_RECIPE_UNSUPPORTED', /Git repository/],
  ['FROM x\nCOPY <<EOF /x\nabc', 'E_RECIPE', /Dockerfile:2: the here-document "EOF" has no end -- expected a line EOF/],
  ['FROM x\nCOPY --from=later /a /a\nFROM y AS later', 'E_RECIPE_STAGE', /comes later/],
  ['FROM x AS self\nCOPY --from=self /a /a', 'E_RECIPE_STAGE', /takes from itself/],
  ['FROM x\nCOPY --from=0 /a /a', 'E_RECIPE_STAGE', /takes from itself -- this is the first/],
  ['FROM x\nFROM y\nCOPY --from=7 /a /a', 'E_RECIPE_STAGE', /no earlier stage 7 -- stages above this one: 0 to 0/],
  ['FROM two AS one\nFROM one AS two', 'E_RECIPE_STAGE', /"two" comes later/],
  ['FROM x\nCOPY --from=$S /a /a', 'E_RECIPE_UNSUPPORTED', /variable in --from/],
  ['FROM x\nENV A', 'E_RECIPE', /expected ENV A=VALUE/],
  ['FROM x\nENV A=1 B', 'E_RECIPE', /no "=" in "B"/],
  ['FROM x\nENV A="1', 'E_RECIPE', /double quote is not closed/],
  ['FROM x\nENV ${A}=1', 'E_RECIPE_UNSUPPORTED', /write the name out/],
  ['FROM x\nEXPOSE http', 'E_RECIPE', /"http" is no port/],
  ['FROM x\nSHELL /bin/bash -c', 'E_RECIPE', /expected SHELL \["/],
  ['FROM x\nWORKDIR', 'E_RECIPE', /expected WORKDIR PATH/],
  ['FROM x\nHEALTHCHECK --interval=10 CMD x', 'E_RECIPE', /such as 30s/],
  ['FROM x\nHEALTHCHECK x', 'E_RECIPE', /expected CMD or NONE/],
  ['FROM x\nONBUILD FROM y', 'E_RECIPE', /cannot hold FROM/],
  ['FROM x\nONBUILD RNU y', 'E_RECIPE', /did you mean RUN\?/],
  ['# syntax=example/mockerfile\nFROM x', 'E_RECIPE_UNSUPPORTED', /language of "example\/mockerfile"/],
  ['# escape=x\nFROM x', 'E_RECIPE', /expected \\ or `/],
  ['# escape=`\n# escape=`\nFROM x', 'E_RECIPE', /Dockerfile:2: the directive escape stands there twice/],
  [`FROM x\n${'RUN y\n'.repeat(6000)}`, 'E_RECIPE_LIMIT', /more than 5000 instructions/],
  ['FROM x\n'.repeat(201), 'E_RECIPE_LIMIT', /more than 200 stages/],
  [`FROM x\nRUN ${'y'.repeat(2 ** 20)}`, 'E_RECIPE_LIMIT', /longer than/],
];

for (const [text, code, pattern] of refusals)
  test(`refused: ${JSON.stringify(text.slice(0, 80))}`, () => refused(() => parse(text), code, pattern));

test('an unknown target is refused with the nearest stage', () => {
  refused(() => parse('FROM x AS build', { target: 'biuld' }), 'E_RECIPE_STAGE', /no stage "biuld" -- did you mean build\?/);
  refused(() => parse('FROM x', { target: '1' }), 'E_RECIPE_STAGE', /0 to 0/);
});

test('messages hold no terminal controls', () => {
  refused(() => parse('FROM x\nR\x1b[31mUN y'), 'E_RECIPE', /"R\?\[31MUN"/);
});

test.run();
