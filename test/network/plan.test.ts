import t from 'tap'
import type { NetworkDefinition } from '#src/network/bridge/definition.ts'
import { Departures } from '#src/network/bridge/departures.ts'
import { Names } from '#src/network/bridge/names.ts'
import { BridgeNetwork } from '#src/network/bridge/network.ts'
import { planLinks } from '#src/network/bridge/plan.ts'
import type { NetworkRequest } from '#src/network/types.ts'
import { networkRequest } from '../helpers/network-request.ts'

const context = { names: new Names('/x'), host: { forwards6: true, filtersBridges: false } }
const logger = { info: () => undefined, warn: () => undefined }

/** Of five addresses. */
function network(name = 'small', subnet = '10.98.0.0/29'): BridgeNetwork {
  const definition: NetworkDefinition = {
    name,
    bridge: `b-${name}`,
    subnets: [subnet],
    chosen: false,
    internal: false,
    mtu: 1500,
    createdAt: '0',
  }
  return new BridgeNetwork(definition)
}

/** Pods that are on their way until they are let go, and then have left the network. */
function leaving(from: BridgeNetwork, ...pods: string[]): { departures: Departures; letGo: () => void; waits: number } {
  let letGo = (): void => undefined
  const promise = new Promise<void>((resolve) => (letGo = resolve))
  const departures = new Departures(async (podId) => {
    await promise
    from.pool.release(podId)
  }, logger)
  for (const pod of pods) departures.begin(pod, [])
  const told = { departures, letGo, waits: 0 }
  const settled = departures.settled.bind(departures)
  departures.settled = async () => {
    told.waits++
    await settled()
  }
  return told
}

t.test('where no address is left, those of pods that are going are waited for', async (t) => {
  const small = network()
  for (const pod of ['a', 'b', 'c', 'd', 'e']) small.pool.allocate(pod)
  const nobody = leaving(small)
  await t.rejects(planLinks(context, networkRequest('f'), [small], nobody.departures), { code: 'ERR_LIMIT_EXCEEDED' })
  t.equal(nobody.waits, 0)
  const { departures, letGo } = leaving(small, 'c')
  let planned = false
  const plan = planLinks(context, networkRequest('f'), [small], departures).finally(() => (planned = true))
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(planned, false)
  letGo()
  t.match(await plan, [{ addresses: ['10.98.0.4/29'], gateways: ['10.98.0.1'], mac: '0a:58:0a:62:00:04' }])
  t.equal(small.pool.size, 5)
})

t.test('an address that is asked for is waited for if who has it is going', async (t) => {
  const small = network()
  for (const pod of ['a', 'b']) small.pool.allocate(pod)
  const wanted = networkRequest('c', { addresses: ['10.98.0.3'] })
  const other = leaving(small, 'a')
  await t.rejects(planLinks(context, wanted, [small], other.departures), { message: /10\.98\.0\.3 is taken by pod b/ })
  t.equal(other.waits, 0)
  const { departures, letGo } = leaving(small, 'b')
  letGo()
  t.match(await planLinks(context, wanted, [small], departures), [{ addresses: ['10.98.0.3/29'] }])
})

t.test('no other error is waited over', async (t) => {
  const small = network()
  const bad: [Partial<NetworkRequest>, { code: string; message?: RegExp }][] = [
    [{ annotations: { 'kubernetes.io/ingress-bandwidth': 'much' } }, { code: 'ERR_INVALID_ARGUMENT' }],
    [{ addresses: ['nonsense'] }, { code: 'ERR_INVALID_ARGUMENT' }],
    [{ addresses: ['10.98.0.1'] }, { code: 'ERR_FAILED_PRECONDITION', message: /not an address that a pod can have/ }],
  ]
  for (const [overrides, error] of bad) {
    const told = leaving(small, 'gone')
    await t.rejects(planLinks(context, networkRequest('a', overrides), [small], told.departures), error)
    t.equal(told.waits, 0)
    told.letGo()
  }
})

t.test('of several networks the first ones are given back before it is waited', async (t) => {
  const [front, back] = [network('front', '10.97.0.0/29'), network('back')]
  for (const pod of ['a', 'b', 'c', 'd', 'e']) back.pool.allocate(pod)
  const { departures, letGo } = leaving(back, 'e')
  const plan = planLinks(context, networkRequest('f'), [front, back], departures)
  t.equal(front.pool.size, 0)
  letGo()
  const links = await plan
  t.match(links, [
    { name: 'eth0', network: 'front' },
    { name: 'eth1', network: 'back', addresses: ['10.98.0.6/29'], gateways: [] },
  ])
  t.equal(front.pool.size, 1)
})

t.test('interfaces that cannot be taken away are tried again', async (t) => {
  const tries: string[] = []
  let fails = true
  const departures = new Departures(async (podId) => {
    tries.push(podId)
    await Promise.resolve()
    if (fails) throw new Error('busy')
  }, logger)
  let told = 0
  departures.onFailure = () => {
    told++
  }
  departures.begin('a', [])
  t.equal(departures.mayFree('a'), true)
  await departures.settled()
  t.equal(departures.hasFailed, true)
  t.equal(departures.mayFree(null), false, 'nothing is under way')
  fails = false
  departures.retry()
  await departures.settled()
  t.equal(departures.hasFailed, false)
  t.strictSame(tries, ['a', 'a'])
  t.equal(told, 1)
})
