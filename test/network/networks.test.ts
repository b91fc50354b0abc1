import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import t from 'tap'
import { RecordDirectory } from '#src/record-directory.ts'
import { Networks } from '#src/network/networks.ts'
import type { Attachment, NetworkDriver, NetworkRequest, PodNetwork } from '#src/network/types.ts'
import { networkRequest } from '../helpers/network-request.ts'

const pod: PodNetwork = {
  namespace: () => Promise.reject(new Error('not asked for')),
  socket: () => Promise.reject(new Error('not asked for')),
  path: () => Promise.resolve('/proc/1/fd/3'),
}

/** Gives every pod one address, and does as it is told. */
class FakeDriver implements NetworkDriver {
  readonly kind = 'bridge'
  readonly made = new Set<string>()
  readonly calls: string[] = []
  failAttach = false
  failDetach = 0
  delayMs = 0
  reconciled: string[] | null = null

  async attach(
    { podId }: NetworkRequest,
    _pod: PodNetwork,
    save: (details: Record<string, unknown>) => Promise<void>,
  ): ReturnType<NetworkDriver['attach']> {
    this.calls.push(`attach ${podId}`)
    await save({ veth: `v-${podId}` })
    this.made.add(`v-${podId}`)
    await sleep(this.delayMs)
    if (this.failAttach) throw new Error('no address is left')
    return { ips: ['10.0.0.2'], interfaces: [], dns: null, netns: null }
  }
  async detach({ podId, details }: Attachment, living: PodNetwork | null): Promise<void> {
    this.calls.push(`detach ${podId}${living === null ? ' dead' : ''}`)
    if (this.failDetach > 0) {
      this.failDetach--
      throw new Error('the plugin is not there')
    }
    if (typeof details['veth'] === 'string') this.made.delete(details['veth'])
  }
  async reconcile(living: { attachment: Attachment }[]): Promise<void> {
    this.reconciled = living.map(({ attachment }) => attachment.podId)
  }
  status(): { ready: boolean; reason: string; message: string } {
    return { ready: true, reason: '', message: '' }
  }
  async close(): Promise<void> {
    this.calls.push('close')
  }
}

const warnings: string[] = []
const logger = { info: () => undefined, warn: (_fields: object, message: string) => void warnings.push(message) }

function attachmentsIn(directory: string): Promise<RecordDirectory<Attachment>> {
  return RecordDirectory.open<Attachment>(
    directory,
    ({ podId }) => podId,
    () => undefined,
  )
}

async function networks(directory: string, driver: FakeDriver): Promise<Networks> {
  const attachments = await attachmentsIn(directory)
  return new Networks({ attachments, drivers: [driver], choose: () => 'bridge', logger })
}

t.test('a pod is attached, known to the next service, and detached once', async (t) => {
  const directory = t.testdir()
  const driver = new FakeDriver()
  const first = await networks(directory, driver)
  t.match(await first.attach(networkRequest('a'), pod), { podId: 'a', state: 'attached', ips: ['10.0.0.2'] })
  await first.close()
  const second = await networks(directory, driver)
  t.match(second.get('a'), { ips: ['10.0.0.2'], details: { veth: 'v-a' }, state: 'attached' })
  await second.reconcile(new Map([['a', pod]]))
  t.strictSame(driver.reconciled, ['a'])
  await Promise.all([second.detach('a', pod), second.detach('a', pod)])
  await second.detach('a', pod)
  t.equal(driver.calls.filter((call) => call === 'detach a').length, 1)
  t.strictSame(readdirSync(directory), [])
  t.equal(second.get('a'), undefined)
  await second.close()
})

t.test('a failure undoes what was made, and tells its cause', async (t) => {
  const directory = t.testdir()
  const driver = new FakeDriver()
  driver.failAttach = true
  const all = await networks(directory, driver)
  await t.rejects(all.attach(networkRequest('a'), pod), { message: 'no address is left' })
  t.equal(driver.made.size, 0)
  t.strictSame(readdirSync(directory), [])
  await all.close()
})

t.test('what cannot be undone at once is undone later', async (t) => {
  const directory = t.testdir()
  const driver = new FakeDriver()
  driver.failAttach = true
  driver.failDetach = 1
  const all = await networks(directory, driver)
  await t.rejects(all.attach(networkRequest('a'), pod), { message: 'no address is left' })
  t.equal(driver.made.size, 1)
  for (let i = 0; i < 100 && readdirSync(directory).length > 0; i++) await sleep(50)
  t.equal(driver.made.size, 0)
  t.strictSame(readdirSync(directory), [])
  await all.close()
})

t.test('pods that died are detached at the next start, also one that was being attached', async (t) => {
  const directory = t.testdir()
  const driver = new FakeDriver()
  const before = await networks(directory, driver)
  await before.attach(networkRequest('dead'), pod)
  await before.attach(networkRequest('alive'), pod)
  driver.delayMs = 100
  const cut = before.attach(networkRequest('cut'), pod)
  await sleep(30)
  // the service is killed here; the next one finds the records as they are
  const after = await networks(directory, driver)
  await cut
  await after.reconcile(
    new Map([
      ['alive', pod],
      ['cut', pod],
    ]),
  )
  t.ok(driver.calls.includes('detach dead dead'))
  t.ok(driver.calls.includes('detach cut dead'))
  t.strictSame(driver.reconciled, ['alive'])
  t.equal(after.get('dead'), undefined)
  await before.close()
  await after.close()
})

t.test('a pod that is detached while it is attached is detached after it', async (t) => {
  const driver = new FakeDriver()
  driver.delayMs = 50
  const all = await networks(t.testdir(), driver)
  const attached = all.attach(networkRequest('a'), pod)
  await sleep(10)
  await all.detach('a', pod)
  await attached
  t.strictSame(driver.calls, ['attach a', 'detach a'])
  t.equal(all.get('a'), undefined)
  await all.close()
})

t.test('without a network, ports are refused and nothing else', async (t) => {
  const directory = t.testdir()
  const attachments = await attachmentsIn(join(directory, 'x'))
  const none = new Networks({ attachments, drivers: [], choose: () => null, logger })
  t.equal(none.status(), null)
  t.equal(await none.attach(networkRequest('a'), pod), null)
  const port = { protocol: 'tcp', containerPort: 80, hostPort: 8080, hostIp: '' } as const
  await t.rejects(none.attach(networkRequest('a', { ports: [port] }), pod), { code: 'ERR_FAILED_PRECONDITION' })
  await none.detach('a', null)
  await none.close()
})
