/** A real server and real clients on a unix socket in a directory of the test's own. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { connect, type Connection } from '#src/cri/grpc/connect.ts'
import type { Peer } from '#src/cri/grpc/peer.ts'
import { GrpcServer, type GrpcServerOptions } from '#src/cri/grpc/server.ts'
import {
  type CaissonHandlers,
  caissonService,
  type ImageHandlers,
  imageService,
  type RuntimeHandlers,
  runtimeService,
} from '#src/cri/grpc/services.ts'
import { pino } from 'pino'
import type { Test } from 'tap'

export interface LogLine {
  level: number
  msg: string
  method?: string
  code?: string
  peer?: unknown
  err?: { message: string; stack: string }
}

export interface Fixture {
  server: GrpcServer
  client: Connection
  socketPath: string
  log: LogLine[]
  stop(): Promise<void>
}

export interface FixtureHandlers {
  runtime?: Partial<RuntimeHandlers>
  image?: Partial<ImageHandlers>
  caisson?: Partial<CaissonHandlers>
}

/** t.testdir() is named after the test, and soon longer than a socket's path may be. */
export function shortdir(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'caisson-grpc-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

const heldLocks = new Set<string>()

/** flock(2) between the servers of one test process: the addon's lock has tests of its own. */
export function lockFile(path: string): Promise<{ close(): void }> {
  if (heldLocks.has(path)) {
    const error = Object.assign(new Error(`EAGAIN: flock '${path}'`), {
      code: 'EAGAIN',
      errno: -11,
      syscall: 'flock',
      path,
    })
    return Promise.reject(error)
  }
  heldLocks.add(path)
  return Promise.resolve({ close: () => void heldLocks.delete(path) })
}

export function rootPeer(): Peer {
  return { pid: process.pid, uid: 0, gid: 0 }
}

export function newServer(socketPath: string, log: LogLine[], options: Partial<GrpcServerOptions> = {}): GrpcServer {
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      log.push(JSON.parse(chunk.toString()) as LogLine)
      done()
    },
  })
  return new GrpcServer({
    socketPath,
    log: pino({ level: 'debug' }, sink),
    peerCredentials: rootPeer,
    lockFile,
    ...options,
  })
}

export async function start(
  t: Test,
  handlers: FixtureHandlers,
  options: Partial<GrpcServerOptions> = {},
  directory = shortdir(t),
): Promise<Fixture> {
  const socketPath = join(directory, 'c.sock')
  const log: LogLine[] = []
  const server = newServer(socketPath, log, options)
    .add(runtimeService, handlers.runtime ?? {})
    .add(imageService, handlers.image ?? {})
    .add(caissonService, handlers.caisson ?? {})
  await server.listen()
  const client = connect(socketPath)
  const stop = async (): Promise<void> => {
    client.close()
    await server.close(1000)
  }
  t.teardown(stop)
  return { server, client, socketPath, log, stop }
}

/** Waits until a condition holds; the test's own time-out bounds it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}
