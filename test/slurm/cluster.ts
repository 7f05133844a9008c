/**
 * A real Slurm cluster on this machine: munged, slurmctld and some slurmd, each node with a network, host name, processes, /tmp and /dev/shm of its own.
 * All of it lives in namespaces that end with the test's process, and are tidied up then, however that ends; nothing of the machine's own configuration is read or
 * changed. As root only.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { whyNotLinux61 } from '../helpers/linux-6.1.ts';
import { allProcesses, childrenOf, linkOf, nameOf, textOf } from '../helpers/processes.ts';
import { tsrunPath } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';

/** `cgroup` is version 1, as this machine has it. */
export type Tracking = 'linuxproc' | 'cgroup' | 'cgroup-v2';

export type Settings = {
  /** 2 by default. */
  readonly nodes?: number;
  /** Tasks can be bound to cores; a node then has as many as the machine, else it says it has four. */
  readonly bound?: boolean;
  /** Who follows the processes of a step: their parents (the default), or control groups, which bar what is not the step's, too. */
  readonly tracking?: Tracking;
  /**
   * All of it runs on one processor. Linux 6.18 counts mount namespaces on each processor by itself and refuses (EINVAL) to mount the file of one whose number is
   * lower than the mounter's own, though it is younger: which job_container/tmpfs does for each job.
   */
  readonly oneProcessor?: boolean;
  /** Each node's GPUs: device files with no device behind them. None by default. */
  readonly gpus?: number;
  /** More for slurm.conf. */
  readonly lines?: readonly string[];
};

export type Cluster = {
  readonly nodes: readonly string[];
  /** Seen by all nodes at this path, and the test user's. `tsrun` in it is the program under test. */
  readonly shared: string;
  /** The words before a command that make it one of the test user on the login node, with a login's environment. */
  readonly login: readonly string[];
  /** Processes of this name (comm) on a node, as this machine knows them. */
  readonly processes: (node: string, name: string) => readonly number[];
  /** The first process of a node. */
  readonly init: (node: string) => number;
  readonly stop: () => Promise<void>;
};

/** Why there can be no cluster here; undefined when there can. */
export const whyNot = (tracking: Tracking = 'linuxproc'): string | undefined => {
  if (process.getuid?.() !== 0) return 'needs root to make the nodes of a cluster';
  const missing = ['/usr/sbin/munged', '/usr/sbin/slurmctld', '/usr/sbin/slurmd', '/usr/bin/srun'].filter((path) => !existsSync(path));
  if (missing.length > 0) return `needs Slurm: ${missing.join(', ')} missing`;
  if (tracking === 'cgroup-v2') return whyNotLinux61();
  if (tracking === 'cgroup' && !existsSync('/sys/fs/cgroup/freezer/tasks')) return 'needs control groups of version 1';
  return undefined;
};

const configuration = (directory: string, controller: string, nodes: readonly string[], settings: Settings): string => {
  const cgroup = settings.tracking !== undefined && settings.tracking !== 'linuxproc';
  const bound = settings.bound === true || settings.tracking === 'cgroup';
  const cpus = bound ? availableParallelism() : 4;
  const gres = settings.gpus === undefined ? '' : ` Gres=gpu:lab:${settings.gpus}`;
  const taskPlugins = [...(bound ? ['task/affinity'] : []), ...(cgroup ? ['task/cgroup'] : [])];
  return `
ClusterName=lab
SlurmctldHost=${controller}(10.99.0.254)
AuthType=auth/munge
AuthInfo=socket=${directory}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=${directory}/state
SlurmdSpoolDir=${directory}/spool-%n
SlurmctldPidFile=${directory}/slurmctld.pid
SlurmdPidFile=${directory}/slurmd-%n.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/${cgroup ? 'cgroup' : 'linuxproc'}
TaskPlugin=${taskPlugins.join(',') || 'task/none'}
JobAcctGatherType=jobacct_gather/${cgroup ? 'cgroup' : 'none'}
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=${cgroup ? 'CR_Core_Memory' : 'CR_Core'}
DefMemPerCPU=400
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
EnforcePartLimits=ALL
KillWait=2
EpilogMsgTime=0
${nodes
  .map(
    (name, i) =>
      `NodeName=${name} NodeHostname=${name} NodeAddr=10.99.0.${i + 1} CPUs=${cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket=${cpus} ThreadsPerCore=1 RealMemory=${Math.max(2000, 500 * cpus)}${gres} State=UNKNOWN`,
  )
  .join('\n')}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
${settings.gpus === undefined ? '' : 'GresTypes=gpu'}
${(settings.lines ?? []).join('\n')}
`;
};

/** Version 2 without systemd, which makes the groups above elsewhere, and without processors to choose from: user-mode Linux has one. */
const CGROUP = {
  cgroup: `CgroupMountpoint=/sys/fs/cgroup
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainCores=yes
ConstrainRAMSpace=yes
ConstrainDevices=yes
`,
  'cgroup-v2': `CgroupMountpoint=/sys/fs/cgroup
CgroupPlugin=cgroup/v2
IgnoreSystemd=yes
ConstrainRAMSpace=yes
`,
} as const;

/** What `cluster.sh` finds in its directory. `at`: where that directory will be seen by the cluster. */
export const prepare = (directory: string, at: string, controller: string, nodes: readonly string[], settings: Settings): void => {
  for (const name of ['munge', 'state', 'log', 'shared', ...nodes.map((node) => `spool-${node}`)]) mkdirSync(join(directory, name));
  for (const path of [directory, join(directory, 'munge')]) chmodSync(path, 0o755);
  copyFileSync(tsrunPath, join(directory, 'shared/tsrun'));
  const hosts = [['127.0.0.1', 'localhost'], ['10.99.0.254', controller], ...nodes.map((node, i) => [`10.99.0.${i + 1}`, node])];
  writeFileSync(join(directory, 'hosts'), hosts.map((words) => `${words.join(' ')}\n`).join(''));
  writeFileSync(join(directory, 'slurm.conf'), configuration(at, controller, nodes, settings));
  const { tracking = 'linuxproc' } = settings;
  if (tracking !== 'linuxproc') writeFileSync(join(directory, 'cgroup.conf'), CGROUP[tracking]);
  writeFileSync(join(directory, 'job_container.conf'), `AutoBasePath=true\nBasePath=${at}/jobs\n`);
};

const until = (child: ChildProcess, word: string): Promise<void> =>
  new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (chunk) => {
      text += chunk;
      if (text.includes(word)) resolve();
    });
    child.on('exit', (status) => reject(new Error(`the cluster ended with ${status}: ${text}`)));
  });

/** Outside /tmp, which every node has for itself. */
export const startCluster = async (settings: Settings = {}): Promise<Cluster> => {
  const directory = mkdtempSync('/var/tmp/tsrun-slurm-');
  const user = testUser();
  // The machine's control groups are one for all clusters.
  const nodes = Array.from({ length: settings.nodes ?? 2 }, (_, i) => `lab${process.pid}n${i + 1}`);
  const controller = `lab${process.pid}`;
  const shared = join(directory, 'shared');
  prepare(directory, directory, controller, nodes, settings);
  chownSync(shared, user.uid, user.gid);
  const gpus = Array.from({ length: settings.gpus ?? 0 }, (_, i) => join(directory, `fakegpu${i}`));
  // Of a number that no driver has: opening one is refused, being allowed to is not.
  for (const [i, path] of gpus.entries()) spawnSync('mknod', ['-m', '666', path, 'c', '240', String(i)]);
  writeFileSync(
    join(directory, 'gres.conf'),
    `AutoDetect=off\n${gpus.map((path) => `Name=gpu Type=lab File=${path} Flags=nvidia_gpu_env\n`).join('')}`,
  );

  const words = ['unshare', '--mount', '--net', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash'];
  const script = join(import.meta.dirname, 'cluster.sh');
  const [program = '', ...args] = [...(settings.oneProcessor === true ? ['taskset', '--cpu-list', '0'] : []), ...words];
  const child = spawn(program, [...args, script, directory, nodes.join(' ')], { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/' });
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  await until(child, 'up\n');

  const first = childrenOf(child.pid ?? 0)[0] ?? 0;
  const init = (node: string): number => {
    const found = allProcesses().find((pid) => textOf(`/proc/${pid}/cmdline`) === `slurmd\0-D\0-f\0${directory}/slurm.conf\0-N\0${node}\0`);
    if (found === undefined) throw new Error(`${node} is down: ${textOf(join(directory, 'log', node))}`);
    return found;
  };
  const inits = new Map(nodes.map((node) => [node, init(node)]));
  return {
    nodes,
    shared,
    login: [
      ...['nsenter', '--all', `--target=${first}`, `--wd=${shared}`],
      ...['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', '--reset-env'],
      ...['env', `SLURM_CONF=${directory}/slurm.conf`, `PATH=${shared}:/usr/local/bin:/usr/bin:/bin`],
    ],
    init: (node) => inits.get(node) ?? 0,
    processes: (node, name) => {
      const space = linkOf(`/proc/${inits.get(node)}/ns/pid`);
      return allProcesses().filter((pid) => nameOf(pid) === name && linkOf(`/proc/${pid}/ns/pid`) === space);
    },
    stop: async () => {
      child.stdin?.end();
      await ended;
    },
  };
};
