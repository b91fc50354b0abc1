import { randomBytes } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Writes a whole file that is seen complete or not at all, on the disk before it is seen.
 *
 * @param tmp a directory of the same file system
 */
export async function writeAtomically(path: string, data: string | Buffer, tmp: string): Promise<void> {
  const draft = join(tmp, `file-${randomBytes(12).toString('hex')}`)
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(data)
      await file.datasync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}
