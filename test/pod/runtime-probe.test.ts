import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'

import { probeRuntime } from '#src/pod/handlers/features.ts'

t.test('what a runtime says of itself', async (t) => {
  const directory = t.testdir({})
  const runtime = async (name: string, script: string): Promise<string> => {
    const path = join(directory, name)
    await writeFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    return path
  }
  const features = `[ "$1" = features ] && { echo '{"linux":{"namespaces":["pid","user"]}}'; exit 0; }`
  const likeRunc = await runtime('runc', `${features}\necho '--pid-file value'; echo '--cgroup value'`)
  t.match(await probeRuntime(likeRunc), { features: { userNamespaces: true }, placesExecs: true, problem: '' })
  // usage on standard error, and a failure: runsc's way
  const likeRunsc = await runtime('runsc', 'echo "  -pid-file string" >&2; exit 128')
  t.match(await probeRuntime(likeRunsc), {
    features: { userNamespaces: false, recursiveReadOnlyMounts: true },
    placesExecs: false,
    problem: /features: failed with status 128/,
  })
  t.match(await probeRuntime(await runtime('silent', 'exit 1')), { placesExecs: true })
  t.match(await probeRuntime(join(directory, 'missing')), { placesExecs: true, problem: /ENOENT/ })
})

for (const path of ['/usr/bin/crun', '/usr/sbin/runc', '/usr/bin/runsc']) {
  t.test(path, { skip: existsSync(path) ? false : `${path} is not installed` }, async (t) => {
    t.equal((await probeRuntime(path)).placesExecs, !path.endsWith('runsc'))
  })
}
