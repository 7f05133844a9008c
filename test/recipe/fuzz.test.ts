// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
/** Whatever is in a recipe: a spec, or an error of ours. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { onBuildSteps } from '../../src/recipe/dockerfile.ts';
import { readRecipe } from '../../src/recipe/front.ts';
import { ignoreRules } from '../../src/recipe/ignore.ts';
import type { BuildSpec, Language, Word } from '../../src/recipe/spec.ts';
import { neededStages, usedStages } from '../../src/recipe/stages.ts';
import { expandWord } from '../../src/recipe/words.ts';
import { onlyTsrunErrors } from './helpers.ts';

const test = suite('recipes made at random');

const SAMPLES: Readonly<Record<Language, string>> = {
  dockerfile:
    '# syntax=docker/dockerfile:1\n# escape=\\\nARG V=1\nFROM --platform=linux/amd64 debian:${V:-2} AS a\nARG V\nENV A="x y" B=$A\nRUN --mount=type=cache,target=/c,id=x --network=none <<-E && y\n\tx $A\n\tE\nRUN ["a", "b"]\n' +
    'SHELL ["/bin/sh", "-c"]\nFROM scratch\nCOPY --from=a --chown=1:1 --exclude=*.o a b \\\n # c\n c/\nCOPY <<F /x\n${A#x}\nF\nADD --checksum=sha256:0 http://x/y /z\nHEALTHCHECK --interval=1s CMD x\nONBUILD RUN y\nVOLUME ["/v"]\nEXPOSE 80/tcp\nUSER u\nWORKDIR /w\nLABEL a=b\nSTOPSIGNAL 9\nENTRYPOINT ["x"]\nCMD y\n',
  definition:
    'Bootstrap: docker # c\nFrom: debian:{{ V }}\nStage: a\n%arguments\nV=12\n%post -c /bin/bash\nx {{V}}\n%files\na "b c"\n\nBootstrap: localimage\nFrom: x\\\ny.sif\n%files from a\n/a /b\n%environment\nA=1\n%runscript\n#!/bin/sh\nx\n%labels\nA b\n%appinstall z\ny\n%apprun z\ny\n%appfiles z\na b\n%test\nt\n%help\nh\n%setup\ns\n',
  yaml: 'args: {V: 12}\nfrom: debian:$V\nstages:\n  b: {from: c, run: [x, y]}\npackages: {apt: [a, "b=$V"], pip: c}\nfiles:\n- {src: a, dst: /b, from: b, mode: 0644}\n- {text: x, dst: /y}\nenv: &e {A: "${B:-c}"}\nlabels: *e\nentry: a b\ncmd: [c]\nrun: |\n  a\n  b\ntest: x\nhelp: y\nuser: z\nworkdir: /w\n',
};

const LANGUAGES = Object.keys(SAMPLES) as readonly Language[];
const read = (language: Language, text: string): BuildSpec =>
  readRecipe({ path: 'recipe', text, language, platform: 'linux/amd64', buildArgs: { V: '3', http_proxy: 'p' } });

/** What every spec keeps to, so that the engine may rely on it. */
const check = (spec: BuildSpec): void => {
  assert.ok(spec.target >= 0 && spec.target < spec.stages.length);
  spec.stages.forEach((stage, index) => {
    for (const used of usedStages(stage)) assert.ok(used >= 0 && used < index, 'a stage takes from those above it only');
    stage.steps.forEach((step, at) => {
      assert.ok(step.at.line >= 1 && step.title.length <= 200 && !step.title.includes('\n'), JSON.stringify(step.title));
      if (step.kind === 'host-run' && step.beforeBase) assert.is(at, 0);
      if (step.kind === 'copy') assert.ok(step.sources.length > 0);
    });
  });
  assert.is(neededStages(spec).at(-1), spec.target);
  assert.is(JSON.stringify(spec).length > 0, true);
  // All text is bytes, also what came through JSON and YAML.
  assert.not.match(JSON.stringify(spec), /[\u0100-\uffff]/);
};

test('the samples are good recipes', () => {
  for (const language of LANGUAGES) check(read(language, SAMPLES[language]));
});

type Edit = { readonly at: number; readonly remove: number; readonly insert: string };

const snippet = fc.oneof(
  fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)), maxLength: 4 }),
  fc.constantFrom(
    '\n',
    '\\\n',
    '"',
    "'",
    '${',
    '}',
    '{{',
    '}}',
    '<<E',
    '%',
    '#',
    '[',
    ']',
    '\t',
    '--',
    '=',
    ',',
    ':',
    '- ',
    '&e ',
    '*e',
    '\r\n',
    '\xc3\xa9',
    '\\u20ac',
    'FROM ',
    'Bootstrap: ',
    '%post',
    'ONBUILD ',
    '__proto__',
    'constructor: ',
  ),
);

const edits: fc.Arbitrary<readonly Edit[]> = fc.array(fc.record({ at: fc.nat(2000), remove: fc.nat(12), insert: snippet }), {
  minLength: 1,
  maxLength: 4,
});

const applied = (text: string, changes: readonly Edit[]): string =>
  changes.reduce(
    (now, { at, remove, insert }) => `${now.slice(0, at % now.length)}${insert}${now.slice((at % now.length) + remove)}` || 'x',
    text,
  );

for (const language of LANGUAGES) {
  test(`damaged recipes in ${language} are read or refused`, () => {
    let good = 0;
    fc.assert(
      fc.property(edits, (changes) => {
        onlyTsrunErrors(() => {
          check(read(language, applied(SAMPLES[language], changes)));
          good++;
        });
      }),
      { numRuns: 1500 },
    );
    assert.ok(good > 5, `only ${good} could be read: the edits break too much to show anything`);
  });

  test(`any text is read or refused in ${language}`, () => {
    fc.assert(
      fc.property(fc.array(snippet, { maxLength: 30 }), (parts) => {
        onlyTsrunErrors(() => check(read(language, parts.join(''))));
      }),
      { numRuns: 500 },
    );
  });
}

test('triggers of a base are steps or refused', () => {
  fc.assert(
    fc.property(fc.array(snippet, { maxLength: 10 }), (parts) => {
      onlyTsrunErrors(() => onBuildSteps([`RUN ${parts.join('')}`, parts.join('')], 'base', { platform: 'linux/amd64' }));
    }),
    { numRuns: 500 },
  );
});

test('ignore rules take any text and any path', () => {
  fc.assert(
    fc.property(fc.array(snippet, { maxLength: 10 }), fc.string(), (parts, path) => {
      assert.type(ignoreRules(parts.join(''))(path), 'boolean');
    }),
  );
});

test('words of all samples expand without variables', () => {
  const words = (value: unknown): readonly Word[] => {
    if (typeof value !== 'object' || value === null) return [];
    if (Array.isArray(value) && value.some((part) => typeof part === 'object' && part !== null && 'variable' in part))
      return [value as Word];
    return Object.values(value).flatMap(words);
  };
  const all = LANGUAGES.flatMap((language) => words(read(language, SAMPLES[language])));
  assert.ok(all.length >= 4, String(all.length));
  for (const word of all)
    assert.type(
      expandWord(word, () => undefined, { file: 'x', line: 1 }),
      'string',
    );
});

test.run();
