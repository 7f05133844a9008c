// time limit: 900 s
/** Runs as tasks of Slurm's steps: what they share, what they keep of what Slurm gave them, and that nothing of them stays. Once for each way of tracking. */
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type RunResult, run, start } from '../helpers/proc.ts';
import { field } from '../helpers/processes.ts';
import { until } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';
import { type Cluster, type Settings, startCluster, whyNot } from './cluster.ts';
import { makeJobImage } from './image.ts';

const test = suite('steps under Slurm');
const user = testUser();
/** Said to Slurm's client, which tells the tasks. */
const LINGER = ['env', 'TSRUN_LINGER=0'];
/** A server that waited for this long has not ended with its step. */
const LONG_LINGER = 300;
const SHORT_LINGER = 6;

/** As the test user on the login node. */
const forLogin = (cluster: Cluster, words: readonly string[]): string[] => [...cluster.login, ...LINGER, 'timeout', '120', ...words];
const begin = (cluster: Cluster, words: readonly string[]) => start(forLogin(cluster, words));

const facts = (cluster: Cluster, tracking: 'linuxproc' | 'cgroup'): void => {
  const image = makeJobImage(cluster.shared);
  const [first = '', second = ''] = cluster.nodes;
  const login = (words: readonly string[]): Promise<RunResult> => run(forLogin(cluster, words), { limitSeconds: 120 });
  const shell = (script: string): Promise<RunResult> => login(['bash', '-c', script]);
  const linesOf = (text: string): string[] => text.trim().split('\n').sort();
  const inNode = (node: string, path: string): string => `/proc/${cluster.init(node)}/root${path}`;
  const ofTsrun = (node: string): readonly number[] => [
    ...cluster.processes(node, 'tsrun-server'),
    ...cluster.processes(node, 'tsrun-image'),
  ];
  const mountsOf = (node: string): string[] => readFileSync(`/proc/${cluster.init(node)}/mountinfo`, 'utf8').split('\n');
  const mountsBefore = new Map(cluster.nodes.map((node) => [node, mountsOf(node)]));
  /** The nodes as they were before any run: no process of tsrun, no socket, no mount. */
  const nothingIsLeft = async (): Promise<void> => {
    for (const node of cluster.nodes) {
      await until(() => ofTsrun(node).length === 0, `no process of tsrun on ${node}`);
      const runtime = inNode(node, `/tmp/tsrun-${user.uid}`);
      const files = existsSync(runtime) ? readdirSync(runtime) : [];
      // What was killed from outside leaves its socket and lock; the next server removes them (test/e2e/server-bad-cases.test.ts).
      if (tracking === 'linuxproc')
        assert.equal(
          files.filter((name) => !name.endsWith('.log')),
          [],
        );
      assert.equal(
        mountsOf(node).filter((line) => !mountsBefore.get(node)?.includes(line)),
        [],
      );
    }
  };
  const it = (name: string, work: () => Promise<void>): void => test(`${tracking}: ${name}`, work);

  it('one server for each node and step, in one user namespace, whatever core its starter is bound to; tasks keep theirs', async () => {
    const tasks = Math.min(4, availableParallelism());
    const script = `echo $SLURMD_NODENAME $(readlink /proc/self/ns/user) $(grep Cpus_allowed_list /proc/self/status | cut -f2); echo > ${cluster.shared}/here-$SLURM_PROCID; until [ -e ${cluster.shared}/go ]; do sleep 0.05; done`;
    const step = begin(cluster, [
      'srun',
      '-N2',
      `--ntasks-per-node=${tasks}`,
      '--cpu-bind=cores',
      'tsrun',
      'exec',
      image,
      'sh',
      '-c',
      script,
    ]);
    await until(() => readdirSync(cluster.shared).filter((name) => name.startsWith('here-')).length === 2 * tasks, 'all tasks run');
    const cores = Array.from({ length: availableParallelism() }, (_, core) => core);
    for (const node of cluster.nodes) {
      const servers = cluster.processes(node, 'tsrun-server');
      assert.is(servers.length, 1, `${node}: ${servers}`);
      const serving = cluster.processes(node, 'tsrun-image');
      assert.is(serving.length, 1);
      for (const pid of [...servers, ...serving]) {
        assert.is(
          field(pid, 'Cpus_allowed_list'),
          tracking === 'linuxproc' || tasks === cores.length ? `0-${cores.length - 1}` : field(pid, 'Cpus_allowed_list'),
        );
        assert.equal([readlinkSync(`/proc/${pid}/fd/0`), readlinkSync(`/proc/${pid}/fd/1`)], ['/dev/null', '/dev/null']);
      }
    }
    writeFileSync(join(cluster.shared, 'go'), '');
    assert.is((await step.ended).status, 0, step.output());
    const told = linesOf(step.output()).map((line) => line.split(' '));
    assert.is(told.length, 2 * tasks, step.output());
    for (const node of cluster.nodes) {
      const mine = told.filter(([name]) => name === node);
      assert.is(new Set(mine.map(([, namespace]) => namespace)).size, 1);
      assert.is(new Set(mine.map(([, , cpus]) => cpus)).size, tasks, 'each task is bound to a core of its own');
    }
    await nothingIsLeft();
  });

  it('four tasks on each of two nodes: the ranks of a node read each other’s memory', async () => {
    const ran = await login([
      'salloc',
      '--quiet',
      '-N2',
      '--exclusive',
      'srun',
      '--quiet',
      '--overcommit',
      '--ntasks-per-node=4',
      '--cpu-bind=cores',
      'sh',
      '-c',
      'd=/tmp/at-$SLURM_STEP_ID; mkdir -p $d; exec tsrun exec "$0" neighbour $d:4',
      image,
    ]);
    assert.equal(
      [ran.stderr, linesOf(ran.stdout), ran.status],
      ['', [0, 0, 1, 1, 2, 2, 3, 3].map((rank) => `${rank} has read from all`), 0],
    );
    await nothingIsLeft();
  });

  it('exit codes and signals of tasks are the payload’s own', async () => {
    const seven = await login(['srun', '--quiet', 'tsrun', 'exec', image, 'sh', '-c', 'exit 7']);
    assert.is(seven.status, 7);
    const killed = await login(['srun', '--quiet', 'tsrun', 'exec', image, 'sh', '-c', 'kill -SEGV $$']);
    assert.is(killed.status, 139);
    const trapped = join(cluster.shared, `trapped-${tracking}`);
    const step = begin(cluster, [
      'srun',
      '--quiet',
      '--job-name=trap',
      'tsrun',
      'exec',
      image,
      'sh',
      '-c',
      `trap "echo got TERM > ${trapped}; exit 9" TERM; echo up; while :; do sleep 0.05; done`,
    ]);
    await step.until(/up/);
    assert.is((await login(['scancel', '--name=trap'])).status, 0);
    await step.ended;
    await until(() => existsSync(trapped) && readFileSync(trapped, 'utf8') === 'got TERM\n', 'the payload has had the signal');
    await nothingIsLeft();
  });

  it('a left-over of a run holds up neither srun nor the next step', async () => {
    // With control groups the end of a step is the end of its server, else that of the linger time is.
    const linger = tracking === 'cgroup' ? LONG_LINGER : SHORT_LINGER;
    const begun = Date.now();
    const ran = await shell(
      `export TSRUN_LINGER=${linger}; srun --quiet -n1 tsrun exec ${image} cat /opt/tool/data.txt && srun --quiet -n1 tsrun exec ${image} cat /opt/tool/data.txt`,
    );
    assert.equal([ran.stdout, ran.stderr], ['from the image\n'.repeat(2), '']);
    const left = cluster.nodes.flatMap((node) => ofTsrun(node));
    if (tracking === 'linuxproc') assert.ok(left.length > 0 || Date.now() - begun > SHORT_LINGER * 1000, 'the server is there yet');
    await nothingIsLeft();
  });

  it('a second job of the user on the node reads on when the first is cancelled, and when it ends', async () => {
    const reader = `for i in $(seq 50); do cat /opt/tool/data.txt /bin/busybox | wc -c; done | sort -u; cat /none-$RANDOM 2>/dev/null; head -c 15 /opt/tool/data.txt; read line; cat /opt/tool/data.txt; busybox true && echo ran`;
    const job = (name: string, script: string) =>
      begin(cluster, [
        'sh',
        '-c',
        `{ until [ -e ${cluster.shared}/${name}.go ]; do sleep 0.05; done; echo; } | srun --quiet -n1 --job-name=${name} --nodelist=${first} tsrun exec ${image} sh -c '${script}'`,
      ]);
    const wait = `echo up; ${reader}`;
    const going = job(`going-${tracking}`, wait);
    await going.until(/from the image/);
    const staying = job(`staying-${tracking}`, wait);
    await staying.until(/from the image/);
    assert.is((await login(['scancel', `--name=going-${tracking}`])).status, 0);
    writeFileSync(join(cluster.shared, `going-${tracking}.go`), '');
    await going.ended;
    const third = await login(['srun', '--quiet', '-n1', `--nodelist=${first}`, 'tsrun', 'exec', image, 'cat', '/opt/tool/data.txt']);
    assert.is(third.stdout, 'from the image\n', third.stderr);
    writeFileSync(join(cluster.shared, `staying-${tracking}.go`), '');
    assert.is((await staying.ended).status, 0, staying.output());
    assert.match(staying.output(), /^up\n\d+\nfrom the image\nfrom the image\nran\n$/);
    await nothingIsLeft();
  });

  it('the batch script’s /tmp is the run’s; a run’s is the script’s, and the other node has another', async () => {
    writeFileSync(
      join(cluster.shared, 'tmp.sh'),
      `#!/bin/bash
echo "by the script" > /tmp/note-$SLURM_JOB_ID
srun --quiet -N1 -n1 tsrun exec ${image} sh -c 'cat /tmp/note-$SLURM_JOB_ID; echo "by the run" > /tmp/answer-$SLURM_JOB_ID'
cat /tmp/answer-$SLURM_JOB_ID
srun --quiet -N2 -n2 tsrun exec ${image} sh -c 'ls /tmp/note-$SLURM_JOB_ID 2>/dev/null || echo "not here"'
`,
      { mode: 0o755 },
    );
    const ran = await shell('sbatch --quiet --wait -N2 -n2 --output=tmp.out tmp.sh');
    assert.is(ran.status, 0, ran.stderr);
    const [a, b, ...rest] = readFileSync(join(cluster.shared, 'tmp.out'), 'utf8').trim().split('\n');
    assert.equal([a, b, rest.map((line) => line.replace(/-\d+$/, '')).sort()], ['by the script', 'by the run', ['/tmp/note', 'not here']]);
    await nothingIsLeft();
  });

  it('an array of jobs, a start with no environment (env -i), a task’s own directory and its descriptors', async () => {
    writeFileSync(
      join(cluster.shared, 'array.sh'),
      `#!/bin/bash
#SBATCH --array=1-4
env -i PATH="$PATH" HOME="$HOME" TSRUN_LINGER=0 tsrun exec ${image} sh -c 'echo $1 $(env | grep -c SLURM); cat /opt/tool/data.txt; pwd' sh $SLURM_ARRAY_TASK_ID
`,
      { mode: 0o755 },
    );
    const ran = await shell('sbatch --quiet --wait --output=array-%a.out array.sh && cat array-*.out');
    assert.is(ran.stdout, [1, 2, 3, 4].map((task) => `${task} 0\nfrom the image\n${cluster.shared}\n`).join(''), ran.stderr);
    await nothingIsLeft();
  });

  it('heterogeneous jobs, several programs in a step, a step beside another one, a task prolog, a copy sent by Slurm', async () => {
    writeFileSync(join(cluster.shared, 'programs.conf'), `0 tsrun exec ${image} echo zero\n1 tsrun exec ${image} echo one %t\n`);
    writeFileSync(join(cluster.shared, 'prolog'), '#!/bin/sh\necho "export BY_THE_PROLOG=yes"\n', { mode: 0o755 });
    const beside = `srun --quiet -n1 tsrun exec ${image} sh -c 'echo up; until [ -e ${cluster.shared}/beside-${tracking} ]; do sleep 0.05; done' &
      srun --quiet -n1 --overlap tsrun exec ${image} sh -c 'cat /opt/tool/data.txt > ${cluster.shared}/beside-${tracking}'; wait`;
    const cases: readonly (readonly [readonly string[], readonly string[]])[] = [
      [
        [
          'salloc',
          '--quiet',
          '-n1',
          ':',
          '-n1',
          'srun',
          '--quiet',
          'tsrun',
          'exec',
          image,
          'echo',
          'a',
          ':',
          'tsrun',
          'exec',
          image,
          'echo',
          'b',
        ],
        ['a', 'b'],
      ],
      [
        ['srun', '--quiet', '-n2', '--overcommit', '--multi-prog', 'programs.conf'],
        ['one 1', 'zero'],
      ],
      [['salloc', '--quiet', '-n1', 'sh', '-c', beside], ['up']],
      [['srun', '--quiet', `--task-prolog=${cluster.shared}/prolog`, 'tsrun', 'exec', image, 'sh', '-c', 'echo $BY_THE_PROLOG'], ['yes']],
      [['srun', '--quiet', `--bcast=/tmp/tsrun-${tracking}`, 'tsrun', 'exec', image, 'cat', '/opt/tool/data.txt'], ['from the image']],
    ];
    for (const [words, expected] of cases) {
      const ran = await login(words);
      assert.equal([linesOf(ran.stdout), ran.status], [expected, 0], `${words.join(' ')}\n${ran.stderr}`);
    }
    await nothingIsLeft();
  });

  it('srun --pty gives a shell with a terminal', async () => {
    const ran = await run(forLogin(cluster, ['script', '-qec', `srun --quiet --pty tsrun shell ${image}`, '/dev/null']), {
      input: 'tty; cat /opt/tool/data.txt; exit 5\n',
    });
    assert.match(ran.stdout, /\/dev\/(pts\/\d+|console)[\s\S]*from the image/);
    assert.is(ran.status, 5, ran.stdout);
    await nothingIsLeft();
  });

  if (tracking === 'cgroup') {
    it('a task that takes more memory than its job has is killed alone: the others read on', async () => {
      // Memory is touched by the shell's growing variable; the reader has the same server.
      const eater = 'x=0123456789; while :; do x=$x$x; done';
      const script = `if [ $SLURM_PROCID = 0 ]; then ${eater}; else echo up; until [ -e ${cluster.shared}/eaten ]; do cat /bin/busybox | wc -c; done | sort -u | wc -l; cat /opt/tool/data.txt; fi`;
      const step = begin(cluster, [
        'srun',
        '--kill-on-bad-exit=0',
        '--wait=0',
        '-N1',
        '-n2',
        '--mem=200',
        'tsrun',
        'exec',
        image,
        'sh',
        '-c',
        script,
      ]);
      await step.until(/Out Of Memory|oom-kill|Killed/i);
      writeFileSync(join(cluster.shared, 'eaten'), '');
      const { status } = await step.ended;
      assert.ok(status !== 0);
      assert.match(step.output(), /^1\nfrom the image$/m);
      await nothingIsLeft();
    });

    it('a daemon that a payload leaves is ended with the step', async () => {
      const ran = await login(['srun', '--quiet', '-n1', 'tsrun', 'exec', image, 'sh', '-c', 'setsid sleep 4711 & echo left']);
      assert.is(ran.stdout, 'left\n');
      await until(() => [first, second].every((node) => cluster.processes(node, 'sleep').length === 0), 'no daemon');
      await nothingIsLeft();
    });
  }
};

const privateTmp = (cluster: Cluster): void => {
  const image = makeJobImage(cluster.shared);
  const [node = ''] = cluster.nodes;

  test('job_container/tmpfs: each job’s runs have the job’s own /tmp, at the same time and with a shared runtime directory, too', async () => {
    const runtime = join(cluster.shared, 'runtime');
    mkdirSync(runtime, { mode: 0o700 });
    chownSync(runtime, user.uid, user.gid);
    const job = (name: string) =>
      `echo ${name} > /tmp/name; export XDG_RUNTIME_DIR=${runtime}; exec tsrun exec ${image} sh -c "cat /tmp/name /opt/tool/data.txt; echo up; until [ -e ${cluster.shared}/both ]; do sleep 0.05; done; ls /tmp"`;
    const words = (name: string) => ['srun', '--quiet', '-n1', `--nodelist=${node}`, 'sh', '-c', job(name)];
    const jobs = ['first', 'second'].map((name) => begin(cluster, words(name)));
    await Promise.all(jobs.map((each) => each.until(/up/)));
    assert.is(cluster.processes(node, 'tsrun-server').length, 1, 'one scope: nothing tells the jobs apart but their views');
    writeFileSync(join(cluster.shared, 'both'), '');
    for (const each of jobs) assert.is((await each.ended).status, 0, each.output());
    assert.equal(
      jobs.map((each) => each.output()),
      ['first', 'second'].map((name) => `${name}\nfrom the image\nup\nname\n`),
    );
    await until(() => cluster.processes(node, 'tsrun-server').length === 0, 'the server has ended');
  });
};

const clusters: Cluster[] = [];
const withCluster = async (what: string, settings: Settings, work: (cluster: Cluster) => void): Promise<void> => {
  const reason = whyNot(settings.tracking);
  if (reason !== undefined) return test(`${what}: tasks of a step are runs`, () => skip(reason));
  const cluster = await startCluster({ bound: true, ...settings });
  clusters.push(cluster);
  work(cluster);
};

for (const tracking of ['linuxproc', 'cgroup'] as const) {
  if (availableParallelism() > 1) await withCluster(tracking, { tracking }, (cluster) => facts(cluster, tracking));
  else test(`${tracking}: tasks of a step are runs`, () => skip('jobs side by side on a node need two processors'));
}
const container = ['JobContainerType=job_container/tmpfs', 'PrologFlags=contain'];
await withCluster('job_container/tmpfs', { nodes: 1, bound: false, oneProcessor: true, lines: container }, privateTmp);
test.after(async () => {
  for (const cluster of clusters) await cluster.stop();
});

test.run();
