import { pino, type Logger } from 'pino'

import { now } from '../../clock.ts'
import { loadConfig } from '../../config/index.ts'
import { logLevels } from '../../config/sections/log.ts'
import { serveCadvisor } from '../../cri/cadvisor.ts'
import type { CallObserver } from '../../cri/grpc/call-log.ts'
import { serveCri } from '../../cri/server.ts'
import { Runtime } from '../../index.ts'
import { NriService } from '../../nri/service.ts'
import type { PageServer } from '../../page-server.ts'
import { StreamingServer } from '../../streaming/server.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { nriOptions, runtimeOptions, streamingOptions } from './serve-options.ts'
import { ServiceManager } from './service-manager.ts'
import { reload, type Reloadable } from './serve-reload.ts'
import { Tracing } from './serve-tracing.ts'
import { socketGroup } from './socket-group.ts'

const graceMs = 5000

export const serve: Command = {
  usage: `usage: caisson [GLOBAL OPTIONS] serve [--until-stdin-ends]
Serves the Kubernetes CRI (runtime.v1) and caisson.v1 on the socket until SIGTERM or SIGINT. Pods go on without it, and the next
service takes them over. SIGHUP reads the configuration again.
  --until-stdin-ends  end with standard input, too
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { 'until-stdin-ends': { type: 'boolean', default: false } })
    if (operands.length > 0) throw new UsageError('serve takes no operands')
    const { logLevel } = globals
    if (logLevel !== null && !logLevels.some((level) => level === logLevel)) {
      throw new UsageError(`--log-level: "${logLevel}" is none of ${logLevels.join(', ')}`)
    }
    const startedAt = now()
    // from here on SIGHUP does not end the process; one that comes while it starts is heard when it serves
    const hangups = new Hangups()
    const config = await loadConfig(globals.config)
    // standard error, synchronously: the last lines before an end are the ones that are needed
    const log = pino({ level: logLevel ?? config.log.level, base: null }, pino.destination({ dest: 2, sync: true }))
    const group = await socketGroup(config.socket.group)
    // nobody but root and the group may write to the socket, from its birth on
    process.umask(0o022)
    // a service that belongs to a command has nothing to tell the command's manager
    const manager = ServiceManager.of(values['until-stdin-ends'] ? {} : process.env, log)
    const end = ending(values['until-stdin-ends'])
    const runtime = await Runtime.open({
      root: globals.root,
      state: globals.state,
      lease: 'detached',
      ...runtimeOptions(config),
      logger: log,
    })
    let streaming: StreamingServer | null = null
    let cadvisor: PageServer | null = null
    let nri: NriService | null = null
    let metrics: Metrics | null = null
    const tracing = new Tracing(globals.listen, log)
    try {
      await tracing.configure(config.tracing)
      const plugins = nriOptions(config, log)
      // before the first request: none passes them by
      if (plugins !== null) nri = await NriService.open(runtime, plugins)
      streaming = await StreamingServer.listen(runtime, await streamingOptions(config, log))
      const facts = {
        startedAt,
        socket: globals.listen,
        config: config.path,
        missingController: config.cgroup.missingController,
        monitors: config.cgroup.monitors,
      }
      // a service that belongs to a command has no kubelet
      if (!values['until-stdin-ends']) cadvisor = await cadvisorServer(runtime, config.cadvisor.socket, log)
      metrics = await openMetrics(runtime, config.metrics.listen, log)
      const server = await serveCri(runtime, { log, facts, group, streaming, observer: metrics?.observer ?? null })
      log.info({ socket: globals.listen, pods: [...runtime.pods.all()].length }, 'serving')
      const service: Reloadable = { runtime, tracing, facts, log, globals, config }
      const status = `serving on ${globals.listen}`
      await manager.ready(status)
      hangups.serve(async () => {
        await manager.reloading()
        await reload(service)
        await manager.ready(status)
      })
      log.info({ reason: await end }, 'stopping; pods go on')
      await hangups.close()
      await manager.stopping()
      await server.close(graceMs)
    } finally {
      await streaming?.close()
      await cadvisor?.close()
      await nri?.close()
      await metrics?.server.close()
      await tracing.close()
      await runtime.close()
    }
    return 0
  },
}

interface Metrics {
  observer: CallObserver
  server: PageServer
}

/** Their code is loaded only where somebody wants them. */
async function openMetrics(runtime: Runtime, place: string, logger: Logger): Promise<Metrics | null> {
  if (place === '') return null
  const { ServiceMetrics } = await import('../../metrics/service-metrics.ts')
  const { serveMetrics } = await import('../../metrics/server.ts')
  const metrics = new ServiceMetrics(runtime)
  const server = await serveMetrics(metrics, place, { logger, lockFile: runtime.lockFile })
  return { observer: metrics.calls, server }
}

/** Null: it is turned off, or its place is taken, as by a CRI-O on the same node: everything else works without. */
async function cadvisorServer(runtime: Runtime, socket: string, log: Logger): Promise<PageServer | null> {
  if (socket === '') return null
  try {
    return await serveCadvisor(runtime, socket)
  } catch (error) {
    log.warn({ err: error, socket }, 'cAdvisor will not know the names of containers')
    return null
  }
}

/** SIGHUPs, one after the other; those that come while one is dealt with are one. */
class Hangups {
  #act: (() => Promise<void>) | null = null
  #pending = false
  #acting: Promise<void> | null = null

  constructor() {
    process.on('SIGHUP', () => {
      this.#pending = true
      this.#next()
    })
  }

  /** @param act must not throw */
  serve(act: () => Promise<void>): void {
    this.#act = act
    this.#next()
  }

  /** No further one is dealt with; resolves when the last is. */
  async close(): Promise<void> {
    this.#act = null
    await this.#acting
  }

  #next(): void {
    if (!this.#pending || this.#act === null || this.#acting !== null) return
    this.#pending = false
    this.#acting = this.#act().finally(() => {
      this.#acting = null
      this.#next()
    })
  }
}

/** Resolves with the reason to stop. */
function ending(withStdin: boolean): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal))
    if (!withStdin) return
    process.stdin.resume()
    // a start that fails must end the process although its input goes on
    if ('unref' in process.stdin) process.stdin.unref()
    process.stdin.once('end', () => resolve('end of standard input'))
    process.stdin.once('error', () => resolve('end of standard input'))
  })
}
