import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { NetHost } from '../build/test/helpers/net-host.js'
import { TestService } from '../build/test/helpers/service.js'
import { figure, msSince, nanoseconds } from './statistics.mjs'

const plugins = '/usr/lib/cni'
const podMode = 0
const nodeMode = 2

/**
 * RunPodSandbox with a network: the built-in one, the same by CNI's chain bridge+host-local+portmap+firewall, and pods with the
 * host's network, which are the limit. Services each in a network namespace of their own; pods are removed between rounds, when no
 * clock runs, and the kernel is left to end their namespaces.
 */
export async function measureNetwork({ directory, rounds, progress, notes }) {
  const ends = []
  const scope = { teardown: (end) => ends.unshift(end) }
  try {
    const bridge = await openService(scope, 'driver = "bridge"')
    const cni = existsSync(join(plugins, 'bridge')) ? await openService(scope, await chain(directory)) : null
    if (cni === null) notes.push(`no plugins of CNI in ${plugins}`)
    const ports = [{ protocol: 0, hostPort: 8080, containerPort: 80 }]
    const candidates = {
      ours: (n) => runPod(bridge, podMode, n),
      host: (n) => runPod(bridge, nodeMode, n),
      mapped: (n) => runPod(bridge, podMode, n, ports),
      ...(cni && { cni: (n) => runPod(cni, podMode, n), cniMapped: (n) => runPod(cni, podMode, n, ports) }),
    }
    const times = Object.fromEntries(Object.keys(candidates).map((name) => [name, []]))
    for (let round = 0; round <= rounds; round++) {
      progress(`network: round ${round} of ${rounds}`)
      for (const [name, run] of Object.entries(candidates)) {
        const pod = await run(round)
        if (round > 0) times[name].push(pod.ms)
        await pod.remove()
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
    const common = { unit: 'ms' }
    return [
      figure({
        ...common,
        name: 'pod network',
        what: 'RunPodSandbox with the built-in network; limit: with the host’s network',
        ours: times.ours,
        peers: { cni: times.cni ?? null },
        limit: times.host,
      }),
      figure({
        ...common,
        name: 'pod network, host port',
        what: 'the same with a host port',
        ours: times.mapped,
        peers: { cni: times.cniMapped ?? null },
        limit: times.host,
      }),
    ]
  } finally {
    for (const end of ends) await end()
  }
}

async function openService(scope, network) {
  const host = await NetHost.open(scope)
  const service = new TestService(await mkdtemp('/tmp/csn-'), { host, network })
  scope.teardown(() => service.destroy())
  await service.configure()
  await service.start()
  return service
}

async function chain(directory) {
  const configs = join(directory, 'cni')
  await mkdir(configs, { recursive: true })
  const ranges = [[{ subnet: '10.77.0.0/16' }], [{ subnet: 'fd77::/64' }]]
  const ipam = { type: 'host-local', dataDir: join(directory, 'leases'), ranges, routes: [{ dst: '0.0.0.0/0' }] }
  const list = [
    { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: true, ipam },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'firewall' },
  ]
  await writeFile(
    join(configs, '10-bench.conflist'),
    JSON.stringify({ cniVersion: '1.0.0', name: 'bench', plugins: list }),
  )
  return `driver = "cni"\ncni_config_dir = "${configs}"\ncni_plugin_dirs = ["${plugins}"]\nnetns_dir = ""`
}

async function runPod(service, network, n, portMappings = []) {
  const uid = `${network}-${portMappings.length}-${n}`
  const config = {
    metadata: { name: 'bench', namespace: 'bench', uid, attempt: n },
    hostname: network === nodeMode ? '' : 'bench',
    portMappings,
    linux: { securityContext: { namespaceOptions: { network, pid: 1 } } },
  }
  const start = nanoseconds()
  const { podSandboxId } = await service.runtime.runPodSandbox({ config })
  return { ms: msSince(start), remove: () => service.runtime.removePodSandbox({ podSandboxId }) }
}
