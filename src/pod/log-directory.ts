import { constants } from 'node:fs'
import { mkdir } from 'node:fs/promises'

import { CaissonError } from '../errors.ts'
import type { Native, NativeFd } from '../native/types.ts'
import type { ContainerConfig, PodConfig } from './config.ts'

const { O_DIRECTORY, O_NOFOLLOW } = constants
/** PATH_MAX without the NUL, limits.h. */
const logPathMax = 4095

/** RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH: openat2(2). */
export const resolveStrictly = 0x02 | 0x04 | 0x08

/**
 * The pod's log directory, in which the monitor opens the log. The directories of `log_path` below it are made one by one, from
 * descriptor to descriptor: a link that somebody has put among them must not lead out of it (CVE-2026-53489).
 *
 * @returns null when the container has no log
 * @throws CaissonError ERR_INVALID_ARGUMENT for a log_path that names no file, or leaves the directory by its text or by a symbolic link
 */
export async function openLogDirectory(
  native: Native,
  pod: PodConfig,
  { logPath }: Pick<ContainerConfig, 'logPath'>,
): Promise<NativeFd | null> {
  const { logDirectory } = pod
  if (logDirectory === '' || logPath === '') return null
  if (Buffer.byteLength(logPath) > logPathMax) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `log_path is longer than ${logPathMax} bytes`)
  }
  if (logPath.startsWith('/') || logPath.split('/').includes('..')) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `log_path "${logPath}" leaves the pod’s log directory`)
  }
  if (/(^|\/)\.?$/.test(logPath)) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `log_path "${logPath}" is no path of a file`)
  }
  await mkdir(logDirectory, { recursive: true, mode: 0o755 })
  const directory = await native.openDirectory(logDirectory)
  const opened: NativeFd[] = []
  try {
    let parent = directory
    for (const name of logPath.split('/').slice(0, -1)) {
      if (name === '' || name === '.') continue
      await mkdir(`/proc/self/fd/${parent.fd}/${name}`, { mode: 0o755 }).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      })
      parent = await native.openat2(parent.fd, name, O_DIRECTORY | O_NOFOLLOW, 0, resolveStrictly)
      opened.push(parent)
    }
    return directory
  } catch (error) {
    directory.close()
    throw new CaissonError('ERR_INVALID_ARGUMENT', `log_path "${logPath}" cannot be used below ${logDirectory}`, {
      cause: error,
    })
  } finally {
    for (const fd of opened) fd.close()
  }
}
