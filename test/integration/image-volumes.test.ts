/** Volumes that are the content of an image: whole and in part, read-only, kept while a container has them. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildLayout, type LayerEntry } from '../helpers/image.ts'
import {
  type ContainerOptions,
  create,
  ended,
  exec,
  NamespaceMode,
  pidOf,
  refused,
  runPod,
  runShell,
  startShell,
  status,
} from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService } from '../helpers/service.ts'

const data = 'localhost/data:1'
const single = 'localhost/single:1'
const many = 'localhost/many:1'

/** A mount of an image at /vol. */
const volume = (image: string, imageSubPath = '', more: object = {}): ContainerOptions => ({
  mounts: [
    { containerPath: '/vol', image: { image, userSpecifiedImage: image }, imageSubPath, readonly: true, ...more },
  ],
})

for (const snapshotter of ['overlay', 'erofs']) {
  t.test(`image volumes: ${snapshotter}`, { skip: needsRoot }, async (t) => imageVolumes(t, snapshotter))
}

async function imageVolumes(t: Test, snapshotter: string): Promise<void> {
  const config = `[images]\nsnapshotter = "${snapshotter}"`
  const service = await startService(t, { images: [busyboxImage], config })
  const pod = await runPod(service)
  const add = async (name: string, layers: LayerEntry[][]): Promise<void> => {
    const layout = join(service.directory, name.replaceAll(/[/:]/g, '-'))
    await buildLayout(layout, { name: 'latest', config: {}, layers })
    await service.importImage(layout, name)
  }
  const script: LayerEntry = { name: 'models/tool', content: '#!/bin/sh\necho ran\n', mode: 0o755 }
  await add(data, [
    [
      { name: 'models/', type: 'directory' },
      { name: 'models/weights', content: 'old\n' },
      { name: 'models/gone', content: 'gone\n' },
      { ...script, mode: 0o4755 },
      { name: 'escape', type: 'symlink', target: '../../../../etc' },
      { name: 'etc/', type: 'directory' },
      { name: 'etc/own', content: 'of the image\n' },
    ],
    [
      { name: 'models/weights', content: 'new\n' },
      { name: 'models/.wh.gone', content: '' },
    ],
  ])
  await add(single, [[{ name: 'only', content: 'one layer\n' }]])
  await add(
    many,
    Array.from({ length: 180 }, (_, n) => [{ name: `f${n}`, content: `${n}\n` }]),
  )
  const idOf = async (name: string): Promise<string> =>
    (await service.image.imageStatus({ image: { image: name } })).image?.id ?? ''

  t.test('all of an image, its layers one upon the other', async (t) => {
    const look = `cat /vol/models/weights; ls /vol/models; /vol/models/tool; stat -c %a /vol/models/tool
      touch /vol/x 2>&1 | grep -o Read-only; rm /vol/etc/own 2>&1 | grep -o Read-only; grep ' /vol ' /proc/self/mountinfo`
    const { stdout, status } = await runShell(service, pod, look, volume(data))
    t.match(
      stdout,
      /^new\ntool\nweights\nran\n4755\nRead-only\nRead-only\n.* \/vol ro,nosuid,nodev,relatime - overlay /,
    )
    t.match(status.mounts[0], {
      containerPath: '/vol',
      hostPath: '',
      readonly: true,
      image: { image: await idOf(data), userSpecifiedImage: data, imageRef: await idOf(data) },
    })
    t.equal((await runShell(service, pod, 'cat /vol/only', volume(single))).stdout, 'one layer\n')
    t.equal(
      (await runShell(service, pod, 'cat /vol/f0 /vol/f179; ls /vol | wc -l', volume(many))).stdout,
      '0\n179\n180\n',
    )
  })

  t.test('a part of it: a directory, a file, never anything outside', async (t) => {
    t.equal((await runShell(service, pod, 'cat /vol/weights', volume(data, 'models'))).stdout, 'new\n')
    t.equal((await runShell(service, pod, 'cat /vol', volume(data, 'models/weights'))).stdout, 'new\n')
    t.equal(
      (await runShell(service, pod, 'cat /vol/own', volume(data, 'escape'))).stdout,
      'of the image\n',
      'the image’s /etc',
    )
    const { stdout } = await runShell(
      service,
      pod,
      '/vol/tool 2>&1',
      volume(data, 'models', { mountOptions: ['noexec'] }),
    )
    t.match(stdout, /Permission denied/)
  })

  t.test('what cannot be is refused when the container is made', async (t) => {
    for (const [options, code, message] of [
      // told with the prefix that kubelets count, which the client takes off
      [volume(data, 'models/none'), 'UNKNOWN', /^image sub-path "models\/none" for "\/vol": no such file/],
      [volume('localhost/absent:1'), 'UNKNOWN', /^mount \/vol: .*absent/],
      [volume(data, '/models'), 'INVALID_ARGUMENT', /mount \/vol.*image_sub_path is relative/],
      [volume(data, 'a/../..'), 'INVALID_ARGUMENT', /image_sub_path/],
      [volume(data, '', { readonly: false }), 'INVALID_ARGUMENT', /mount \/vol: an image volume is read-only/],
      [volume(data, '', { hostPath: '/srv' }), 'INVALID_ARGUMENT', /has no host path/],
      [volume(data, '', { propagation: 1 }), 'INVALID_ARGUMENT', /private propagation/],
    ] as const) {
      await refused(t, create(service, pod, options), code, message)
    }
    t.same(await service.leaks('--live'), [])
  })

  t.test('in a user namespace it belongs to the container’s root', async (t) => {
    const map = [{ hostId: 400_000, containerId: 0, length: 65_536 }]
    const namespaceOptions = {
      pid: NamespaceMode.CONTAINER,
      usernsOptions: { mode: NamespaceMode.POD, uids: map, gids: map },
    }
    const mapped = await runPod(service, { linux: { securityContext: { namespaceOptions } } })
    for (const more of [{}, { uidMappings: map, gidMappings: map }]) {
      const { stdout } = await runShell(
        service,
        mapped,
        'stat -c %u:%g /vol/weights; cat /vol/weights; touch /vol/x 2>&1 | grep -o Read-only',
        {
          ...volume(data, 'models', more),
          security: { namespaceOptions },
        },
      )
      t.equal(stdout, '0:0\nnew\nRead-only\n')
    }
    await service.runtime.removePodSandbox({ podSandboxId: mapped.id })
  })

  t.test('it is in no mount table of the host, and stays while a container has it', async (t) => {
    const id = await startShell(service, pod, 'sleep 1000', volume(data))
    const layers = join(service.root, 'layers/fs')
    t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(service.directory))
    t.match(readFileSync(`/proc/${await pidOf(service, id)}/mountinfo`, 'utf8'), / \/vol ro/)
    const before = readdirSync(layers)
    await service.image.removeImage({ image: { image: data } })
    await service.stop()
    await service.start()
    t.same(readdirSync(layers).sort(), before.sort(), 'its layers are held')
    t.match((await status(service, id)).mounts[0]?.image, { userSpecifiedImage: data })
    t.equal((await exec(service, id, ['cat', '/vol/models/weights'])).stdout, 'new\n')
    await service.runtime.stopContainer({ containerId: id, timeout: 0 })
    await ended(service, id)
    await service.runtime.removeContainer({ containerId: id })
    await service.image.removeImage({ image: { image: single } }) // collects
    t.equal(readdirSync(layers).length, before.length - 3, 'and go with the container, and the next collection')
    t.ok(existsSync(layers))
  })

  await t.test('at the end', async (t) => {
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
}
