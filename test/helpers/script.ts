/** One shell script does what a test wants where a process costs 50 ms; what it prints is judged afterwards. */
import { execFile } from 'node:child_process'
import { parseProbe, type Seen } from './peers.ts'
import type { CommandResult } from './service.ts'

export interface ScriptOptions {
  cwd: string
  timeoutMs: number
  /** Beside what this process has. */
  env: Record<string, string>
}

/** Runs it with bash; `seen` is what it printed, by the names of its "== name" lines. */
export async function runScript(script: string, options: ScriptOptions): Promise<CommandResult & { seen: Seen }> {
  const { cwd, timeoutMs, env } = options
  const result = await new Promise<CommandResult>((resolve) => {
    const settings = { cwd, timeout: timeoutMs, env: { ...process.env, ...env } }
    const child = execFile('bash', ['-c', script], settings, (_error, stdout, stderr) =>
      resolve({ status: child.exitCode, signal: child.signalCode, stdout, stderr }),
    )
  })
  return { ...result, seen: parseProbe(result.stdout) }
}
