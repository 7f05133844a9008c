/** Copies of images that --stage has made on this node (native/staged.h makes them): where they lie. In the planner too, so nothing of Node here. */

/** @param local the node-local place of the user */
export const stagedIn = (local: string): string => `${local}/staged`;

/** Every user's own directory in the file system of memory that every Linux has. */
export const stagedInMemory = (uid: number): string => `/dev/shm/tsrun-${uid}/staged`;
