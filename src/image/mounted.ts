import type { Native, NativeFd } from '../native/types.ts'

/**
 * Runs `work` with the ext4 file system of an image file mounted: by a descriptor that is nobody else's, on no mount table. Where a
 * container has it mounted too, both see one super block.
 */
export async function mountedImage<T>(
  native: Pick<Native, 'mountImage' | 'letGo'>,
  image: string,
  work: (path: string) => Promise<T>,
): Promise<T> {
  return mounted(native, await native.mountImage(image, 'ext4'), work)
}

/** The same with a block device. */
export async function mountedDevice<T>(
  native: Pick<Native, 'mountDevice' | 'letGo'>,
  device: { path: string; major: number; minor: number },
  options: { readonly: boolean },
  work: (path: string) => Promise<T>,
): Promise<T> {
  const { path, major, minor } = device
  return mounted(native, await native.mountDevice(path, major, minor, 'ext4', options.readonly), work)
}

/** Runs `work` with a detached mount, and waits until it is written back and gone. */
export async function mounted<T>(
  native: Pick<Native, 'letGo'>,
  mount: NativeFd,
  work: (path: string) => Promise<T>,
): Promise<T> {
  let result
  try {
    result = await work(`/proc/self/fd/${mount.fd}`)
  } finally {
    const ended = native.letGo(mount.fd)
    mount.close()
    await ended
  }
  return result
}
