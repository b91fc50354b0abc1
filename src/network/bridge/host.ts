import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { ifPresent } from '../../files.ts'
import type { Native } from '../../native/types.ts'
import { readRecord, writeRecord } from '../../records.ts'
import { prefixOf } from './address.ts'
import type { Names } from './names.ts'
import type { NetworkSurvey } from './native-types.ts'

const mtuDefault = 1500
const sysctls = '/proc/sys/net'

/**
 * The host’s side of forwarding. A packet is forwarded if forwarding is on where it comes in: at our bridges, and, for what comes
 * back and for host ports, at the host’s other interfaces. Where it is off there it is switched on for that interface alone, and
 * the table’s set `uplinks` lets through from it only what is ours, so that the host is no router for anybody else. What was
 * switched on is remembered on disk, and switched off with the last pod.
 */
export class Host {
  readonly #native: Native
  readonly #names: Names
  readonly #record: string
  readonly #forwardAll6: boolean
  #uplinks: string[] = []
  #forwards6 = false
  #filtersBridges = false

  /** @param options.ipv6Forwarding switch on net.ipv6.conf.all.forwarding where the kernel has nothing less (before 6.17) */
  constructor(native: Native, names: Names, directory: string, options: { ipv6Forwarding: boolean }) {
    this.#native = native
    this.#names = names
    this.#record = join(directory, 'uplinks.json')
    this.#forwardAll6 = options.ipv6Forwarding
  }

  /** Interfaces whose forwarding is on because of us. */
  get uplinks(): readonly string[] {
    return this.#uplinks
  }

  /** Whether IPv6 leaves the host: without it pods have no default route of IPv6. */
  get forwards6(): boolean {
    return this.#forwards6
  }

  /** Whether bridged packets go by the rules of IP, as br_netfilter makes them. */
  get filtersBridges(): boolean {
    return this.#filtersBridges
  }

  async open(): Promise<void> {
    const record = await readRecord(this.#record)
    this.#uplinks = (record?.['uplinks'] as string[] | undefined) ?? []
  }

  async survey(whole: boolean): Promise<NetworkSurvey> {
    return JSON.parse(await this.#native.networkSurvey(whole)) as NetworkSurvey
  }

  /** Sets what is needed of one of our bridges. */
  async prepareBridge(bridge: string): Promise<void> {
    const conf4 = `ipv4/conf/${bridge}`
    await write(`${conf4}/forwarding`, '1')
    await write(`${conf4}/rp_filter`, '1') // nobody on it has another’s address
    await write(`${conf4}/route_localnet`, '1') // ports at 127.0.0.1; the table’s chain `guard` closes the other way
    await write(`${conf4}/send_redirects`, '0')
    const conf6 = `ipv6/conf/${bridge}`
    if ((await read(`${conf6}/accept_ra`)) === null) return // no IPv6 on this host
    await write(`${conf6}/accept_ra`, '0')
    await write(`${conf6}/accept_redirects`, '0')
    if ((await read(`${conf6}/force_forwarding`)) !== null) await write(`${conf6}/force_forwarding`, '1')
  }

  /** Looks at the host as it is now, and opens its interfaces. @returns whether others are open than before */
  async openUplinks(survey: NetworkSurvey): Promise<boolean> {
    const addressed = new Set(survey.addresses.filter(({ address }) => isGlobal(address)).map(({ index }) => index))
    const links = survey.links.filter(
      ({ index, name, alias, up }) => up && name !== 'lo' && addressed.has(index) && !this.#names.isOwn(alias),
    )
    this.#filtersBridges = (await read('bridge/bridge-nf-call-iptables')) === '1'
    const all6 = (await read('ipv6/conf/all/forwarding')) === '1'
    const closed: string[] = []
    const switches: string[] = []
    for (const { name } of links) {
      const files = [`ipv4/conf/${name}/forwarding`]
      if (!all6) files.push(`ipv6/conf/${name}/force_forwarding`)
      for (const file of files) {
        if ((await read(file)) !== '0') continue
        closed.push(file)
        if (!switches.includes(name)) switches.push(name)
      }
    }
    const fresh = switches.filter((name) => !this.#uplinks.includes(name))
    if (fresh.length > 0) await this.#remember([...this.#uplinks, ...fresh])
    for (const file of closed) await write(file, '1')
    this.#forwards6 = all6 || (await this.#forward6(links.map(({ name }) => name)))
    return fresh.length > 0
  }

  async #forward6(links: readonly string[]): Promise<boolean> {
    if ((await read('ipv6/conf/all/force_forwarding')) !== null) return true
    if (!this.#forwardAll6) return false
    // with forwarding on, routers are listened to only by those that say so
    for (const name of links) {
      if ((await read(`ipv6/conf/${name}/accept_ra`)) === '1') await write(`ipv6/conf/${name}/accept_ra`, '2')
    }
    await write('ipv6/conf/all/forwarding', '1')
    return true
  }

  /** Closes what was opened; an interface that is gone is fine. */
  async closeUplinks(): Promise<void> {
    for (const name of this.#uplinks) {
      for (const file of [`ipv4/conf/${name}/forwarding`, `ipv6/conf/${name}/force_forwarding`]) {
        if ((await read(file)) === '1') await write(file, '0')
      }
    }
    if (this.#uplinks.length > 0) await this.#remember([])
  }

  async #remember(uplinks: string[]): Promise<void> {
    await writeRecord(this.#record, { uplinks })
    this.#uplinks = uplinks
  }
}

/** MTU of the interface with the default route. */
export function mtuOf({ links, routes }: NetworkSurvey): number {
  const route = routes.find(({ destination, gateway }) => gateway && prefixOf(destination).length === 0)
  return links.find(({ index }) => index === route?.index)?.mtu ?? mtuDefault
}

function isGlobal(address: string): boolean {
  return !/^(127\.|169\.254\.|fe[89ab].:|::1\/)/.test(address)
}

/** @returns null when there is no such setting */
async function read(name: string): Promise<string | null> {
  return (await ifPresent(readFile(join(sysctls, name), 'utf8')))?.trim() ?? null
}

async function write(name: string, value: string): Promise<void> {
  await writeFile(join(sysctls, name), value)
}
