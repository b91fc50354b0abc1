/**
 * Law 3 and law 5 under fire: clients that do what a kubelet does, and more at once, while the service and monitors are killed
 * with SIGKILL at random moments. A model of what was answered says what may be answered next.
 *
 * CAISSON_CHAOS_SEED repeats a run's choices (its timing is the machine's); CAISSON_CHAOS_SECONDS makes it longer.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { isCaissonError } from '#src/errors.ts'
import { int64 } from '#src/cri/grpc/int64.ts'
import {
  containerConfig,
  type ContainerConfig,
  ContainerState,
  monitorPid,
  NamespaceMode,
  type Pod,
  podConfig,
  type PodConfig,
  PodSandboxState,
  pidOf,
  runPod,
  start,
} from '../helpers/pods.ts'
import {
  busyboxImage,
  needsRoot,
  probeImage,
  project,
  startService,
  type TestService,
  until,
} from '../helpers/service.ts'
import { Random } from '../helpers/random.ts'

const seconds = Number(process.env['CAISSON_CHAOS_SECONDS'] ?? 20)
const seed = Number(process.env['CAISSON_CHAOS_SEED'] ?? Date.now() % 1_000_000)
const workers = 3
const roundSeconds = 7
/** An image that comes and goes. */
const volatileImage = 'localhost/chaos:latest'

interface ModelContainer {
  id: string
  pod: ModelPod
  /** What its program ends with when it is left alone. */
  exitCode: number
  state: 'created' | 'perhaps started' | 'started'
  /** A stop was asked for: 137 is right as well. */
  stopped: boolean
  createdAt: bigint | null
  config: ContainerConfig
}

interface ModelPod extends Pod {
  containers: Set<ModelContainer>
  monitorKilled: boolean
  stopped: boolean
  createdAt: bigint | null
}

/** How a call ended: an answer, a status that says no, or nobody knows. */
type Outcome<T> = { kind: 'answer'; value: T } | { kind: 'refused'; status: string; message: string } | { kind: 'lost' }

class Chaos {
  readonly #t: Test
  readonly #service: TestService
  readonly pods = new Set<ModelPod>()
  /** Requests whose answers were lost: what they asked for may be there. */
  readonly unanswered = new Set<string>()
  readonly counts: Record<string, number> = {}
  stop = false
  #down: Promise<void> | null = null

  constructor(test: Test, service: TestService) {
    this.#t = test
    this.#service = service
  }

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }

  fail(message: string): void {
    this.#t.fail(`seed ${seed}: ${message}`)
  }

  /** One call, cancelled after a while by some clients; waits while there is no service. */
  async #call<T>(name: string, random: Random, call: (signal: AbortSignal) => Promise<T>): Promise<Outcome<T>> {
    await this.#down
    const abort = new AbortController()
    const timer = random.chance(0.1)
      ? setTimeout(() => abort.abort(new Error('cancelled')), random.below(40))
      : undefined
    this.#count(name)
    try {
      return { kind: 'answer', value: await call(abort.signal) }
    } catch (error) {
      if (abort.signal.aborted) return { kind: 'lost' }
      if (!isCaissonError(error)) {
        if (this.#down !== null) return { kind: 'lost' }
        throw error
      }
      // killed: what a transport makes of it
      if (error.code === 'ERR_SERVICE_UNREACHABLE' || error.code === 'ERR_CANCELLED') return { kind: 'lost' }
      this.#count(`${name} ${String(error.fields['status'])}`)
      return { kind: 'refused', status: String(error.fields['status']), message: error.message }
    } finally {
      clearTimeout(timer)
    }
  }

  /** Fails unless the refusal is one of `allowed`; a pod whose monitor was killed may be unavailable as well. */
  #expect(what: string, outcome: Outcome<unknown>, pod: ModelPod | null, ...allowed: string[]): void {
    if (outcome.kind !== 'refused' || allowed.includes(outcome.status)) return
    if (pod?.monitorKilled === true && ['UNAVAILABLE', 'FAILED_PRECONDITION'].includes(outcome.status)) return
    this.fail(`${what}: ${outcome.status}: ${outcome.message}`)
  }

  /** Repeats a request that must come through, as a kubelet does. */
  async #insist<T>(
    what: string,
    random: Random,
    pod: ModelPod | null,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T | null> {
    for (let attempt = 0; attempt < 50; attempt++) {
      const outcome = await this.#call(what, random, call)
      if (outcome.kind === 'answer') return outcome.value
      this.#expect(what, outcome, pod)
      await delay(20)
    }
    this.fail(`${what}: no success in 50 attempts`)
    return null
  }

  async #runPod(random: Random, own: ModelPod[]): Promise<void> {
    const config: PodConfig = podConfig(this.#service, {
      linux: {
        securityContext: {
          namespaceOptions: { pid: random.chance(0.3) ? NamespaceMode.POD : NamespaceMode.CONTAINER },
        },
      },
    })
    const request = (signal: AbortSignal) => this.#service.runtime.runPodSandbox({ config }, { signal })
    const ids = new Set<string>()
    const calls = random.chance(0.3) ? 2 : 1 // joined
    for (const outcome of await Promise.all(
      Array.from({ length: calls }, () => this.#call('run pod', random, request)),
    )) {
      this.#expect('run pod', outcome, null)
      if (outcome.kind === 'answer') ids.add(outcome.value.podSandboxId)
    }
    const again = await this.#insist('run pod', random, null, request)
    if (again !== null) ids.add(again.podSandboxId)
    if (ids.size !== 1) this.fail(`run pod: one request, ids ${[...ids].join(' ')}`)
    const pod: ModelPod = {
      id: [...ids][0] ?? '',
      config,
      containers: new Set(),
      monitorKilled: false,
      stopped: false,
      createdAt: null,
    }
    own.push(pod)
    this.pods.add(pod)
  }

  async #create(random: Random, pod: ModelPod): Promise<void> {
    const exitCode = random.below(120)
    const image = random.chance(0.2) ? volatileImage : busyboxImage
    const script = `sleep ${(random.below(2500) / 1000).toFixed(3)}; exit ${exitCode}`
    const program = image === volatileImage ? { args: ['exit', `${exitCode}`] } : { command: ['/bin/sh', '-c', script] }
    const config = containerConfig({ image, ...program })
    const request = (signal: AbortSignal) =>
      this.#service.runtime.createContainer({ podSandboxId: pod.id, config, sandboxConfig: pod.config }, { signal })
    const ids = new Set<string>()
    const calls = random.chance(0.3) ? 2 : 1
    const name = config.metadata?.name ?? ''
    for (;;) {
      let lost = false
      for (const outcome of await Promise.all(
        Array.from({ length: calls }, () => this.#call('create', random, request)),
      )) {
        if (image === volatileImage) this.#expect('create', outcome, pod, 'NOT_FOUND')
        else this.#expect('create', outcome, pod)
        if (outcome.kind === 'answer') ids.add(outcome.value.containerId)
        lost ||= outcome.kind === 'lost'
      }
      if (!lost || ids.size > 0) break
      if (this.stop) {
        this.unanswered.add(name)
        break
      }
    }
    if (ids.size > 1) this.fail(`create: one request, ids ${[...ids].join(' ')}`)
    for (const id of ids) {
      pod.containers.add({ id, pod, exitCode, state: 'created', stopped: false, createdAt: null, config })
    }
  }

  async #start(random: Random, container: ModelContainer): Promise<void> {
    const fresh = container.state === 'created'
    const call = (): Promise<Outcome<object>> =>
      this.#call('start', random, (signal) =>
        this.#service.runtime.startContainer({ containerId: container.id }, { signal }),
      )
    container.state = container.state === 'created' ? 'perhaps started' : container.state
    const outcomes = await Promise.all(random.chance(0.2) ? [call(), call()] : [call()])
    const started = outcomes.some(({ kind }) => kind === 'answer')
    if (started) container.state = 'started'
    for (const outcome of outcomes) {
      // of two calls one may come when the other has started it
      if (fresh && !started) this.#expect('start', outcome, container.pod)
      else this.#expect('start again', outcome, container.pod, 'FAILED_PRECONDITION')
    }
  }

  async #status(random: Random, container: ModelContainer): Promise<void> {
    const outcome = await this.#call('status', random, (signal) =>
      this.#service.runtime.containerStatus({ containerId: container.id }, { signal }),
    )
    this.#expect('status', outcome, null)
    if (outcome.kind !== 'answer') return
    const { status } = outcome.value
    const createdAt = int64(status?.createdAt)
    container.createdAt ??= createdAt
    if (createdAt !== container.createdAt) this.fail(`created_at of ${container.id} has changed`)
    if (status?.state === ContainerState.CONTAINER_EXITED)
      this.#checkExit(container, status.exitCode ?? 0, status.reason)
  }

  #checkExit(container: ModelContainer, exitCode: number, reason: string | null | undefined): void {
    const allowed = [container.exitCode]
    if (container.state === 'created' && !container.stopped && !container.pod.stopped && !container.pod.monitorKilled) {
      this.fail(`${container.id} has ended with ${exitCode} (${reason ?? ''}) and was never started`)
    }
    if (container.stopped || container.pod.stopped) allowed.push(137)
    if (container.pod.monitorKilled) allowed.push(255)
    if (!allowed.includes(exitCode)) {
      this.fail(`${container.id} ended with ${exitCode} (${reason ?? ''}), not ${allowed.join(' or ')}`)
    }
  }

  async #exec(random: Random, container: ModelContainer): Promise<void> {
    const text = `hello ${random.below(1000)}`
    const outcome = await this.#call('exec', random, (signal) =>
      this.#service.runtime.execSync({ containerId: container.id, cmd: ['/bin/echo', text], timeout: 30 }, { signal }),
    )
    this.#expect('exec', outcome, container.pod, 'FAILED_PRECONDITION')
    if (outcome.kind !== 'answer') return
    const { exitCode, stdout } = outcome.value
    // its container may end meanwhile, and takes it with it
    if (exitCode === 137) return
    if (exitCode !== 0 || Buffer.from(stdout).toString() !== `${text}\n`) {
      this.fail(`exec answered ${String(exitCode)} ${JSON.stringify(Buffer.from(stdout).toString())}`)
    }
  }

  async #stop(random: Random, container: ModelContainer): Promise<void> {
    container.stopped = true
    const timeout = random.chance(0.5) ? 0 : 1
    const outcome = await this.#call('stop', random, (signal) =>
      this.#service.runtime.stopContainer({ containerId: container.id, timeout }, { signal }),
    )
    this.#expect('stop', outcome, container.pod)
    if (outcome.kind !== 'answer' || container.state !== 'started') return
    const after = await this.#call('status', random, () =>
      this.#service.runtime.containerStatus({ containerId: container.id }),
    )
    if (after.kind === 'answer' && after.value.status?.state !== ContainerState.CONTAINER_EXITED) {
      this.fail(`${container.id} is ${String(after.value.status?.state)} after its stop`)
    }
  }

  async #remove(random: Random, container: ModelContainer): Promise<void> {
    const call = (): Promise<unknown> =>
      this.#insist('remove', random, container.pod, (signal) =>
        this.#service.runtime.removeContainer({ containerId: container.id }, { signal }),
      )
    await Promise.all(random.chance(0.3) ? [call(), call()] : [call()])
    container.pod.containers.delete(container)
    const after = await this.#call('status', random, () =>
      this.#service.runtime.containerStatus({ containerId: container.id }),
    )
    if (after.kind === 'answer') this.fail(`${container.id} is there after its removal`)
    this.#expect('status after removal', after, null, 'NOT_FOUND')
  }

  async #removePod(random: Random, pod: ModelPod): Promise<void> {
    pod.stopped = true
    const { id: podSandboxId } = pod
    if (random.chance(0.6)) {
      await this.#insist('stop pod', random, pod, (signal) =>
        this.#service.runtime.stopPodSandbox({ podSandboxId }, { signal }),
      )
      const reply = await this.#call('pod status', random, () =>
        this.#service.runtime.podSandboxStatus({ podSandboxId }),
      )
      if (reply.kind === 'answer' && reply.value.status?.state !== PodSandboxState.SANDBOX_NOTREADY) {
        this.fail(`${podSandboxId} is ready after its stop`)
      }
      for (const container of pod.containers) await this.#status(random, container)
    }
    await this.#insist('remove pod', random, pod, (signal) =>
      this.#service.runtime.removePodSandbox({ podSandboxId }, { signal }),
    )
    this.pods.delete(pod)
  }

  async #image(random: Random): Promise<void> {
    const { caisson, image } = this.#service
    const layout = join(project, 'build', 'Release', 'embedded-image')
    const outcome = random.chance(0.5)
      ? await this.#call('import', random, (signal) =>
          caisson.importImage({ directory: layout, name: volatileImage }, { signal }),
        )
      : await this.#call('remove image', random, (signal) =>
          image.removeImage({ image: { image: volatileImage } }, { signal }),
        )
    this.#expect('image', outcome, null)
  }

  /** One client: mostly its own pods, as a kubelet's pod worker. */
  async client(random: Random): Promise<void> {
    const own: ModelPod[] = []
    while (!this.stop) {
      try {
        await this.#step(random, own)
      } catch (error) {
        if (this.#down === null) throw error // the service was killed between two calls
      }
    }
  }

  async #step(random: Random, own: ModelPod[]): Promise<void> {
    await this.#down
    const pod = random.of(own)
    const container = pod === undefined ? undefined : random.of([...pod.containers])
    const dice = random.below(100)
    if (pod === undefined || (dice < 8 && own.length < 3)) return this.#runPod(random, own)
    if (dice < 12) {
      own.splice(own.indexOf(pod), 1)
      return this.#removePod(random, pod)
    }
    if (dice < 20) return this.#image(random)
    if (dice < 24) {
      await this.#call('list', random, () => this.#service.runtime.listContainers({}))
      return
    }
    if (container === undefined || (dice < 45 && pod.containers.size < 4)) return this.#create(random, pod)
    if (container.state === 'created' ? dice < 85 : dice < 50) return this.#start(random, container)
    if (dice < 65) return this.#exec(random, container)
    if (dice < 72) return this.#stop(random, container)
    if (dice < 80) {
      const outcome = await this.#call('reopen log', random, (signal) =>
        this.#service.runtime.reopenContainerLog({ containerId: container.id }, { signal }),
      )
      this.#expect('reopen log', outcome, container.pod, 'FAILED_PRECONDITION')
      return
    }
    if (dice < 90) return this.#remove(random, container)
    return this.#status(random, container)
  }

  /** Kills the service or a monitor, now and then. */
  async disturber(random: Random): Promise<void> {
    for (;;) {
      await delay(200 + random.below(1800))
      if (this.stop) return
      const pod = random.of([...this.pods].filter(({ stopped, monitorKilled }) => !stopped && !monitorKilled))
      if (pod !== undefined && random.chance(0.3)) {
        const pid = await monitorPid(this.#service, pod).catch(() => 0)
        pod.monitorKilled = true
        this.#count('monitor killed')
        if (pid > 0) process.kill(pid, 'SIGKILL')
        continue
      }
      this.#count('service killed')
      let up = (): void => undefined
      this.#down = new Promise((resolve) => {
        up = resolve
      })
      await this.#service.kill()
      await delay(random.below(1000))
      await this.#service.start()
      this.#down = null
      up()
    }
  }

  /** What must hold when all is quiet again; takes everything away. */
  async verify(): Promise<void> {
    const { runtime, caisson } = this.#service
    const listed = (await runtime.listContainers({})).containers
    const known = new Map([...this.pods].flatMap(({ containers }) => [...containers].map((one) => [one.id, one])))
    const names = listed.map(({ podSandboxId, metadata }) => `${podSandboxId} ${metadata?.name ?? ''}`)
    if (new Set(names).size !== names.length) this.fail(`one container twice: ${names.join(', ')}`)
    for (const { id, metadata } of listed) {
      if (!known.has(id ?? '') && !this.unanswered.has(metadata?.name ?? '')) {
        this.fail(`container ${id ?? ''} (${metadata?.name ?? ''}) was asked for by nobody, or has been removed`)
      }
    }
    for (const container of known.values()) {
      const containerId = container.id
      const { status } = await runtime.containerStatus({ containerId })
      container.createdAt ??= int64(status?.createdAt)
      if (int64(status?.createdAt) !== container.createdAt) this.fail(`created_at of ${containerId} has changed`)
      if (status?.state === ContainerState.CONTAINER_CREATED && container.state !== 'started') continue
      const exit = await caisson.waitContainer({ containerId }, { timeoutMs: 20_000 })
      this.#checkExit(container, exit.exitCode, exit.reason)
    }
    const pods = (await runtime.listPodSandbox({})).items
    const expected = new Set([...this.pods].map(({ id }) => id))
    for (const { id } of pods) if (!expected.has(id ?? '')) this.fail(`pod ${id ?? ''} has come back`)
    for (const id of expected) if (!pods.some((pod) => pod.id === id)) this.fail(`pod ${id} is lost`)
    for (const { id, monitorKilled } of this.pods) {
      if (!monitorKilled) continue
      await until(
        async () =>
          (await runtime.podSandboxStatus({ podSandboxId: id })).status?.state === PodSandboxState.SANDBOX_NOTREADY,
        10_000,
        `pod ${id} of a dead monitor is not ready`,
      )
    }
    await Promise.all(pods.map(({ id }) => runtime.removePodSandbox({ podSandboxId: id ?? '' })))
    this.pods.clear()
    for (const finding of await this.#service.leaks()) this.fail(`left behind: ${finding}`)
  }
}

t.test('chaos', { skip: needsRoot, timeout: (seconds + 240) * 1000 }, async (t) => {
  t.comment(`CAISSON_CHAOS_SEED=${seed}`)
  const service = await startService(t, { images: [busyboxImage] })
  const random = new Random(seed)
  const deadline = Date.now() + seconds * 1000
  const counts: Record<string, number> = {}
  for (let round = 1; Date.now() < deadline; round++) {
    const chaos = new Chaos(t, service)
    const clients = Array.from({ length: workers }, () => chaos.client(random.fork()))
    const disturber = chaos.disturber(random.fork())
    await delay(Math.min(roundSeconds * 1000, deadline - Date.now()))
    chaos.stop = true
    await Promise.all([...clients, disturber])
    await chaos.verify()
    for (const [name, count] of Object.entries(chaos.counts)) counts[name] = (counts[name] ?? 0) + count
    t.ok(true, `round ${round}`)
  }
  t.comment(JSON.stringify(counts))
  const errors = (await service.log()).filter(({ level }) => level >= 50)
  for (const { msg, err } of errors) {
    if (msg !== 'the monitor of the pod has died; ending the pod') t.fail(`logged: ${msg ?? ''} ${err?.message ?? ''}`)
  }
})

t.test('a service that is stopped for a while keeps its pods and their exits', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [probeImage] })
  const pod = await runPod(service)
  // more ends than a monitor keeps for a client that does not read
  const ids: string[] = []
  for (let batch = 0; batch < 25; batch++) {
    const made = Array.from({ length: 10 }, () => start(service, pod, { image: probeImage, args: ['sleep', '1000'] }))
    ids.push(...(await Promise.all(made)))
  }
  const pids = await Promise.all(ids.map((id) => pidOf(service, id)))
  const monitor = await monitorPid(service, pod)
  process.kill(service.pid, 'SIGSTOP')
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  const log = join(service.state, 'pods', pod.id, 'monitor.log')
  await until(() => pids.every((pid) => !existsSync(`/proc/${pid}`)), 20_000, 'every container has ended')
  await delay(500)
  process.kill(service.pid, 'SIGCONT')
  for (const containerId of ids) {
    const { exitCode } = await service.caisson.waitContainer({ containerId }, { timeoutMs: 20_000 })
    if (exitCode !== 137) t.fail(`${containerId} ended with ${exitCode}`)
  }
  const { status } = await service.runtime.podSandboxStatus({ podSandboxId: pod.id })
  t.equal(status?.state, PodSandboxState.SANDBOX_READY, await readFile(log, 'utf8'))
  t.equal(await monitorPid(service, pod), monitor)
  const lost = (await service.log()).filter(({ msg }) => msg?.includes('was lost and is back'))
  t.equal(lost.length, 1, 'the monitor had ended the connection, and was found again')
  t.ok(await start(service, pod, { image: probeImage, args: ['exit', '0'] }))
})
