import { setTimeout as delay } from 'node:timers/promises'

import type { Runtime } from '../index.ts'
import { PageServer } from '../page-server.ts'
import type { Container, Pod } from './rpc/selection.ts'

/** A cgroup can be seen a moment before its container is: cAdvisor asks once, and again after a minute. */
const patienceMs = 5000
const lookAgainMs = 50
const connectionsMax = 64

/** What cAdvisor reads of a container (google/cadvisor, container/crio/client.go). */
interface ContainerInfo {
  name: string
  pid: number
  image: string
  created_time: number
  labels: Record<string, string>
  annotations: Record<string, string>
  log_path: string
  root: string
  ip_addresses: readonly string[]
}

/**
 * Serves the two read-only pages of CRI-O from which cAdvisor, inside of an unmodified kubelet, takes the labels of a cgroup: it knows
 * containerd, whose gRPC services would be asked for much more, and CRI-O. Peers are root's by the mode of the socket.
 *
 * @throws CaissonError ERR_SOCKET_IN_USE: a CRI-O is there, ERR_SOCKET_PATH
 */
export async function serveCadvisor(runtime: Runtime, path: string): Promise<PageServer> {
  const server = new PageServer(connectionsMax, async (method, url) => {
    const [status, body] = await answer(runtime, method, url)
    return { status, headers: { 'content-type': 'application/json' }, body: `${JSON.stringify(body)}\n` }
  })
  await server.listenUnix(path, runtime.lockFile)
  return server
}

async function answer(runtime: Runtime, method: string, url: string): Promise<[number, object]> {
  if (method !== 'GET') return [405, { error: 'only GET is answered' }]
  // it is no driver that cAdvisor knows: sizes of writable layers come by the CRI
  if (url === '/info') return [200, { storage_driver: 'caisson', storage_root: runtime.layout.root, storage_image: '' }]
  const id = /^\/containers\/([0-9a-f]{64})$/.exec(url)?.[1]
  if (id === undefined) return [404, { error: 'no such page' }]
  const started = performance.now()
  for (;;) {
    const found = runtime.containers.find(id) ?? runtime.pods.find(id)
    if (found !== undefined) return [200, 'pod' in found ? await ofContainer(runtime, found) : ofPod(runtime, found)]
    if (performance.now() - started > patienceMs) return [404, { error: `no container or pod ${id}` }]
    await delay(lookAgainMs)
  }
}

async function ofContainer(runtime: Runtime, container: Container): Promise<ContainerInfo> {
  const { config, pod, pid, imageId, createdAt, id } = container
  // whoever sees the cgroups of its containers is to see one for the pod, too
  if (pod.config.network === 'pod') await runtime.statistics.showInfra(pod)
  return {
    name: nameOf(config.metadata.name, pod, config.metadata.attempt),
    pid,
    image: config.userSpecifiedImage || imageId,
    created_time: Number(createdAt),
    labels: config.labels,
    annotations: config.annotations,
    log_path: container.logPath,
    root: runtime.layout.container(pod.id, id),
    ip_addresses: pod.status().ips,
  }
}

/** What a pause container would be asked for: the pod's network, by any process that is in it. */
function ofPod(runtime: Runtime, pod: Pod): ContainerInfo {
  const { config, id, createdAt } = pod
  const inside = [...pod.containers.values()].find(({ state }) => state === 'running')
  return {
    name: nameOf('POD', pod, config.metadata.attempt),
    // with the host's network its traffic would be taken for the pod's
    pid: config.network === 'pod' ? (inside?.pid ?? 0) : 0,
    image: '',
    created_time: Number(createdAt),
    labels: { ...config.labels, 'io.kubernetes.container.name': 'POD' },
    annotations: config.annotations,
    log_path: '',
    root: runtime.layout.pod(id),
    ip_addresses: pod.status().ips,
  }
}

function nameOf(container: string, { config: { metadata } }: Pod, attempt: number): string {
  return `k8s_${container}_${metadata.name}_${metadata.namespace}_${metadata.uid}_${attempt}`
}
