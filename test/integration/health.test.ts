/** grpc.health.v1, as probes ask it. */
import t from 'tap'
import { grpc } from '#src/gen/health.ts'
import { refused } from '../helpers/pods.ts'
import { needsRoot, startService } from '../helpers/service.ts'

const { ServingStatus } = grpc.health.v1.HealthCheckResponse

t.test('health', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [] })
  const { health } = service.connection
  const services = ['', 'runtime.v1.RuntimeService', 'runtime.v1.ImageService', 'caisson.v1.Caisson']
  for (const name of services) t.equal((await health.check({ service: name })).status, ServingStatus.SERVING, name)
  await refused(t, health.check({ service: 'runtime.v1alpha2.RuntimeService' }), 'NOT_FOUND')
  const { statuses } = await health.list({})
  t.same(Object.keys(statuses).sort(), services.toSorted())
  t.ok(Object.values(statuses).every(({ status }) => status === ServingStatus.SERVING))

  const watch = (name: string): AsyncIterator<grpc.health.v1.HealthCheckResponse> =>
    health.watch({ service: name })[Symbol.asyncIterator]()
  t.match(await watch('nothing').next(), { value: { status: ServingStatus.SERVICE_UNKNOWN } })
  const known = watch('runtime.v1.RuntimeService')
  t.match(await known.next(), { value: { status: ServingStatus.SERVING } })
  const changed = known.next()
  process.kill(service.pid, 'SIGTERM')
  await refused(t, changed, 'UNAVAILABLE')
  await service.stop()
})
