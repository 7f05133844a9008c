/** Names of users and groups as an image's own /etc/passwd and /etc/group have them: for USER and --chown. */
import { TsrunError } from '../../util/errors.ts';

export type Accounts = { readonly passwd: string; readonly group: string };

export type Account = {
  readonly uid: number;
  readonly gid: number;
  readonly name: string;
  readonly home: string;
  readonly groups: readonly number[];
};

const MAX_ID = 2 ** 32 - 2;

const lines = (text: string): readonly (readonly string[])[] => text.split('\n').map((line) => line.split(':'));

const idOf = (text: string | undefined): number | undefined => {
  const id = text !== undefined && /^[0-9]{1,10}$/.test(text) ? Number(text) : Number.NaN;
  return id <= MAX_ID ? id : undefined;
};

const groupId = ({ group }: Accounts, text: string): number | undefined =>
  idOf(lines(group).find(([name]) => name === text)?.[2]) ?? idOf(text);

/** "name", "1000", "name:group", "1000:1000". @param place begins the error. @throws TsrunError E_ACCOUNT */
export const accountOf = (accounts: Accounts, text: string, place: string): Account => {
  const [user = '', group] = text.split(':', 2);
  const refuse = (what: string, file: string): TsrunError =>
    new TsrunError({
      code: 'E_ACCOUNT',
      what: `${place}: cannot use ${JSON.stringify(text)}`,
      why: `the image has no ${what} in ${file}`,
      hint: 'add it in an earlier step (useradd, groupadd), or use a number',
    });
  const users = lines(accounts.passwd);
  const found = users.find(([name]) => name === user) ?? users.find(([, , uid]) => user !== '' && uid === user);
  const uid = idOf(found?.[2]) ?? idOf(user);
  if (uid === undefined) throw refuse(`user ${JSON.stringify(user)}`, '/etc/passwd');
  const gid = group === undefined || group === '' ? (idOf(found?.[3]) ?? 0) : groupId(accounts, group);
  if (gid === undefined) throw refuse(`group ${JSON.stringify(group)}`, '/etc/group');
  const name = found?.[0] ?? '';
  const members = lines(accounts.group).filter(([, , , list]) => name !== '' && (list ?? '').split(',').includes(name));
  const groups = group === undefined ? members.flatMap(([, , id]) => idOf(id) ?? []).filter((id) => id !== gid) : [];
  return { uid, gid, name, home: found?.[5] === undefined || found[5] === '' ? '/' : found[5], groups };
};

/** --chown: where only a number is given as user and no group, the group has the same number. */
export const ownerOf = (accounts: Accounts, text: string, place: string): { readonly uid: number; readonly gid: number } => {
  const account = accountOf(accounts, text, place);
  const bare = !text.includes(':') && /^[0-9]+$/.test(text);
  return { uid: account.uid, gid: bare ? account.uid : account.gid };
};
