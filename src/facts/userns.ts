/** Why this machine refuses user namespaces, and the one command that changes it. Read only after the kernel has refused. */
import { failed, type Host } from '../util/host.ts';

export type Refusal = { readonly why: string; readonly cure: string };

const setting = (host: Host, name: string): string | undefined => {
  const text = host.read(`/proc/sys/${name}`, 0, 64);
  return failed(text) ? undefined : text.trim();
};

/** Installs a profile that confines nothing and allows this one program its namespaces (AppArmor 4 policy language). */
const profileCommand = (program: string): string =>
  `printf 'abi <abi/4.0>,\\nprofile tsrun "${program}" flags=(unconfined) { userns, }\\n' > /etc/apparmor.d/tsrun && apparmor_parser -r /etc/apparmor.d/tsrun`;

/** The settings that are known to forbid it, the most likely first; undefined when none of them does. */
export const whyNoUserNamespaces = (host: Host): Refusal | undefined => {
  if (setting(host, 'kernel/unprivileged_userns_clone') === '0') {
    return {
      why: 'the kernel forbids user namespaces to ordinary users (kernel.unprivileged_userns_clone is 0)',
      cure: "an administrator has to run: echo 'kernel.unprivileged_userns_clone=1' > /etc/sysctl.d/60-tsrun.conf && sysctl --system",
    };
  }
  if (setting(host, 'user/max_user_namespaces') === '0') {
    return {
      why: 'the number of user namespaces is limited to none (user.max_user_namespaces is 0)',
      cure: "an administrator has to run: echo 'user.max_user_namespaces=15000' > /etc/sysctl.d/60-tsrun.conf && sysctl --system",
    };
  }
  if (setting(host, 'kernel/apparmor_restrict_unprivileged_userns') === '1') {
    const program = host.selfExe();
    return {
      why: 'AppArmor allows user namespaces only to programs with a profile (kernel.apparmor_restrict_unprivileged_userns is 1)',
      cure: `an administrator has to run: ${profileCommand(failed(program) ? '/usr/local/bin/tsrun' : program)}`,
    };
  }
  if (setting(host, 'user/max_mnt_namespaces') === '0') {
    return {
      why: 'the number of mount namespaces is limited to none (user.max_mnt_namespaces is 0)',
      cure: "an administrator has to run: echo 'user.max_mnt_namespaces=15000' > /etc/sysctl.d/60-tsrun.conf && sysctl --system",
    };
  }
  return undefined;
};
