// Ubuntu 23.10 and newer let only programs with an AppArmor profile make user namespaces. The profile names a path, so it is
// made for where this checkout's bin/tsrun really is.
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { isRoot, must, say } from './lib.mjs';

const PROFILE_FILE = '/etc/apparmor.d/tsrun';

export const profileFor = (program) => `# Lets tsrun make user namespaces; nothing else changes for it.
abi <abi/4.0>,
include <tunables/global>

profile tsrun "${program}" flags=(unconfined) {
  userns,

  include if exists <local/tsrun>
}
`;

const readOr = (path, otherwise) => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return otherwise;
  }
};

const isNeeded = (files) =>
  existsSync(`${files}/sys/kernel/security/apparmor`) &&
  readOr(`${files}/proc/sys/kernel/apparmor_restrict_unprivileged_userns`, '0') === '1';

/**
 * Installs the profile (root), or prints it with the command that does (anybody else). Nothing where the kernel does not ask for one.
 * `files`: the root of the file system to look in.
 */
export const allowUserNamespaces = (tsrun, files = '') => {
  if (!isNeeded(files)) return;
  const file = `${files}${PROFILE_FILE}`;
  const profile = profileFor(realpathSync(tsrun));
  if (readOr(file, '') === profile.trim()) return;
  if (!isRoot) {
    say(`This kernel lets only programs with an AppArmor profile make user namespaces. As root, once:\n`);
    say(`cat > ${PROFILE_FILE} <<'END'\n${profile}END\napparmor_parser -r ${PROFILE_FILE}\n`);
    return;
  }
  say(`installing the AppArmor profile ${file}`);
  writeFileSync(file, profile);
  must('loading the AppArmor profile', 'apparmor_parser', ['-r', file]);
};
