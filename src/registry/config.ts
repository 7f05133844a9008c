/** Defaults of the registry part of the config. */
import type { RegistryConfig, RegistryLimits, RegistryTimeouts } from './types.ts';

export type PartialRegistryConfig = {
  readonly mirrors?: RegistryConfig['mirrors'] | undefined;
  readonly insecure?: RegistryConfig['insecure'] | undefined;
  readonly caFile?: string | undefined;
  readonly timeouts?: Partial<RegistryTimeouts> | undefined;
  readonly limits?: Partial<RegistryLimits> | undefined;
};

const MIB = 1024 * 1024;

const TIMEOUTS: RegistryTimeouts = { connect: 15_000, stall: 60_000, retryWait: 300_000, helper: 30_000 };

const LIMITS: RegistryLimits = {
  manifestBytes: 4 * MIB,
  configBytes: 8 * MIB,
  layers: 2_000,
  imageBytes: 1024 * 1024 * MIB,
  parallel: 4,
  attempts: 6,
  redirects: 10,
  stallBytes: 64 * 1024,
};

export const registryConfig = ({ mirrors, insecure, caFile, timeouts, limits }: PartialRegistryConfig = {}): RegistryConfig => ({
  mirrors: mirrors ?? {},
  insecure: insecure ?? [],
  ...(caFile === undefined ? {} : { caFile }),
  timeouts: { ...TIMEOUTS, ...timeouts },
  limits: { ...LIMITS, ...limits },
});
