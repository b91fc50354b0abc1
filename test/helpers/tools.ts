import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

export function findTool(name: string): string | undefined {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(directory, name)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {
      continue
    }
  }
  return undefined
}

/** A reason to skip, or false when every tool is there: `t.test(name, { skip: missingTools('skopeo') }, …)`. */
export function missingTools(...names: string[]): string | false {
  const missing = names.filter((name) => findTool(name) === undefined)
  return missing.length === 0 ? false : `not installed: ${missing.join(', ')}`
}

/** Runs a tool to its end; rejects with its standard error when it fails. Bounded: 60 s, 16 MiB of output. */
export async function run(tool: string, ...args: string[]): Promise<string> {
  try {
    const { stdout } = await execute(tool, args, { timeout: 60_000, maxBuffer: 16 << 20 })
    return stdout
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    throw new Error(`${tool} ${args.join(' ')}: ${stderr?.trim() || message}`, { cause: error })
  }
}
