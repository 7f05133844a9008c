/**
 * Whose certificates count: Node's built-in authorities, the system's bundle, SSL_CERT_FILE, SSL_CERT_DIR and the config's `caFile`, all added up.
 * (OpenSSL lets SSL_CERT_FILE replace the rest. Conda sets it to a bundle without the site's own authority, so replacing breaks sites; adding does not.)
 */
import { readdirSync, readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { TsrunError } from '../util/errors.ts';
import type { Environment } from './proxy.ts';

/** Debian, RHEL, SLES, Alpine and the BSDs. The first that is there. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/var/lib/ca-certificates/ca-bundle.pem',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/**
 * PEM texts for Node's `ca` option.
 * @throws TsrunError E_CA_FILE when the config's file cannot be used; what the environment names and is not there is only warned about.
 */
export const trustedAuthorities = (env: Environment, caFile: string | undefined, onWarning: (message: string) => void): string[] => {
  const authorities = [...rootCertificates];
  const system = SYSTEM_BUNDLES.map(readPem).find((pem) => pem !== undefined);
  if (system !== undefined) authorities.push(system);
  const file = env['SSL_CERT_FILE'];
  if (file !== undefined && file !== '') {
    const pem = readPem(file);
    if (pem === undefined) onWarning(`SSL_CERT_FILE=${file} holds no readable certificate; going on without it`);
    else authorities.push(pem);
  }
  for (const directory of (env['SSL_CERT_DIR'] ?? '').split(':').filter((name) => name !== ''))
    authorities.push(...readDirectory(directory));
  if (caFile !== undefined) authorities.push(readPem(caFile) ?? refuseCaFile(caFile));
  return authorities;
};

const refuseCaFile = (path: string): never => {
  throw new TsrunError({
    code: 'E_CA_FILE',
    what: `cannot use the certificate file ${path}`,
    why: 'it cannot be read, or holds no certificate in PEM format',
    hint: 'correct ca-file in the config',
  });
};

const readPem = (path: string): string | undefined => {
  try {
    const text = readFileSync(path, 'utf8');
    return text.includes('-----BEGIN') ? text : undefined;
  } catch {
    return undefined;
  }
};

/** OpenSSL looks only at hashed names; the plain files they link to are the same certificates, so all of them are read. */
const readDirectory = (directory: string): string[] => {
  try {
    return readdirSync(directory).flatMap((name) => readPem(`${directory}/${name}`) ?? []);
  } catch {
    return [];
  }
};
