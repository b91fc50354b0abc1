import type { MethodDefinition } from '@grpc/grpc-js'
import type { Reader, Writer } from 'protobufjs/minimal.js'
import type { Encoded } from './encoded.ts'

/** What protobufjs' static code attaches to each method of a service's prototype. */
interface Rpc {
  readonly path: string
  readonly requestType: string
  readonly responseType: string
  readonly requestStream: true | undefined
  readonly responseStream: true | undefined
}

interface Codec {
  encode(message: object): Writer
  decode(bytes: Reader | Uint8Array): object
}

type Methods<Service> = { [Name in keyof Service as Service[Name] extends Rpc ? Name : never]: Service[Name] }

/** What a receiver gets: every field is there, with proto3's defaults. */
type Decoded<Namespace, Type> = Type extends keyof Namespace
  ? Namespace[Type] extends { decode(...args: never[]): infer Message }
    ? Message
    : never
  : never

/** What a sender may give: a plain object, fields left out have proto3's defaults. */
type Encodable<Namespace, Type> = Type extends keyof Namespace
  ? Namespace[Type] extends { encode(message: infer Properties, writer?: Writer): Writer }
    ? Properties
    : never
  : never

type RequestOf<Method> = Method extends { readonly requestType: infer Type } ? Type : never
type ResponseOf<Method> = Method extends { readonly responseType: infer Type } ? Type : never

/** What goes in: one message, or a stream of them. */
type Request<Method, Message> = Method extends { readonly requestStream: true } ? AsyncIterable<Message> : Message
/** What comes out. */
type Reply<Method, Message> = Method extends { readonly responseStream: true }
  ? AsyncIterable<Message>
  : Promise<Message>

/** Served methods: what a handler of a method takes and gives. `Context` is what the server adds. */
export type Handlers<Namespace, Service, Context> = {
  [Name in keyof Methods<Service>]: (
    request: Request<Methods<Service>[Name], Decoded<Namespace, RequestOf<Methods<Service>[Name]>>>,
    context: Context,
  ) => Reply<Methods<Service>[Name], Encodable<Namespace, ResponseOf<Methods<Service>[Name]>> | Encoded>
}

/** Called methods: the other side of {@link Handlers}. */
export type Calls<Namespace, Service, Options> = {
  readonly [Name in keyof Methods<Service>]: (
    request: Request<Methods<Service>[Name], Encodable<Namespace, RequestOf<Methods<Service>[Name]>>>,
    options?: Options,
  ) => Reply<Methods<Service>[Name], Decoded<Namespace, ResponseOf<Methods<Service>[Name]>>>
}

/** A service whose messages are looked up in its namespace; the type parameters carry what the run-time values cannot. */
export interface ServiceSpec<Namespace, Service> {
  /** `runtime.v1.RuntimeService` */
  readonly name: string
  /** By the name of the handler: `runPodSandbox`. */
  readonly methods: ReadonlyMap<string, MethodDefinition<object, object>>
  readonly types?: { namespace: Namespace; service: Service }
}

/**
 * Reads a service out of protobufjs' static code.
 *
 * @param namespace the generated namespace: `runtime.v1`
 * @param service the generated class: `runtime.v1.RuntimeService`
 */
export function serviceSpec<Namespace extends object, Service extends object>(
  namespace: Namespace,
  service: { readonly prototype: Service },
): ServiceSpec<Namespace, Service> {
  const methods = new Map<string, MethodDefinition<object, object>>()
  let name = ''
  for (const [key, value] of Object.entries(service.prototype)) {
    if (!isRpc(value)) continue
    if (value.requestStream && value.responseStream) {
      throw new TypeError(`${value.path}: streams in both directions are not supported`)
    }
    const request = codec(namespace, value.requestType)
    const response = codec(namespace, value.responseType)
    methods.set(key, {
      path: value.path,
      originalName: key,
      requestStream: value.requestStream === true,
      responseStream: value.responseStream === true,
      requestSerialize: (message) => bytes(request.encode(message)),
      requestDeserialize: (buffer) => request.decode(buffer),
      responseSerialize: (message) => bytes(response.encode(message)),
      responseDeserialize: (buffer) => response.decode(buffer),
    })
    name = value.path.slice(1, value.path.lastIndexOf('/'))
  }
  if (methods.size === 0) throw new TypeError('the class is no generated service')
  return { name, methods }
}

function isRpc(value: unknown): value is Rpc {
  return typeof value === 'function' && 'path' in value && 'requestType' in value && 'responseType' in value
}

function codec(namespace: object, name: string): Codec {
  const found = Object.entries(namespace).find(([key]) => key === name)?.[1] as Partial<Codec> | undefined
  if (typeof found?.encode !== 'function' || typeof found.decode !== 'function') {
    throw new TypeError(`the namespace has no message ${name}`)
  }
  return found as Codec
}

/** On Node protobufjs' writer makes Buffers; a view costs nothing should that ever change. */
function bytes(writer: Writer): Buffer {
  const out = writer.finish()
  return Buffer.from(out.buffer, out.byteOffset, out.byteLength)
}
