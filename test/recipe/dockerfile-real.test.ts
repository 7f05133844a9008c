/** A Dockerfile of the kind people have, as a whole. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of recipes are written so
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseDockerfile } from '../../src/recipe/dockerfile.ts';
import { expandWord } from '../../src/recipe/words.ts';

const test = suite('dockerfile, a real one');

test('a Dockerfile of the kind people have', () => {
  const spec = parseDockerfile(REAL, 'Dockerfile', { platform: 'linux/amd64', buildArgs: { PYTHON_VERSION: '3.12' } });
  assert.equal(
    spec.stages.map(({ name, base }) => [name, base.kind === 'image' ? base.reference : base]),
    [
      ['builder', 'docker://python:3.12-slim'],
      [undefined, 'docker://python:3.12-slim'],
    ],
  );
  const [build] = spec.stages[0]?.steps.filter((step) => step.kind === 'run') ?? [];
  assert.ok(build?.kind === 'run' && build.command.form === 'shell' && build.command.text.includes('build-essential         gfortran'));
  const copied = spec.stages[1]?.steps.find((step) => step.kind === 'copy');
  assert.ok(copied?.kind === 'copy' && copied.from.kind === 'stage' && copied.from.index === 0);
  const env = spec.stages[0]?.steps.find((step) => step.kind === 'env');
  const value = env?.kind === 'env' ? env.variables.find(({ name }) => name === 'PATH')?.value : undefined;
  assert.is(
    expandWord(value ?? [], (name) => (name === 'PATH' ? '/bin' : ''), { file: '', line: 1 }),
    '/opt/venv/bin:/bin',
  );
  assert.equal(spec.unusedArguments, []);
});

const REAL = `# syntax=docker/dockerfile:1
ARG PYTHON_VERSION=3.11

FROM python:\${PYTHON_VERSION}-slim AS builder
# Build tools, later left behind.
RUN apt-get update && apt-get install -y --no-install-recommends \\
        build-essential \\
        # for scipy
        gfortran \\
    && rm -rf /var/lib/apt/lists/*
ENV VIRTUAL_ENV=/opt/venv \\
    PATH="/opt/venv/bin:$PATH"
RUN python -m venv $VIRTUAL_ENV
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip pip install -r requirements.txt

FROM python:\${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.authors="A. Person" \\
      org.opencontainers.image.licenses=MIT
COPY --from=builder --chown=1000:1000 /opt/venv /opt/venv
ENV PATH="/opt/venv/bin:\${PATH}"
WORKDIR /work
USER 1000
ENTRYPOINT ["python", "-m", "tool"]
CMD ["--help"]
`;

test.run();
