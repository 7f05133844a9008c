/**
 * Image facts as a start reads them: taken apart by the host, since the engine's own JSON.parse makes an object of everything in them. What is not as tsrun
 * writes it is left to the full reader (read-facts.ts), with the same result (a test compares them).
 */
import { failed, type Host } from '../util/host.ts';
import { IMAGE_FACTS_VERSION, type ImageFacts } from './facts.ts';

/** A letter for what each is (native/host.def), and its name. */
const MEMBERS =
  'nversion\nsarch\nlenv\nlentrypoint\nlcmd\nsworkingDir\nsuser\nbrunscript\nlenvScripts\nssh\nsbash\notree\nspasswd\nsgroup\nsos.id\nsos.version\nsos.name\nslibc.kind\nslibc.version\nllocales\nscaBundle\nlmpi';

/** What nearly every start asks of the tree: one question for all. */
const USUAL = ['/tmp', '/var/tmp', '/etc/resolv.conf', '/etc/localtime', '/etc/hosts', '/usr', '/opt'];
const USUAL_NAMES = USUAL.join('\n');
const USUAL_AT: ReadonlyMap<string, number> = new Map(USUAL.map((path, at) => [path, at]));

const NONE: readonly string[] = [];

const list = (texts: string): readonly string[] => (texts === '' ? NONE : texts.slice(0, -1).split('\0'));

const isPathOrNothing = (text: string): boolean => text === '' || text.startsWith('/');

/** Undefined where anything is unusual. */
export const quickFacts = (host: Host, text: string): ImageFacts | undefined => {
  const members = host.json(text, MEMBERS);
  if (failed(members) || members[0] !== IMAGE_FACTS_VERSION) return undefined;
  const texts = members as readonly string[];
  const sh = texts[9] as string;
  const bash = texts[10] as string;
  const tree = texts[11] as string;
  const usual = host.members(tree, USUAL_NAMES);
  if (failed(usual)) return undefined;
  const kind = texts[17];
  const caBundle = texts[20] as string;
  if (kind !== 'glibc' && kind !== 'musl' && kind !== 'none') return undefined;
  if (!isPathOrNothing(sh) || !isPathOrNothing(bash) || !isPathOrNothing(caBundle)) return undefined;
  return {
    version: IMAGE_FACTS_VERSION,
    arch: texts[1] as string,
    env: list(texts[2] as string),
    entrypoint: list(texts[3] as string),
    cmd: list(texts[4] as string),
    workingDir: texts[5] as string,
    user: texts[6] as string,
    runscript: members[7] === 1,
    envScripts: list(texts[8] as string),
    sh,
    bash,
    tree: (path) => {
      const at = USUAL_AT.get(path);
      const entry = at === undefined ? host.member(tree, path) : usual[at];
      return typeof entry === 'string' ? entry : undefined;
    },
    passwd: texts[12] as string,
    group: texts[13] as string,
    os: { id: texts[14] as string, version: texts[15] as string, name: texts[16] as string },
    libc: { kind, version: texts[18] as string },
    locales: list(texts[19] as string),
    caBundle,
    mpi: list(texts[21] as string),
  };
};
