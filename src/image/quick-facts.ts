/**
 * Image facts as a start reads them: taken apart by the host, since the engine's own JSON.parse makes an object of everything in them. What is not as tsrun
 * writes it is left to the full reader (read-facts.ts), with the same result (a test compares them).
 */
import { ENOENT, failed, type Host } from '../util/host.ts';
import { IMAGE_FACTS_VERSION, type ImageFacts } from './facts.ts';

/** A letter for what each is (native/host.def), and its name. */
const MEMBERS =
  'nversion\nsarch\nlenv\nlentrypoint\nlcmd\nsworkingDir\nsuser\nbrunscript\nlenvScripts\nssh\nsbash\notree\nspasswd\nsgroup\noos\nolibc\nllocales\nscaBundle\nlmpi';

const NONE: readonly string[] = [];

const list = (texts: string): readonly string[] => (texts === '' ? NONE : texts.slice(0, -1).split('\0'));

const isPathOrNothing = (text: string): boolean => text === '' || text.startsWith('/');

/** Undefined where anything is unusual. */
export const quickFacts = (host: Host, text: string): ImageFacts | undefined => {
  const members = host.json(text, MEMBERS);
  if (failed(members) || members[0] !== IMAGE_FACTS_VERSION) return undefined;
  const at = (place: number): string => members[place] as string;
  const os = host.json(at(14), 'sid\nsversion\nsname');
  const libc = host.json(at(15), 'skind\nsversion');
  const known = !failed(libc) && (libc[0] === 'glibc' || libc[0] === 'musl' || libc[0] === 'none');
  if (failed(os) || !known || !isPathOrNothing(at(9)) || !isPathOrNothing(at(10)) || !isPathOrNothing(at(17))) return undefined;
  return {
    version: IMAGE_FACTS_VERSION,
    arch: at(1),
    env: list(at(2)),
    entrypoint: list(at(3)),
    cmd: list(at(4)),
    workingDir: at(5),
    user: at(6),
    runscript: members[7] === 1,
    envScripts: list(at(8)),
    sh: at(9),
    bash: at(10),
    tree: treeIn(host, at(11)),
    passwd: at(12),
    group: at(13),
    os: { id: os[0] as string, version: os[1] as string, name: os[2] as string },
    libc: { kind: libc[0] as ImageFacts['libc']['kind'], version: libc[1] as string },
    locales: list(at(16)),
    caBundle: at(17),
    mpi: list(at(18)),
  };
};

/** A run asks for a dozen of its paths. Nothing in it can be enumerated. */
const treeIn = (host: Host, text: string): ImageFacts['tree'] =>
  new Proxy<Record<string, unknown>>(
    {},
    {
      get: (_, path) => {
        const found = typeof path === 'string' ? host.json(text, `s${path}`) : ENOENT;
        return failed(found) ? undefined : found[0];
      },
    },
  );
