/** What cAdvisor, inside of a kubelet, asks: its requests (google/cadvisor, container/crio/client.go), as it makes them. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { create, NamespaceMode, pidOf, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, cgroupRoot, needsRoot, startService } from '../helpers/service.ts'
import { NetHost } from '../helpers/net-host.ts'

interface Answer {
  status: number
  body: Record<string, unknown>
}

function ask(socketPath: string, path: string, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path, method, headers: { host: 'crio' } }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => (text += part))
      response.once('end', () => {
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Answer['body'] })
      })
    })
    sent.once('error', reject)
    sent.end()
  })
}

/** The pattern and the prefix by which cAdvisor takes a cgroup for one of CRI-O's (container/crio/factory.go). */
const taken = (name: string): string | undefined =>
  name.startsWith('crio') && !name.startsWith('crio-conmon') ? /([a-z0-9]{64})/.exec(name)?.[1] : undefined

t.test('cAdvisor learns whose the cgroups are', { skip: needsRoot }, async (t) => {
  const host = await NetHost.open(t)
  const service = await startService(t, { images: [busyboxImage], host, network: 'driver = "bridge"', cadvisor: true })
  const at = (path: string, method?: string): Promise<Answer> => ask(service.cadvisorSocket, path, method)
  t.equal(statSync(service.cadvisorSocket).mode & 0o777, 0o600)
  t.match(await at('/info'), { status: 200, body: { storage_driver: 'caisson', storage_root: service.root } })

  const labels = { 'io.kubernetes.container.name': 'web', 'io.kubernetes.pod.name': 'p' }
  const podLabels = {
    'io.kubernetes.pod.name': 'p',
    'io.kubernetes.pod.namespace': 'test',
    'io.kubernetes.pod.uid': 'u',
  }
  const pod = await runPod(service, { labels: podLabels })
  const infra = join(cgroupRoot(), service.slice, `monitor-${pod.id}`, `crio-caisson-${pod.id}.scope`)
  const annotations = { 'io.kubernetes.container.restartCount': '0' }
  const before = await at(`/containers/${pod.id}`)
  t.match(before, { status: 200, body: { pid: 0 } }, 'no process is in its network yet')
  const waiting = await create(service, pod, { command: ['true'] })
  const id = await startShell(service, pod, 'exec sleep 1000', { labels, annotations })
  t.notOk(existsSync(infra), 'nothing is made before somebody asks')

  const pid = await pidOf(service, id)
  const cgroup = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? ''
  t.equal(taken(cgroup.slice(cgroup.lastIndexOf('/') + 1)), id, 'the name of its cgroup is taken for CRI-O’s')
  const { status } = await service.runtime.podSandboxStatus({ podSandboxId: pod.id })
  t.match(await at(`/containers/${id}`), {
    status: 200,
    body: {
      name: new RegExp(`^k8s_c-\\d+_${pod.config.metadata?.name}_test_`),
      pid,
      image: busyboxImage,
      labels,
      annotations,
      log_path: /^\/.*\.log$/,
      ip_addresses: [status?.network?.ip, status?.network?.additionalIps?.[0]?.ip],
    },
  })
  t.match(await at(`/containers/${waiting}`), { status: 200, body: { labels: {} } })

  t.ok(existsSync(infra), 'and one for the pod, in which nothing runs')
  t.equal(readFileSync(join(infra, 'cgroup.procs'), 'utf8'), '')
  // kubelet: extractIDFromCgroupPath
  t.equal(infra.slice(infra.lastIndexOf('-') + 1).replace(/\.scope$/, ''), pod.id)
  t.match(await at(`/containers/${pod.id}`), {
    status: 200,
    body: { pid, labels: { ...podLabels, 'io.kubernetes.container.name': 'POD' } },
  })
  t.match(readFileSync(`/proc/${pid}/net/dev`, 'utf8'), 'eth0:', 'by which it reads the pod’s network')

  const onHost = await runPod(service, {
    linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
  })
  const other = await startShell(service, onHost, 'exec sleep 1000')
  t.match(await at(`/containers/${other}`), { status: 200 })
  t.match(
    await at(`/containers/${onHost.id}`),
    { status: 200, body: { pid: 0 } },
    'the host’s network is not the pod’s',
  )

  const made = at(`/containers/${'0'.repeat(64)}`)
  t.match(await made, { status: 404, body: { error: /0{64}/ } })
  for (const path of [
    '/',
    '/containers/',
    '/containers/../info',
    `/containers/${id.slice(0, 12)}`,
    `/containers/${id}/..`,
    '/info?x',
  ])
    t.match(await at(path), { status: 404 }, path)
  t.match(await at('/info', 'POST'), { status: 405 })

  await service.restart()
  t.match(await at(`/containers/${id}`), { status: 200, body: { pid } }, 'after a restart')
  for (const one of [pod, onHost]) await service.runtime.removePodSandbox({ podSandboxId: one.id })
  t.notOk(existsSync(infra))
  t.match(await at(`/containers/${id}`), { status: 404 })
})

t.test('a CRI-O that is there keeps its place', { skip: needsRoot }, async (t) => {
  const first = await startService(t, { cadvisor: true })
  const second = await startService(t, { cadvisor: first.cadvisorSocket })
  t.match(await ask(first.cadvisorSocket, '/info'), { body: { storage_root: first.root } })
  t.match(readFileSync(second.logFile, 'utf8'), /cAdvisor will not know/)
  t.match(await second.runtime.version({}), { runtimeName: 'caisson' }, 'everything else works')
})
