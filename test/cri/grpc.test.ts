import { setTimeout as delay } from 'node:timers/promises'
import { type CallContext } from '#src/cri/grpc/context.ts'
import { int64, ns, safeInt, u64 } from '#src/cri/grpc/int64.ts'
import type { RuntimeHandlers } from '#src/cri/grpc/services.ts'
import { CaissonError, isCaissonError } from '#src/errors.ts'
import t from 'tap'
import { start, until } from './grpc-fixture.ts'

const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

const version = { version: '0.1.0', runtimeName: 'caisson', runtimeVersion: '0.1.0', runtimeApiVersion: 'v1' }

/** Waits for a call to fail, with the error that a client of ours sees. */
async function failure(call: Promise<unknown>): Promise<CaissonError> {
  const error: unknown = await call.then(
    (value) => new Error(`expected a failure, got ${JSON.stringify(value)}`),
    (error: unknown) => error,
  )
  if (!isCaissonError(error)) throw error
  return error
}

async function all<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}

t.test('a unary call', async (t) => {
  let seen: CallContext | undefined
  const f = await start(t, {
    runtime: {
      version: async (request, context) => {
        seen = context
        return { ...version, version: request.version }
      },
    },
  })
  const reply = await f.client.runtime.version({ version: 'ünï' }, { timeoutMs: 5000 })
  t.match(reply, { ...version, version: 'ünï' })
  t.match(seen, { method: '/runtime.v1.RuntimeService/Version', peer: { pid: process.pid, uid: 0, gid: 0 } })
  t.ok(seen !== undefined && seen.deadline > Date.now() && seen.deadline < Date.now() + 6000, 'deadline')
  await delay(20)
  t.notOk(seen?.signal.aborted, 'a call that ended well is not cancelled afterwards')
  t.match(f.log.at(-1), {
    level: 20,
    method: '/runtime.v1.RuntimeService/Version',
    code: 'OK',
    peer: `unix:pid=${process.pid},uid=0,gid=0`,
  })
})

t.test('a method without a handler is UNIMPLEMENTED, unary or stream', async (t) => {
  const f = await start(t, {})
  t.match(await failure(f.client.runtime.attach({})), {
    code: 'ERR_UNIMPLEMENTED',
    fields: { status: 'UNIMPLEMENTED' },
  })
  t.match(await failure(all(f.client.runtime.getContainerEvents({}))), { code: 'ERR_UNIMPLEMENTED' })
})

t.test('a handler that throws', async (t) => {
  const cases: { thrown: unknown; status: string; code: string; message: string; details?: string; level?: number }[] =
    [
      {
        thrown: new CaissonError('ERR_CONTAINER_NOT_FOUND', 'container abc: no such container'),
        status: 'NOT_FOUND',
        code: 'ERR_CONTAINER_NOT_FOUND',
        message: 'container abc: no such container',
      },
      {
        thrown: new CaissonError('ERR_CONTAINER_STATE', 'cannot start', { cause: system('EBUSY', 'mount', '/a') }),
        status: 'FAILED_PRECONDITION',
        code: 'ERR_CONTAINER_STATE',
        message: "cannot start: EBUSY: mount '/a'",
      },
      {
        thrown: new CaissonError('ERR_REGISTRY_UNAVAILABLE', 'registry r.example: connection refused'),
        status: 'UNKNOWN',
        code: 'ERR_REGISTRY_UNAVAILABLE',
        message: 'registry r.example: connection refused',
        details: 'RegistryUnavailable: registry r.example: connection refused',
        level: 40,
      },
      {
        // NOT_FOUND would make a kubelet believe that the pod is gone
        thrown: system('ENOENT', 'openat2', '/x'),
        status: 'FAILED_PRECONDITION',
        code: 'ERR_FAILED_PRECONDITION',
        message: "ENOENT: openat2 '/x'",
      },
      // UNIMPLEMENTED would make it believe that the feature is off
      {
        thrown: system('EOPNOTSUPP', 'mount_setattr', '/x'),
        status: 'FAILED_PRECONDITION',
        code: 'ERR_FAILED_PRECONDITION',
        message: "EOPNOTSUPP: mount_setattr '/x'",
      },
      {
        thrown: system('EINVAL', 'compile', 'mounts[0]'),
        status: 'INVALID_ARGUMENT',
        code: 'ERR_INVALID_ARGUMENT',
        message: "EINVAL: compile 'mounts[0]'",
      },
      {
        thrown: system('EACCES', 'execve', '/x'),
        status: 'PERMISSION_DENIED',
        code: 'ERR_PERMISSION_DENIED',
        message: "EACCES: execve '/x'",
      },
      {
        thrown: system('ENOSPC', 'write', '/x'),
        status: 'RESOURCE_EXHAUSTED',
        code: 'ERR_LIMIT_EXCEEDED',
        message: "ENOSPC: write '/x'",
        level: 40,
      },
      {
        thrown: system('ECONNREFUSED', 'connect', '/x'),
        status: 'UNAVAILABLE',
        code: 'ERR_UNAVAILABLE',
        message: "ECONNREFUSED: connect '/x'",
        level: 40,
      },
      {
        thrown: system('EUCLEAN', 'read', '/x'),
        status: 'INTERNAL',
        code: 'ERR_INTERNAL',
        message: "EUCLEAN: read '/x'",
        level: 40,
      },
      {
        thrown: new TypeError('x is not a function'),
        status: 'INTERNAL',
        code: 'ERR_INTERNAL',
        message: 'x is not a function',
        level: 40,
      },
      {
        thrown: new DOMException('late', 'TimeoutError'),
        status: 'DEADLINE_EXCEEDED',
        code: 'ERR_DEADLINE_EXCEEDED',
        message: 'late',
      },
      { thrown: 'text', status: 'INTERNAL', code: 'ERR_INTERNAL', message: 'text', level: 40 },
      {
        thrown: new Error('line\nönt 100% \ud800!'),
        status: 'INTERNAL',
        code: 'ERR_INTERNAL',
        message: 'line\nönt 100% \ufffd!',
        level: 40,
      },
      {
        thrown: new Error('é'.repeat(10_000)),
        status: 'INTERNAL',
        code: 'ERR_INTERNAL',
        message: `${'é'.repeat(2047)}…`,
        level: 40,
      },
    ]
  let thrown: unknown
  const f = await start(t, {
    runtime: {
      startContainer: async () => {
        throw thrown
      },
      stopContainer: () => {
        throw thrown
      },
      streamContainers: async function* () {
        throw thrown
      },
    },
  })
  for (const { level = 30, ...expected } of cases) {
    thrown = expected.thrown
    const { code, message, status, details = message } = expected
    const wanted = { code, message, fields: { status }, cause: { details } }
    t.match(await failure(f.client.runtime.startContainer({})), wanted, `${status}: rejection`)
    t.match(f.log.at(-1), { level, code: status }, `${status}: log`)
    if (level === 40 && thrown instanceof Error)
      t.match(f.log.at(-1)?.err?.stack, /test\/cri\/grpc\.test/, 'the log has the stack')
    t.match(await failure(f.client.runtime.stopContainer({})), wanted, `${status}: synchronous throw`)
    t.match(await failure(all(f.client.runtime.streamContainers({}))), wanted, `${status}: stream`)
  }
})

t.test('a reply that cannot be encoded is an error like others', async (t) => {
  const f = await start(t, {
    runtime: { listContainers: async () => ({ containers: [null] }) as never },
  })
  t.match(await failure(f.client.runtime.listContainers({})), { code: 'ERR_INTERNAL' })
})

t.test('cancelling a call aborts its signal', async (t) => {
  const reasons: unknown[] = []
  const f = await start(t, {
    runtime: {
      execSync: async (_request, { signal }) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        reasons.push(signal.reason)
        throw new Error('too late for anybody')
      },
      getContainerEvents: async function* (_request, { signal }) {
        try {
          for (let i = 0; ; i++) {
            yield { containerId: `${i}` }
            await delay(1, undefined, { signal })
          }
        } finally {
          reasons.push(signal.reason)
        }
      },
    },
  })
  const abort = new AbortController()
  const reason = new Error('changed my mind')
  const call = f.client.runtime.execSync({}, { signal: abort.signal })
  await delay(50)
  abort.abort(reason)
  await t.rejects(call, reason, 'the caller sees its own reason')
  await until(() => reasons.length === 1)
  t.match(reasons[0], { code: 'ERR_CANCELLED' })
  await until(() => f.log.some(({ msg }) => msg === 'call failed after its caller had gone'))
  t.ok(
    f.log.some(({ code, level }) => code === 'CANCELLED' && level === 30),
    'logged',
  )

  for await (const { containerId } of f.client.runtime.getContainerEvents({})) if (containerId === '3') break
  await until(() => reasons.length === 2)
  t.match(reasons[1], { code: 'ERR_CANCELLED' }, 'leaving the loop ends the stream')

  await t.rejects(f.client.runtime.execSync({}, { signal: abort.signal }), reason, 'aborted before')
  t.equal(reasons.length, 2, 'and then nothing is sent')
})

t.test('a stream whose source heeds no signal ends with its caller', async (t) => {
  let returned = false
  const f = await start(t, {
    runtime: {
      getContainerEvents: () => ({
        [Symbol.asyncIterator]: () => {
          let step = 0
          return {
            next: () => (step++ === 0 ? Promise.resolve({ done: false, value: {} }) : new Promise<never>(() => {})),
            return: () => {
              returned = true
              return Promise.resolve({ done: true, value: undefined })
            },
          }
        },
      }),
    },
  })
  for await (const event of f.client.runtime.getContainerEvents({})) if (event.containerId === '') break
  await until(() => returned)
  t.pass('the source was told')
})

t.test('deadlines', async (t) => {
  const f = await start(t, { runtime: { execSync: () => new Promise<never>(() => {}) } })
  const started = performance.now()
  t.match(await failure(f.client.runtime.execSync({}, { timeoutMs: 100 })), { code: 'ERR_DEADLINE_EXCEEDED' })
  t.ok(performance.now() - started < 2000, 'in time')
})

t.test('a slow reader slows the source', async (t) => {
  let sent = 0
  const stdout = Buffer.alloc(64 << 10)
  const f = await start(t, {
    runtime: {
      getContainerEvents: async function* () {
        for (; sent < 2000; sent++) yield { containerId: stdout.toString('latin1') }
      },
    },
  })
  const events = f.client.runtime.getContainerEvents({})[Symbol.asyncIterator]()
  await events.next()
  await delay(300)
  t.ok(sent < 100, `${sent} messages of 64 KiB were taken`)
  let received = 1
  while ((await events.next()).done !== true) received++
  t.equal(received, 2000, 'and none is lost')
})

t.test('messages beyond 16 MiB', async (t) => {
  const big = 'x'.repeat(17 << 20)
  const f = await start(t, {
    runtime: {
      listContainers: async () => ({ containers: [{ id: big }] }),
      version: async () => version,
      execSync: async ({ timeout }) => ({ stdout: Buffer.alloc(safeInt(timeout)) }),
    },
  })
  const error = await failure(f.client.runtime.listContainers({}))
  t.match(error, {
    code: 'ERR_LIMIT_EXCEEDED',
    message: /ListContainers has 178\d+ bytes, and 16777216 is the limit: .*streaming/,
  })
  t.match(
    await failure(f.client.runtime.version({ version: big })),
    { fields: { status: 'RESOURCE_EXHAUSTED' } },
    'request',
  )
  t.equal((await f.client.runtime.execSync({ timeout: 15 << 20 })).stdout.length, 15 << 20, '15 MiB pass')
})

t.test('close', async (t) => {
  t.test('ends streams, lets calls finish, takes no new ones', async (t) => {
    const f = await start(t, {
      runtime: {
        version: async () => {
          await delay(150)
          return version
        },
        getContainerEvents: async function* (_request, { signal }) {
          await new Promise((_resolve, reject) =>
            signal.addEventListener('abort', () => reject(signal.reason as Error)),
          )
        },
      },
    })
    const stream = failure(all(f.client.runtime.getContainerEvents({})))
    const call = f.client.runtime.version({})
    await delay(50)
    const started = performance.now()
    const closed = f.server.close(5000)
    t.equal(f.server.close(0), closed, 'idempotent')
    t.match(await stream, { code: 'ERR_SERVICE_STOPPING', fields: { status: 'UNAVAILABLE' } })
    t.match(await call, version, 'the call under way finished')
    await closed
    t.ok(performance.now() - started < 2000, 'long before the grace was over')
    t.match(await failure(f.client.runtime.version({})), {
      code: 'ERR_SERVICE_UNREACHABLE',
      message: `no service answers on ${f.socketPath}`,
    })
    f.client.close()
  })

  t.test('cuts what outlives the grace', async (t) => {
    const reasons: unknown[] = []
    const f = await start(t, {
      runtime: {
        execSync: (_request, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              reasons.push(signal.reason)
              reject(signal.reason as Error)
            })
          }),
      },
    })
    const call = failure(f.client.runtime.execSync({}))
    await delay(50)
    const started = performance.now()
    await f.server.close(100)
    t.ok(performance.now() - started < 1000)
    t.match(await call, { kind: /unavailable|cancelled/ })
    await until(() => reasons.length === 1)
    t.match(reasons[0], { code: 'ERR_CANCELLED' })
    f.client.close()
  })
})

t.test('64-bit numbers', async (t) => {
  const at = 1_795_366_800_123_456_789n
  const f = await start(t, {
    runtime: { containerStatus: async () => ({ status: { createdAt: ns(at), finishedAt: ns(-1n) } }) },
    image: { listImages: async () => ({ images: [{ size: u64(2n ** 64n - 1n) }] }) },
  })
  const { status } = await f.client.runtime.containerStatus({})
  t.equal(int64(status?.createdAt), at)
  t.equal(int64(status?.finishedAt), -1n)
  t.equal(int64(status?.startedAt), 0n, 'absent is zero')
  t.equal(int64((await f.client.image.listImages({})).images[0]?.size), 2n ** 64n - 1n)
  t.throws(() => ns(2n ** 63n), RangeError)
  t.throws(() => u64(-1n), RangeError)
  t.throws(() => safeInt(ns(at)), RangeError)
  t.equal(safeInt(ns(30n)), 30)
})

t.test('no rejection was lost', async (t) => {
  await delay(10)
  t.same(unhandled, [])
})

/** These compile only as long as the types refuse what is marked; `tsc` is the test. */
export const refused: Partial<RuntimeHandlers>[] = [
  // @ts-expect-error a bigint would be encoded as 0
  { containerStatus: async () => ({ status: { createdAt: 1n } }) },
  // @ts-expect-error wrong type of a field
  { version: async () => ({ version: 1 }) },
  // @ts-expect-error wrong type of a nested field
  { listContainers: async () => ({ containers: [{ id: 'x', state: 'CONTAINER_RUNNING' }] }) },
  // @ts-expect-error a stream where one reply belongs
  { version: async function* () {} },
  // @ts-expect-error wrong type of a streamed field
  { streamContainers: async function* () { yield { containers: [{ id: 5 }] } } }, // prettier-ignore
  // @ts-expect-error no such method
  { versions: async () => ({}) },
]

function system(code: string, syscall: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${syscall} '${path}'`), { code, errno: -1, syscall, path })
}

t.test('a stream of the caller: read as fast as the handler reads, left when it has an answer', async (t) => {
  let sent = 0
  async function* pieces(count: number): AsyncGenerator<{ data: Buffer }> {
    for (; sent < count; sent++) yield { data: Buffer.alloc(256 << 10) }
  }
  let mode = 'all'
  const f = await start(t, {
    caisson: {
      async loadImages(requests, { signal }) {
        if (mode === 'none') throw new CaissonError('ERR_IMAGE_INVALID', 'no archive')
        let bytes = 0
        for await (const { data } of requests) {
          bytes += data.length
          if (mode === 'wait')
            await new Promise((_resolve, reject) =>
              signal.addEventListener('abort', () => reject(signal.reason as Error)),
            )
        }
        return { images: [{ id: String(bytes) }] }
      },
    },
  })
  t.same((await f.client.caisson.loadImages(pieces(100))).images, [{ id: String(100 * (256 << 10)), names: [] }])

  mode = 'none'
  sent = 0
  t.match(await failure(f.client.caisson.loadImages(pieces(1e9))), { code: 'ERR_IMAGE_INVALID' })
  t.ok(sent < 1000, 'an answer ends the sending')

  mode = 'wait'
  sent = 0
  const abort = new AbortController()
  const stuck = f.client.caisson.loadImages(pieces(1e9), { signal: abort.signal })
  stuck.catch(() => undefined)
  let before = -1
  while (before !== sent) {
    before = sent
    await delay(200)
  }
  t.ok(sent > 0 && sent < 400, `a handler that does not read holds the caller up, after ${sent} pieces`)
  abort.abort(new Error('enough'))
  await t.rejects(stuck, { message: 'enough' })

  mode = 'all'
  async function* broken(): AsyncGenerator<{ data: Buffer }> {
    yield { data: Buffer.from('x') }
    throw new Error('the disk is gone')
  }
  await t.rejects(f.client.caisson.loadImages(broken()), { message: 'the disk is gone' }, 'its own error')
})
