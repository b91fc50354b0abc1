/** The library in a process of its own: what a bound lease promises, whatever ends that process. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, rmdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { open, type Place, sleeper } from '../helpers/embedder.ts'
import { cgroupRoot, needsRoot, project, until } from '../helpers/service.ts'

const skip = needsRoot

async function place(t: Test): Promise<Place> {
  const directory = await mkdtemp('/tmp/csn-')
  const slice = `/${directory.slice('/tmp/'.length)}`
  t.teardown(async () => {
    execFileSync(join(project, 'scripts/leaks'), [
      ...['--state', join(directory, 'state'), '--root', join(directory, 'root'), '--cgroup', slice],
    ])
    for (const name of ['/pods', ''])
      if (existsSync(cgroupRoot() + slice + name)) rmdirSync(cgroupRoot() + slice + name)
    await rm(directory, { recursive: true })
  })
  return { directory, slice }
}

function cgroups({ slice }: Place): string[] {
  const pods = `${cgroupRoot()}${slice}/pods`
  return [
    ...readdirSync(cgroupRoot() + slice).filter((name) => name.startsWith('monitor-')),
    ...(existsSync(pods) ? readdirSync(pods).filter((name) => name.startsWith('crio-')) : []),
  ]
}

t.test('close() ends bound pods, and their records say so', { skip }, async (t) => {
  const where = await place(t)
  const first = await open(where)
  const { podId, containerId } = await sleeper(first)
  t.equal(cgroups(where).length, 2)
  await t.rejects(open(where), { code: 'ERR_INSTANCE_IN_USE', message: /another process holds .*lock/ })
  await first.close()
  await first.close()
  t.strictSame(cgroups(where), [])

  const second = await open(where)
  t.equal(second.pods.status(podId).state, 'notready')
  t.match(second.containers.status(containerId), { state: 'exited', exitCode: 137 })
  await second.pods.remove(podId)
  await second.close()
})

t.test('a process that is killed takes its bound pods with it', { skip }, async (t) => {
  const where = await place(t)
  const embedder = spawn(
    process.execPath,
    [new URL('../helpers/embedder.js', import.meta.url).pathname, where.directory, where.slice],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const [line] = (await once(embedder.stdout, 'data')) as [Buffer]
  const { podId, containerId } = JSON.parse(line.toString()) as { podId: string; containerId: string }
  t.equal(cgroups(where).length, 2)
  embedder.kill('SIGKILL')
  await once(embedder, 'exit')
  await until(() => !cgroups(where).some((name) => name.startsWith('crio-')))

  const runtime = await open(where)
  t.equal(runtime.pods.status(podId).state, 'notready')
  t.match(
    runtime.containers.status(containerId),
    { state: 'exited', exitCode: 137 },
    'its exit was recorded without us',
  )
  await runtime.pods.remove(podId)
  await runtime.close()
  t.strictSame(cgroups(where), [])
})
