import { absolutePath, integer, key, text } from '../schema.ts'

/** `[devmapper]`: the thin pool of the snapshotter "devmapper". */
export const devmapper = {
  /** Its name at device mapper; devices of it are `<pool>-…`. */
  pool: key(text(/^[A-Za-z0-9_.-]{1,32}$/, 'a name of up to 32 letters, digits, ".", "_" and "-"'), 'caisson'),
  /** Block device of the pool's data; "": no devmapper. */
  dataDevice: key(absolutePath({ empty: true }), ''),
  /** Block device of the pool's metadata: zeros where the pool is new. */
  metadataDevice: key(absolutePath({ empty: true }), ''),
  /** MiB of every root file system; what is made already keeps its size. */
  baseSize: key(integer(64, 2 ** 24), 10240),
}
