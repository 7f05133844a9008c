/** File systems that other machines share, by statfs magic number (linux/magic.h and the file systems' own headers). */
const NETWORK: Readonly<Record<number, string>> = {
  [0x6969]: 'NFS',
  [0x0bd00bd0]: 'Lustre',
  [0x47504653]: 'GPFS',
  [0xff534d42]: 'CIFS',
  [0xfe534d42]: 'SMB',
  [0x19830326]: 'BeeGFS',
  [0x65735546]: 'FUSE',
  [0x5346414f]: 'AFS',
  [0x6b414653]: 'kAFS',
  [0x00c36400]: 'Ceph',
  [0xaad7aaea]: 'PanFS',
  [0x01021997]: '9p',
  [0x73757245]: 'Coda',
  [0x7461636f]: 'OCFS2',
  [0x01161970]: 'GFS2',
  [0x20030528]: 'OrangeFS',
  [0x013111a8]: 'IBRIX',
};

/** Its name when other machines may share it; undefined for local ones. */
export const networkFileSystem = (magic: number): string | undefined => NETWORK[magic];
