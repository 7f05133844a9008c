/** Who runs this: the caller's name, home and groups. The native program is static and cannot load name service modules. */
import type { Environment } from '../request/from-env.ts';
import { type Fields, failed, type Host, type Ids } from '../util/host.ts';

/** Its texts hold none of the characters that part the fields of passwd and group. */
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

/** Fields of the line that Host.findLine finds, for hosts that are not the native program. */
export const findLine = (text: string, index: number, value: string): string[] | undefined => {
  const needle = index === 0 ? `${value}:` : `:${value}:`;
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

const nameIn = (environment: Environment): string | undefined => environment.get('LOGNAME') ?? environment.get('USER');

/** Places in the answer of Host.accounts(): is there a line for the name, the primary group's name, the first of the others. */
const KNOWN = 4;
const GROUP = 5;
const OTHER_GROUPS = 6;

type Account = Pick<Identity, 'name' | 'gecos' | 'home' | 'shell' | 'source'>;

const accountOf = (name: string, gecos: string, home: string, shell: string, source: Identity['source']): Account | undefined =>
  isField(name) ? { name, gecos: isPlain(gecos) ? gecos : '', home: home.startsWith('/') ? home : '', shell, source } : undefined;

/**
 * The account as the environment tells it, when that is complete and no local account contradicts it. It is asked before getent: sites with LDAP
 * would otherwise pay a process and a question to a server for every start, to learn what the login already wrote here.
 */
const accountInEnvironment = (environment: Environment): Account | undefined => {
  const name = nameIn(environment);
  const other = environment.get('USER') ?? name;
  const home = environment.get('HOME');
  if (!isField(name) || name !== other || !isField(home) || !home.startsWith('/')) return undefined;
  const shell = environment.get('SHELL');
  return { name, gecos: '', home, shell: isField(shell) ? shell : '', source: 'environment' };
};

const accountFromGetent = (host: Host, uid: string): Account | undefined => {
  const line = host.getent('passwd', uid);
  if (failed(line)) return undefined;
  const fields = line.trimEnd().split(':');
  const [name = '', , , , gecos = '', home = '', shell = ''] = fields;
  return fields[2] === uid ? accountOf(name, gecos, home, shell, 'getent') : undefined;
};

/** /etc/passwd, then the environment, then getent; an unknown caller is called user1234 after the uid. @param found Host.accounts() */
const accountFor = (host: Host, uid: number, environment: Environment, found: Fields): Account => {
  const texts = found as readonly string[];
  const local = accountOf(texts[0] ?? '', texts[1] ?? '', texts[2] ?? '', texts[3] ?? '', '/etc/passwd');
  return (
    local ??
    (found[KNOWN] === 1 ? undefined : accountInEnvironment(environment)) ??
    accountFromGetent(host, String(uid)) ?? { name: `user${uid}`, gecos: '', home: '', shell: '', source: 'none' }
  );
};

const groupFromGetent = (host: Host, gid: number): string => {
  const line = host.getent('group', String(gid));
  const name = failed(line) ? '' : (line.split(':')[0] ?? '');
  return isField(name) ? name : '';
};

export const identifyCaller = (host: Host, environment: Environment): Identity => {
  const ids = host.ids();
  const found = host.accounts(nameIn(environment) ?? '');
  const otherGroups: { name: string; gid: number }[] = [];
  for (let at = 0; at < ids.groups.length; at++) {
    const gid = ids.groups[at] as number;
    const name = found[OTHER_GROUPS + at] as string;
    if (gid !== ids.egid && isField(name)) otherGroups.push({ gid, name });
  }
  const group = found[GROUP] as string;
  const groupName = isField(group) ? group : groupFromGetent(host, ids.egid);
  return { ...accountFor(host, ids.euid, environment, found), ids, groupName, otherGroups };
};
