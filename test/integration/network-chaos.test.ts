/** Pods come and go by many clients while the service is killed: nothing of the built-in network is left. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runtime } from '#src/gen/cri.ts'
import { isCaissonError } from '#src/errors.ts'
import t from 'tap'
import { NetHost } from '../helpers/net-host.ts'
import { podConfig } from '../helpers/pods.ts'
import { needsRoot, startService, until } from '../helpers/service.ts'

const pods = Number(process.env['CAISSON_CHAOS_PODS'] ?? 160)
const clients = 16
const kills = 5

t.test('networks under a service that is killed', { skip: needsRoot }, async (t) => {
  const host = await NetHost.open(t)
  const service = await startService(t, { images: [], host, network: 'driver = "bridge"' })
  const before = await host.interfaces()
  let made = 0
  let next = 0
  /** Until it succeeds: a service that dies answers nothing. */
  const insist = async <T>(call: () => Promise<T>): Promise<T> => {
    for (;;) {
      try {
        return await call()
      } catch (error) {
        const passing = isCaissonError(error) && (error.kind === 'unavailable' || error.kind === 'cancelled')
        if (!passing && !(error instanceof Error && /not running|closed/i.test(error.message))) throw error
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
  for (let kill = 1; kill <= kills; kill++) {
    const threshold = (pods * kill) / (kills + 1)
    await Promise.race([until(() => made >= threshold, 240_000), all])
    await service.restart()
  }
  await all
  t.equal(made, pods)
  await service.stop()
  const left = {
    interfaces: (await host.interfaces()).filter((name) => !before.includes(name)),
    rules: (await host.run('nft', 'list', 'ruleset')).trim(),
    records: readdirSync(join(service.root, 'instances', 'default', 'network', 'attachments')),
  }
  t.comment(
    `left of ${pods} pods: ${left.interfaces.length} interfaces, ${left.records.length} records, ${left.rules.length} bytes of rules`,
  )
  t.strictSame(left, { interfaces: [], rules: '', records: [] })
  await service.start()
})
