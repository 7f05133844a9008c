export function canOwnFiles(): boolean;
export function debianBase(): string;
export function baseReference(tsrun: string): string;
export function machineTraces(): readonly string[];
