import { constants } from 'node:fs'
import { open, readFile, rename, stat } from 'node:fs/promises'

import { CaissonError } from './errors.ts'
import type { Native, NativeFd } from './native/types.ts'

const hostFileMax = 1 << 20

/** Null where there is no such file. */
export async function ifPresent<T>(found: Promise<T>): Promise<T | null> {
  try {
    return await found
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

export async function isPresent(path: string): Promise<boolean> {
  return (await ifPresent(stat(path))) !== null
}

/**
 * The text of a file of the host's /etc; empty where there is none.
 *
 * @throws CaissonError ERR_HOST_UNSUPPORTED when it is larger than 1 MiB
 */
export async function readHostFile(path: string): Promise<string> {
  const content = (await ifPresent(readFile(path, 'utf8'))) ?? ''
  if (content.length > hostFileMax) {
    throw new CaissonError('ERR_HOST_UNSUPPORTED', `${path} is larger than ${hostFileMax} bytes`)
  }
  return content
}

/**
 * The text of a file that somebody else names. A pipe or a device in its place is not waited for.
 *
 * @throws Error for what is no regular file, or larger than `max` bytes
 */
export async function readRegularFile(path: string, max: number): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  try {
    const found = await file.stat()
    if (!found.isFile()) throw new Error('is not a regular file')
    if (found.size > max) throw new Error(`is larger than ${max} bytes`)
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}

/** @returns false where there was nothing to rename */
export async function renameIfPresent(from: string, to: string): Promise<boolean> {
  return (await ifPresent(rename(from, to).then(() => true))) ?? false
}

/** Runs `work` with the directory open. */
export async function withDirectory<T>(
  native: Pick<Native, 'openDirectory'>,
  path: string,
  work: (directory: NativeFd) => Promise<T>,
): Promise<T> {
  const directory = await native.openDirectory(path)
  try {
    return await work(directory)
  } finally {
    directory.close()
  }
}

/** Runs `work` with the directories open, in their order. */
export async function withDirectories<T>(
  native: Pick<Native, 'openDirectory'>,
  paths: readonly string[],
  work: (directories: NativeFd[]) => Promise<T>,
): Promise<T> {
  const opened: NativeFd[] = []
  try {
    for (const path of paths) opened.push(await native.openDirectory(path))
    return await work(opened)
  } finally {
    for (const each of opened) each.close()
  }
}
