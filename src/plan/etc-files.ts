/** Files of /etc that have to speak of this machine and this caller, whatever the image has there. */
import { failed } from '../util/host.ts';
import { groupText, passwdText } from './identity.ts';
import { linkAt } from './image-tree.ts';
import { type MountTable, put } from './mount-table.ts';
import type { Op } from './ops.ts';
import type { Situation } from './situation.ts';

const MAX_BYTES = 64 * 1024;

const hostText = ({ host }: Situation, path: string): string | undefined => {
  const text = host.read(path, 0, MAX_BYTES);
  return failed(text) ? undefined : text.replaceAll('\0', '');
};

const asFile = (target: string, content: string, why: string): Op => ({ op: 'file', target, mode: 0o644, content, why });

/** Shown as a file of the host, so that changes in place are seen; where a link is in the way, on either side, its content is copied. */
const showFile = (table: MountTable, situation: Situation, path: string, ops: Op[]): void => {
  const isLink = linkAt(situation.image.facts, path) !== undefined || !failed(situation.host.readlink(path));
  if (!isLink) {
    put(table, { op: 'bind', source: path, target: path, flags: ['optional'], why: 'default mount' }, true);
    return;
  }
  const text = hostText(situation, path);
  if (text !== undefined) ops.push(asFile(path, text, 'content of the host'));
};

/** The time zone is binary, so it is mounted; on a plain file, since a link of the image leads into its own zone files. */
const showTimeZone = (table: MountTable, situation: Situation, ops: Op[]): void => {
  const path = '/etc/localtime';
  if (failed(situation.host.access(path, 4))) return;
  put(table, { op: 'bind', source: path, target: path, flags: ['ro', 'optional'], why: 'default mount' }, true);
  if (linkAt(situation.image.facts, path) !== undefined) ops.push(asFile(path, '', 'takes the place of the link in the image'));
};

/** Files for the skeleton; binds go into the table. */
export const putEtcFiles = (table: MountTable, situation: Situation, home: string): Op[] => {
  const { host, request, identity, image } = situation;
  const wanted = (path: string): boolean => !request.noMount.includes(path);
  const ops: Op[] = [];
  if (wanted('/etc/passwd')) ops.push(asFile('/etc/passwd', passwdText(host, image.facts, identity, home), "the image's, with the caller"));
  if (wanted('/etc/group')) ops.push(asFile('/etc/group', groupText(host, image.facts, identity), "the image's, with the caller's groups"));
  if (wanted('/etc/resolv.conf')) showFile(table, situation, '/etc/resolv.conf', ops);
  if (wanted('/etc/localtime')) showTimeZone(table, situation, ops);
  if (request.hostname === undefined) {
    if (wanted('/etc/hosts')) showFile(table, situation, '/etc/hosts', ops);
    return ops;
  }
  const { text: name, origin } = request.hostname;
  ops.push(asFile('/etc/hostname', `${name}\n`, origin));
  const hosts = hostText(situation, '/etc/hosts') ?? '127.0.0.1\tlocalhost\n';
  if (wanted('/etc/hosts'))
    ops.push(asFile('/etc/hosts', `${hosts}${hosts.endsWith('\n') ? '' : '\n'}127.0.1.1\t${name}\n`, `the host's, with ${name}`));
  return ops;
};
