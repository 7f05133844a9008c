/** Definition files that are refused, each with its reason. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type DefinitionOptions, parseDefinition } from '../../src/recipe/definition.ts';
import type { BuildSpec } from '../../src/recipe/spec.ts';
import { refused } from './helpers.ts';

const test = suite('definition file, refused');

const parse = (text: string, options: DefinitionOptions = {}): BuildSpec => parseDefinition(text, 'x.def', options);
const HEADER = 'Bootstrap: docker\nFrom: debian:12\n';
const TEMPLATED =
  'Bootstrap: docker\nFrom: debian:{{ VERSION }}\n%arguments\n# c\nVERSION=12\nWHO = the {{VERSION}}\n%post\necho {{WHO}} ${{{VERSION}}}\n# {{ NOT }}\necho x # {{ NOT }}\n';

const refusals: readonly (readonly [string, string, RegExp])[] = [
  ['', 'E_RECIPE', /x\.def:1: it has no "Bootstrap:" -- expected Bootstrap: AGENT/],
  ['%post\nx', 'E_RECIPE', /no "Bootstrap:"/],
  ['%post\nx\nBootstrap: docker\nFrom: x', 'E_RECIPE', /x\.def:1: "%post" stands before the header/],
  ['Bootstrap: docker', 'E_RECIPE', /x\.def:1: Bootstrap: docker needs From -- expected a line From:/],
  ['Bootstrap: debootstrap\nMirrorURL: x', 'E_RECIPE', /needs OSVersion/],
  ['Bootstrap:\nFrom: x', 'E_RECIPE', /Bootstrap has no value/],
  ['Bootstrap: dokcer\nFrom: x', 'E_RECIPE', /"dokcer" is no build agent -- did you mean docker\?/],
  ['Bootstrap: library\nFrom: alpine', 'E_RECIPE_UNSUPPORTED', /no build agent "library" -- take an image of a registry/],
  ['Bootstrap: shub\nFrom: a/b', 'E_RECIPE_UNSUPPORTED', /closed/],
  ['Bootstrap: oras\nFrom: a/b', 'E_RECIPE_UNSUPPORTED', /localimage/],
  ['Bootstrap: yum\nMirrorURL: x', 'E_RECIPE_UNSUPPORTED', /From: rockylinux/],
  ['Bootstrap: dnf', 'E_RECIPE_UNSUPPORTED', /fedora/],
  ['Bootstrap: zypper', 'E_RECIPE_UNSUPPORTED', /opensuse/],
  ['Bootstrap: arch', 'E_RECIPE_UNSUPPORTED', /archlinux/],
  ['Bootstrap: docker-daemon\nFrom: x', 'E_RECIPE_UNSUPPORTED', /docker save/],
  ['Bootstrap: dockerfile\nFrom: .', 'E_RECIPE_UNSUPPORTED', /the Dockerfile itself/],
  ['Bootstrap: localimage\nFrom: x.sif\nFingerprints: AB', 'E_RECIPE_UNSUPPORTED', /x\.def:3: .*signatures/],
  ['Bootstrap: docker\nFrom: x y', 'E_RECIPE', /x\.def:2: "docker:\/\/x y" is no image name/],
  ['Bootstrap: docker\nForm: x', 'E_RECIPE', /x\.def:2: "Form" is no key of a header -- did you mean from\?/],
  ['Bootstrap: docker\nFrom x', 'E_RECIPE', /x\.def:2: "From x" is no line of a header/],
  ['Bootstrap: docker\nFrom: x\nFrom: y', 'E_RECIPE', /x\.def:3: From stands there twice/],
  ['# x\nBoostrap: docker\nFrom: x\n', 'E_RECIPE', /x\.def:2: "Boostrap: docker" begins no header -- did you mean Bootstrap\?/],
  ['  Bootstrap: docker\nFrom: x\n', 'E_RECIPE', /x\.def:1: .*begins no header -- expected Bootstrap: AGENT, at the beginning of the line/],
  [`${HEADER}%files\n"a b\n`, 'E_RECIPE', /x\.def:4: a quote is not closed in ""a b" -- expected "/],
  [`${HEADER}%psot\nx`, 'E_RECIPE', /x\.def:3: "%psot" is no section -- did you mean %post\?/],
  [`${HEADER}%post\ncat <<E\n%zzzzzzz\nE`, 'E_RECIPE', /x\.def:5: .*no line can begin with %/],
  [`${HEADER}%apprun\nx`, 'E_RECIPE', /%apprun names no app/],
  [`${HEADER}%apprun ../x\nx`, 'E_RECIPE', /names no app/],
  [`${HEADER}%post -c\nx`, 'E_RECIPE', /nothing follows -c/],
  [`${HEADER}%files\na b c`, 'E_RECIPE', /x\.def:4: "c" follows the destination/],
  [`${HEADER}%files\n""`, 'E_RECIPE', /names no file/],
  [`${HEADER}%files form x\na`, 'E_RECIPE', /expected %files, or %files from STAGE/],
  [`${HEADER}%files from x\na`, 'E_RECIPE_STAGE', /no stage "x" -- no stage above has a name/],
  [`${HEADER}Stage: build\n${HEADER}%files from biuld\na`, 'E_RECIPE_STAGE', /did you mean build\?/],
  [`${HEADER}Stage: a\n%files from a\nx`, 'E_RECIPE_STAGE', /takes from itself/],
  [`${HEADER}Stage: a\n%files from b\nx\n${HEADER}Stage: b\n`, 'E_RECIPE_STAGE', /comes later/],
  [`${HEADER}Stage: a\n${HEADER}Stage: a\n`, 'E_RECIPE_STAGE', /x\.def:6: the stage of line 3 is called "a", too -- give it another name/],
  [`${HEADER}%post\nx\nStage: two\n${HEADER}`, 'E_RECIPE', /x\.def:5: "Stage: two" stands above the Bootstrap of its stage/],
  [`${HEADER}%post\n{{ A }}`, 'E_RECIPE_ARGUMENT', /x\.def:4: \{\{ A \}\} has no value -- set it with --build-arg A=VALUE/],
  [`${HEADER}%arguments\nABC=1\n%post\n{{ABD}}`, 'E_RECIPE_ARGUMENT', /did you mean ABC\?/],
  [`${HEADER}%arguments\nA B\n`, 'E_RECIPE', /expected NAME=VALUE/],
  [`${HEADER}%post\n${'x\n'.repeat(200_000)}`, 'E_RECIPE_LIMIT', /lines/],
  [HEADER.repeat(201), 'E_RECIPE_LIMIT', /stages/],
  [`${HEADER}%post\n${'x'.repeat(2 ** 20)}`, 'E_RECIPE_LIMIT', /longer/],
];

for (const [text, code, pattern] of refusals)
  test(`refused: ${JSON.stringify(text.slice(0, 80))}`, () => refused(() => parse(text), code, pattern));

test('an argument that was given and that nothing uses is refused', () => {
  refused(
    () => parse(TEMPLATED, { buildArgs: { VERSOIN: '1' } }),
    'E_RECIPE_ARGUMENT',
    /nothing in it uses the build argument "VERSOIN" -- did you mean VERSION\?/,
  );
  refused(() => parse(HEADER, { buildArgs: { A: '1' } }), 'E_RECIPE_ARGUMENT', /it has no arguments/);
  assert.is(parse(HEADER, { buildArgs: { https_proxy: 'x' } }).stages.length, 1);
});

test('what is taken as it stands and looks like a slip is told with its line', () => {
  const told = (text: string): readonly string[] => parse(HEADER + text).remarks.map(({ at, text: said }) => `${at.line}: ${said}`);
  assert.equal(told('%labels\n# x\nAuthor=me\nVersion 1\n'), [
    '5: the label "Author=me" has no value; one stands behind a blank: NAME VALUE',
  ]);
  assert.equal(told('%applabels a\nonly\n'), ['4: the label "only" has no value; one stands behind a blank: NAME VALUE']);
  assert.equal(told('%post\n# {{ a b }}\ncurl {{ my version }}.tar {{a-b}}\n'), [
    '5: "{{ my version }}" stays as it is: a name has letters, digits and _',
    '5: "{{a-b}}" stays as it is: a name has letters, digits and _',
  ]);
  assert.equal(told('%post\ndocker ps --format "{{ .Names }}" "{{}}" "{{ a.b }}"\n%labels\nA 1\n'), []);
});

test.run();
