import { spawn, type ChildProcess } from 'node:child_process'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'

import { ifPresent } from '../files.ts'
import { identityProblem } from './plugin.ts'

const configMax = 1 << 20

/** A program of the plugin directory: `10-name`. */
export interface Program {
  path: string
  index: string
  name: string
  /** What is handed to it: `10-name.conf`, else `name.conf`; empty without either. */
  config: string
}

/** The programs of the plugin directory, in the order of their names. @returns with what is wrong about others in `problems` */
export async function findPrograms(
  directory: string,
  configDirectory: string,
): Promise<{ programs: Program[]; problems: string[] }> {
  const programs: Program[] = []
  const problems: string[] = []
  const names = (await ifPresent(readdir(directory))) ?? []
  for (const file of names.sort()) {
    const path = join(directory, file)
    const status = await ifPresent(stat(path))
    if (status === null || !status.isFile() || (status.mode & 0o111) === 0) continue
    const [index = '', ...rest] = file.split('-')
    const name = rest.join('-')
    const problem = identityProblem(index, name)
    if (problem !== null) {
      problems.push(`${path}: ${problem}`)
      continue
    }
    try {
      programs.push({ path, index, name, config: await configOf(configDirectory, file, name) })
    } catch (error) {
      problems.push(`${path}: its configuration cannot be read: ${(error as Error).message}`)
    }
  }
  return { programs, problems }
}

async function configOf(directory: string, file: string, name: string): Promise<string> {
  for (const candidate of [`${file}.conf`, `${name}.conf`]) {
    const text = await ifPresent(readFile(join(directory, candidate), 'utf8'))
    if (text === null) continue
    if (text.length > configMax) throw new Error(`${candidate} is larger than ${configMax} bytes`)
    return text
  }
  return ''
}

/** Starts one: its end of a socket pair is descriptor 3, and its environment is this and nothing else. */
export function launch({ path, index, name }: Program): { process: ChildProcess; trunk: Duplex } {
  const process = spawn(path, [], {
    env: { NRI_PLUGIN_NAME: name, NRI_PLUGIN_IDX: index, NRI_PLUGIN_SOCKET: '3' },
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  })
  // a stream socket of AF_UNIX: what libuv makes of 'pipe'
  return { process, trunk: process.stdio[3] as Duplex }
}
