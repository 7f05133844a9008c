/** What proves who somebody is to a registry. */
import type { Environment } from './proxy.ts';

/** `origin` names the source for messages, never the secret. */
export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string; readonly origin: string }
  /** An OAuth2 refresh token (docker's `identitytoken`). */
  | { readonly kind: 'identity'; readonly token: string; readonly origin: string }
  /** A ready bearer token (docker's `registrytoken`). */
  | { readonly kind: 'bearer'; readonly token: string; readonly origin: string };

export type CredentialOptions = {
  readonly env: Environment;
  /** Milliseconds for a credential helper. */
  readonly helperTimeout: number;
  readonly onWarning: (message: string) => void;
};
