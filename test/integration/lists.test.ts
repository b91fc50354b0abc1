/** The list calls and their streams: the same entries, filters, changes. */
import t from 'tap'
import { ContainerState, create, ended, PodSandboxState, runPod, startShell } from '../helpers/pods.ts'
import { needsRoot, startService } from '../helpers/service.ts'

async function all<Message, Entry>(
  stream: AsyncIterable<Message>,
  entries: (message: Message) => Entry[],
): Promise<Entry[]> {
  const found: Entry[] = []
  for await (const message of stream) found.push(...entries(message))
  return found
}

t.test('lists', { skip: needsRoot }, async (t) => {
  const service = await startService(t)
  const { runtime, image } = service
  const containers = (filter?: object): Promise<unknown[]> =>
    all(runtime.streamContainers({ ...(filter && { filter }) }), (message) => message.containers)
  const pods = (filter?: object): Promise<unknown[]> =>
    all(runtime.streamPodSandboxes({ ...(filter && { filter }) }), (message) => message.podSandboxes)

  t.same(await containers(), [], 'no containers: a stream without entries')
  t.same(await pods(), [])

  const one = await runPod(service, { labels: { app: 'one' }, annotations: { note: 'ü' } })
  const two = await runPod(service, { labels: { app: 'two' } })
  const created = await create(service, one, { command: ['/bin/sh'], labels: { tier: 'web' }, annotations: { a: 'b' } })
  const running = await startShell(service, two, 'read forever', { stdin: true, labels: { tier: 'web' } })
  const exited = await startShell(service, two, 'exit 3')
  await ended(service, exited)

  for (const filter of [
    undefined,
    { id: created },
    { id: created.slice(0, 13) },
    { podSandboxId: two.id },
    { state: { state: ContainerState.CONTAINER_CREATED } },
    { state: { state: ContainerState.CONTAINER_EXITED } },
    { labelSelector: { tier: 'web' } },
    { labelSelector: { tier: 'web' }, podSandboxId: one.id },
    { labelSelector: { tier: 'none' } },
  ]) {
    const { containers: listed } = await runtime.listContainers({ ...(filter && { filter }) })
    t.same(await containers(filter), listed, `the stream has what the list has: ${JSON.stringify(filter)}`)
  }
  const list = async (): Promise<Record<string, number>> => {
    const { containers: listed } = await runtime.listContainers({})
    return Object.fromEntries(listed.map(({ id = '', state }): [string, number] => [id ?? '', state ?? 0]))
  }
  t.same(await list(), {
    [created]: ContainerState.CONTAINER_CREATED,
    [running]: ContainerState.CONTAINER_RUNNING,
    [exited]: ContainerState.CONTAINER_EXITED,
  })
  const { containers: webs } = await runtime.listContainers({ filter: { labelSelector: { tier: 'web' } } })
  t.same(webs.map(({ id }) => id).sort(), [created, running].sort())
  t.match(
    webs.find(({ id }) => id === created),
    { labels: { tier: 'web' }, annotations: { a: 'b' }, podSandboxId: one.id },
  )

  await runtime.startContainer({ containerId: created })
  await ended(service, created)
  await runtime.stopContainer({ containerId: running, timeout: 0 })
  await runtime.removeContainer({ containerId: exited })
  t.same(
    await list(),
    { [created]: ContainerState.CONTAINER_EXITED, [running]: ContainerState.CONTAINER_EXITED },
    'an entry is encoded anew when its container has changed, and gone with it',
  )

  await runtime.stopPodSandbox({ podSandboxId: one.id })
  for (const filter of [
    undefined,
    { id: one.id },
    { state: { state: PodSandboxState.SANDBOX_READY } },
    { state: { state: PodSandboxState.SANDBOX_NOTREADY } },
    { labelSelector: { app: 'two' } },
  ]) {
    const { items } = await runtime.listPodSandbox({ ...(filter && { filter }) })
    t.same(await pods(filter), items, `the same for pods: ${JSON.stringify(filter)}`)
  }
  const { items } = await runtime.listPodSandbox({ filter: { state: { state: PodSandboxState.SANDBOX_NOTREADY } } })
  t.match(items, [{ id: one.id, labels: { app: 'one' }, annotations: { note: 'ü' } }])

  const { images } = await image.listImages({})
  t.equal(images.length, 2)
  t.same(await all(image.streamImages({}), (message) => message.images), images)
  const [{ id = '' } = {}] = images
  const filter = { image: { image: id } }
  t.same(await all(image.streamImages({ filter }), (message) => message.images), [images[0]])
  t.same(await all(image.streamImages({ filter: { image: { image: 'localhost/none:1' } } }), (m) => m.images), [])
})
