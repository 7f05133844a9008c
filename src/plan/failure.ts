/** From a failed op to what the user reads: object, cause, cure, code. The launcher says where and with which errno; everything else is here. */
import { whyNoUserNamespaces } from '../facts/userns.ts';
import { errnoText } from '../util/errno.ts';
import { EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, TsrunError } from '../util/errors.ts';
import type { Host } from '../util/host.ts';
import { isWithin } from '../util/paths.ts';
import type { Op, OpName, OpOf, Plan } from './ops.ts';
import { NOT_FOUND_HINT, OPTION_HINT } from './payload.ts';
import { hidingCwd } from './start.ts';

/** What the launcher reports: "INDEX\0OPNAME\0ERRNO\0STEP\0DETAIL\0". */
export type LaunchFailure = {
  readonly op: string;
  /** Position in the plan. */
  readonly index: number;
  /** Positive; 0: none applies. */
  readonly errno: number;
  /** "find the source" */
  readonly step: string;
  /** Object, and cause where the launcher knows more than errno: "/data: it has been removed". */
  readonly detail: string;
};

const EPERM = 1;
const ENOENT = 2;
const EIO = 5;
const E2BIG = 7;
const ENOEXEC = 8;
const EAGAIN = 11;
const ENOMEM = 12;
const EACCES = 13;
const EEXIST = 17;
const ENODEV = 19;
const ENOTDIR = 20;
const EISDIR = 21;
const EINVAL = 22;
const EMFILE = 24;
const ENOSPC = 28;
const EROFS = 30;
const ENOSYS = 38;
const EUSERS = 87;
const ESTALE = 116;
const EUCLEAN = 117;
const EDQUOT = 122;

export const parseFailure = (input: string): LaunchFailure => {
  const [index = '', op = '', errno = '', step = '', detail = ''] = input.split('\0');
  return { index: Number(index) || 0, op, errno: Math.abs(Number(errno)) || 0, step, detail };
};

type Told = Pick<TsrunError, 'code' | 'what' | 'why'> & { readonly hint?: string | undefined; readonly exitCode?: number };

const is = <Name extends OpName>(op: Op | undefined, name: Name): op is OpOf<Name> & Op => op?.op === name;

/** `plan` is what was being carried out; undefined when that is unknown. */
export const explainFailure = (host: Host, plan: Plan | undefined, failure: LaunchFailure): TsrunError => {
  const found = plan?.ops[failure.index];
  const op = found?.op === failure.op ? found : undefined;
  const told =
    damageFailure(plan, failure) ??
    (failure.op === 'exec' ? execFailure(failure) : undefined) ??
    stageFailure(plan, failure) ??
    spaceFailure(failure) ??
    rangesFailure(op, failure) ??
    layersFailure(plan, failure) ??
    namespaceFailure(host, failure) ??
    bindFailure(plan, op, failure) ??
    chdirFailure(op, failure) ??
    imageFailure(plan, op, failure) ??
    kernelMountFailure(failure) ??
    plainFailure(failure);
  return new TsrunError(told);
};

/** Object and cause as the launcher names them. */
const causeOf = ({ detail, errno }: LaunchFailure): string =>
  errno === 0 || detail.includes(': ') ? detail : `${detail}: ${errnoText(errno)}`;

const plainFailure = (failure: LaunchFailure): Told => ({
  code: 'E_LAUNCH',
  what: `cannot ${failure.step}`,
  why: causeOf(failure),
  hint: 'see what was being done with tsrun exec --explain ...',
});

/** The kernel's answers for an image whose data contradicts itself or cannot be read, whatever was being done with it. */
const damageFailure = (plan: Plan | undefined, failure: LaunchFailure): Told | undefined => {
  const ofTheImage =
    failure.errno === EUCLEAN ||
    (failure.errno === EIO && failure.op !== 'image_mount' && failure.op !== 'scope' && failure.step !== 'find the source');
  if (!ofTheImage) return undefined;
  const image = plan?.ops.find((op) => is(op, 'image_mount') || is(op, 'image_extracted'));
  if (image === undefined || !('path' in image)) return undefined;
  return {
    code: 'E_IMAGE_READ',
    what: `cannot read the image ${image.path}`,
    why: `${failure.errno === EUCLEAN ? 'its data is damaged' : 'it is damaged, or its storage fails'} (met at: ${failure.step}, ${failure.detail})`,
    hint: 'fetch or build it again',
  };
};

/** What is asked for and cannot be had is an error: a job that was to spare the file system must not load it silently. */
const stageFailure = (plan: Plan | undefined, failure: LaunchFailure): Told | undefined => {
  if (failure.step !== 'copy the image to this node') return undefined;
  const image = plan?.ops.find((op) => is(op, 'image_mount'));
  const full = failure.errno === ENOSPC || failure.errno === ENOMEM || failure.errno === EDQUOT;
  return {
    code: 'E_STAGE',
    what: `cannot copy ${is(image, 'image_mount') ? image.path : 'the image'} to this node`,
    why: full && failure.detail.startsWith('it has ') ? failure.detail : causeOf(failure),
    hint: full
      ? 'make room (tsrun cache clean), choose another place with TSRUN_LOCAL=DIR or --stage=memory, or leave --stage out'
      : 'leave --stage out, or choose another place with TSRUN_LOCAL=DIR',
  };
};

const spaceFailure = (failure: LaunchFailure): Told | undefined => {
  const what = `cannot ${failure.step}`;
  const why = causeOf(failure);
  const elsewhere =
    failure.step === 'use the runtime directory'
      ? 'point XDG_RUNTIME_DIR to another directory of your own with mode 0700'
      : 'choose another place: TSRUN_LOCAL=DIR for extracted images, TSRUN_STORE=DIR for the store';
  switch (failure.errno) {
    case ENOSPC:
      if (failure.step.includes('namespace') || failure.detail.includes('unshare')) return undefined;
      return {
        code: 'E_NO_SPACE',
        what,
        why,
        hint: `make room there, or ${elsewhere}`,
      };
    case EDQUOT:
      return {
        code: 'E_NO_SPACE',
        what,
        why,
        hint: `delete something, or ${elsewhere}`,
      };
    case ENOMEM:
      return { code: 'E_NO_MEMORY', what, why, hint: 'give the job more memory' };
    case EMFILE:
      return { code: 'E_LAUNCH', what, why, hint: 'raise the limit: ulimit -n 4096' };
    default:
      return undefined;
  }
};

const namespaceFailure = (host: Host, failure: LaunchFailure): Told | undefined => {
  const early = ['scope', 'userns', 'unshare'].includes(failure.op) || failure.step === 'create a user namespace'; // the image server's
  if (!early || !/namespace|unshare/.test(`${failure.step} ${failure.detail}`)) return undefined;
  if (![EPERM, EACCES, ENOSPC, EUSERS, EINVAL, ENOSYS].includes(failure.errno)) return undefined;
  const refusal = whyNoUserNamespaces(host);
  if (refusal !== undefined) return { code: 'E_USERNS', what: 'cannot create a user namespace', why: refusal.why, hint: refusal.cure };
  const full = failure.errno === ENOSPC || failure.errno === EUSERS;
  return {
    code: 'E_USERNS',
    what: 'cannot create a user namespace',
    why: full
      ? 'the limit of namespaces is reached (user.max_user_namespaces, user.max_mnt_namespaces), or they are nested too deep'
      : `the kernel refuses it (${errnoText(failure.errno)})`,
    hint: full
      ? 'end other containers of yours, or have an administrator raise the limits'
      : 'inside another container: allow nested user namespaces there (seccomp and AppArmor profile, no chroot); else ask an administrator whether a security module forbids them',
  };
};

const rangesFailure = (op: Op | undefined, failure: LaunchFailure): Told | undefined => {
  if (!is(op, 'userns_ranges') || !failure.detail.includes(' write the ')) return undefined;
  return {
    code: 'E_SUBUID',
    what: 'cannot use your ranges of subordinate ids',
    why: failure.detail,
    hint: 'compare with your lines in /etc/subuid and /etc/subgid; newuidmap and newgidmap have to be set-id root',
  };
};

/** What has been written or is to be written by build steps lies in directories that an overlay has to take. */
const layersFailure = (plan: Plan | undefined, failure: LaunchFailure): Told | undefined => {
  const merged = plan?.ops.some((one) => is(one, 'layer') || is(one, 'upper')) ?? false;
  if (!merged || (failure.step !== 'merge the layers' && !(failure.op === 'root' && failure.step === 'make the root'))) return undefined;
  return {
    code: 'E_OVERLAY',
    what: 'cannot merge the layers of the build',
    why: causeOf(failure),
    hint: 'choose another place with TSRUN_LOCAL=DIR: an overlay needs a local file system with user xattrs, and Linux 5.11 or newer',
  };
};

const bindFailure = (plan: Plan | undefined, op: Op | undefined, failure: LaunchFailure): Told | undefined => {
  if (is(op, 'bind')) {
    const what = `cannot mount ${op.source} on ${op.target}`;
    return bindWords(what, op.source, op.target, op.why, shownAround(plan, op.target), failure);
  }
  if (is(op, 'bind_cwd')) {
    const what = `cannot show the current directory at ${op.target}`;
    if (failure.errno === EEXIST) return { code: 'E_CWD', what: `cannot start in ${op.target}`, ...hidingCwd(op.target) };
    if (failure.errno === EACCES && failure.step === 'find the source') {
      return {
        code: 'E_CWD',
        what,
        why: 'you may not look into it',
        hint: 'chmod u+x it, change to another directory, or choose one with --pwd',
      };
    }
    if (failure.errno === ENOENT && failure.step !== 'prepare the target') {
      return {
        code: 'E_CWD',
        what,
        why: 'it does not exist any more',
        hint: 'change to another directory, or choose one of the image with --pwd',
      };
    }
    return bindWords(what, '.', op.target, op.why, shownAround(plan, op.target), failure);
  }
  if (is(op, 'tmpfs') || is(op, 'directory') || is(op, 'file') || is(op, 'symlink')) {
    return { code: 'E_MOUNT', what: `cannot make ${op.target}`, why: causeOf(failure), hint: `it belongs to: ${op.why}` };
  }
  return undefined;
};

/** The bind that shows the directory in which `target` should be. */
const shownAround = (plan: Plan | undefined, target: string): OpOf<'bind'> | undefined => {
  let found: OpOf<'bind'> | undefined;
  for (const op of plan?.ops ?? []) {
    if (is(op, 'bind') && op.target !== target && isWithin(target, op.target) && op.target.length > (found?.target.length ?? 0)) found = op;
  }
  return found;
};

const bindWords = (
  what: string,
  source: string,
  target: string,
  why: string,
  around: OpOf<'bind'> | undefined,
  failure: LaunchFailure,
): Told => {
  const asked = `it was asked for by: ${why}`;
  if (failure.step === 'find the source') {
    if (failure.errno === ENOENT) return { code: 'E_BIND_SOURCE', what, why: 'source does not exist', hint: asked };
    if (failure.errno === EACCES || failure.errno === EPERM)
      return { code: 'E_BIND_SOURCE', what, why: 'you may not reach the source', hint: `check with: ls -ld ${source}; ${asked}` };
    if (failure.errno === ESTALE)
      return { code: 'E_BIND_SOURCE', what, why: 'source was replaced just now, or its server forgot it', hint: 'try again' };
    return { code: 'E_BIND_SOURCE', what, why: causeOf(failure), hint: asked };
  }
  switch (failure.errno) {
    case ENOENT:
      return {
        code: 'E_BIND_TARGET',
        what,
        why:
          around === undefined
            ? 'the target is missing'
            : `${around.source} is shown at ${around.target}, and has no ${target.slice(around.target.length + 1)} to mount on`,
        hint: `choose a target outside of ${around?.target ?? 'other mounts'}, or make it in there first; ${asked}`,
      };
    case ENOTDIR:
      return {
        code: 'E_BIND_TARGET',
        what,
        why: failure.detail.includes('what is to be mounted')
          ? 'the target is a file, the source a directory'
          : 'a part of the target is a file, not a directory',
        hint: `choose another target; ${asked}`,
      };
    case EISDIR:
      return {
        code: 'E_BIND_TARGET',
        what,
        why: 'the target is a directory, the source a file',
        hint: `name the file too: ${source}:${target}/${source.slice(source.lastIndexOf('/') + 1)}`,
      };
    case EROFS:
      return {
        code: 'E_BIND_TARGET',
        what,
        why: 'the target is missing, and cannot be made on a read-only file system',
        hint: `choose another target; ${asked}`,
      };
    case EINVAL:
    case EPERM:
      return {
        code: 'E_MOUNT',
        what,
        why: causeOf(failure),
        hint: 'a mount below the source may be locked by the kernel: bind a directory without other mounts in it',
      };
    default:
      return { code: 'E_MOUNT', what, why: causeOf(failure), hint: asked };
  }
};

const chdirFailure = (op: Op | undefined, failure: LaunchFailure): Told | undefined => {
  if (!is(op, 'chdir')) return undefined;
  const what = `cannot start in ${op.path}`;
  if (failure.errno === ENOENT)
    return {
      code: 'E_CWD',
      what,
      why: 'there is no such directory in the run',
      hint: `choose another with --pwd, or show one there with --bind DIR:${op.path}`,
    };
  if (failure.errno === ENOTDIR) return { code: 'E_CWD', what, why: 'it is not a directory', hint: 'choose another with --pwd' };
  return { code: 'E_CWD', what, why: errnoText(failure.errno), hint: 'choose another directory with --pwd' };
};

const imageFailure = (plan: Plan | undefined, op: Op | undefined, failure: LaunchFailure): Told | undefined => {
  const path = op !== undefined && (is(op, 'image_mount') || is(op, 'image_directory') || is(op, 'image_extracted')) ? op.path : undefined;
  if (failure.step === 'use FUSE' || (failure.op === 'image_mount' && failure.errno === ENODEV)) {
    return {
      code: 'E_FUSE',
      what: `cannot mount ${path ?? 'the image'}`,
      why: causeOf(failure),
      hint: 'an administrator has to run: modprobe fuse && chmod 666 /dev/fuse',
    };
  }
  if (failure.step === 'open the record' || failure.step === 'record what is touched') {
    const file = plan?.ops.find((each) => is(each, 'record'));
    return {
      code: 'E_RECORD',
      what: `cannot record to ${file !== undefined && is(file, 'record') ? file.path : 'the file'}`,
      why: failure.step === 'open the record' ? errnoText(failure.errno) : failure.detail,
      hint: 'choose another file with --record, or remove that one',
    };
  }
  if (failure.step === 'use the runtime directory') {
    return {
      code: 'E_RUNTIME_DIR',
      what: 'cannot use the directory for sockets',
      why: causeOf(failure),
      hint:
        failure.errno === EROFS
          ? 'point XDG_RUNTIME_DIR to another directory of your own with mode 0700, or unset it'
          : 'remove it if it is not yours to keep, or point XDG_RUNTIME_DIR to a directory of your own with mode 0700',
    };
  }
  if (failure.step === 'reach the image server') {
    return {
      code: 'E_SERVER',
      what: 'cannot reach the image server',
      why: causeOf(failure),
      hint:
        failure.errno === EAGAIN
          ? 'you have as many processes as you may (ulimit -u, or what the job may have): end some, or raise the limit'
          : 'try again; if it stays, report it with the output of tsrun exec --explain',
    };
  }
  if (path === undefined) return undefined;
  if (failure.op === 'image_extracted' && failure.step === 'extract the image') {
    return {
      code: 'E_EXTRACT',
      what: `cannot extract ${path}`,
      why: causeOf(failure),
      hint: 'TSRUN_LOCAL=DIR chooses another place; with a usable /dev/fuse nothing is extracted',
    };
  }
  return {
    code: 'E_IMAGE_READ',
    what: `cannot use image ${path}`,
    why: causeOf(failure),
    hint: 'check that the file is whole and not being written: fetch or build it again',
  };
};

const kernelMountFailure = (failure: LaunchFailure): Told | undefined => {
  if (failure.op === 'proc' && failure.errno === EPERM) {
    return {
      code: 'E_MOUNT',
      what: 'cannot mount /proc',
      why: 'a part of the /proc around is hidden, as in most containers',
      hint: 'leave --pid and --containall out here',
    };
  }
  if (failure.op === 'root' && failure.errno === EINVAL) {
    return {
      code: 'E_MOUNT',
      what: 'cannot make the root',
      why: causeOf(failure),
      hint: 'the kernel has to allow overlay mounts to users (Linux 5.11 or newer, or RHEL 8.5)',
    };
  }
  return undefined;
};

/** The launcher has looked at the file by now: its detail says all. */
const execFailure = (failure: LaunchFailure): Told => {
  const at = failure.detail.indexOf(': ');
  const program = at < 0 ? failure.detail : failure.detail.slice(0, at);
  const why = at < 0 ? errnoText(failure.errno) : failure.detail.slice(at + 2);
  const what = `cannot run ${program}`;
  switch (failure.errno) {
    case ENOENT:
      return {
        code: 'E_NOT_FOUND',
        what,
        why,
        hint: program.startsWith('-') ? OPTION_HINT : NOT_FOUND_HINT,
        exitCode: EXIT_NOT_FOUND,
      };
    case EACCES:
    case ENOEXEC:
    case EISDIR:
      return { code: 'E_NOT_EXECUTABLE', what, why, exitCode: EXIT_NOT_EXECUTABLE };
    case E2BIG:
      return { code: 'E_LAUNCH', what, why, hint: 'shorten the arguments, or unset large variables; ulimit -s sets the limit' };
    default:
      return { code: 'E_LAUNCH', what, why: at < 0 ? why : `${why} (${errnoText(failure.errno)})` };
  }
};
