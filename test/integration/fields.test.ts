/** Fields of the two configurations that no other file is about: an open input, the host's namespaces, the name that a user gave. */
import t from 'tap'
import {
  ended,
  namespaceOf,
  NamespaceMode,
  output,
  pidOf,
  runPod,
  runShell,
  startShell,
  status,
} from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService } from '../helpers/service.ts'

t.test('fields', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const { runtime } = service
  const pod = await runPod(service)

  t.test('an input that is kept open is waited for, any other one has ended', async (t) => {
    const script = 'if read -t 1 line; then echo got; else echo "status $?"; fi; readlink /proc/self/fd/0'
    const closed = await runShell(service, pod, script)
    t.match(closed.stdout, /^status 1\n\/dev\/null/)
    const id = await startShell(service, pod, 'cat; echo ended', { stdin: true })
    const exit = ended(service, id)
    const first = await Promise.race([exit, new Promise((resolve) => setTimeout(resolve, 500, 'waits'))])
    t.equal(first, 'waits')
    t.match(await status(service, id), { state: 1 })
    await runtime.stopContainer({ containerId: id, timeout: 0 })
    const { logPath } = await exit
    t.equal((await output(logPath)).stdout, '')
    await runtime.removeContainer({ containerId: id })
  })

  t.test('the host’s namespaces, where they are asked for', async (t) => {
    const { NODE, CONTAINER } = NamespaceMode
    const own = { network: NODE, ipc: NODE, pid: NODE }
    for (const namespaceOptions of [own, { ...own, pid: CONTAINER }]) {
      const shared = await runPod(service, { hostname: '', linux: { securityContext: { namespaceOptions } } })
      const id = await startShell(service, shared, 'sleep 1000', { security: { namespaceOptions } })
      const pid = await pidOf(service, id)
      for (const type of ['net', 'ipc', 'uts'])
        t.equal(await namespaceOf(pid, type), await namespaceOf('self', type), type)
      const same = (await namespaceOf(pid, 'pid')) === (await namespaceOf('self', 'pid'))
      t.equal(same, namespaceOptions.pid === NODE, 'pid')
      await runtime.removePodSandbox({ podSandboxId: shared.id })
    }
  })

  t.test('the name that a user gave comes back beside the image’s id', async (t) => {
    const id = await startShell(service, pod, 'true')
    await ended(service, id)
    const { imageId, ...found } = await status(service, id)
    t.match(found, { image: { userSpecifiedImage: busyboxImage }, imageRef: imageId })
    t.match(imageId, /^sha256:[0-9a-f]{64}$/)
  })
})
