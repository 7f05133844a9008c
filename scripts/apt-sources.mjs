// The machine's own Debian or Ubuntu: its suite, its mirrors and how it reaches them, asked of apt, so that an image is made from
// where the machine itself is installed from.
import { existsSync, readFileSync } from 'node:fs';
import { must, runQuiet, Stop } from './lib.mjs';

const osRelease = () =>
  Object.fromEntries(
    readFileSync('/etc/os-release', 'utf8')
      .split('\n')
      .flatMap((line) => {
        const [, name, value] = /^(\w+)="?([^"]*)"?$/.exec(line) ?? [];
        return name === undefined ? [] : [[name, value]];
      }),
  );

/** Suite, and one sources.list line for each component of the distribution itself (not of others who deliver packages for it). */
export const machineSources = () => {
  const { ID: id = '', VERSION_CODENAME: suite = '' } = osRelease();
  const suites = new Set([suite, `${suite}-updates`, `${suite}-security`]);
  const format = '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)';
  const targets = runQuiet('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']).output.trim().split('\n');
  const keyring = `/usr/share/keyrings/${id}-archive-keyring.gpg`;
  const options = existsSync(keyring) ? `[signed-by=${keyring}] ` : '';
  const lines = targets.flatMap((target) => {
    const [origin, uri, release, component] = target.split('|');
    // Before the first update apt knows no origin; then it shows as it stands in the format.
    const isOwn = origin.startsWith('$') || origin === '' || origin.toLowerCase() === id;
    return isOwn && suites.has(release) && !uri.startsWith('cdrom:') ? [`deb ${options}${uri} ${release} ${component}`] : [];
  });
  if (lines.length === 0) throw new Stop(`apt has no source of ${id} ${suite}: look at /etc/apt/sources.list and sources.list.d`);
  return { id, suite, lines: [...new Set(lines)].sort() };
};

/** The settings by which apt reaches its mirrors here (proxies, certificates, retries), as lines of an apt.conf. */
export const machineAptOptions = () =>
  must('reading the configuration of apt', 'apt-config', ['dump', 'Acquire'])
    .split('\n')
    .filter((line) => /^Acquire::(http|https|Retries|ForceIPv[46]|Check-Date|Check-Valid-Until)\b.* ".+";$/.test(line));
