import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'

import type { Native } from './types.ts'

/** The addon's exports: `Native` and the identity of its build. */
export type Addon = Native & { readonly buildId: string }

/** Why the addon is not there; `code` is `ERR_NATIVE_MISSING`, `ERR_NATIVE_LOAD` or `ERR_WORKER_UNSUPPORTED`. */
export class NativeLoadError extends Error {
  override readonly name = 'NativeLoadError'
  readonly code: string
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The project's root: two levels above dist/native (or src/native). */
const packageRoot = fileURLToPath(new URL('../../', import.meta.url))

/** In this order: the install build, the developer build. */
const builds = ['build/Release/caisson.node', 'build/dev/Debug/caisson.node', 'build/dev/caisson.node']

/**
 * Loads the addon. Only on the main thread: a child spawned from a worker has that thread for a parent, and what hangs on
 * the parent thread (PR_SET_PDEATHSIG) would end it when the worker ends.
 */
export function loadAddon(): { addon: Addon; directory: string } {
  if (!isMainThread) {
    throw new NativeLoadError(
      'ERR_WORKER_UNSUPPORTED',
      'caisson runs on the main thread only; use it from there and pass messages to this worker',
    )
  }
  const where = `${process.platform}-${process.arch}, Node ${process.versions.node}, Node-API ${process.versions['napi'] ?? 'absent'}`
  const path = builds.map((build) => join(packageRoot, build)).find((candidate) => existsSync(candidate))
  if (path === undefined) {
    throw new NativeLoadError(
      'ERR_NATIVE_MISSING',
      `no native addon of caisson for ${where}: looked for ${builds.join(', ')} in ${packageRoot}; build it with "npm run build:native" (needs g++, make, musl-tools and Node's headers)`,
    )
  }
  try {
    return { addon: createRequire(import.meta.url)(path) as Addon, directory: dirname(path) }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new NativeLoadError(
      'ERR_NATIVE_LOAD',
      `cannot load ${path} for ${where}: ${reason}; rebuild it with "npm run build:native"`,
      { cause },
    )
  }
}
