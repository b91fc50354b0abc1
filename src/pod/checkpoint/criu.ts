import { spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { ifPresent } from '../../files.ts'

/** Where programs of the host are; of the service's own PATH nothing is believed. */
const searchPath = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']
const logMax = 16 << 20

export interface CriuSettings {
  /** Absolute path of the executable; empty: it is looked for. */
  path: string
  /** Milliseconds that a checkpoint, or a restore, may take. */
  timeoutMs: number
}

/** @throws CaissonError ERR_FAILED_PRECONDITION: it is not installed */
export async function findCriu({ path }: CriuSettings): Promise<string> {
  const candidates = path === '' ? searchPath.map((directory) => join(directory, 'criu')) : [path]
  for (const candidate of candidates) {
    if (await isExecutable(candidate)) return candidate
  }
  const where = path === '' ? `in none of ${searchPath.join(':')}` : `no executable at ${path}`
  throw new CaissonError('ERR_FAILED_PRECONDITION', `checkpoints need criu, which is not installed (${where})`)
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

/**
 * Runs `criu dump` to its end, whoever waits: a process that it has stopped is not left so. `onStarted` hears of its pid.
 *
 * @param workDirectory where its log is, "dump.log"
 * @throws CaissonError ERR_CHECKPOINT with the first error of its log
 */
export async function runDump(
  criu: string,
  args: readonly string[],
  workDirectory: string,
  onStarted: (pid: number) => Promise<void>,
): Promise<void> {
  const status = await new Promise<string>((resolve, reject) => {
    // a group of its own: a terminal's ctrl-c ends the service, not what stands in the middle of a container
    const child = spawn(criu, args, { detached: true, stdio: 'ignore', env: { PATH: searchPath.join(':') } })
    child.on('error', reject)
    child.on('spawn', () => {
      onStarted(child.pid ?? 0).catch(reject)
    })
    child.on('close', (code, signal) => {
      resolve(code === 0 ? '' : signal === null ? `it failed with status ${code}` : `it was ended by ${signal}`)
    })
  })
  if (status === '') return
  const why = (await firstError(join(workDirectory, 'dump.log'))) ?? status
  throw new CaissonError('ERR_CHECKPOINT', `criu dump: ${why}`)
}

/** criu goes on to say what else fails for the first error. */
async function firstError(path: string): Promise<string | null> {
  const log = (await ifPresent(readFile(path, 'utf8')))?.slice(0, logMax) ?? ''
  return /Error \([^)]*\): (.*)/.exec(log)?.[1]?.trim() ?? null
}
