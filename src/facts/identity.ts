/** Who runs this: the caller's name, home and groups. The native program is static and cannot load name service modules. */
import type { Environment } from '../request/from-env.ts';
import { contains } from '../util/contains.ts';
import { failed, type Host, type Ids } from '../util/host.ts';

export type Identity = {
  readonly ids: Ids;
  readonly name: string;
  readonly gecos: string;
  /** Home of the account; '' when unknown. */
  readonly home: string;
  readonly shell: string;
  /** Name of the primary group; '' when unknown. */
  readonly groupName: string;
  /** Supplementary groups that /etc/group names. */
  readonly otherGroups: readonly { readonly name: string; readonly gid: number }[];
  /** Where the name is from, for --explain. */
  readonly source: '/etc/passwd' | 'environment' | 'getent' | 'none';
};

/** Fields of the first line of a passwd or group text whose field `index` is `value`; undefined when there is none. */
export const findLine = (text: string, index: number, value: string): string[] | undefined => {
  const needle = index === 0 ? `${value}:` : `:${value}:`;
  if (!contains(text, needle)) return undefined;
  for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + 1)) {
    const start = text.lastIndexOf('\n', at) + 1;
    const end = text.indexOf('\n', at + 1);
    const fields = text.slice(start, end < 0 ? text.length : end).split(':');
    if (fields[index] === value) return fields;
  }
  return undefined;
};

/** Holds none of the characters that part fields and lines. */
export const isPlain = (text: string): boolean => !(text.includes(':') || text.includes('\n') || text.includes('\0'));

/** Fit for a field of passwd and group. */
const isField = (text: string | undefined): text is string => text !== undefined && text !== '' && isPlain(text);

/** The lines that may speak of these ids and names. */
const accountLines = (host: Host, path: string, values: readonly (number | string | undefined)[]): string => {
  const wanted: string[] = [];
  for (let at = 0; at < values.length; at++) if ((values[at] ?? '') !== '') wanted.push(String(values[at]));
  const lines = host.lines(path, wanted);
  return failed(lines) ? '' : lines;
};

const nameIn = (environment: Environment): string | undefined => environment.get('LOGNAME') ?? environment.get('USER');

type Account = Pick<Identity, 'name' | 'gecos' | 'home' | 'shell' | 'source'>;

const accountOf = (fields: readonly string[], source: Identity['source']): Account | undefined => {
  const name = fields[0];
  const gecos = fields[4] ?? '';
  const home = fields[5] ?? '';
  const shell = fields[6] ?? '';
  return isField(name) ? { name, gecos, home: home.startsWith('/') ? home : '', shell, source } : undefined;
};

/**
 * The account as the environment tells it, when that is complete and no local account contradicts it. It is asked before getent: sites with LDAP
 * would otherwise pay a process and a question to a server for every start, to learn what the login already wrote here.
 */
const accountInEnvironment = (environment: Environment, passwd: string): Account | undefined => {
  const name = nameIn(environment);
  const other = environment.get('USER') ?? name;
  const home = environment.get('HOME');
  if (!isField(name) || name !== other || !isField(home) || !home.startsWith('/')) return undefined;
  if (findLine(passwd, 0, name) !== undefined) return undefined;
  const shell = environment.get('SHELL');
  return { name, gecos: '', home, shell: isField(shell) ? shell : '', source: 'environment' };
};

const accountFromGetent = (host: Host, uid: string): Account | undefined => {
  const line = host.getent('passwd', uid);
  if (failed(line)) return undefined;
  const fields = line.trimEnd().split(':');
  return fields[2] === uid ? accountOf(fields, 'getent') : undefined;
};

/** /etc/passwd, then the environment, then getent; an unknown caller is called user1234 after the uid. */
const accountFor = (host: Host, uid: number, environment: Environment): Account => {
  const passwd = accountLines(host, '/etc/passwd', [uid, nameIn(environment)]);
  const local = findLine(passwd, 2, String(uid));
  const account = (local === undefined ? undefined : accountOf(local, '/etc/passwd')) ?? accountInEnvironment(environment, passwd);
  return account ?? accountFromGetent(host, String(uid)) ?? { name: `user${uid}`, gecos: '', home: '', shell: '', source: 'none' };
};

const groupNameFor = (host: Host, text: string, gid: number): string => {
  const local = findLine(text, 2, String(gid));
  if (local !== undefined) return local[0] ?? '';
  const line = host.getent('group', String(gid));
  const name = failed(line) ? '' : (line.split(':')[0] ?? '');
  return isField(name) ? name : '';
};

export const identifyCaller = (host: Host, environment: Environment): Identity => {
  const ids = host.ids();
  const groups = accountLines(host, '/etc/group', [ids.egid, ...ids.groups]);
  const otherGroups: { name: string; gid: number }[] = [];
  for (let at = 0; at < ids.groups.length; at++) {
    const gid = ids.groups[at] as number;
    const name = gid === ids.egid ? undefined : findLine(groups, 2, String(gid))?.[0];
    if (isField(name)) otherGroups.push({ gid, name });
  }
  return { ...accountFor(host, ids.euid, environment), ids, groupName: groupNameFor(host, groups, ids.egid), otherGroups };
};
