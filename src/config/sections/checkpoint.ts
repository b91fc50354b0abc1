import { absolutePath, integer, key } from '../schema.ts'

/** `[checkpoint]`: containers and pods that are written to disk, and made of what was written. */
export const checkpoint = {
  /** criu(8); where it is left out, it is looked for in the usual places. */
  criu: key(absolutePath({ empty: true }), ''),
  /** Seconds that one may take where the caller does not say, and a restore. */
  timeout: key(integer(1, 86_400), 120),
}
