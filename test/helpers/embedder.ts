/** A process that embeds the library: run by itself it opens a runtime, starts a container, says so, and waits to be killed. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { containerConfigOf } from '#src/cri/map/container-config.ts'
import { podConfigOf } from '#src/cri/map/pod-config.ts'
import { Runtime } from '#src/index.ts'
import { probeImage, project } from './service.ts'

export interface Place {
  directory: string
  slice: string
}

export function open({ directory, slice }: Place): Promise<Runtime> {
  return Runtime.open({
    root: join(directory, 'root'),
    state: join(directory, 'state'),
    network: { driver: 'none' },
    cgroup: { monitors: slice, pods: `${slice}/pods` },
  })
}

/** A pod with one container that sleeps. */
export async function sleeper(runtime: Runtime): Promise<{ podId: string; containerId: string }> {
  await runtime.images.importLayout(join(project, 'build/Release/embedded-image'), probeImage)
  const pod = podConfigOf({ metadata: { name: 'library', namespace: 'test', uid: 'u' } }, '')
  const podId = await runtime.pods.run(pod)
  const config = containerConfigOf(
    { metadata: { name: 'main' }, image: { image: probeImage }, args: ['sleep', '1000'] },
    pod,
  )
  const containerId = await runtime.containers.create(podId, config)
  await runtime.containers.start(containerId)
  return { podId, containerId }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , directory = '', slice = ''] = process.argv
  process.stdout.write(JSON.stringify(await sleeper(await open({ directory, slice }))))
  setInterval(() => undefined, 1000)
}
