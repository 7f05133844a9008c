/** Everything a plan is made of: the request, the image, and what the machine says. Read once, then only looked at. */
import type { Cwd } from '../facts/cwd.ts';
import type { Home } from '../facts/home.ts';
import type { Identity } from '../facts/identity.ts';
import type { Image } from '../image/image.ts';
import type { Environment } from '../request/from-env.ts';
import type { Request } from '../request/request.ts';
import type { Host } from '../util/host.ts';

export type Situation = {
  readonly host: Host;
  readonly request: Request;
  readonly image: Image;
  readonly environment: Environment;
  /** Of them, those that begin as ours and Apptainer's do. */
  readonly own: ReadonlyMap<string, string>;
  readonly identity: Identity;
  readonly home: Home;
  readonly cwd: Cwd;
  /** Tried by a plan for this run, and refused by the kernel. */
  readonly fuseRefused?: boolean;
  /** Lines for the user that the steps of planning add: what is not as it was asked for, … */
  readonly warnings: string[];
  /** … and what is worth a line only where somebody looks. */
  readonly remarks: string[];
};
