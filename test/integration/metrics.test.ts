/** What the service tells Prometheus of itself. */
import { once } from 'node:events'
import { statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { loadConfig } from '#src/config/index.ts'
import { create, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService, until } from '../helpers/service.ts'

interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

/** The text format by its grammar (prometheus.io/docs/instrumenting/exposition_formats): what does not fit is an error. */
function parse(text: string): { samples: Sample[]; types: Map<string, string> } {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const samples: Sample[] = []
  const types = new Map<string, string>()
  const seen = new Set<string>()
  for (const line of text.slice(0, -1).split('\n')) {
    if (line === '') continue
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line)
    if (comment !== null) {
      const [, kind, name = '', rest = ''] = comment
      if (kind === 'HELP') continue
      if (!/^(counter|gauge|histogram)$/.test(rest) || types.has(name)) throw new Error(`bad type: ${line}`)
      types.set(name, rest)
      continue
    }
    const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?[0-9.e+-]+|\+Inf|NaN)$/.exec(line)
    if (match === null) throw new Error(`no sample: ${line}`)
    const [, name = '', inside = '', number = ''] = match
    const labels = [...inside.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,|$)/g)]
    if (labels.map(([whole]) => whole).join('') !== inside) throw new Error(`bad labels: ${line}`)
    const series = line.slice(0, line.lastIndexOf(' '))
    if (seen.has(series)) throw new Error(`twice: ${series}`)
    seen.add(series)
    if (!types.has(name.replace(/_(bucket|sum|count)$/, '')) && !types.has(name)) throw new Error(`no type: ${name}`)
    samples.push({
      name,
      labels: Object.fromEntries(labels.map(([, key = '', value = '']) => [key, value])),
      value: number === '+Inf' ? Infinity : Number(number),
    })
  }
  return { samples, types }
}

function ask(
  socketPath: string,
  path: string,
  method = 'GET',
): Promise<{ status: number; type: string; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path, method }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => (text += part))
      response.once('end', () => {
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', text })
      })
    })
    sent.once('error', reject)
    sent.end()
  })
}

t.test('metrics of the service', { skip: needsRoot }, async (t) => {
  const directory = t.testdir()
  const socket = join('/tmp', `csn-metrics-${process.pid}.sock`)
  const service = await startService(t, { images: [busyboxImage], config: `[metrics]\nlisten = "${socket}"` })
  t.equal(statSync(socket).mode & 0o777, 0o600)
  const scrape = async (): Promise<(name: string, labels?: Record<string, string>) => number> => {
    const { status, type, text } = await ask(socket, '/metrics')
    t.equal(status, 200)
    t.match(type, /^text\/plain; version=0\.0\.4/)
    const { samples } = parse(text)
    return (name, labels = {}) =>
      samples.find(
        (sample) =>
          sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
      )?.value ?? NaN
  }
  const path = (name: string): string => `/runtime.v1.RuntimeService/${name}`
  const before = await scrape()
  t.equal(before('caisson_pods', { state: 'ready' }), 0)
  t.equal(before('caisson_images'), (await service.image.listImages({})).images.length)
  t.ok(before('caisson_image_store_bytes') > 1 << 20)

  const pod = await runPod(service)
  await startShell(service, pod, 'exec sleep 1000')
  await create(service, pod, { command: ['true'] })
  await refused(t, service.runtime.startContainer({ containerId: 'none' }), 'NOT_FOUND', /none/)
  const after = await scrape()
  t.equal(after('caisson_pods', { state: 'ready' }), 1)
  t.equal(after('caisson_containers', { state: 'running' }), 1)
  t.equal(after('caisson_containers', { state: 'created' }), 1)
  const count = 'caisson_rpc_duration_seconds_count'
  t.equal(after(count, { method: path('RunPodSandbox'), code: 'OK' }), 1)
  t.equal(after(count, { method: path('CreateContainer'), code: 'OK' }), 2)
  t.equal(after(count, { method: path('StartContainer'), code: 'NOT_FOUND' }), 1)
  t.ok(after('caisson_rpc_duration_seconds_sum', { method: path('RunPodSandbox'), code: 'OK' }) > 0)
  t.equal(after('caisson_rpcs_in_flight', { method: path('RunPodSandbox') }), 0)
  t.ok(after('process_resident_memory_bytes') > 10 << 20)
  t.ok(after('process_cpu_seconds_total') >= before('process_cpu_seconds_total'))
  t.ok(Math.abs(after('process_start_time_seconds') - Date.now() / 1000) < 120)

  const events = new AbortController()
  const stream = service.runtime.getContainerEvents({}, { signal: events.signal })[Symbol.asyncIterator]()
  const waiting = stream.next().catch(() => undefined)
  const inFlight = async (): Promise<number> =>
    (await scrape())('caisson_rpcs_in_flight', { method: path('GetContainerEvents') })
  await until(async () => (await inFlight()) === 1, 10_000, 'a stream is in flight')
  events.abort()
  await waiting
  await until(async () => (await inFlight()) === 0, 10_000, 'until its caller goes')

  const { info } = await service.runtime.podSandboxStatus({ podSandboxId: pod.id, verbose: true })
  process.kill((JSON.parse(info['info'] ?? '{}') as { monitorPid: number }).monitorPid, 'SIGKILL')
  await until(async () => (await scrape())('caisson_monitors_lost_total') === 1, 10_000, 'a monitor that died')

  t.match(await ask(socket, '/'), { status: 404 })
  t.match(await ask(socket, '/metrics', 'POST'), { status: 405 })
  t.match(await ask(socket, '/metrics', 'HEAD'), { status: 200, text: '' })
  const hostile = connect(socket)
  hostile.write(`GET /metrics HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)
  const [refusal] = (await once(hostile, 'data')) as [Buffer]
  t.match(refusal.toString(), /^HTTP\/1\.1 431 /, 'headers have a bound')
  hostile.destroy()

  for (const listen of ['localhost:1', '1.2.3.4', '::1:80', '[::1]:99999', 'm.sock']) {
    const file = join(directory, 'bad.toml')
    writeFileSync(file, `[metrics]\nlisten = "${listen}"\n`)
    await t.rejects(loadConfig(file), { code: 'ERR_CONFIG_INVALID', message: /metrics\.listen is .*; allowed: / })
  }
})
