import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { ReadStream } from 'node:tty'

import type { NativeFd } from '../native/types.ts'
import type { HandedStreams } from './monitor/client.ts'

/** Standard streams of a process in a container. Each is null where it was not asked for, or is not there. */
export interface ProcessStreams {
  /** Ending it is the end of the process's input; a terminal has no end of input but the character ^D. */
  readonly stdin: Writable | null
  readonly stdout: Readable | null
  readonly stderr: Readable | null
  /** The process has a terminal: stdin and stdout are that. */
  readonly terminal: boolean
  /** The terminal's size in cells. */
  resize(rows: number, columns: number): Promise<void>
  /** Lets go of the streams; bytes that were not read are lost. */
  close(): void
}

/** One end of a pipe as a stream; epoll watches it, no call on it blocks. */
export function pipeReader(fd: NativeFd): Readable {
  return new Socket({ fd: fd.release(), readable: true, writable: false })
}

/** A reader that has gone is no error: what a process does not want to read is nobody's concern. */
export function pipeWriter(fd: NativeFd): Writable {
  const stream = new Socket({ fd: fd.release(), readable: false, writable: true })
  stream.on('error', () => undefined)
  return stream
}

/** The master of a terminal; its output ends when no process has the terminal open any more, which the kernel tells by EIO. */
export class TerminalStream extends ReadStream {
  /** Of the master, for ioctl_tty(2); -1 once it is closed. */
  get descriptor(): number {
    return this.destroyed ? -1 : this.#descriptor
  }
  readonly #descriptor: number

  constructor(descriptor: number) {
    super(descriptor)
    this.#descriptor = descriptor
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const ended = error !== null && 'code' in error && error.code === 'EIO'
    super._destroy(ended ? null : error, callback)
  }
}

export function terminalStream(fd: NativeFd): TerminalStream {
  const stream = new TerminalStream(fd.release())
  stream.on('error', () => undefined)
  return stream
}

/** The pipes that a monitor handed out, as streams. */
export function openStreams(handed: HandedStreams): {
  stdin: Writable | null
  stdout: Readable | null
  stderr: Readable | null
} {
  const { stdin, stdout, stderr } = handed
  return {
    stdin: stdin === null ? null : pipeWriter(stdin),
    stdout: stdout === null ? null : pipeReader(stdout),
    stderr: stderr === null ? null : pipeReader(stderr),
  }
}
