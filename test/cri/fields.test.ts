/** docs/cri.md has every field of the two configurations, and the tests that it names are there, and name it. */
import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'

interface Field {
  name: string
  type: string
}

const project = new URL('../../../', import.meta.url)
const { messages } = JSON.parse(readFileSync(new URL('test/cri/cri-fields.json', project), 'utf8')) as {
  messages: Record<string, Field[] | undefined>
}
const page = readFileSync(new URL('docs/cri.md', project), 'utf8')

/** `field` → its row, by message. */
const documented = new Map(
  page
    .split(/^##+ /m)
    .slice(1)
    .map((section) => {
      const rows = [...section.matchAll(/^\| `(\w+)` *\|(.*)\|$/gm)]
      return [section.split('\n', 1)[0] ?? '', new Map(rows.map(([, field = '', row = '']) => [field, row]))]
    }),
)

t.test('every field of PodSandboxConfig and ContainerConfig, and of what is in them', async (t) => {
  const waiting = ['PodSandboxConfig', 'ContainerConfig']
  const seen = new Set(waiting)
  for (const message of waiting) {
    const fields = messages[message] ?? []
    t.strictSame([...(documented.get(message)?.keys() ?? [])].sort(), fields.map(({ name }) => name).sort(), message)
    for (const { type } of fields) {
      // names of objects, and the values of scalars that may be absent
      if (/^(Windows|PodSandboxMetadata|ContainerMetadata|Int64Value)/.test(type)) continue
      if (messages[type] === undefined || seen.has(type)) continue
      seen.add(type)
      waiting.push(type)
    }
  }
  t.ok(waiting.length > 20)
})

t.test('a field is shown by tests that exist and name it, or has no effect, in so many words', async (t) => {
  for (const [message, fields] of documented) {
    for (const [field, row] of fields) {
      const tests = [...row.matchAll(/`(test\/[\w/.-]+\.test\.ts)`/g)].map(([, path = '']) => path)
      if (tests.length === 0) t.match(row, /no effect/, `${message}.${field}`)
      for (const path of tests) t.ok(existsSync(new URL(path, project)), `${message}.${field}: ${path}`)
      if (tests.length > 0 && messages[message] !== undefined) {
        const spelt = [
          field,
          field === 'CDI_devices' ? 'CDIDevices' : field.replaceAll(/_(\w)/g, (_, c: string) => c.toUpperCase()),
        ]
        const texts = tests.map((path) => readFileSync(new URL(path, project), 'utf8'))
        t.ok(
          texts.some((text) => spelt.some((name) => text.includes(name))),
          `${message}.${field} is in a test that is said to show it`,
        )
      }
    }
  }
})
