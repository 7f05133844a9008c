/** The WWW-Authenticate header (RFC 9110 11.6.1; parameters of Bearer: distribution project, spec/auth/token). Pure. */

export type Challenge =
  | { readonly scheme: 'basic'; readonly realm: string }
  | { readonly scheme: 'bearer'; readonly realm: string; readonly service: string | undefined; readonly scope: string | undefined };

const MAX_HEADER = 8 * 1024;
const MAX_CHALLENGES = 16;

/** All challenges tsrun can answer, in the server's order; others (Negotiate, …) are skipped, as is what cannot be read. */
export const parseChallenges = (header: string | undefined): Challenge[] => {
  const challenges: Challenge[] = [];
  let rest = (header ?? '').slice(0, MAX_HEADER);
  while (challenges.length < MAX_CHALLENGES) {
    const scheme = /^[\s,]*([A-Za-z][A-Za-z0-9._~-]*)(?:\s+|,|$)/.exec(rest);
    if (scheme === null) return challenges;
    rest = rest.slice(scheme[0].length);
    const parameters = new Map<string, string>();
    for (;;) {
      const parameter = /^[\s,]*([A-Za-z0-9._~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/.exec(rest);
      if (parameter === null) break;
      const [all, key = '', quoted, bare = ''] = parameter;
      parameters.set(key.toLowerCase(), quoted === undefined ? bare : quoted.replace(/\\(.)/g, '$1'));
      rest = rest.slice(all.length);
    }
    const challenge = makeChallenge((scheme[1] ?? '').toLowerCase(), parameters);
    if (challenge !== undefined) challenges.push(challenge);
  }
  return challenges;
};

const makeChallenge = (scheme: string, parameters: ReadonlyMap<string, string>): Challenge | undefined => {
  const realm = parameters.get('realm') ?? '';
  if (scheme === 'basic') return { scheme, realm };
  if (scheme === 'bearer' && realm !== '') return { scheme, realm, service: parameters.get('service'), scope: parameters.get('scope') };
  return undefined;
};
