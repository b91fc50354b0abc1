import { open, rename, rm } from 'node:fs/promises'

/**
 * Writes a whole file that is seen complete or not at all, on the disk before it is seen.
 *
 * @param draft a path on the same file system that nobody uses
 */
export async function writeAtomically(path: string, data: string | Buffer, draft: string): Promise<void> {
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
