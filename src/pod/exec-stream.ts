import type { Writable } from 'node:stream'

import { CaissonError } from '../errors.ts'
import type { Process } from '../oci/runtime-spec.ts'
import { specJson } from '../oci/spec-json.ts'
import { notRunning, type Container } from './container.ts'
import type { Context } from './context.ts'
import { externalProcess } from './handlers/bundle.ts'
import { isMonitorGone, type MonitorClient, type WantedStreams } from './monitor/client.ts'
import { processError } from './process-errors.ts'
import { openStreams, pipeWriter, terminalStream, type ProcessStreams } from './streams.ts'

export interface ExecOptions extends WantedStreams {
  /** The process gets a terminal. */
  tty: boolean
}

/** A process beside a container's first one, its streams in the caller's hands. */
export interface StreamedExec extends ProcessStreams {
  /** As a shell counts: 128 and the signal's number where one ended it. Rejects when the monitor has gone. */
  readonly exitCode: Promise<number>
  /** Kills it, with all that it has started. */
  kill(): Promise<void>
}

/** The plan of a command with the container's identity; the caller closes the memfd. */
export function execPlan(context: Context, container: Container, args: readonly string[], tty: boolean) {
  if (container.state !== 'running') throw notRunning(container, 'exec in')
  if (args.length === 0 || args[0] === '') throw new CaissonError('ERR_INVALID_ARGUMENT', 'exec: the command is empty')
  const { native } = context
  const { uid, gid, groups } = container.user
  const { env = [] } = container.process as { env?: string[] }
  const process = {
    ...(container.process as Process),
    args: [...args],
    terminal: tty,
    ...(tty && !env.some((entry) => entry.startsWith('TERM=')) ? { env: [...env, 'TERM=xterm'] } : {}),
  }
  if (container.pod.config.runtimeHandler !== '') {
    return native.sealedMemfd('caisson-exec', Buffer.from(JSON.stringify(externalProcess(process, container.user))))
  }
  const { plan } = native.compileExec(
    specJson({
      process,
      user: { text: String(uid), gid, supplementalGroups: groups, policy: 'strict', setHome: true },
      ...(container.seccomp === null ? {} : { seccomp: container.seccomp }),
    }),
  )
  return native.sealedMemfd('caisson-exec-plan', plan)
}

/** @throws CaissonError ERR_COMMAND_NOT_FOUND, ERR_COMMAND_NOT_EXECUTABLE, ERR_CONTAINER_STATE */
export async function startExec(
  context: Context,
  monitor: MonitorClient,
  container: Container,
  args: readonly string[],
  options: ExecOptions,
): Promise<StreamedExec> {
  const { id } = container
  const { tty, ...wanted } = options
  const memfd = execPlan(context, container, args, tty)
  let handed
  try {
    handed = await monitor.execStream(id, memfd.fd, tty ? { stdin: false, stdout: false, stderr: false } : wanted)
  } catch (error) {
    throw processError(error, `exec in container ${id}`)
  } finally {
    memfd.close()
  }
  const exitCode = monitor
    .execWait(id, handed.number)
    .then(({ exitCode, signal }) => (signal === 0 ? exitCode : 128 + signal))
  exitCode.catch(() => undefined) // whoever wants to know it asks for it
  const { number } = handed
  const kill = async (): Promise<void> => {
    await monitor.execKill(id, number).catch((error: unknown) => {
      // it has ended, which is all that a kill wants
      if (!isMonitorGone(error) && (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    })
  }
  if (handed.terminal && handed.stdin !== null) {
    const master = terminalStream(handed.stdin)
    return {
      stdin: options.stdin ? master : null,
      stdout: options.stdout ? master : null,
      stderr: null,
      terminal: true,
      exitCode,
      kill,
      resize: async (rows, columns) => {
        if (master.descriptor >= 0) context.native.setWindowSize(master.descriptor, rows, columns)
      },
      close: () => {
        master.destroy()
      },
    }
  }
  const streams = openStreams(handed)
  return { ...streams, terminal: false, exitCode, kill, resize: noTerminal, close: () => closeAll(streams) }
}

/** A client's view of a container that runs. */
export interface Attachment extends ProcessStreams {
  /** Of streams that have ended: whether they did so early, since the client had not read what was there to read. */
  wasDropped(): Promise<boolean>
}

/** What the container writes from now on. It may be created only: then nothing of its output is missed. */
export async function attachTo(
  monitor: MonitorClient,
  container: Container,
  wanted: WantedStreams,
): Promise<Attachment> {
  if (container.state !== 'running' && container.state !== 'created') throw notRunning(container, 'attach to')
  const { id } = container
  const numbers = new Set<number>() // told before we know which one is ours
  const listener = (event: { id: string; number: number }): void => {
    if (event.id === id) numbers.add(event.number)
  }
  monitor.dropped.add(listener)
  try {
    const handed = await monitor.attach(id, wanted)
    const { stdout, stderr } = openStreams({ ...handed, stdin: null })
    let stdin: Writable | null = null
    if (handed.stdin !== null) {
      stdin = handed.terminal ? terminalStream(handed.stdin) : pipeWriter(handed.stdin)
    }
    return {
      stdin,
      stdout,
      stderr,
      terminal: handed.terminal,
      wasDropped: async () => {
        // the event has left the monitor before the end of the pipe, and may be seen after it; an answer comes after both
        await monitor.list().catch((error: unknown) => {
          if (!isMonitorGone(error)) throw error
        })
        return numbers.has(handed.number)
      },
      resize: handed.terminal ? (rows, columns) => monitor.resizeContainer(id, rows, columns) : noTerminal,
      close: () => {
        monitor.dropped.delete(listener)
        closeAll({ stdin, stdout, stderr })
      },
    }
  } catch (error) {
    monitor.dropped.delete(listener)
    throw processError(error, `attach to container ${id}`)
  }
}

function closeAll(streams: Pick<ProcessStreams, 'stdin' | 'stdout' | 'stderr'>): void {
  streams.stdin?.destroy()
  streams.stdout?.destroy()
  streams.stderr?.destroy()
}

function noTerminal(): Promise<void> {
  return Promise.resolve()
}
