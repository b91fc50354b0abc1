/** Pods come and go by many clients while the service is killed: nothing of the built-in network is left. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runtime } from '#src/gen/cri.ts'
import { isCaissonError } from '#src/errors.ts'
import t from 'tap'
import { NetHost } from '../helpers/net-host.ts'
import { podConfig } from '../helpers/pods.ts'
import { needsRoot, startService, until } from '../helpers/service.ts'

const clients = 16
const kills = 5
const pods = Number(process.env['CAISSON_CHAOS_PODS'] ?? 160)

t.test('networks under a service that is killed', { skip: needsRoot }, async (t) => {
  const host = await NetHost.open(t)
  const service = await startService(t, { images: [], host, network: 'driver = "bridge"' })
  const before = await host.interfaces()
  let made = 0
  let next = 0
  let over = false
  /** Until it succeeds: a service that dies answers nothing. */
  const insist = async <T>(call: () => Promise<T>): Promise<T> => {
    for (;;) {
      try {
        return await call()
      } catch (error) {
        const passing = isCaissonError(error) && (error.kind === 'unavailable' || error.kind === 'cancelled')
        if (over || (!passing && !(error instanceof Error && /not running|closed/i.test(error.message)))) throw error
        await sleep(50)
      }
    }
  }
  const client = async (number: number): Promise<void> => {
    while (next < pods) {
      const n = next++
      const portMappings =
        n % 4 === 0 ? [{ protocol: runtime.v1.Protocol.TCP, hostPort: 20_000 + number, containerPort: 80 }] : []
      const config = podConfig(service, { portMappings })
      const { podSandboxId } = await insist(() => service.runtime.runPodSandbox({ config }))
      made++
      await insist(() => service.runtime.removePodSandbox({ podSandboxId }))
    }
  }
  const all = Promise.all(Array.from({ length: clients }, (_, number) => client(number)))
  all.catch(() => undefined) // awaited below, unless a start fails before
  try {
    for (let kill = 1; kill <= kills; kill++) {
      const threshold = (pods * kill) / (kills + 1)
      await Promise.race([until(() => made >= threshold, 240_000), all])
      await service.restart()
    }
    await all
  } finally {
    over = true // no client insists any more
  }
  t.equal(made, pods)
  await service.stop()
  const files = (...path: string[]): string[] => {
    const directory = join(service.directory, ...path)
    return existsSync(directory) ? readdirSync(directory) : []
  }
  const left = {
    namespaces: namespacesOf(service.slice),
    interfaces: (await host.interfaces()).filter((name) => !before.includes(name)),
    addresses: ((await host.run('ip', '-o', 'addr')).match(/ inet6? (?!127\.|::1)\S+/g) ?? []).map(String),
    rules: (await host.run('nft', 'list', 'ruleset')).split('\n').filter(Boolean),
    records: files('root', 'instances', 'default', 'network', 'attachments'),
  }
  const counts = Object.entries(left).map(([what, found]) => `${found.length} ${what}`)
  t.comment(`left of ${pods} pods: ${counts.join(', ')}`)
  t.strictSame(left, { namespaces: [], interfaces: [], addresses: [], rules: [], records: [] })
  await service.start()
})

/** Network namespaces of processes below a cgroup: what holds one of ours is there. */
function namespacesOf(slice: string): string[] {
  const found = new Set<string>()
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`${slice}/`)) continue
      found.add(readlinkSync(`/proc/${pid}/ns/net`))
    } catch {
      // it has ended meanwhile
    }
  }
  return [...found]
}
