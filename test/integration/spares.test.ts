/** Sandboxes that stand ready: taken, made again, adopted by the next service, ended with an orderly one. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { exec, monitorPid, NamespaceMode, namespaceOf, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService, until } from '../helpers/service.ts'

t.test('spares', { skip: needsRoot }, async (t) => {
  const network = 'driver = "none"\nspare_sandboxes = 3'
  const service = await startService(t, { images: [busyboxImage], network })
  const states = (): string[] => readdirSync(join(service.state, 'pods')).sort()
  const taken = new Set<string>()
  const spares = (): string[] => states().filter((id) => !taken.has(id))
  const refilled = (): Promise<void> => until(() => spares().length === 3)
  await refilled()

  const before = spares()
  const pod = await runPod(service)
  taken.add(pod.id)
  t.ok(before.includes(pod.id), 'the pod is one of them')
  const monitor = await monitorPid(service, pod)
  await refilled()
  const container = await startShell(service, pod, 'exec sleep 100000')
  t.match((await exec(service, container, ['ip', 'link', 'show', 'lo'])).stdout, /LOOPBACK,UP/)
  t.not(await namespaceOf(monitor, 'net'), '', 'the monitor has stayed where it was')
  t.equal(await namespaceOf(monitor, 'net'), await namespaceOf('self', 'net'))
  t.match((await exec(service, container, ['hostname'])).stdout, /^pod-\d+\n$/)

  t.test('pods with sysctls of the network get them in it', async (t) => {
    const tuned = await runPod(service, { linux: { sysctls: { 'net.ipv4.ip_local_port_range': '2000 3000' } } })
    taken.add(tuned.id)
    const shell = await startShell(service, tuned, 'exec sleep 100000')
    const { stdout } = await exec(service, shell, ['cat', '/proc/sys/net/ipv4/ip_local_port_range'])
    t.match(stdout, /^2000\s+3000/)
    await refilled()
  })

  t.test('pods that cannot use one leave them', async (t) => {
    const ready = spares()
    const host = await runPod(service, {
      hostname: '',
      linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
    })
    const map = [{ containerId: 0, hostId: 100_000, length: 65_536 }]
    const usernsOptions = { mode: NamespaceMode.POD, uids: map, gids: map }
    const user = await runPod(service, {
      linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER, usernsOptions } } },
    })
    for (const { id } of [host, user]) {
      taken.add(id)
      t.notOk(ready.includes(id))
    }
    t.same(spares(), ready)
  })

  t.test('the next service adopts them after a kill, and ends what is too many', async (t) => {
    const ready = spares()
    await service.restart()
    t.same(spares(), ready)
    const next = await runPod(service)
    taken.add(next.id)
    t.ok(ready.includes(next.id), 'an adopted one is as good')
    await refilled()
    t.equal((await service.runtime.listPodSandbox({})).items.length, taken.size)
  })

  t.test('one that dies is replaced', async () => {
    const [victim = ''] = spares()
    process.kill(monitorOf(victim), 'SIGKILL')
    await until(() => !spares().includes(victim))
    await refilled()
  })

  t.test('forty pods at once', async (t) => {
    const pods = await Promise.all(Array.from({ length: 40 }, () => runPod(service)))
    for (const { id } of pods) taken.add(id)
    t.equal(new Set(pods.map(({ id }) => id)).size, 40)
    await Promise.all(pods.map(({ id }) => service.runtime.removePodSandbox({ podSandboxId: id })))
    await refilled()
  })

  t.test('an orderly end leaves none', async (t) => {
    await service.stop()
    t.same(spares(), [])
    await service.start()
    await refilled()
  })
})

t.test('an orderly end with one that is stuck', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [], network: 'driver = "none"\nspare_sandboxes = 1' })
  const states = (): string[] => readdirSync(join(service.state, 'pods'))
  await until(() => states().length === 1)
  const [stuck = ''] = states()
  await until(() => existsSync(join(service.state, 'pods', stuck, 'control')))
  process.kill(monitorOf(stuck), 'SIGSTOP')
  await service.stop()
  t.same(await service.leaks(), [])
  await service.start()
})

function monitorOf(pod: string): number {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const pid = processes.find((name) => {
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(`--pod\0${pod}`)
    } catch {
      return false // it has ended meanwhile
    }
  })
  if (pid === undefined) throw new Error(`no monitor of ${pod}`)
  return Number(pid)
}
