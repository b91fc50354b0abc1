/**
 * What an archive of a checkpoint holds, as CRI-O, podman and containerd have it, so that checkpointctl reads it: criu's images in
 * `checkpoint/`, what the container has changed as a layer in `rootfs-diff.tar`, and the records below. Ours alone is `caisson.json`.
 */
export const archive = {
  images: 'checkpoint',
  changes: 'rootfs-diff.tar',
  log: 'container.log',
  config: 'config.dump',
  spec: 'spec.dump',
  record: 'caisson.json',
} as const

/** Version of `caisson.json` and of a pod's manifest. */
export const recordVersion = 1

/** What RestorePod reads beside the archives: `manifest.json` is written last, and what lacks it is no checkpoint. */
export const podCheckpoint = {
  manifest: 'manifest.json',
  shm: 'devshm.tar',
} as const
