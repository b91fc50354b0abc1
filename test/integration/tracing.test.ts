/** Spans of OpenTelemetry: what a collector is told of the calls of a client that traces, as a kubelet does, and of one that does not. */
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { loadConfig } from '#src/config/index.ts'
import { imageService, runtimeService } from '#src/cri/grpc/services.ts'
import { version } from '#src/version.ts'
import { Collector, type CollectedSpan } from '../helpers/collector.ts'
import { buildLayout } from '../helpers/image.ts'
import { TestPlugin } from '../helpers/nri-plugin.ts'
import { containerConfig, podConfig, runPod, startShell } from '../helpers/pods.ts'
import { account, push, startRegistry } from '../helpers/registry.ts'
import { busyboxImage, type LogLine, needsRoot, startService, type TestService, until } from '../helpers/service.ts'
import { missingTools } from '../helpers/tools.ts'

const spanPath = (method: string): string => `runtime.v1.RuntimeService/${method}`

interface Traced {
  traceId: string
  /** The caller's own span. */
  parentId: string
  reply: Record<string, unknown>
  error: ServiceError | null
}

/** A client that traces: its calls carry W3C trace context in their metadata, as otelgrpc's do. */
class TracingClient {
  readonly #client: Client

  constructor(t: Test, service: TestService) {
    this.#client = new Client(`unix:${service.socket}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
    })
    t.teardown(() => {
      this.#client.close()
    })
  }

  /** @param flags 01: the caller records it */
  async call(method: string, request: object, flags = '01'): Promise<Traced> {
    const [name, spec] = [runtimeService, imageService]
      .map(({ name, methods }) => [name, methods.get(method)] as const)
      .find(([, found]) => found !== undefined) ?? [runtimeService.name, undefined]
    const traceId = randomBytes(16).toString('hex')
    const parentId = randomBytes(8).toString('hex')
    const metadata = new Metadata()
    metadata.set('traceparent', `00-${traceId}-${parentId}-${flags}`)
    metadata.set('tracestate', 'vendor=value')
    return await new Promise((resolve) => {
      this.#client.makeUnaryRequest(
        spec?.path ?? `/${name}/${method}`,
        (message: object) => spec?.requestSerialize(message) ?? Buffer.alloc(0),
        (bytes) => spec?.responseDeserialize(bytes) ?? {},
        request,
        metadata,
        { deadline: Date.now() + 60_000 },
        (error, reply = {}) => {
          resolve({ traceId, parentId, reply: reply as Record<string, unknown>, error })
        },
      )
    })
  }

  /** A call that streams, begun. */
  stream(method: string): { traceId: string; parentId: string; cancel: () => void } {
    const spec = runtimeService.methods.get(method)!
    const traceId = randomBytes(16).toString('hex')
    const parentId = randomBytes(8).toString('hex')
    const metadata = new Metadata()
    metadata.set('traceparent', `00-${traceId}-${parentId}-01`)
    const call = this.#client.makeServerStreamRequest(
      spec.path,
      (message: object) => spec.requestSerialize(message),
      (bytes) => spec.responseDeserialize(bytes),
      {},
      metadata,
    )
    call.on('error', () => undefined)
    call.resume()
    return { traceId, parentId, cancel: () => call.cancel() }
  }
}

/** The one span of this name. */
function one(t: Test, spans: readonly CollectedSpan[], name: string): CollectedSpan {
  const found = spans.filter((span) => span.name === name)
  t.equal(found.length, 1, `${name}: one of ${spans.map((span) => span.name).join(', ')}`)
  return found[0]!
}

/** Below another one, and within its time. */
function below(t: Test, child: CollectedSpan, parent: CollectedSpan): void {
  t.equal(child.parentSpanId, parent.spanId, `${child.name} is below ${parent.name}`)
  t.equal(child.kind, 'INTERNAL')
  t.ok(child.start >= parent.start - 1_000_000n && child.end <= parent.end + 1_000_000n, `${child.name} is within it`)
}

const plugin = (directory: string, name: string, script: string): void => {
  const file = join(directory, name)
  writeFileSync(file, `#!/bin/sh\ncat >/dev/null\n[ "$CNI_COMMAND" = ADD ] || exit 0\n${script}\n`)
  chmodSync(file, 0o755)
}
const result = `echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"10.9.8.7/24","interface":0}]}'`

t.test('calls of a client that traces', { skip: needsRoot || missingTools('docker-registry', 'skopeo') }, async (t) => {
  const collector = await Collector.listen(t)
  const directory = t.testdir({ conf: {}, plugins: {} })
  plugin(join(directory, 'plugins'), 'fine', result)
  plugin(
    join(directory, 'plugins'),
    'broken',
    `echo '{"cniVersion":"1.0.0","code":11,"msg":"no more addresses"}'; exit 1`,
  )
  const list = (type: string): string => JSON.stringify({ cniVersion: '1.0.0', name: 'net', plugins: [{ type }] })
  writeFileSync(join(directory, 'conf', '10-net.conflist'), list('fine'))
  const service = await startService(t, {
    images: [busyboxImage],
    network: `driver = "cni"\nspare_sandboxes = 0\ncni_config_dir = "${directory}/conf"\ncni_plugin_dirs = ["${directory}/plugins"]\nnetns_dir = ""`,
    config: `[tracing]\nendpoint = "${collector.endpoint}"\n[nri]\nenable = true\nsocket_path = "@DIR@/nri.sock"\nplugin_path = "@DIR@/p"\nplugin_config_path = "@DIR@/pc"`,
  })
  const client = new TracingClient(t, service)
  const nri = await TestPlugin.connect(join(service.directory, 'nri.sock'), ['10', 'test'])
  t.teardown(() => {
    nri.close()
  })
  const config = podConfig(service)
  let podSandboxId = ''
  let containerId = ''

  t.test('RunPodSandbox: the caller’s trace, monitor, network, plugins', async (t) => {
    const { traceId, parentId, reply } = await client.call('runPodSandbox', { config })
    podSandboxId = reply['podSandboxId'] as string
    const spans = await collector.trace(traceId, spanPath('RunPodSandbox'))
    const call = one(t, spans, spanPath('RunPodSandbox'))
    t.match(call, { parentSpanId: parentId, traceState: 'vendor=value', kind: 'SERVER', status: 'UNSET', message: '' })
    t.same(call.attributes, {
      'rpc.system': 'grpc',
      'rpc.service': 'runtime.v1.RuntimeService',
      'rpc.method': 'RunPodSandbox',
      'rpc.grpc.status_code': 0,
      'sandbox.id': podSandboxId,
      'pod.name': config.metadata?.name,
      'pod.namespace': 'test',
      'pod.uid': config.metadata?.uid,
    })
    t.match(call.resource, {
      'service.name': 'caisson',
      'service.version': version,
      'service.instance.id': new RegExp(`:${service.socket}$`),
      'process.pid': service.pid,
    })
    t.ok(call.end > call.start)
    const monitor = one(t, spans, 'monitor.start')
    below(t, monitor, call)
    below(t, one(t, spans, 'monitor.hello'), monitor)
    below(t, one(t, spans, 'monitor.podSetup'), call)
    const network = one(t, spans, 'network.attach')
    below(t, network, call)
    t.match(network.attributes, { 'network.driver': 'cni' })
    const cni = one(t, spans, 'cni.ADD')
    below(t, cni, network)
    t.same(cni.attributes, { 'cni.plugin': 'fine', 'cni.network': 'net' })
    const asked = one(t, spans, 'nri.RunPodSandbox')
    below(t, asked, call)
    t.same(asked.attributes, { 'nri.plugin': '10-test' })
  })

  t.test('CreateContainer, StartContainer, ExecSync', async (t) => {
    const request = {
      podSandboxId,
      config: containerConfig({
        command: ['sh', '-c', 'sleep 1000; : command-secret'],
        envs: [{ key: 'TOKEN', value: Buffer.from('env-secret') }],
      }),
      sandboxConfig: config,
    }
    const made = await client.call('createContainer', request)
    containerId = made.reply['containerId'] as string
    const spans = await collector.trace(made.traceId, spanPath('CreateContainer'))
    const call = one(t, spans, spanPath('CreateContainer'))
    t.match(call.attributes, {
      'sandbox.id': podSandboxId,
      'container.id': containerId,
      'container.name': request.config.metadata?.name,
      'image.id': /^sha256:[0-9a-f]{64}$/,
    })
    for (const name of ['image.layers', 'nri.CreateContainer', 'snapshot.prepare', 'monitor.containerCreate']) {
      below(t, one(t, spans, name), call)
    }
    const started = await client.call('startContainer', { containerId })
    const start = await collector.trace(started.traceId, spanPath('StartContainer'))
    below(t, one(t, start, 'monitor.containerStart'), one(t, start, spanPath('StartContainer')))
    t.match(one(t, start, spanPath('StartContainer')).attributes, { 'container.id': containerId })
    below(t, one(t, start, 'nri.PostStartContainer'), one(t, start, spanPath('StartContainer')))

    const executed = await client.call('execSync', { containerId, cmd: ['echo', 'argument-secret'], timeout: 10 })
    const exec = await collector.trace(executed.traceId, spanPath('ExecSync'))
    below(t, one(t, exec, 'monitor.exec'), one(t, exec, spanPath('ExecSync')))
  })

  t.test('failures: the caller’s are answers, ours are errors', async (t) => {
    const absent = await client.call('startContainer', { containerId: 'none' })
    t.equal(absent.error?.code, 5)
    const [answer] = await collector.trace(absent.traceId, spanPath('StartContainer'))
    t.match(answer, {
      status: 'UNSET',
      attributes: { 'rpc.grpc.status_code': 5, 'caisson.code': 'ERR_CONTAINER_NOT_FOUND', 'container.id': 'none' },
    })
    t.notOk(answer?.attributes['error.type'])

    writeFileSync(join(directory, 'conf', '10-net.conflist'), list('broken'))
    await until(async () => (await service.log()).some(({ msg }) => msg === 'the configuration of CNI has changed'))
    const failed = await client.call('runPodSandbox', { config: podConfig(service) })
    const spans = await collector.trace(failed.traceId, spanPath('RunPodSandbox'))
    const call = one(t, spans, spanPath('RunPodSandbox'))
    t.match(call, {
      status: 'ERROR',
      message: /no more addresses/,
      attributes: { 'rpc.grpc.status_code': failed.error?.code, 'error.type': 'ERR_NETWORK_SETUP' },
    })
    const network = one(t, spans, 'network.attach')
    t.match(network, { status: 'ERROR', attributes: { 'error.type': 'ERR_NETWORK_SETUP' } })
    const add = one(t, spans, 'cni.ADD')
    below(t, add, network)
    t.match(add, { status: 'ERROR', message: /no more addresses/, attributes: { 'cni.plugin': 'broken' } })

    const unknown = await client.call('NoSuchMethod', {})
    t.equal(unknown.error?.code, 12)
  })

  t.test('calls that stream: from their first byte to their status', async (t) => {
    const whole = client.stream('streamContainers')
    const [list] = await collector.trace(whole.traceId, spanPath('StreamContainers'))
    t.match(list, { parentSpanId: whole.parentId, status: 'UNSET', attributes: { 'rpc.grpc.status_code': 0 } })
    const events = client.stream('getContainerEvents')
    await client.call('listContainers', {})
    events.cancel()
    const [call] = await collector.trace(events.traceId, spanPath('GetContainerEvents'))
    t.match(call, { parentSpanId: events.parentId, kind: 'SERVER', status: 'UNSET' })
    t.equal(call?.attributes['rpc.grpc.status_code'], 1, 'cancelled')
  })

  t.test('a pull, layer by layer', async (t) => {
    const registry = await startRegistry({ auth: 'basic' })
    t.teardown(() => registry.stop())
    const layout = join(service.directory, 'layout')
    const layers = [[{ name: 'f', content: 'x' }], [{ name: 'g', content: 'y' }]]
    await buildLayout(layout, { name: 'a', layers })
    await push(registry, layout, 'a', 'team/app:1', { credentials: account })
    const image = `${registry.host}/team/app:1`
    const refused = await client.call('pullImage', {
      image: { image },
      auth: { username: 'tester', password: 'pull-secret' },
    })
    t.equal(refused.error?.code, 7)
    const { traceId, reply } = await client.call('pullImage', { image: { image }, auth: account })
    const spans = await collector.trace(traceId, 'runtime.v1.ImageService/PullImage')
    const call = one(t, spans, 'runtime.v1.ImageService/PullImage')
    t.match(call.attributes, {
      'rpc.service': 'runtime.v1.ImageService',
      'image.ref': image,
      'image.id': reply['imageRef'],
    })
    below(t, one(t, spans, 'image.resolve'), call)
    below(t, one(t, spans, 'image.commit'), call)
    const found = spans.filter(({ name }) => name === 'image.layer')
    t.equal(new Set(found.map(({ attributes }) => attributes['layer.digest'])).size, layers.length)
    for (const layer of found) {
      below(t, layer, call)
      const stages = spans.filter(({ parentSpanId }) => parentSpanId === layer.spanId)
      t.same(
        stages.map(({ name }) => name),
        ['image.layer.download', 'image.layer.unpack'],
      )
      for (const stage of stages) below(t, stage, layer)
    }
  })

  t.test('what the caller does not record is not recorded', async (t) => {
    const silent = await client.call('status', {}, '00')
    await service.runtime.version({})
    const last = await client.call('version', {})
    await collector.trace(last.traceId, spanPath('Version'))
    t.same(
      collector.spans.filter(({ traceId }) => traceId === silent.traceId),
      [],
    )
    t.same(
      collector.spans.filter(({ parentSpanId }) => parentSpanId === ''),
      [],
      'nothing by itself',
    )
  })

  t.test('no secrets', async (t) => {
    const sent = Buffer.concat(collector.requests)
    t.ok(sent.includes('team/app:1'), 'what was sent can be read')
    const secrets = [account.password, Buffer.from(`${account.username}:${account.password}`).toString('base64')]
    for (const secret of [...secrets, 'pull-secret', 'env-secret', 'argument-secret', 'command-secret']) {
      t.notOk(sent.includes(secret), secret)
    }
  })

  t.test('StopPodSandbox, and the end of the service: what is recorded last is sent', async (t) => {
    const stopped = await client.call('stopPodSandbox', { podSandboxId })
    await service.runtime.removePodSandbox({ podSandboxId })
    await service.stop()
    const spans = await collector.trace(stopped.traceId, spanPath('StopPodSandbox'))
    const call = one(t, spans, spanPath('StopPodSandbox'))
    const network = one(t, spans, 'network.detach')
    below(t, network, call)
    below(t, one(t, spans, 'cni.DEL'), network)
    below(t, one(t, spans, 'monitor.kill'), call)
  })
})

t.test('calls of a client that does not trace, by the sampling rate; SIGHUP', { skip: needsRoot }, async (t) => {
  const coverage = t.testdir({})
  const socket = join('/tmp', `csn-otlp-${process.pid}.sock`)
  const collector = await Collector.listen(t, socket)
  process.env['NODE_V8_COVERAGE'] = coverage
  t.teardown(() => delete process.env['NODE_V8_COVERAGE'])
  const service = await startService(t, { images: [] })
  /** Whether anything of OpenTelemetry was loaded until the service ended: V8 tells of every script. */
  const loaded = async (): Promise<boolean> => {
    await service.stop()
    const files = readdirSync(coverage).filter((name) => name.endsWith('.json'))
    const texts = files.map((name) => readFileSync(join(coverage, name), 'utf8'))
    t.ok(
      texts.some((text) => text.includes('/dist/cri/grpc/call-log.js')),
      'V8 has told',
    )
    return texts.some((text) => text.includes('@opentelemetry'))
  }
  await service.runtime.version({})
  t.equal(await loaded(), false, 'nothing is loaded where nobody traces')

  await service.start()
  const dropIns = join(service.directory, 'config.d')
  mkdirSync(dropIns)
  const reload = async (text: string): Promise<void> => {
    const count = async (): Promise<number> =>
      (await service.log()).filter(({ msg }) => msg === 'the configuration was read again').length
    const before = await count()
    writeFileSync(join(dropIns, 'tracing.toml'), text)
    process.kill(service.pid, 'SIGHUP')
    await until(async () => (await count()) > before)
  }
  await reload(`[tracing]\nendpoint = "${collector.endpoint}"\nsampling_rate_per_million = 1000000\n`)
  await service.runtime.version({})
  await until(() => collector.spans.some(({ name }) => name === spanPath('Version')))
  t.match(
    collector.spans.find(({ name }) => name === spanPath('Version')),
    { parentSpanId: '', kind: 'SERVER' },
  )
  await reload(`[tracing]\nendpoint = "${collector.endpoint}"\nsampling_rate_per_million = 500000\n`)
  collector.spans.length = 0
  for (let i = 0; i < 400; i++) await service.runtime.version({})
  await reload('')
  const half = collector.spans.filter(({ name }) => name === spanPath('Version')).length
  t.ok(half > 120 && half < 280, `half of them: ${half} of 400; those that waited were sent when it was turned off`)
  collector.spans.length = 0
  await service.runtime.version({})
  t.equal(await loaded(), true)
  t.same(collector.spans, [])
})

t.test('a collector that is away, that says no, or that says nothing', { skip: needsRoot }, async (t) => {
  const silent = createServer((socket) => socket.on('error', () => undefined))
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  t.teardown(() => silent.close())
  const { port } = silent.address() as { port: number }
  const full = await Collector.listen(t)
  full.refusal = 'the disk is full'
  for (const [endpoint, problem] of [
    ['127.0.0.1:9', /ECONNREFUSED/],
    [full.endpoint, /the disk is full/],
    [`127.0.0.1:${port}`, null],
  ] as const) {
    const service = await startService(t, {
      images: [busyboxImage],
      config: `[tracing]\nendpoint = "${endpoint}"\nsampling_rate_per_million = 1000000`,
    })
    const pod = await runPod(service)
    await startShell(service, pod, 'sleep 1000')
    for (let i = 0; i < 30; i++) await Promise.all(Array.from({ length: 100 }, () => service.runtime.version({})))
    const complaints = async (): Promise<(LogLine & { problem?: string })[]> =>
      (await service.log()).filter(({ msg }) => msg === 'spans cannot be sent')
    if (problem !== null) await until(async () => (await complaints()).length > 0)
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    const from = performance.now()
    await service.stop()
    const seconds = (performance.now() - from) / 1000
    t.ok(seconds < 8, `${endpoint}: the service ended in ${seconds.toFixed(1)} s`)
    const told = await complaints()
    t.equal(told.length, 1, 'one line for all of it')
    if (problem !== null) t.match(told[0]?.problem, problem)
    t.notOk(
      (await service.log()).some(({ level }) => level > 40),
      'nothing is an error',
    )
  }
})

t.test('[tracing]', async (t) => {
  const file = join(t.testdir({}), 'c.toml')
  const load = (text: string): Promise<unknown> => {
    writeFileSync(file, `[tracing]\n${text}\n`)
    return loadConfig(file)
  }
  for (const endpoint of [
    'localhost:4317',
    'http://10.0.0.1:1',
    'https://otel.example:443',
    '[::1]:4317',
    'unix:///run/o.sock',
    '',
  ]) {
    t.match(await load(`endpoint = "${endpoint}"`), { tracing: { endpoint, samplingRatePerMillion: 0 } })
  }
  for (const endpoint of [
    'localhost',
    'ftp://a:1',
    'a b:1',
    'http://a:1/v1/traces',
    'a:99999',
    'unix:relative',
    '/run/o.sock',
  ]) {
    await t.rejects(load(`endpoint = "${endpoint}"`), {
      code: 'ERR_CONFIG_INVALID',
      message: /tracing\.endpoint is .*; allowed: /,
    })
  }
  await t.rejects(load('sampling_rate_per_million = 1000001'), { message: /an integer from 0 to 1000000/ })
})
