/** Pods come and go by many clients while the service is killed: nothing of their networks is left. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runtime } from '#src/gen/cri.ts'
import { isCaissonError } from '#src/errors.ts'
import t, { type Test } from 'tap'
import { NetHost } from '../helpers/net-host.ts'
import { podConfig } from '../helpers/pods.ts'
import { needsRoot, startService, until } from '../helpers/service.ts'
import { missingTools } from '../helpers/tools.ts'

const clients = 16
const kills = 5
const wanted = process.env['CAISSON_CHAOS_PODS']

t.test('the built-in network under a service that is killed', { skip: needsRoot }, (t) =>
  underKills(t, 'driver = "bridge"', Number(wanted ?? 160)),
)

t.test('plugins of CNI under a service that is killed', { skip: needsRoot || missingTools('iptables') }, async (t) => {
  const directory = mkdtempSync('/tmp/caisson-cni-chaos-')
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true })
  })
  const ipam = { type: 'host-local', dataDir: join(directory, 'leases'), ranges: [[{ subnet: '10.78.0.0/16' }]] }
  const plugins = [
    { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: true, hairpinMode: true, ipam },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'firewall' },
  ]
  writeFileSync(join(directory, '10-chaos.conflist'), JSON.stringify({ cniVersion: '1.0.0', name: 'chaos', plugins }))
  const network = `driver = "cni"\ncni_config_dir = "${directory}"\ncni_plugin_dirs = ["/usr/lib/cni"]\nnetns_dir = ""`
  await underKills(t, network, Number(wanted ?? 48))
  const leases = readdirSync(join(directory, 'leases/chaos')).filter((name) => /^\d/.test(name))
  t.strictSame(leases, [], 'no address is taken')
})

async function underKills(t: Test, network: string, pods: number): Promise<void> {
  const host = await NetHost.open(t)
  const service = await startService(t, { images: [], host, network })
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
  const rules = (await host.run('nft', 'list', 'ruleset')).split('\n').filter(Boolean)
  const kept = 'cni0' // by the plugin that has made it
  const isOurs = network.includes('driver = "bridge"') // plugins keep their chains, which name no address
  const left = {
    namespaces: namespacesOf(service.slice),
    interfaces: (await host.interfaces()).filter((name) => !before.includes(name) && name !== kept),
    addresses: (await host.run('ip', '-o', 'addr'))
      .split('\n')
      .filter((line) => / inet6? (?!127\.|::1)/.test(line) && line.split(/\s+/)[1] !== kept),
    rules: rules.filter((rule) => isOurs || /\b10\.78\.\d+\.\d+/.test(rule)),
    records: files('root', 'instances', 'default', 'network', 'attachments'),
  }
  const counts = Object.entries(left).map(([what, found]) => `${found.length} ${what}`)
  t.comment(`left of ${pods} pods: ${counts.join(', ')}`)
  t.strictSame(left, { namespaces: [], interfaces: [], addresses: [], rules: [], records: [] })
  await service.start()
}

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
