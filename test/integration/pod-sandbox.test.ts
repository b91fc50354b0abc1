/** RunPodSandbox and its kin: states, idempotence, what is echoed, filters, and joinable creation (DESIGN laws 5 and 6). */
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { kill } from 'node:process'
import t from 'tap'
import type { runtime as cri } from '#src/gen/cri.ts'
import { int64 } from '#src/cri/grpc/int64.ts'
import {
  create,
  monitorPid,
  namespaceOf,
  NamespaceMode,
  pidOf,
  podConfig,
  PodSandboxState,
  refused,
  report,
  runPod,
  start,
} from '../helpers/pods.ts'
import { cgroupRoot, needsRoot, probeImage, startService } from '../helpers/service.ts'

t.test('pods', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [probeImage] })
  const { runtime } = service
  const pods = (): string[] => readdirSync(join(service.root, 'instances', 'default', 'pods'))

  t.test('states and attributes', async (t) => {
    const before = BigInt(Date.now()) * 1_000_000n
    const pod = await runPod(service, {
      labels: { app: 'web', 'io.kubernetes.pod.name': 'ä/"\n' },
      annotations: { note: 'kept byte for byte: ☃\t' },
    })
    t.match(pod.id, /^[0-9a-f]{64}$/)
    const reply = await runtime.podSandboxStatus({ podSandboxId: pod.id })
    const { status } = reply
    t.equal(status?.id, pod.id)
    t.same({ ...status?.metadata }, pod.config.metadata)
    t.equal(status?.state, PodSandboxState.SANDBOX_READY)
    t.same(status?.labels, pod.config.labels)
    t.same(status?.annotations, pod.config.annotations)
    t.ok(int64(status?.createdAt) >= before, 'created_at is a time in nanoseconds')
    t.ok(int64(reply.timestamp) >= before, 'so is the timestamp')
    t.match(status?.linux?.namespaces?.options, { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER })
    t.same(Object.keys(reply.info), [])
    t.same(reply.containersStatuses, [])

    const listed = (await runtime.listPodSandbox({})).items.find(({ id }) => id === pod.id)
    t.same({ ...listed?.metadata }, pod.config.metadata)
    t.same(listed?.labels, pod.config.labels)
    t.same(listed?.annotations, pod.config.annotations)
    t.equal(int64(listed?.createdAt), int64(status?.createdAt))

    await runtime.stopPodSandbox({ podSandboxId: pod.id })
    const stopped = await runtime.podSandboxStatus({ podSandboxId: pod.id })
    t.equal(stopped.status?.state, PodSandboxState.SANDBOX_NOTREADY)
    t.equal(int64(stopped.status?.createdAt), int64(status?.createdAt), 'created_at stays')
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    await refused(t, runtime.podSandboxStatus({ podSandboxId: pod.id }), 'NOT_FOUND', pod.id)
  })

  t.test('stop and remove are idempotent, and fine with what is unknown', async (t) => {
    const unknown = '0'.repeat(64)
    await runtime.stopPodSandbox({ podSandboxId: unknown })
    await runtime.removePodSandbox({ podSandboxId: unknown })
    const { id } = await runPod(service)
    await runtime.stopPodSandbox({ podSandboxId: id })
    await runtime.stopPodSandbox({ podSandboxId: id })
    await runtime.removePodSandbox({ podSandboxId: id })
    await runtime.removePodSandbox({ podSandboxId: id })
    await runtime.stopPodSandbox({ podSandboxId: id })
    const other = await runPod(service)
    await Promise.all([
      runtime.stopPodSandbox({ podSandboxId: other.id }),
      runtime.removePodSandbox({ podSandboxId: other.id }),
      runtime.stopPodSandbox({ podSandboxId: other.id }),
      runtime.removePodSandbox({ podSandboxId: other.id }),
    ])
    t.notOk(pods().includes(other.id), 'all at once, too')
  })

  t.test('filters', async (t) => {
    const label = randomUUID()
    const [a, b] = [
      await runPod(service, { labels: { label, tier: 'a' } }),
      await runPod(service, { labels: { label, tier: 'b' } }),
    ]
    await runtime.stopPodSandbox({ podSandboxId: b.id })
    const list = async (filter: cri.v1.PodSandboxFilter.$Properties): Promise<string[]> =>
      (await runtime.listPodSandbox({ filter })).items.map(({ id }) => id ?? '').sort()
    t.same(await list({ labelSelector: { label } }), [a.id, b.id].sort())
    t.same(await list({ labelSelector: { label, tier: 'a' } }), [a.id])
    t.same(await list({ labelSelector: { label, tier: 'c' } }), [])
    t.same(await list({ id: a.id }), [a.id])
    t.same(await list({ id: a.id.slice(0, 13) }), [a.id], 'an id may be a prefix')
    t.same(await list({ id: 'f'.repeat(64) }), [])
    const ready = { state: PodSandboxState.SANDBOX_READY }
    t.same(await list({ labelSelector: { label }, state: ready }), [a.id])
    t.same(await list({ labelSelector: { label }, state: { state: PodSandboxState.SANDBOX_NOTREADY } }), [b.id])
    t.same(await list({ id: b.id, state: ready }), [], 'fields are and-ed')
    const { status } = await runtime.podSandboxStatus({ podSandboxId: a.id.slice(0, 13) })
    t.equal(status?.id, a.id, 'a status takes a unique prefix')
    await Promise.all([a, b].map(({ id }) => runtime.removePodSandbox({ podSandboxId: id })))
  })

  t.test('creation is joinable', async (t) => {
    const config = podConfig(service, { labels: { a: '1' } })
    const [first, second] = await Promise.all([runtime.runPodSandbox({ config }), runtime.runPodSandbox({ config })])
    t.equal(first.podSandboxId, second.podSandboxId, 'two equal requests at once get one pod')
    const third = await runtime.runPodSandbox({ config })
    t.equal(third.podSandboxId, first.podSandboxId, 'and so does a later one')
    const id = first.podSandboxId
    // another request under the same tuple: the message names the pod and the field
    const different = { ...config, labels: { a: '2' } }
    await refused(t, runtime.runPodSandbox({ config: different }), 'ALREADY_EXISTS', id, /labels/)
    const next = { ...config, metadata: { ...config.metadata, attempt: 2 } }
    const { podSandboxId: another } = await runtime.runPodSandbox({ config: next })
    t.not(another, id, 'the next attempt is another pod')

    await runtime.stopPodSandbox({ podSandboxId: id })
    // a stopped pod is never returned as new
    await refused(t, runtime.runPodSandbox({ config }), 'ALREADY_EXISTS', id)
    await runtime.removePodSandbox({ podSandboxId: id })
    const again = await runtime.runPodSandbox({ config })
    t.not(again.podSandboxId, id, 'once it is removed, the name is free')
    await runtime.removePodSandbox({ podSandboxId: again.podSandboxId })
    await runtime.removePodSandbox({ podSandboxId: another })
  })

  t.test('a caller that vanishes and repeats gets what it had begun', async (t) => {
    const config = podConfig(service)
    const abort = new AbortController()
    const call = runtime.runPodSandbox({ config }, { signal: abort.signal })
    setTimeout(() => abort.abort(new Error('gone')), 5)
    await call.catch(() => undefined) // it may have been quicker
    const { podSandboxId } = await runtime.runPodSandbox({ config })
    const mine = (await runtime.listPodSandbox({})).items.filter(
      ({ metadata }) => metadata?.uid === config.metadata?.uid,
    )
    t.same(
      mine.map(({ id }) => id),
      [podSandboxId],
      'there is one',
    )
    await runtime.removePodSandbox({ podSandboxId: podSandboxId })
  })

  t.test('containers and pods', async (t) => {
    const pod = await runPod(service)
    const running = await start(service, pod, { image: probeImage, args: ['sleep', '1000'] })
    const created = await create(service, pod, { image: probeImage })
    const { containersStatuses } = await runtime.podSandboxStatus({ podSandboxId: pod.id })
    t.same(containersStatuses.map(({ id }) => id).sort(), [running, created].sort())
    await runtime.stopPodSandbox({ podSandboxId: pod.id })
    const { status } = await runtime.containerStatus({ containerId: running })
    t.match(status, { exitCode: 137, reason: 'Error' }, 'stopping a pod kills its containers')
    await refused(t, create(service, pod, { image: probeImage }), 'FAILED_PRECONDITION', pod.id)
    await refused(t, runtime.startContainer({ containerId: created }), 'FAILED_PRECONDITION', created)
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    await refused(t, runtime.containerStatus({ containerId: running }), 'NOT_FOUND', running)
  })

  t.test('a pod that was not stopped is removed with all it holds', async (t) => {
    const pod = await runPod(service)
    await start(service, pod, { image: probeImage, args: ['sleep', '1000'] })
    const pid = await monitorPid(service, pod)
    t.ok(existsSync(`/proc/${pid}`))
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.notOk(existsSync(`/proc/${pid}`), 'the monitor is gone')
    t.notOk(existsSync(join(service.state, 'pods', pod.id)))
    t.notOk(pods().includes(pod.id))
    t.notOk(existsSync(join(cgroupRoot(), service.slice, `monitor-${pod.id}`)))
    t.same(await service.leaks('--live'), [])
  })

  t.test('a monitor that answers nothing does not keep its pod', async (t) => {
    const pod = await runPod(service)
    const id = await start(service, pod, { image: probeImage, args: ['sleep', '100000'] })
    const process = await pidOf(service, id)
    const monitor = await monitorPid(service, pod)
    kill(monitor, 'SIGSTOP')
    await runtime.stopPodSandbox({ podSandboxId: pod.id })
    t.notOk(existsSync(`/proc/${process}/root`), 'the container has ended')
    t.match((await runtime.containerStatus({ containerId: id })).status, { exitCode: 255, reason: 'Unknown' })
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.notOk(existsSync(`/proc/${monitor}`))
    t.notOk(pods().includes(pod.id))
  })

  t.test('namespaces: the pod’s own, or the host’s', async (t) => {
    const host = Object.fromEntries(
      await Promise.all(['net', 'ipc', 'uts', 'pid'].map(async (type) => [type, await namespaceOf('self', type)])),
    ) as Record<string, string>
    const own = await runPod(service)
    const inside = await report(service, own)
    for (const type of ['net', 'ipc', 'uts', 'pid']) t.not(inside.namespaces[type], host[type], type)
    t.equal(inside.hostname, own.config.hostname)
    const running = await start(service, own, { image: probeImage, args: ['sleep', '1000'] })
    const pid = await pidOf(service, running)
    const other = await report(service, own)
    for (const type of ['net', 'ipc', 'uts']) t.equal(other.namespaces[type], await namespaceOf(pid, type), type)
    t.not(other.namespaces['pid'], await namespaceOf(pid, 'pid'), 'pid is each container’s own')

    const { NODE } = NamespaceMode
    const node = await runPod(service, {
      hostname: '',
      linux: { securityContext: { namespaceOptions: { network: NODE, ipc: NODE, pid: NODE } } },
    })
    const { status } = await runtime.podSandboxStatus({ podSandboxId: node.id })
    t.match(status?.linux?.namespaces?.options, { network: NODE, ipc: NODE, pid: NODE })
    const shared = await report(service, node, { security: { namespaceOptions: { pid: NODE } } })
    for (const type of ['net', 'ipc', 'uts', 'pid']) t.equal(shared.namespaces[type], host[type], type)
    await Promise.all([own, node].map(({ id }) => runtime.removePodSandbox({ podSandboxId: id })))
  })

  t.test('sysctls of the pod’s namespaces', async (t) => {
    const pod = await runPod(service, { linux: { sysctls: { 'kernel.shm_rmid_forced': '1' } } })
    const id = await start(service, pod, { image: probeImage, args: ['sleep', '1000'] })
    t.ok(id)
    await t.rejects(
      runPod(service, { linux: { sysctls: { 'kernel.panic': '1' } } }),
      /kernel\.panic/,
      'one of the host is refused by name',
    )
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('bad requests leave nothing', async (t) => {
    const before = pods()
    await refused(t, runtime.runPodSandbox({}), 'INVALID_ARGUMENT', /metadata/)
    const kata = runtime.runPodSandbox({ config: podConfig(service), runtimeHandler: 'kata' })
    await refused(t, kata, 'INVALID_ARGUMENT', /kata/)
    const mapping = { hostId: 100000, containerId: 0, length: 65536 }
    const userns = (uids: cri.v1.IDMapping.$Properties[], mode = NamespaceMode.POD): Promise<unknown> =>
      runPod(service, {
        linux: { securityContext: { namespaceOptions: { usernsOptions: { mode, uids, gids: uids } } } },
      })
    await refused(t, userns([mapping, { ...mapping, containerId: 65536 }]), 'INVALID_ARGUMENT', /mapping/)
    await refused(t, userns([{ ...mapping, containerId: 1 }]), 'INVALID_ARGUMENT', /mapping/)
    await refused(t, userns([mapping], NamespaceMode.CONTAINER), 'INVALID_ARGUMENT', /userns_options/)
    await refused(t, userns([mapping], NamespaceMode.TARGET), 'INVALID_ARGUMENT', /userns_options/)
    t.same(pods(), before)
    t.same(await service.leaks('--live'), [])
  })

  t.test('a user namespace', async (t) => {
    const mapping = { hostId: 100000, containerId: 0, length: 65536 }
    const namespaceOptions = {
      pid: NamespaceMode.CONTAINER,
      usernsOptions: { mode: NamespaceMode.POD, uids: [mapping], gids: [mapping] },
    }
    const pod = await runPod(service, { linux: { securityContext: { namespaceOptions } } })
    const inside = await report(service, pod, { security: { namespaceOptions } })
    t.not(inside.namespaces['user'], await namespaceOf('self', 'user'))
    t.equal(inside.uid, 0, 'root inside')
    await runtime.removePodSandbox({ podSandboxId: pod.id })
  })
})
