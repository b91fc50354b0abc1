import { chmod, chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'

import type { SnapshotKey } from './snapshotter.ts'

/** What a snapshot has in its owner's directory. */
export function snapshotDirectory(key: SnapshotKey): string {
  return join(key.directory, 'rootfs')
}

/**
 * Makes `upper` and `work` of an overlay. The root of an overlay looks as its upper directory does: without the image's mode no user
 * but root would get in.
 */
export async function makeUpper(key: SnapshotKey, root: { mode: number; uid: number; gid: number }): Promise<string> {
  const directory = snapshotDirectory(key)
  for (const path of [directory, join(directory, 'work'), upperOf(directory)]) await mkdir(path, { mode: 0o700 })
  await chown(upperOf(directory), root.uid, root.gid)
  await chmod(upperOf(directory), root.mode & 0o7777)
  return directory
}

export function upperOf(directory: string): string {
  return join(directory, 'upper')
}
