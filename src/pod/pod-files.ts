import { chmod, chown, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../errors.ts'
import { readHostFile } from '../files.ts'
import { hostResolvConf, reachableResolvConf } from '../network/resolv-conf.ts'
import type { Attached } from '../network/types.ts'
import type { DnsConfig, PodConfig } from './config.ts'

/** Writes the files that every container of a pod finds in /etc: hostname, hosts, resolv.conf. */
export async function writePodFiles(
  directory: string,
  config: PodConfig,
  hostname: string,
  network: Pick<Attached, 'ips' | 'dns'> | null,
): Promise<void> {
  const dns = config.dns ?? network?.dns ?? null
  const [hosts, resolv] = await Promise.all([
    config.network === 'node' ? readHostFile('/etc/hosts') : Promise.resolve(podHosts(hostname, network?.ips ?? [])),
    dns === null ? hostResolv(config.network) : Promise.resolve(resolvConf(dns)),
  ])
  // the directory of the pod's state is 0700; this one is read by containers through their mounts only
  await mkdir(directory, { mode: 0o700 })
  // a mapping begins at root's id: in a user namespace, too, the files are its root's, not nobody's
  const owner = { uid: config.user?.uids[0]?.hostId ?? 0, gid: config.user?.gids[0]?.hostId ?? 0 }
  await Promise.all([
    publish(join(directory, 'hostname'), `${hostname}\n`, owner),
    publish(join(directory, 'hosts'), hosts, owner),
    publish(join(directory, 'resolv.conf'), resolv, owner),
  ])
}

async function publish(path: string, content: string, owner: { uid: number; gid: number }): Promise<void> {
  await writeFile(path, content, { flag: 'wx' })
  await chown(path, owner.uid, owner.gid)
  await chmod(path, 0o644) // whatever the umask is: users inside a container read it
}

/** resolv.conf(5), in the order that containerd writes and its users compare with: search, nameserver, options. */
export function resolvConf(dns: DnsConfig): string {
  for (const word of [...dns.searches, ...dns.servers, ...dns.options]) {
    if (!/^[\x21-\x7e]+$/.test(word)) {
      throw new CaissonError(
        'ERR_INVALID_ARGUMENT',
        `dns_config: ${JSON.stringify(word)} is not one word of printable ASCII`,
      )
    }
  }
  const lines: string[] = []
  if (dns.searches.length > 0) lines.push(`search ${dns.searches.join(' ')}`)
  for (const server of dns.servers) lines.push(`nameserver ${server}`)
  if (dns.options.length > 0) lines.push(`options ${dns.options.join(' ')}`)
  return lines.map((line) => `${line}\n`).join('')
}

/** hosts(5) of a pod: its name is that of its own addresses, and of loopback where it has none. */
export function podHosts(hostname: string, ips: readonly string[]): string {
  const names = ['127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback']
  if (hostname !== 'localhost') {
    for (const ip of ips.length > 0 ? ips : ['127.0.1.1']) names.push(`${ip}\t${hostname}`)
  }
  return names.map((line) => `${line}\n`).join('')
}

/** What the host has; for a pod with a network of its own what can be reached from there. */
async function hostResolv(network: PodConfig['network']): Promise<string> {
  if (network === 'node') return await readHostFile('/etc/resolv.conf')
  return (await reachableResolvConf()) ?? (await hostResolvConf())
}
