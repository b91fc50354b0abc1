import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { CaissonError } from '../../errors.ts'
import { limitDirectory, snapshotDirectory, type SnapshotNative } from './directory.ts'
import type { SnapshotKey } from './snapshotter.ts'

/** Least size of an image: what ext4 needs for itself. */
const imageMin = 2 << 20

/** Where the upper and work directories of an overlay are. */
export interface Upper {
  readonly upper: string
  /** `upper` is a file with an ext4 file system, in which they are. */
  readonly upperImage: boolean
}

/**
 * Makes `upper` and `work` of an overlay. The root of an overlay looks as its upper directory does: without the image's mode no user
 * but root would get in.
 *
 * @param size bytes that may be written, 0: no bound. By a project quota where the file system keeps such; else in an ext4 file
 *   system of this size on a sparse file, which a stage mounts through a loop device
 */
export async function makeUpper(
  native: SnapshotNative,
  key: SnapshotKey,
  root: { mode: number; uid: number; gid: number },
  size = 0,
): Promise<Upper> {
  const directory = snapshotDirectory(key)
  await mkdir(directory, { mode: 0o700 })
  if (size === 0 || (await limitDirectory(native, directory, size))) {
    await makeDirectories(directory, root)
    return { upper: directory, upperImage: false }
  }
  const skeleton = join(directory, 'skeleton')
  await mkdir(skeleton, { mode: 0o700 })
  await makeDirectories(skeleton, root)
  await makeImage(imageOf(key), skeleton, Math.max(size, imageMin))
  await rm(skeleton, { recursive: true })
  return { upper: imageOf(key), upperImage: true }
}

async function makeDirectories(parent: string, root: { mode: number; uid: number; gid: number }): Promise<void> {
  await mkdir(join(parent, 'work'), { mode: 0o700 })
  const upper = join(parent, 'upper')
  await mkdir(upper, { mode: 0o700 })
  await chown(upper, root.uid, root.gid)
  await chmod(upper, root.mode & 0o7777)
}

export function imageOf(key: SnapshotKey): string {
  return join(snapshotDirectory(key), 'upper.img')
}

/** No journal: the file system lives no longer than its container does, and is void after a crash of the host. */
const mkfsOptions = ['-q', '-F', '-m', '0', '-O', '^has_journal', '-E', 'lazy_itable_init=1,nodiscard,root_owner=0:0']

async function makeImage(path: string, content: string, size: number): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(size)
  } finally {
    await file.close()
  }
  try {
    await promisify(execFile)('mkfs.ext4', [...mkfsOptions, '-d', content, path])
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    const { stderr = '' } = error as { stderr?: string }
    throw new CaissonError(
      'ERR_FAILED_PRECONDITION',
      missing
        ? 'a size for the root file system needs project quotas on the file system of the store, or mkfs.ext4 (e2fsprogs)'
        : `mkfs.ext4 ${path}: ${stderr.trim() || (error as Error).message}`,
      { cause: error },
    )
  }
}
