import { access, lstat, unlink } from 'node:fs/promises'
import { chmodSync, chownSync } from 'node:fs'
import { connect, type Server } from 'node:net'
import { dirname } from 'node:path'
import { CaissonError, isSystemError } from './errors.ts'
import { ifPresent } from './files.ts'

/** sun_path of unix(7) without its final NUL. libuv cuts longer paths without a word. */
const pathMax = 107

/** @throws CaissonError ERR_SOCKET_PATH when a socket cannot have this path */
export function assertSocketPath(path: string): void {
  const length = Buffer.byteLength(path)
  if (path.startsWith('/') && length <= pathMax && !path.includes('\0')) return
  throw new CaissonError(
    'ERR_SOCKET_PATH',
    `socket ${path}: an absolute path of at most ${pathMax} bytes is needed (this has ${length})`,
    { fields: { path } },
  )
}

/** Takes an exclusive flock on a file that it makes; rejects with EAGAIN when another process has it: the addon's `lockFile`. */
export type LockFile = (path: string) => Promise<{ close(): void }>

/** Connections that wait to be accepted. */
const backlog = 128

/**
 * Makes `path` free for a listener: a socket that a killed process left is removed. The lock keeps two of ours from doing so at
 * once; it is held as long as the listener lives, and its file stays.
 *
 * @throws CaissonError ERR_SOCKET_IN_USE when somebody listens there, ERR_SOCKET_PATH when no socket can be made there
 */
export async function claimSocket(path: string, lockFile: LockFile): Promise<{ close(): void }> {
  assertSocketPath(path)
  // libuv turns bind's ENOENT into EACCES.
  await access(dirname(path))
  const lock = await lockFile(`${path}.lock`).catch((error: unknown) => {
    if (isSystemError(error) && error.code === 'EAGAIN') throw inUse(path, error)
    throw error
  })
  try {
    await removeStale(path)
    return lock
  } catch (error) {
    lock.close()
    throw error
  }
}

/**
 * Listens on a path that was claimed; resolves when callers can connect.
 *
 * @param group whose members may connect, as far as the mode lets them; null: that of this process
 */
export async function listenUnix(server: Server, path: string, mode: number, group: number | null): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path, backlog }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  // The umask gave the mode until here. That opens nothing: peers are judged by their credentials, and where a group may connect
  // the umask of the service keeps all others from it (connect(2) needs the right to write).
  if (group !== null) chownSync(path, -1, group)
  chmodSync(path, mode)
}

async function removeStale(path: string): Promise<void> {
  const stats = await ifPresent(lstat(path))
  if (stats === null) return
  if (!stats.isSocket()) {
    throw new CaissonError('ERR_SOCKET_PATH', `socket ${path}: something else is there, and is not removed`, {
      fields: { path },
    })
  }
  if (await somebodyListens(path)) throw inUse(path)
  await unlink(path)
}

function somebodyListens(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', (error) => {
      const code = isSystemError(error) ? error.code : ''
      if (code === 'ECONNREFUSED' || code === 'ENOENT') resolve(false)
      // The backlog is full: somebody listens, slowly.
      else if (code === 'EAGAIN') resolve(true)
      else reject(error)
    })
  })
}

function inUse(path: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_SOCKET_IN_USE', `socket ${path} is in use: another service is running on it`, {
    cause,
    fields: { path },
  })
}
