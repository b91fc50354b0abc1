/** A prefix of an id that is nobody else's does wherever an id does, in every RPC that takes one. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Json, methods, RawClient } from '../helpers/bad-requests.ts'
import { fakeCriu } from '../helpers/fake-criu.ts'
import { runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService } from '../helpers/service.ts'

t.test('ids by their prefix', { skip: needsRoot }, async (t) => {
  const criu = fakeCriu(t)
  const service = await startService(t, { images: [busyboxImage], config: `[checkpoint]\ncriu = "${criu.path}"` })
  const client = new RawClient(service.socket)
  t.teardown(() => {
    client.close()
  })
  const output = join(criu.directory, 'pod')
  mkdirSync(output)
  const metadata = { name: 'short', attempt: 0 }
  const command = ['/bin/sh', '-c', 'read forever']
  /** What a call needs besides. */
  const besides: Record<string, Json> = {
    CreateContainer: { config: { metadata, image: { image: busyboxImage }, command, stdin: true, linux: {} } },
    Exec: { cmd: ['/bin/true'], stdout: true },
    ExecSync: { cmd: ['/bin/true'], timeout: 10 },
    Attach: { stdout: true },
    CheckpointContainer: { location: join(criu.directory, 'c.tar') },
    CheckpointPod: { output_path: output },
    UpdateContainerResources: { linux: { oom_score_adj: 500 } },
  }
  /** What a call that is not about one that runs answers here. */
  const states: Record<string, RegExp> = { StartContainer: /it is running/ }
  const last = /^(Stop|Remove)/
  const taking = methods().flatMap((method) => {
    const field = ['container_id', 'pod_sandbox_id'].find((name) => name in method.request.fields)
    return field === undefined || method.clientStream || method.name === 'WaitContainer' ? [] : [{ method, field }]
  })
  t.ok(taking.length >= 21, `${taking.length} RPCs`)

  const pod = await runPod(service)
  const containerId = await startShell(service, pod, 'read forever', { stdin: true })
  const shortOf = (field: string): string => (field === 'container_id' ? containerId : pod.id).slice(0, 13)
  for (const { method, field } of taking.toSorted((a, b) => order(a.method.name) - order(b.method.name))) {
    const { name } = method
    const request = { [field]: shortOf(field), ...besides[name] }
    const { code, details } = await client.call(method, request)
    const state = states[name]
    if (state === undefined) t.equal(code, 'OK', `${name}: ${details}`)
    else t.match(details, state, name)
  }
  t.same((await service.runtime.listPodSandbox({})).items, [], 'a stop and a removal are not only idempotent')
  t.same((await service.runtime.listContainers({})).containers, [])

  function order(name: string): number {
    return last.test(name) ? (name.startsWith('Stop') ? 1 : 2) + (name.endsWith('Sandbox') ? 2 : 0) : 0
  }
})
