import type { Native } from '../../native/types.ts'

/**
 * Runs `work` with the ext4 file system of an image file mounted: by a descriptor that is nobody else's, on no mount table. Where a
 * container has it mounted too, both see one super block.
 */
export async function mountedImage<T>(
  native: Pick<Native, 'mountImage'>,
  image: string,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const mount = await native.mountImage(image, 'ext4')
  try {
    return await work(`/proc/self/fd/${mount.fd}`)
  } finally {
    mount.close()
  }
}
