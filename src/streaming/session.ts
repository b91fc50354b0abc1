import { setTimeout as delay } from 'node:timers/promises'
import type { Readable, Writable } from 'node:stream'

import { errorMessage, isCaissonError, type ProcessStreams, type Runtime } from '../index.ts'
import { pump, quiet, type Pump } from './pump.ts'
import type { StreamingRequest } from './requests.ts'
import type { ClientWindow } from './client-window.ts'
import { failed, type RemoteEnd, succeeded } from './status.ts'

/** A client of exec or attach, whatever it speaks. */
export interface RemoteClient {
  /** Ends with the client's half-close. */
  readonly stdin: Readable | null
  readonly stdout: Writable | null
  readonly stderr: Writable | null
  readonly window: ClientWindow
  /** Aborted when the client has gone. */
  readonly gone: AbortSignal
  /** Tells how it ended, and ends the connection when the client has all. */
  finish(end: RemoteEnd): Promise<void>
}

/** What a process is given to end by itself (SIGHUP of its terminal, EPIPE) when its client has gone. */
const abandonedMs = 2000

/** Runs the request for this client, to the end; whatever fails is told to the client. */
export async function serveSession(
  runtime: Pick<Runtime, 'containers'>,
  request: Extract<StreamingRequest, { kind: 'exec' | 'attach' }>,
  client: RemoteClient,
): Promise<void> {
  let end: RemoteEnd
  try {
    end = request.kind === 'exec' ? await runExec(runtime, request, client) : await runAttach(runtime, request, client)
  } catch (error) {
    end = failed(errorMessage(error), isCaissonError(error) ? error.code : undefined)
  }
  await client.finish(end)
}

async function runExec(
  runtime: Pick<Runtime, 'containers'>,
  request: Extract<StreamingRequest, { kind: 'exec' }>,
  client: RemoteClient,
): Promise<RemoteEnd> {
  const { containerId, command, tty, stdin, stdout, stderr } = request
  const process = await runtime.containers.execStream(containerId, command, { tty, stdin, stdout, stderr })
  try {
    const pumps = connect(process, client)
    const exitCode = await Promise.race([process.exitCode, aborted(client.gone)])
    if (exitCode === undefined) {
      process.close()
      await Promise.race([process.exitCode.catch(() => undefined), delay(abandonedMs)])
      await process.kill()
      return failed('the client has gone')
    }
    // a child in the background may hold the pipes for ever
    await Promise.race([quiet(pumps), aborted(client.gone)])
    return { exitCode, message: '' }
  } finally {
    process.close()
  }
}

async function runAttach(
  runtime: Pick<Runtime, 'containers'>,
  request: Extract<StreamingRequest, { kind: 'attach' }>,
  client: RemoteClient,
): Promise<RemoteEnd> {
  const { containerId, stdin, stdout, stderr } = request
  const container = runtime.containers.require(containerId)
  const attachment = await runtime.containers.attach(containerId, { stdin, stdout, stderr })
  try {
    const pumps = connect(attachment, client)
    const output = pumps.length === 0 ? container.exited : Promise.all(pumps.map(({ done }) => done))
    await Promise.race([output, aborted(client.gone)])
    if (client.gone.aborted) return failed('the client has gone')
    // what was written before is with the client
    if (await attachment.wasDropped())
      return failed('this client did not read the output fast enough, and was detached')
    return succeeded
  } finally {
    attachment.close()
  }
}

/** Starts the copying both ways; returns the pumps of the output. */
function connect(process: ProcessStreams, client: RemoteClient): Pump[] {
  const { stdin } = process
  if (client.stdin !== null && stdin !== null) {
    // a terminal ends with the session, not with the client's input
    void pump(client.stdin, stdin).done.then(() => {
      if (!process.terminal) stdin.end()
    })
  } else {
    client.stdin?.resume()
  }
  client.window.follow(({ rows, columns }) => {
    process.resize(rows, columns).catch(() => undefined) // it has just ended
  })
  const pumps: Pump[] = []
  if (process.stdout !== null && client.stdout !== null) pumps.push(pump(process.stdout, client.stdout))
  if (process.stderr !== null && client.stderr !== null) pumps.push(pump(process.stderr, client.stderr))
  return pumps
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined)
    signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })
}
