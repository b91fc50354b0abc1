import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { connect as connectTo, type Connection } from '../cri/grpc/connect.ts'
import type { CaissonClient, ImageClient, RuntimeClient } from '../cri/grpc/services.ts'
import { CaissonError, errorMessage } from '../errors.ts'

export interface Globals {
  /** Socket of the service. */
  listen: string
  root: string
  state: string
  /** Null: the default file, if it is there. */
  config: string | null
  /** Null: what the configuration says. */
  logLevel: string | null
}

/** The service, as the command line speaks to it. */
export interface Service {
  readonly runtime: RuntimeClient
  readonly images: ImageClient
  readonly caisson: CaissonClient
  close(): Promise<void>
}

// a socket without a service is refused at once: this is for one that is busy starting
const probeTimeoutMs = 10_000
const startTimeoutMs = 15_000

/** @throws CaissonError ERR_SERVICE_UNREACHABLE saying how to start one */
export async function connect(globals: Globals): Promise<Service> {
  const client = connectTo(globals.listen)
  try {
    await client.runtime.version({}, { timeoutMs: probeTimeoutMs })
    return { ...callsOf(client), close: async () => client.close() }
  } catch (error) {
    client.close()
    if (!(error instanceof CaissonError) || error.code !== 'ERR_SERVICE_UNREACHABLE') throw error
    // of what the transport says, the errno alone tells a person something
    const advice = errorMessage(error).includes('EACCES')
      ? 'this user may not connect to it'
      : 'start one with "caisson serve"'
    throw new CaissonError(error.code, `${error.message}: ${advice}`, { fields: error.fields })
  }
}

/** The running service, or one that lives as long as this command. */
export async function connectOrStart(globals: Globals): Promise<Service> {
  try {
    return await connect(globals)
  } catch (error) {
    if (!(error instanceof CaissonError) || error.code !== 'ERR_SERVICE_UNREACHABLE') throw error
  }
  if (process.getuid?.() !== 0) throw new CaissonError('ERR_HOST_UNSUPPORTED', 'Caisson must run as root')
  const child = startService(globals)
  const client = connectTo(globals.listen)
  const ended = new Promise<never>((_resolve, reject) => {
    child.once('exit', (code) => {
      reject(
        new CaissonError(
          'ERR_SERVICE_UNREACHABLE',
          `the service that was started for this command ended with status ${code ?? 'none'}`,
        ),
      )
    })
    child.once('error', reject)
  })
  try {
    await Promise.race([client.ready(startTimeoutMs), ended])
  } catch (error) {
    client.close()
    child.kill()
    throw error
  }
  ended.catch(() => undefined) // later on, the calls themselves say that the service has gone
  return {
    ...callsOf(client),
    async close() {
      client.close()
      const exited = new Promise((resolve) => child.once('exit', resolve))
      child.stdin?.end()
      await exited
    },
  }
}

/** It ends when its standard input does: even a killed command leaves no service behind. */
function startService(globals: Globals): ChildProcess {
  const main = fileURLToPath(new URL('main.js', import.meta.url))
  const config = globals.config === null ? [] : ['--config', globals.config]
  return spawn(
    process.execPath,
    [
      ...process.execArgv,
      main,
      ...['--listen', globals.listen, '--root', globals.root, '--state', globals.state, '--log-level', 'error'],
      ...config,
      'serve',
      '--until-stdin-ends',
    ],
    { stdio: ['pipe', 'ignore', 'inherit'] },
  )
}

function callsOf({ runtime, image, caisson }: Connection): Omit<Service, 'close'> {
  return { runtime, images: image, caisson }
}
