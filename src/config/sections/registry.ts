import { defaultHostsDirectories } from '../../image/registry/hosts.ts'
import { absolutePath, boolean, integer, key, listOf, text } from '../schema.ts'

/** `[registry]`: how images are fetched. */
export const registry = {
  /** Registries, as `host[:port]`, that are spoken to over plain HTTP; loopback always is. */
  insecure: key(listOf(text(/./, 'a string'), 'an array of "host:port"'), [], { reloads: true }),
  /** Directories of containerd's layout, `<host>/hosts.toml`; the first that knows a host decides. */
  hostsDirs: key(listOf(absolutePath()), defaultHostsDirectories, { reloads: true }),
  /** Credentials, as in auth.json or config.json, for requests that bring none, and for mirrors; "": none. */
  authFile: key(absolutePath({ empty: true }), '', { reloads: true }),
  /** File of the policy who may be pulled, and by whose signatures; "": everything may. */
  trustPolicy: key(absolutePath({ empty: true }), '', { reloads: true }),
  /** Fetches layers that a registry does not have from where their descriptors say. */
  foreignLayers: key(boolean, false, { reloads: true }),
  /** MiB; blobs that are larger are pushed in parts of this size; 0: in one piece, and in parts only after a failure. */
  uploadChunk: key(integer(0, 4096), 0, { reloads: true }),
  /** Seconds without a byte, after which a transfer counts as dead. */
  stallTimeout: key(integer(1, 3600), 60, { reloads: true }),
}
