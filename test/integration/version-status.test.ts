/** What a kubelet asks a runtime before it trusts it: Version, Status, RuntimeConfig, and what is not there yet. */
import t from 'tap'
import { runtime } from '#src/gen/cri.ts'
import { needsRoot, startService } from '../helpers/service.ts'

t.test('version and status', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [] })

  t.test('Version', async (t) => {
    t.match(await service.runtime.version({ version: '0.1.0' }), {
      version: '0.1.0',
      runtimeName: 'caisson',
      runtimeVersion: '0.1.0',
      runtimeApiVersion: 'v1',
    })
  })

  t.test('Status', async (t) => {
    const { status, info, runtimeHandlers, features } = await service.runtime.status({})
    t.match(status?.conditions, [
      { type: 'RuntimeReady', status: true },
      { type: 'NetworkReady', status: false, reason: 'NoNetwork' },
    ])
    t.same(Object.keys(info), [], 'no information without verbose')
    t.same(
      runtimeHandlers.map(({ name }) => name),
      [''],
      'the default handler is the one without a name',
    )
    t.equal(runtimeHandlers[0]?.features?.recursiveReadOnlyMounts, true)
    t.equal(features?.supplementalGroupsPolicy, true)
    const verbose = await service.runtime.status({ verbose: true })
    t.match(JSON.parse(verbose.info['config'] ?? ''), { stateDir: service.state, rootDir: service.root })
  })

  t.test('RuntimeConfig', async (t) => {
    const { linux } = await service.runtime.runtimeConfig({})
    t.equal(linux?.cgroupDriver, runtime.v1.CgroupDriver.CGROUPFS)
  })

  t.test('Info of caisson.v1', async (t) => {
    const info = await service.caisson.info({})
    t.match(info, {
      version: '0.1.0',
      pid: service.pid,
      paths: { root: service.root, state: service.state, socket: service.socket, config: service.configFile },
      cgroup: { monitors: service.slice, missingControllerIsError: true },
    })
    t.match(info.buildId, /^[0-9a-f]{16}$/)
  })

  t.test('a second service on the same directories is refused by name', async (t) => {
    const { status, stderr } = await service.cli(['--listen', `${service.socket}2`, 'serve'])
    t.equal(status, 125)
    t.match(stderr, /another process holds .*lock/)
    t.match(await service.runtime.version({}), { version: '0.1.0' }, 'and the first one goes on')
  })
})
