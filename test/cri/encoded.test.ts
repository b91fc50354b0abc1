import t from 'tap'
import { type Encoded, EncodedEntries } from '#src/cri/grpc/encoded.ts'
import { runtime } from '#src/gen/cri.ts'
import { start } from './grpc-fixture.ts'

const { ListContainersResponse, StreamContainersResponse } = runtime.v1
const { CONTAINER_CREATED, CONTAINER_EXITED } = runtime.v1.ContainerState

interface Subject {
  id: string
  state: runtime.v1.ContainerState
  text: string
}

const subject = (id: string, text = ''): Subject => ({ id, state: CONTAINER_CREATED, text })

function entries(): { entries: EncodedEntries<Subject>; encodings: string[] } {
  const encodings: string[] = []
  return {
    encodings,
    entries: new EncodedEntries<Subject>(
      ({ id, state, text }) => {
        encodings.push(id)
        return ListContainersResponse.encode({ containers: [{ id, state, labels: { text } }] }).finish()
      },
      ({ state }) => state,
    ),
  }
}

t.test('an entry is encoded once, and again when it has changed', async (t) => {
  const { entries: cache, encodings } = entries()
  const [a, b] = [subject('a', 'ä'), subject('b')]
  const ids = (encoded: Encoded): unknown => ListContainersResponse.decode(encoded.bytes()).containers
  t.match(ids(cache.list([a, b])), [
    { id: 'a', labels: { text: 'ä' } },
    { id: 'b', state: 0 },
  ])
  cache.list([b, a])
  t.same(encodings, ['a', 'b'])
  b.state = CONTAINER_EXITED
  t.match(ids(cache.list([a, b])), [{ id: 'a' }, { id: 'b', state: 2 }])
  t.same(encodings, ['a', 'b', 'b'])
  t.same(cache.list([]).bytes().length, 0)
})

t.test('replies that are sent at once do not meet in memory', async (t) => {
  const { entries: cache } = entries()
  const groups = new Map(
    Array.from({ length: 50 }, (_none, index): [string, Subject[]] => [
      String(index),
      Array.from({ length: 1 + (index % 7) }, (_also, at) => subject(`${index}.${at}`, 'x'.repeat(index * 100))),
    ]),
  )
  const { client } = await start(t, {
    runtime: {
      async listContainers({ filter }) {
        return cache.list(groups.get(filter?.id ?? '') ?? [])
      },
    },
  })
  const told = await Promise.all([...groups.keys()].map((id) => client.runtime.listContainers({ filter: { id } })))
  t.same(
    told.map(({ containers }) => containers.map(({ id }) => id)),
    [...groups.values()].map((group) => group.map(({ id }) => id)),
  )
})

t.test('a list that is longer than a reply may be comes by its stream', async (t) => {
  const { entries: cache } = entries()
  const subjects = Array.from({ length: 400 }, (_none, index) => subject(String(index), 'x'.repeat(50_000)))
  const { client } = await start(t, {
    runtime: {
      async listContainers() {
        return cache.list(subjects)
      },
      streamContainers() {
        return cache.stream(subjects)
      },
    },
  })
  await t.rejects(client.runtime.listContainers({}), {
    code: 'ERR_LIMIT_EXCEEDED',
    message: /narrow the filter, or use the streaming call/,
  })
  const seen: string[] = []
  let messages = 0
  for await (const message of client.runtime.streamContainers({})) {
    messages++
    t.ok(StreamContainersResponse.encode(message).finish().length < 1.1 * (1 << 20), 'about a mebibyte')
    seen.push(...message.containers.map(({ id }) => id ?? ''))
  }
  t.same(
    seen,
    subjects.map(({ id }) => id),
  )
  t.equal(messages, 20)
})
