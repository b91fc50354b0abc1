/** The image store's metadata is lost under running containers: their files stay, whatever is restarted, pruned, pulled again. */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { exec, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService } from '../helpers/service.ts'

t.test('lost metadata', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const pod = await runPod(service)
  const container = await startShell(service, pod, 'echo own >/own; exec sleep 100000')
  const sums = async (): Promise<string> => {
    const script = 'find / -xdev -type f | sort | xargs sha256sum; find / -xdev | sort'
    const { stdout, exitCode } = await exec(service, container, ['sh', '-c', script])
    t.equal(exitCode, 0)
    return stdout
  }
  const before = await sums()
  t.match(before, /\/bin\/busybox\n/)
  const layers = (): string[] => readdirSync(join(service.root, 'layers', 'fs'))
  const own = layers()

  for (const path of ['image/index.json', 'image/blobs/sha256', 'layers/meta', 'layers/leases']) {
    rmSync(join(service.root, path), { recursive: true })
  }
  await service.restart()
  const prune = await service.cli(['image', 'prune', '--all'])
  t.equal(prune.status, 0, prune.stderr)
  t.same(layers(), own, 'no layer is collected')
  t.equal(await sums(), before, 'byte for byte')

  // the image comes again: its layers are made anew, those that are mounted are set aside
  await service.importImage(join(service.directory, 'busybox'), busyboxImage)
  t.equal(await sums(), before)
  const second = await startShell(service, pod, 'exec sleep 100000')
  await service.restart()
  await service.cli(['image', 'prune', '--all'])
  t.equal(await sums(), before)
  t.equal((await exec(service, second, ['true'])).exitCode, 0)

  await service.runtime.removePodSandbox({ podSandboxId: pod.id })
  t.match(await service.cli(['image', 'prune', '--all']), { status: 0 })
  t.same(layers(), [], 'with the containers all goes')
  t.match(await service.cli(['image', 'check']), { status: 0 })
  t.ok(existsSync(join(service.root, 'image', 'index.json')))
})
