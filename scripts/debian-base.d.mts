export function debianBase(): string;
export function machineTraces(): readonly string[];
