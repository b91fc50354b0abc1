import { CaissonError, isCaissonError } from '../../errors.ts'
import type { Channel, Native, NativeFd } from '../../native/types.ts'
import { span } from '../../tracing/span.ts'
import { decodeFrame, decodePayload, encodeFrame, frameFlag, frameType, type Frame, type FrameType } from './frames.ts'
import type {
  CreateRequest,
  Created,
  ExecResult,
  HandedStreams,
  MonitorExit,
  MonitoredContainer,
  PodSocketKind,
  WantedStreams,
} from './types.ts'
import { identity, nanoseconds, number, remoteError, text } from './payload.ts'

export type * from './types.ts'

interface Pending {
  resolve: (reply: Reply) => void
  reject: (error: unknown) => void
}

interface Reply {
  payload: Record<string, unknown>
  fds: NativeFd[]
}

const payloadMax = 1 << 20
const spanNames = new Map<number, string>(Object.entries(frameType).map(([name, type]) => [type, `monitor.${name}`]))
/** Within this a monitor answers what takes no work: one that does not is stopped or hangs, and the connection is given up. */
const answerTimeoutMs = 10_000

/** One connection to a monitor: requests and their replies, events as they come. */
export class MonitorClient {
  readonly #native: Native
  readonly #channel: Channel
  readonly #pending = new Map<number, Pending>()
  #nextRequest = 1
  #closed: CaissonError | null = null
  onExit: ((exit: MonitorExit) => void) | null = null
  onOom: ((event: { id: string }) => void) | null = null
  /** An attachment did not read what is there to read, and gets no more. */
  readonly dropped = new Set<(event: { id: string; number: number }) => void>()
  /** The monitor has gone without being asked to. */
  onGone: (() => void) | null = null

  constructor(native: Native, channel: Channel) {
    this.#native = native
    this.#channel = channel
    channel.onFrame = (bytes, fds) => this.#receive(bytes, fds)
    channel.onClose = (error) => this.#gone(error)
  }

  /** Credentials of the process that listens: the monitor's own. */
  get pid(): number {
    return this.#channel.peer.pid
  }

  async hello(lease: 'detached' | 'bound'): Promise<{ buildId: string; pod: string; pid: number }> {
    const { payload } = await this.#promptCall(frameType.hello, { owner: true, lease })
    return { buildId: text(payload, 'buildId'), pod: text(payload, 'pod'), pid: number(payload, 'pid') }
  }

  async list(): Promise<{ state: string; containers: MonitoredContainer[] }> {
    const { payload } = await this.#promptCall(frameType.list, {})
    const pod = payload['pod'] as Record<string, unknown>
    const containers = payload['containers'] as Record<string, unknown>[]
    return {
      state: text(pod, 'state'),
      containers: containers.map((entry) => ({
        id: text(entry, 'id'),
        state: text(entry, 'state') as MonitoredContainer['state'],
        pid: number(entry, 'pid'),
        createdAt: nanoseconds(entry, 'createdAt'),
        startedAt: nanoseconds(entry, 'startedAt'),
        finishedAt: nanoseconds(entry, 'finishedAt'),
        exitCode: number(entry, 'exitCode'),
        signal: number(entry, 'signal'),
        oomKilled: entry['oomKilled'] === true,
        ...identity(entry),
      })),
    }
  }

  /** Kills a container, or every container of the pod, with cgroup.kill. */
  async kill(container?: string): Promise<void> {
    await this.#promptCall(frameType.kill, container === undefined ? {} : { container })
  }

  /** Replaces the monitor's program in place; it keeps pid, children and descriptors. */
  async reexec(executable: number): Promise<{ buildId: string }> {
    const { payload } = await this.#promptCall(frameType.reexec, {}, [executable])
    return { buildId: text(payload, 'buildId') }
  }

  /** Makes the network namespace of a pod that is set up later; repeated calls are fine. */
  async preparePod(): Promise<void> {
    await this.#call(frameType.podPrepare, {})
  }

  /** @param network namespace that the pod joins, where it has none of its own */
  async setupPod(plan: number, network?: number): Promise<void> {
    await this.#call(frameType.podSetup, {}, network === undefined ? [plan] : [plan, network])
  }

  async createContainer(
    request: CreateRequest,
    fds: {
      plan: number
      cgroupParent: number
      exitRecord: number
      logDirectory: number | null
      /** What another runtime, or criu, is called with. */
      called: number | null
      hooks: number | null
    },
  ): Promise<Created> {
    const passed = [fds.plan, fds.cgroupParent, fds.exitRecord]
    if (fds.logDirectory !== null) passed.push(fds.logDirectory)
    if (fds.called !== null) passed.push(fds.called)
    if (fds.hooks !== null) passed.push(fds.hooks)
    const { payload } = await this.#call(frameType.containerCreate, request, passed)
    return { pid: number(payload, 'pid'), createdAt: nanoseconds(payload, 'createdAt'), ...identity(payload) }
  }

  async startContainer(id: string): Promise<{ pid: number; startedAt: bigint }> {
    const { payload } = await this.#call(frameType.containerStart, { id })
    return { pid: number(payload, 'pid'), startedAt: nanoseconds(payload, 'startedAt') }
  }

  async signalContainer(id: string, signal: number): Promise<void> {
    await this.#call(frameType.containerSignal, { id, signal })
  }

  async removeContainer(id: string): Promise<void> {
    await this.#call(frameType.containerRemove, { id })
  }

  /** @param limit bytes kept of each stream; what is written beyond is discarded */
  async exec(id: string, plan: number, timeoutMs: number, limit: number): Promise<ExecResult> {
    const { payload, fds } = await this.#call(frameType.exec, { id, timeoutMs, limit }, [plan])
    try {
      const [stdout, stderr] = fds
      if (stdout === undefined || stderr === undefined) {
        throw new CaissonError('ERR_MONITOR_PROTOCOL', 'the monitor answered exec without its output')
      }
      const sizes = number(payload, 'stdoutSize') > limit || number(payload, 'stderrSize') > limit
      return {
        exitCode: number(payload, 'exitCode'),
        signal: number(payload, 'signal'),
        timedOut: payload['timedOut'] === true,
        stdout: this.#native.readMemfd(stdout.fd, limit),
        stderr: this.#native.readMemfd(stderr.fd, limit),
        truncated: sizes,
      }
    } finally {
      for (const fd of fds) fd.close()
    }
  }

  /** Executes a process whose streams are handed out. It is killed when this connection ends before it does. */
  async execStream(id: string, plan: number, streams: WantedStreams): Promise<HandedStreams> {
    return handed(await this.#call(frameType.execStream, { id, ...streams }, [plan]))
  }

  /** The end of such a process. */
  async execWait(id: string, number_: number): Promise<{ exitCode: number; signal: number }> {
    const { payload } = await this.#call(frameType.execWait, { id, number: number_ })
    return { exitCode: number(payload, 'exitCode'), signal: number(payload, 'signal') }
  }

  /** Kills it, with all that it has started. */
  async execKill(id: string, number_: number): Promise<void> {
    await this.#call(frameType.execKill, { id, number: number_ })
  }

  /** What the container writes from now on, and its standard input, where it has one that nobody has taken. */
  async attach(id: string, streams: WantedStreams): Promise<HandedStreams> {
    return handed(await this.#call(frameType.containerAttach, { id, ...streams }))
  }

  /** The size of the container's terminal, in cells. */
  async resizeContainer(id: string, rows: number, columns: number): Promise<void> {
    await this.#call(frameType.containerResize, { id, rows, columns })
  }

  async reopenLog(id: string): Promise<void> {
    await this.#call(frameType.logReopen, { id })
  }

  /** A namespace of the pod, by descriptor. @throws ENOENT where the pod shares the host's */
  async namespace(type: 'network' | 'ipc' | 'uts' | 'user' | 'pid'): Promise<NativeFd> {
    return one(await this.#call(frameType.podNamespace, { type }))
  }

  /** Where other processes of the host find the namespace while the monitor lives. @throws ENOENT as above */
  async namespacePath(type: 'network'): Promise<string> {
    const reply = await this.#call(frameType.podNamespace, { type })
    one(reply).close()
    return `/proc/${this.pid}/fd/${number(reply.payload, 'fd')}`
  }

  /** A socket made in the pod's network namespace, or in the host's where the pod shares that: it stays there. */
  async socket(kind: PodSocketKind): Promise<NativeFd> {
    return one(await this.#call(frameType.podSocket, { kind }))
  }

  /** Ends the pod and the monitor. @throws CaissonError ERR_MONITOR_GONE when it answers nothing at all */
  async shutdown(): Promise<void> {
    // to end may take a monitor any time, to answer not
    await this.#promptCall(frameType.list, {})
    await this.#call(frameType.shutdown, {})
  }

  /** Drops the connection; a detached pod goes on. */
  close(): void {
    this.onGone = null
    this.#gone(null)
    this.#channel.close()
  }

  #call(type: FrameType, payload: object, fds: readonly number[] = []): Promise<Reply> {
    return span(spanNames.get(type) ?? 'monitor', {}, () => this.#request(type, payload, fds))
  }

  #request(type: FrameType, payload: object, fds: readonly number[]): Promise<Reply> {
    if (this.#closed !== null) return Promise.reject(this.#closed)
    const request = this.#nextRequest
    this.#nextRequest = (request + 1) >>> 0 || 1
    return new Promise((resolve, reject) => {
      this.#pending.set(request, { resolve, reject })
      try {
        this.#channel.send(encodeFrame(type, request, payload), fds)
      } catch (error) {
        this.#pending.delete(request)
        reject(error instanceof Error ? error : new Error(String(error)))
      }
    })
  }

  /** @throws CaissonError ERR_MONITOR_GONE when there is no answer in time: this connection is of no use then */
  async #promptCall(type: FrameType, payload: object, fds: readonly number[] = []): Promise<Reply> {
    const timer = setTimeout(() => {
      this.#gone(null, `the pod’s monitor has not answered for ${answerTimeoutMs / 1000} s`)
      this.#channel.close()
    }, answerTimeoutMs)
    return this.#call(type, payload, fds).finally(() => {
      clearTimeout(timer)
    })
  }

  #receive(bytes: Buffer, fds: NativeFd[]): void {
    let frame: Frame
    try {
      frame = decodeFrame(bytes)
      if ((frame.flags & frameFlag.payloadInMemfd) !== 0) frame.payload = this.#payloadOf(fds)
    } catch (error) {
      for (const fd of fds) fd.close()
      this.#gone(error)
      this.#channel.close()
      return
    }
    const payload = (frame.payload ?? {}) as Record<string, unknown>
    if ((frame.flags & frameFlag.event) !== 0) {
      for (const fd of fds) fd.close()
      this.#event(frame.type, payload)
      return
    }
    const pending = this.#pending.get(frame.request)
    this.#pending.delete(frame.request)
    if (pending === undefined || (frame.flags & frameFlag.error) !== 0) {
      for (const fd of fds) fd.close()
      pending?.reject(remoteError(payload))
      return
    }
    pending.resolve({ payload, fds })
  }

  #payloadOf(fds: NativeFd[]): unknown {
    const memfd = fds.pop()
    if (memfd === undefined) throw new CaissonError('ERR_MONITOR_PROTOCOL', 'a frame promised a memfd and brought none')
    try {
      return decodePayload(this.#native.readMemfd(memfd.fd, payloadMax))
    } finally {
      memfd.close()
    }
  }

  #event(type: number, payload: Record<string, unknown>): void {
    if (type === frameType.eventExit) {
      this.onExit?.({
        id: text(payload, 'id'),
        exitCode: number(payload, 'exitCode'),
        signal: number(payload, 'signal'),
        oomKilled: payload['oomKilled'] === true,
        startedAt: nanoseconds(payload, 'startedAt'),
        finishedAt: nanoseconds(payload, 'finishedAt'),
      })
    } else if (type === frameType.eventOom) {
      this.onOom?.({ id: text(payload, 'id') })
    } else if (type === frameType.eventAttachDropped) {
      const event = { id: text(payload, 'id'), number: number(payload, 'number') }
      for (const listener of this.dropped) listener(event)
    }
  }

  #gone(cause: unknown, message = 'the connection to the pod’s monitor has ended'): void {
    if (this.#closed !== null) return
    this.#closed = new CaissonError('ERR_MONITOR_GONE', message, { cause })
    for (const { reject } of this.#pending.values()) reject(this.#closed)
    this.#pending.clear()
    this.onGone?.()
  }
}

/** Whether a request failed because its monitor has died, or was let go of: it says nothing of the container. */
export function isMonitorGone(error: unknown): boolean {
  return isCaissonError(error) && error.code === 'ERR_MONITOR_GONE'
}

/** The descriptor that a reply brings. */
function one({ fds }: Reply): NativeFd {
  const [fd, ...more] = fds
  for (const other of more) other.close()
  if (fd === undefined) throw new CaissonError('ERR_MONITOR_PROTOCOL', 'the monitor answered without the descriptor')
  return fd
}

/** The descriptors come in the order of the streams. */
function handed({ payload, fds }: Reply): HandedStreams {
  const next = (key: string): NativeFd | null => (payload[key] === true ? (fds.shift() ?? null) : null)
  const streams = {
    number: number(payload, 'number'),
    terminal: payload['terminal'] === true,
    stdin: next('stdin'),
    stdout: next('stdout'),
    stderr: next('stderr'),
  }
  for (const fd of fds) fd.close()
  return streams
}
