import { readFile } from 'node:fs/promises'

/** A process by more than its number: pids are used again, within one boot and after it. */
export interface ProcessIdentity {
  readonly pid: number
  /** Clock ticks since boot: field 22 of /proc/pid/stat, proc(5). */
  readonly startTime: string
  readonly bootId: string
}

async function startTime(pid: number): Promise<string | null> {
  let text: string
  try {
    text = await readFile(`/proc/${pid}/stat`, 'latin1')
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return null
    throw error
  }
  // the second field is the name, in parentheses, and may hold anything: count from its end
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null
}

async function currentBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim()
}

export async function processIdentity(pid: number): Promise<ProcessIdentity> {
  return { pid, startTime: (await startTime(pid)) ?? '', bootId: await currentBootId() }
}

export function thisProcess(): Promise<ProcessIdentity> {
  return processIdentity(process.pid)
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  return identity.bootId === (await currentBootId()) && identity.startTime === (await startTime(identity.pid))
}
