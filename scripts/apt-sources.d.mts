export function machineSources(): { readonly id: string; readonly suite: string; readonly lines: readonly string[] };
export function machineAptOptions(): readonly string[];
