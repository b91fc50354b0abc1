/** The network that services of tests get which do not say one: CAISSON_TEST_NETWORK runs whole suites again under each driver. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const chosen = process.env['CAISSON_TEST_NETWORK'] ?? 'none'
if (!['none', 'bridge', 'cni'].includes(chosen)) throw new Error(`CAISSON_TEST_NETWORK=${chosen}: none, bridge or cni`)

/** Whether a service needs a network namespace of its own, in which it may make bridges and rules. */
export const makesNetworks = chosen !== 'none'

/**
 * Lines of [network]; for `cni` with Debian's plugins, whose files are below the directory.
 *
 * @param directory of the service
 */
export function networkLines(directory: string): string {
  if (chosen === 'none') return 'driver = "none"\nspare_sandboxes = 0' // loopback only, for the host's network is not the tests'
  if (chosen === 'bridge') return 'driver = "bridge"'
  const configs = join(directory, 'cni')
  mkdirSync(configs, { recursive: true })
  const ranges = [[{ subnet: '10.77.0.0/16' }], [{ subnet: 'fd77::/64' }]]
  const ipam = { type: 'host-local', dataDir: join(directory, 'leases'), ranges, routes: [{ dst: '0.0.0.0/0' }] }
  const plugins = [
    { type: 'bridge', bridge: 'cni0', isGateway: true, hairpinMode: true, ipam },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'firewall' },
  ]
  const list = { cniVersion: '1.0.0', name: 'test', plugins }
  writeFileSync(join(configs, '10-test.conflist'), JSON.stringify(list))
  return `driver = "cni"\ncni_config_dir = "${configs}"\ncni_plugin_dirs = ["/usr/lib/cni"]\nnetns_dir = ""`
}
