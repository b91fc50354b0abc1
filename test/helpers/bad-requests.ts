/** Bad requests, made out of the protos' own descriptors: each field of each request, each way to get it wrong. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import protobuf from 'protobufjs'
import { project } from './service.ts'

export type Json = Record<string, unknown>

export interface BadRequest {
  /** `config.linux.security_context.run_as_user` */
  field: string
  /** The last name of it, or of the map that it is in. */
  name: string
  /** What is wrong with it: `empty`, `traversal`, … */
  wrong: string
  request: Json
}

export interface Method {
  service: string
  name: string
  path: string
  request: protobuf.Type
  response: protobuf.Type
  stream: boolean
  clientStream: boolean
}

/** Every method of runtime.v1 and caisson.v1. */
export function methods(): Method[] {
  const found: Method[] = []
  for (const file of ['runtime/v1/api.proto', 'caisson/v1/caisson.proto']) {
    const { root, package: name = '' } = protobuf.parse(readFileSync(join(project, 'proto', file), 'utf8'), {
      keepCase: true,
    })
    root.resolveAll()
    for (const service of (root.lookup(name) as protobuf.Namespace).nestedArray) {
      if (!(service instanceof protobuf.Service)) continue
      for (const method of service.methodsArray) {
        found.push({
          service: service.name,
          name: method.name,
          path: `/${name}.${service.name}/${method.name}`,
          request: service.lookupType(method.requestType),
          response: service.lookupType(method.responseType),
          stream: method.responseStream === true,
          clientStream: method.requestStream === true,
        })
      }
    }
  }
  return found
}

const depthMax = 8
const traversal = '../../../../../../../../tmp/caisson-traversal'
const integers = /^[su]?int(32|64)$|^s?fixed(32|64)$/

/** All that can be wrong with one field, in the place of what `base` has there. */
export function* badRequests(type: protobuf.Type, base: Json): Generator<BadRequest, void, undefined> {
  yield { field: '', name: '', wrong: 'nothing given', request: {} }
  yield* fieldsOf(type, type, base, [], new Set())
}

function* fieldsOf(
  whole: protobuf.Type,
  type: protobuf.Type,
  base: Json,
  path: string[],
  above: ReadonlySet<protobuf.Type>,
): Generator<BadRequest, void, undefined> {
  if (path.length >= depthMax || above.has(type)) return
  for (const field of type.fieldsArray) {
    const here = [...path, field.name]
    for (const [wrong, value] of wrongValues(field, valueAt(base, here))) {
      yield { field: here.join('.'), name: field.name, wrong, request: withValue(whole, base, here, value) }
    }
    if (field.resolvedType instanceof protobuf.Type && !(field instanceof protobuf.MapField)) {
      yield* fieldsOf(whole, field.resolvedType, base, here, new Set([...above, type]))
    }
  }
}

function* wrongValues(field: protobuf.Field, before: unknown): Generator<[string, unknown], void, undefined> {
  if (field instanceof protobuf.MapField) {
    yield ['a key that climbs', { [traversal]: '1' }]
    yield ['an empty key', { '': '' }]
    yield ['a huge value', { huge: 'x'.repeat(1 << 20) }]
    yield ['many entries', Object.fromEntries(Array.from({ length: 3000 }, (_none, at) => [`key-${at}`, 'x']))]
    return
  }
  if (field.resolvedType instanceof protobuf.Type) {
    yield ['absent', undefined]
    yield ['an empty message', field.repeated ? [{}] : {}]
    if (field.repeated) {
      const [one = {}] = Array.isArray(before) ? (before as unknown[]) : []
      yield ['twice the same', [one, one]]
      yield ['many', Array.from({ length: 3000 }, () => one)]
    }
    return
  }
  const wrap = (value: unknown): unknown => (field.repeated ? [value] : value)
  if (field.resolvedType instanceof protobuf.Enum) {
    yield ['an unknown value', wrap(9999)]
    yield ['a negative value', wrap(-1)]
  } else if (field.type === 'string') {
    yield ['empty', wrap('')]
    yield ['a path that climbs', wrap(traversal)]
    yield ['a NUL', wrap('a\0b')]
    yield ['huge', wrap('x'.repeat(1 << 20))]
    yield ['a line feed', wrap('a\nb: c')]
    if (field.repeated) {
      yield ['twice the same', ['same', 'same']]
      yield ['many', Array.from({ length: 3000 }, (_none, at) => `entry-${at}`)]
    }
  } else if (integers.test(field.type)) {
    const unsigned = field.type.startsWith('u') || field.type === 'fixed32' || field.type === 'fixed64'
    const wide = field.type.endsWith('64')
    yield [
      'the largest',
      wrap(wide ? (unsigned ? '18446744073709551615' : '9223372036854775807') : unsigned ? 4294967295 : 2147483647),
    ]
    if (!unsigned) yield ['the least', wrap(wide ? '-9223372036854775808' : -2147483648)]
    if (!unsigned) yield ['negative', wrap(-1)]
    if (field.repeated) yield ['twice the same', [7, 7]]
  } else if (field.type === 'bytes') {
    yield ['huge', wrap('x'.repeat(4 << 20))]
  }
}

function valueAt(base: unknown, path: string[]): unknown {
  let value = base
  for (const name of path) {
    if (Array.isArray(value)) [value] = value as unknown[]
    value = (value as Json | undefined)?.[name]
  }
  return value
}

/** A copy of `base` with another value at a path; messages on the way are made. */
function withValue(type: protobuf.Type, base: Json, [name = '', ...rest]: string[], value: unknown): Json {
  if (rest.length === 0) return { ...base, [name]: value }
  const field = type.fields[name]
  if (!(field?.resolvedType instanceof protobuf.Type)) throw new Error(`${type.name}.${name} is no message`)
  const before = base[name]
  const inner = (Array.isArray(before) ? (before as unknown[])[0] : before) as Json | undefined
  const changed = withValue(field.resolvedType, inner ?? {}, rest, value)
  return { ...base, [name]: field.repeated ? [changed] : changed }
}

export interface Answer {
  code: string
  details: string
  /** The first reply; empty when there was none. */
  bytes: Buffer
}

/** A client that knows nothing of ours: bytes in, bytes out. */
export class RawClient {
  readonly #client: Client

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
      'grpc.max_receive_message_length': 32 << 20,
    })
  }

  close(): void {
    this.#client.close()
  }

  /** Streams are left after their first message, or after a while without one. */
  call(method: Method, request: Json, timeoutMs = 20_000): Promise<Answer> {
    const { request: type } = method
    const encoded = Buffer.from(type.encode(type.fromObject(request)).finish())
    const asItIs = (bytes: Buffer): Buffer => bytes
    const deadline = Date.now() + timeoutMs
    if (method.clientStream) {
      return new Promise((resolve) => {
        const done = (error: ServiceError | null, reply?: Buffer): void => {
          resolve(answerOf(error, reply))
        }
        const call = this.#client.makeClientStreamRequest(
          method.path,
          asItIs,
          asItIs,
          new Metadata(),
          { deadline },
          done,
        )
        call.write(encoded)
        call.end()
      })
    }
    if (!method.stream) {
      return new Promise((resolve) => {
        const done = (error: ServiceError | null, reply?: Buffer): void => {
          resolve(answerOf(error, reply))
        }
        this.#client.makeUnaryRequest(method.path, asItIs, asItIs, encoded, new Metadata(), { deadline }, done)
      })
    }
    return new Promise((resolve) => {
      const call = this.#client.makeServerStreamRequest(method.path, asItIs, asItIs, encoded, new Metadata(), {
        deadline,
      })
      const leave = setTimeout(() => {
        call.cancel()
      }, 500)
      let first: Buffer = Buffer.alloc(0)
      call.on('data', (bytes: Buffer) => {
        if (first.length === 0) first = bytes
      })
      call.on('error', (error: ServiceError) => {
        clearTimeout(leave)
        // left by us: it had nothing more to say
        resolve(answerOf(error.code === status.CANCELLED ? null : error, first))
      })
      call.on('end', () => {
        clearTimeout(leave)
        resolve(answerOf(null, first))
      })
    })
  }
}

function answerOf(error: ServiceError | null, bytes: Buffer = Buffer.alloc(0)): Answer {
  return error === null
    ? { code: 'OK', details: '', bytes }
    : { code: status[error.code], details: error.details, bytes }
}
