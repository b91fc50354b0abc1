import { isIP } from 'node:net'

import { runtime } from '../../gen/cri.js'
import { CaissonError, type PodConfig, type PortMapping, type UserNamespace } from '../../index.ts'
import { known } from './enums.ts'
import { idMapping } from './mounts.ts'
import { podNetworkWishes } from './pod-network.ts'
import { selinuxOf } from './security.ts'

const { NamespaceMode } = runtime.v1

/** PodSandboxConfig and the handler of its request, in the domain's terms. Callers leave most sub-messages out. */
export function podConfigOf(
  config: runtime.v1.PodSandboxConfig.$Properties | null | undefined,
  handler: string,
): PodConfig {
  if (config?.metadata == null) throw new CaissonError('ERR_INVALID_ARGUMENT', 'config.metadata is missing')
  const { metadata } = config
  const security = config.linux?.securityContext
  const options = security?.namespaceOptions
  if (security?.apparmor?.profileType === runtime.v1.SecurityProfile.ProfileType.Localhost) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      `apparmor profile "${security.apparmor.localhostRef ?? ''}" cannot be applied to a sandbox: no process runs in it`,
    )
  }
  const dns = config.dnsConfig
  const network = podOrNode(options?.network, 'network')
  const wishes = podNetworkWishes(config.annotations ?? {})
  return {
    metadata: {
      name: metadata.name ?? '',
      namespace: metadata.namespace ?? '',
      uid: metadata.uid ?? '',
      attempt: metadata.attempt ?? 0,
    },
    hostname: config.hostname ?? '',
    logDirectory: config.logDirectory ?? '',
    dns: dns == null ? null : { servers: dns.servers ?? [], searches: dns.searches ?? [], options: dns.options ?? [] },
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
    cgroupParent: (config.linux?.cgroupParent ?? '').replace(/(?<=.)\/+$/, ''),
    sysctls: config.linux?.sysctls ?? {},
    network: network === 'node' ? 'node' : wishes.networkOf !== '' ? 'joined' : wishes.none ? 'none' : 'pod',
    networkOf: network === 'node' ? '' : wishes.networkOf,
    networks: wishes.networks,
    aliases: wishes.aliases,
    mac: wishes.mac,
    addresses: wishes.addresses,
    ports: options?.network === NamespaceMode.NODE ? [] : hostPorts(config.portMappings ?? []),
    pid: pidMode(options?.pid),
    ipc: podOrNode(options?.ipc, 'ipc'),
    user: userNamespace(options?.usernsOptions),
    privileged: security?.privileged ?? false,
    selinux: selinuxOf(security?.selinuxOptions),
    runtimeHandler: handler,
  }
}

const protocols: Record<number, PortMapping['protocol'] | undefined> = {
  [runtime.v1.Protocol.TCP]: 'tcp',
  [runtime.v1.Protocol.UDP]: 'udp',
  [runtime.v1.Protocol.SCTP]: 'sctp',
}

/** A mapping without a host port says that a container listens, nothing else. */
function hostPorts(mappings: runtime.v1.PortMapping.$Properties[]): PortMapping[] {
  return mappings
    .filter(({ hostPort }) => (hostPort ?? 0) !== 0)
    .map((mapping) => {
      const { protocol } = mapping
      const [containerPort, hostPort] = [mapping.containerPort ?? 0, mapping.hostPort ?? 0]
      const hostIp = mapping.hostIp ?? ''
      const known = protocols[protocol ?? runtime.v1.Protocol.TCP]
      if (known === undefined) {
        throw new CaissonError('ERR_INVALID_ARGUMENT', `port_mappings.protocol ${protocol} is not TCP, UDP or SCTP`)
      }
      for (const [field, port] of Object.entries({ container_port: containerPort, host_port: hostPort })) {
        if (port < 1 || port > 65535) {
          throw new CaissonError('ERR_INVALID_ARGUMENT', `port_mappings.${field} ${port} is not from 1 to 65535`)
        }
      }
      if (hostIp !== '' && isIP(hostIp) === 0) {
        throw new CaissonError('ERR_INVALID_ARGUMENT', `port_mappings.host_ip "${hostIp}" is not an address`)
      }
      return { protocol: known, containerPort, hostPort, hostIp }
    })
}

function podOrNode(mode: runtime.v1.NamespaceMode | null | undefined, what: string): 'pod' | 'node' {
  if (mode == null || mode === NamespaceMode.POD) return 'pod'
  if (mode === NamespaceMode.NODE) return 'node'
  throw new CaissonError('ERR_INVALID_ARGUMENT', `namespace_options.${what} must be POD or NODE`)
}

function pidMode(given: runtime.v1.NamespaceMode | null | undefined): 'pod' | 'container' | 'node' {
  const mode = known(NamespaceMode, given, 'namespace_options.pid')
  if (mode === NamespaceMode.TARGET) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'namespace_options.pid of a sandbox cannot be TARGET')
  }
  return mode === NamespaceMode.CONTAINER ? 'container' : mode === NamespaceMode.NODE ? 'node' : 'pod'
}

/** Null for the host's user namespace. */
export function userNamespace(options: runtime.v1.UserNamespace.$Properties | null | undefined): UserNamespace | null {
  if (options == null || options.mode === NamespaceMode.NODE) {
    if ((options?.uids?.length ?? 0) + (options?.gids?.length ?? 0) > 0) {
      throw new CaissonError('ERR_INVALID_ARGUMENT', 'userns_options: mode NODE takes no mappings')
    }
    return null
  }
  if ((options.mode ?? NamespaceMode.POD) !== NamespaceMode.POD) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'userns_options.mode must be POD or NODE')
  }
  return { uids: (options.uids ?? []).map(idMapping), gids: (options.gids ?? []).map(idMapping) }
}
