/** Compares proto/runtime/v1/api.proto with the facts of the interface: every name, number, type and stream. */
import { readFileSync } from 'node:fs'
import protobuf from 'protobufjs'
import t from 'tap'

interface FieldFact {
  name: string
  number: number
  type: string
  repeated?: boolean
  map?: boolean
  key_type?: string
  deprecated?: boolean
  debug_redact?: boolean
}

interface Facts {
  package: string
  services: Record<string, Record<string, { request: string; response: string; stream: boolean }>>
  messages: Record<string, FieldFact[]>
  enums: Record<string, Record<string, number>>
}

const root = new URL('../../../', import.meta.url)
const facts = JSON.parse(readFileSync(new URL('test/cri/cri-fields.json', root), 'utf8')) as Facts
const source = readFileSync(new URL('proto/runtime/v1/api.proto', root), 'utf8')
const parsed = protobuf.parse(source, { keepCase: true })
const found = collect((parsed.root.lookup('runtime.v1') as protobuf.Namespace).nestedArray)

t.equal(parsed.package, facts.package, 'package')
t.equal(
  Object.values(facts.services).flatMap((methods) => Object.keys(methods)).length,
  43,
  'the facts are whole: 43 RPCs',
)
t.equal(Object.keys(facts.messages).length, 175, 'the facts are whole: 175 messages')
t.same(found.services, facts.services, 'services')
t.same(Object.keys(found.messages).sort(), Object.keys(facts.messages).sort(), 'names of messages')
for (const [name, fields] of Object.entries(facts.messages)) {
  t.same(found.messages[name]?.toSorted(byNumber), fields.toSorted(byNumber), name)
}
t.same(found.enums, facts.enums, 'enums')

t.test('every service, RPC and message says what it means', (t) => {
  const lines = source.split('\n')
  const bare = lines.filter(
    (line, index) => /^(service|message|enum| {2}rpc) /.test(line) && !/^ *\/\/ /.test(lines[index - 1] ?? ''),
  )
  t.same(bare, [])
  t.end()
})

function byNumber(a: FieldFact, b: FieldFact): number {
  return a.number - b.number
}

function collect(objects: protobuf.ReflectionObject[], prefix = ''): Omit<Facts, 'package'> {
  const all: Omit<Facts, 'package'> = { services: {}, messages: {}, enums: {} }
  for (const object of objects) {
    if (object instanceof protobuf.Service) {
      all.services[object.name] = Object.fromEntries(
        object.methodsArray.map((method) => [
          method.name,
          { request: method.requestType, response: method.responseType, stream: method.responseStream === true },
        ]),
      )
      t.notOk(
        object.methodsArray.some((method) => method.requestStream === true),
        `${object.name}: no client streams`,
      )
    } else if (object instanceof protobuf.Type) {
      all.messages[prefix + object.name] = object.fieldsArray.map(field)
      Object.assign(all.enums, collect(object.nestedArray, `${prefix}${object.name}.`).enums)
      t.same(object.oneofsArray, [], `${object.name}: no oneof`)
    } else if (object instanceof protobuf.Enum) {
      all.enums[prefix + object.name] = { ...object.values }
    }
  }
  return all
}

function field(found: protobuf.Field): FieldFact {
  return {
    name: found.name,
    number: found.id,
    type: found.type,
    ...(found.repeated && { repeated: true }),
    ...(found instanceof protobuf.MapField && { map: true, key_type: found.keyType }),
    ...(found.options?.['deprecated'] === true && { deprecated: true }),
    ...(found.options?.['debug_redact'] === true && { debug_redact: true }),
  }
}
