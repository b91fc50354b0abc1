import t from 'tap'
import { formatReference, parseReference, storeName } from '#src/image/reference.ts'

const hex = 'a'.repeat(64)
const digest = `sha256:${hex}`

const good: [text: string, normalised: string][] = [
  ['busybox', 'docker.io/library/busybox:latest'],
  ['busybox:1.36', 'docker.io/library/busybox:1.36'],
  ['user/app', 'docker.io/user/app:latest'],
  ['docker.io/busybox', 'docker.io/library/busybox:latest'],
  ['index.docker.io/user/app:x', 'docker.io/user/app:x'],
  ['localhost/x', 'localhost/x:latest'],
  ['localhost:5000/x', 'localhost:5000/x:latest'],
  ['localhost:5000', 'docker.io/library/localhost:5000'],
  ['127.0.0.1:5000/a/b/c:t', '127.0.0.1:5000/a/b/c:t'],
  ['[::1]:5000/x', '[::1]:5000/x:latest'],
  ['[fe80::1]/x:y', '[fe80::1]/x:y'],
  ['Registry/x', 'Registry/x:latest'],
  ['registry.k8s.io/pause:3.10', 'registry.k8s.io/pause:3.10'],
  ['a.b/c__d/e-f.g_h---i', 'a.b/c__d/e-f.g_h---i:latest'],
  [`busybox@${digest}`, `docker.io/library/busybox@${digest}`],
  [`busybox:1@${digest}`, `docker.io/library/busybox:1@${digest}`],
  [`localhost:5000/x@${digest}`, `localhost:5000/x@${digest}`],
  [`x:${'t'.repeat(128)}`, `docker.io/library/x:${'t'.repeat(128)}`],
]

t.test('names are normalised, and a normalised name is its own', async (t) => {
  for (const [text, normalised] of good) {
    t.equal(formatReference(parseReference(text)), normalised, text)
    t.equal(formatReference(parseReference(normalised)), normalised, normalised)
  }
})

const bad: [text: string, why: RegExp][] = [
  ['', /empty/],
  [hex, /image id/],
  ['UPPER', /lower case/],
  ['a.b/Upper', /lower case/],
  ['x:', /tag/],
  [`x:${'t'.repeat(129)}`, /tag/],
  ['x:-t', /tag/],
  ['x@sha256:abc', /digest/],
  [`x@sha512:${'a'.repeat(128)}`, /digest/],
  [`x@${digest.toUpperCase()}`, /digest/],
  [`x@${digest}@${digest}`, /digest/],
  ['a//b', /component/],
  ['/b', /component|registry/],
  ['a/', /component|missing/],
  ['localhost:5000/', /missing/],
  ['a/../b', /registry|component/],
  ['x y', /component/],
  ['a_/b', /component/],
  ['x___y', /component/],
  ['a.b-/x', /registry name/],
  ['a..b/x', /registry name/],
  ['host:99999/x', /port/],
  ['host:port/x', /registry name/],
  ['https://a/b', /registry name|component|port/],
  ['x\0', /component/],
  ['x\n', /component/],
  [`a.b/${'c'.repeat(252)}`, /255/],
  ['c'.repeat(1025), /1024/],
]

t.test('what is no name is refused with the text and the reason', async (t) => {
  for (const [text, why] of bad) {
    t.throws(
      () => parseReference(text),
      { code: 'ERR_IMAGE_REFERENCE', message: why },
      JSON.stringify(text.slice(0, 40)),
    )
  }
  t.throws(() => parseReference('No Such'), { message: /"No Such"/ })
})

t.test('with a digest the tag says nothing', async (t) => {
  t.equal(storeName(parseReference(`busybox:1@${digest}`)), `docker.io/library/busybox@${digest}`)
  t.equal(storeName(parseReference('busybox')), 'docker.io/library/busybox:latest')
})
