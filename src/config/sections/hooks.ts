import { integer, key } from '../schema.ts'

/** `[hooks]`: OCI hooks, which devices of CDI and plugins of NRI bring to containers. */
export const hooks = {
  /** Seconds that one may run which names no limit of its own. */
  timeout: key(integer(1, 3600), 120),
}
