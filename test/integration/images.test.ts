/** The ImageService against a real registry: pulls, names, identity, removal. */
import { join } from 'node:path'
import t from 'tap'
import { int64, safeInt } from '#src/cri/grpc/int64.ts'
import { buildBusybox } from '../helpers/image.ts'
import { create, refused, run, runPod, status } from '../helpers/pods.ts'
import { startRegistry } from '../helpers/registry.ts'
import { needsRoot, startService } from '../helpers/service.ts'
import { missingTools, run as tool } from '../helpers/tools.ts'

const skip = needsRoot || missingTools('docker-registry', 'skopeo')

t.test('images', { skip }, async (t) => {
  const service = await startService(t, { images: [] })
  const { image: images } = service
  const registry = await startRegistry()
  t.teardown(() => registry.stop())
  const layout = join(service.directory, 'busybox')
  const built = await buildBusybox(layout)
  const push = (name: string): Promise<string> =>
    tool('skopeo', 'copy', '--dest-tls-verify=false', `oci:${layout}:latest`, `docker://${registry.host}/${name}`)
  await push('library/busybox:1')
  await push('library/busybox:2')
  const tag = (version: number): string => `${registry.host}/library/busybox:${version}`
  const digest = `${registry.host}/library/busybox@${built.manifest}`
  const pull = async (name: string): Promise<string> => (await images.pullImage({ image: { image: name } })).imageRef
  const list = async (): Promise<string[]> => (await images.listImages({})).images.map(({ id }) => id ?? '')

  t.test('unknown: an empty reply', async (t) => {
    t.notOk((await images.imageStatus({ image: { image: tag(1) } })).image)
    t.same(await list(), [])
    await images.removeImage({ image: { image: tag(1) } })
    await refused(t, images.imageStatus({ image: { image: '' } }), 'INVALID_ARGUMENT', /image/)
  })

  t.test('one image, by whatever name', async (t) => {
    const id = await pull(tag(1))
    t.match(id, /^sha256:[0-9a-f]{64}$/)
    t.equal(id, built.configDigest, 'the id is the digest of its config')
    t.equal(await pull(tag(2)), id)
    t.equal(await pull(digest), id)
    t.same(await list(), [id], 'listed once')
    const { image } = await images.imageStatus({ image: { image: tag(1) } })
    t.equal(image?.id, id)
    t.ok(safeInt(image?.size) > 0)
    t.same([...(image?.repoTags ?? [])].sort(), [tag(1), tag(2)])
    t.same(image?.repoDigests, [digest])
    for (const name of [id, id.slice(7), id.slice(7, 19), tag(2), digest]) {
      t.equal((await images.imageStatus({ image: { image: name } })).image?.id, id, name)
    }
    const verbose = await images.imageStatus({ image: { image: id }, verbose: true })
    t.match(JSON.parse(verbose.info['info'] ?? ''), { imageSpec: { config: { cmd: ['sh'] } } })

    const pod = await runPod(service)
    const container = await create(service, pod, { image: tag(2), command: ['true'] })
    const made = await status(service, container)
    t.equal(made.imageId, id)
    t.equal(made.imageRef, id)
    t.equal(made.image?.image, tag(2))
    const [listed] = (await service.runtime.listContainers({})).containers
    t.equal(listed?.imageId, id)
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
  })

  t.test('many pulls of one image at once are one', async (t) => {
    await push('library/other:1')
    const name = `${registry.host}/library/other:1`
    const ids = await Promise.all(Array.from({ length: 8 }, () => pull(name)))
    t.equal(new Set(ids).size, 1)
  })

  t.test('removal takes every name; what runs from it goes on', async (t) => {
    const id = await pull(tag(1))
    const pod = await runPod(service)
    const container = await create(service, pod, { image: id, command: ['cat', '/etc/motd'] })
    await Promise.all(Array.from({ length: 5 }, () => images.removeImage({ image: { image: tag(1) } })))
    t.notOk((await images.imageStatus({ image: { image: tag(2) } })).image)
    t.notOk((await images.imageStatus({ image: { image: id } })).image)
    t.same(await list(), [])
    await service.runtime.startContainer({ containerId: container })
    const { exitCode } = await service.caisson.waitContainer({ containerId: container })
    t.notOk(exitCode, 'its layers are kept while a container needs them')
    await refused(t, create(service, pod, { image: id }), 'NOT_FOUND', id)
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.equal(await pull(tag(1)), id, 'and it can be pulled again')
    const again = await runPod(service)
    t.equal((await run(service, again, { image: tag(1), command: ['cat', '/etc/motd'] })).stdout, 'second layer\n')
  })

  t.test('after a restart of the service', async (t) => {
    const before = (await images.listImages({})).images
    await service.restart()
    t.same((await service.image.listImages({})).images, before)
  })

  t.test('what cannot be pulled', async (t) => {
    const call = (image: string): Promise<unknown> => service.image.pullImage({ image: { image } })
    await refused(t, call(`${registry.host}/library/none:1`), 'NOT_FOUND', 'library/none')
    await refused(t, call(`${registry.host}/library/busybox@sha256:${'0'.repeat(64)}`), 'NOT_FOUND', /busybox/)
    await refused(t, call('Not A Reference'), 'INVALID_ARGUMENT', 'Not A Reference')
    await refused(t, call('127.0.0.1:1/nobody/there:1'), 'UNKNOWN', '127.0.0.1:1')
  })

  t.test('ImageFsInfo', async (t) => {
    const { imageFilesystems, containerFilesystems } = await service.image.imageFsInfo({})
    const [usage] = imageFilesystems
    t.ok(safeInt(usage?.usedBytes?.value) > 0)
    t.ok(safeInt(usage?.inodesUsed?.value) > 0)
    t.ok(int64(usage?.timestamp) > 0n)
    t.match(usage?.fsId?.mountpoint, service.root)
    t.equal(containerFilesystems.length, 1)
  })
})
