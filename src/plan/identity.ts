/** passwd and group of a run: the image's, with the caller in them. Rules as in Apptainer, so that images and habits carry over. */
import { type Identity, isPlain } from '../facts/identity.ts';
import type { ImageFacts } from '../image/facts.ts';
import { failed, type Host } from '../util/host.ts';

const NOBODY_GID = 65534;

/** Whole lines, each with its end; NUL, which no line can hold, is taken out. */
const asLines = (text: string): string => {
  const clean = text.replaceAll('\0', '');
  return clean === '' || clean.endsWith('\n') ? clean : `${clean}\n`;
};

/** Fields cannot hold the characters that part them. (Those of an Identity do not.) */
const field = (text: string): string => (isPlain(text) ? text : text.replace(/[:\n\0]/g, ' '));

/** The caller's shell where the image is known to have it. */
const shellFor = (identity: Identity, facts: ImageFacts): string => {
  if (facts.bash !== '' && (identity.shell.endsWith('/bash') || facts.sh === '')) return '/bin/bash';
  return facts.sh !== '' || facts.bash === '' ? '/bin/sh' : facts.bash;
};

/** `line` with its end, or '' to take the old one out. */
const replaceLine = (text: string, oldLine: string, line: string): string => {
  const old = `${oldLine}\n`;
  const at = text.startsWith(old) ? 0 : text.indexOf(`\n${old}`) + 1;
  return text.slice(0, at) + line + text.slice(at + old.length);
};

/**
 * The image's passwd with one line for the caller. A line of the image for the same uid keeps its group and shell; name, gecos and home become the
 * caller's (for uid 0 only the home). A line with the caller's name and another uid goes: the name means the caller here.
 */
export const passwdText = (host: Host, facts: ImageFacts, identity: Identity, home: string): string => {
  const uid = String(identity.ids.euid);
  let text = asLines(facts.passwd);
  if (text === '' && uid !== '0') text = 'root:x:0:0:root:/root:/bin/sh\n';
  const own = host.findLine(text, 2, uid);
  if (!failed(own)) {
    const [name = '', password = 'x', , gid = '', gecos = '', , shell = ''] = own.split(':');
    const isRoot = uid === '0';
    const who = isRoot ? { name, gecos } : identity;
    return replaceLine(text, own, `${who.name}:${password}:${uid}:${gid}:${who.gecos}:${field(home)}:${shell}\n`);
  }
  const sameName = host.findLine(text, 0, identity.name);
  if (!failed(sameName)) text = replaceLine(text, sameName, '');
  return `${text}${identity.name}:x:${uid}:${identity.ids.egid}:${identity.gecos}:${field(home)}:${shellFor(identity, facts)}\n`;
};

/**
 * The image's group with the caller's groups. Groups the user namespace does not map all appear as 65534, so that one gets a name as well.
 */
export const groupText = (host: Host, facts: ImageFacts, identity: Identity): string => {
  let text = asLines(facts.group);
  if (text === '' && identity.ids.egid !== 0) text = 'root:x:0:\n';
  const add = (name: string, gid: number, member: string): void => {
    if (!failed(host.findLine(text, 2, String(gid)))) return;
    const sameName = host.findLine(text, 0, name);
    if (!failed(sameName)) text = replaceLine(text, sameName, '');
    text += `${name}:x:${gid}:${member}\n`;
  };
  const { ids, name, groupName, otherGroups } = identity;
  add(groupName === '' ? `group${ids.egid}` : groupName, ids.egid, name);
  for (const group of otherGroups) add(group.name, group.gid, name);
  if (ids.groups.some((gid) => gid !== ids.egid)) add('nogroup', NOBODY_GID, '');
  return text;
};
