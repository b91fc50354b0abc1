import t from 'tap'

import type { ContainerConfig, PodConfig, VolumeMount } from '#src/pod/config.ts'
import { containerMounts } from '#src/pod/container-mounts.ts'

const user = {
  uids: [{ hostId: 70000, containerId: 0, length: 1000 }],
  gids: [{ hostId: 70000, containerId: 0, length: 1000 }],
}
const pod = { ipc: 'pod', network: 'pod', user } as unknown as PodConfig
const volume: VolumeMount = {
  containerPath: '/data',
  hostPath: '/srv',
  readonly: false,
  recursiveReadonly: false,
  selinuxRelabel: false,
  propagation: 'private',
}
const mountsOf = (
  mounts: Partial<VolumeMount>[],
  config: Partial<ContainerConfig> = {},
): ReturnType<typeof containerMounts> =>
  containerMounts(
    pod,
    {
      mounts: mounts.map((m) => ({ ...volume, ...m })),
      privileged: false,
      readonlyRootfs: false,
      ...config,
    } as ContainerConfig,
    {
      podFiles: '/state/etc',
      cgroupOptions: ['nsdelegate'],
    },
  )
const destinations = (list: ReturnType<typeof mountsOf>): string[] => list.map(({ destination }) => destination)

t.test('the standard mounts, then the pod’s files', async (t) => {
  t.strictSame(destinations(mountsOf([])), [
    '/proc', '/dev', '/dev/pts', '/dev/shm', '/dev/mqueue', '/sys', '/sys/fs/cgroup', '/etc/hostname', '/etc/hosts', '/etc/resolv.conf',
  ]) // prettier-ignore
  const list = mountsOf([])
  t.ok(list.find(({ destination }) => destination === '/sys')?.options.includes('ro'))
  t.equal(list.find(({ destination }) => destination === '/dev/shm')?.source, 'caisson:shm')
})

t.test('outer volumes before inner ones; a volume takes the place of a standard mount', async (t) => {
  t.strictSame(destinations(mountsOf([{ containerPath: '/a/b/c' }, { containerPath: '/a' }])).slice(-2), [
    '/a',
    '/a/b/c',
  ])
  t.notOk(destinations(mountsOf([{ containerPath: '/dev' }])).includes('/dev/pts'))
  t.equal(destinations(mountsOf([{ containerPath: '/etc/hosts' }])).filter((path) => path === '/etc/hosts').length, 1)
})

t.test('privileged: /sys is writable, the superblock keeps the host’s options', async (t) => {
  const cgroup = mountsOf([], { privileged: true }).find(({ destination }) => destination === '/sys/fs/cgroup')
  t.ok(cgroup?.options.includes('rw'))
  t.ok(cgroup?.options.includes('nsdelegate'))
  t.notOk(
    mountsOf([])
      .find(({ type }) => type === 'cgroup')
      ?.options.includes('nsdelegate'),
  )
})

t.test('what contradicts itself is refused', async (t) => {
  for (const [mount, message] of [
    [{ containerPath: 'data' }, /container path "data" is not absolute/],
    [{ hostPath: 'srv' }, /host path "srv" is not absolute/],
    [{ recursiveReadonly: true }, /recursive read-only without read-only/],
    [{ recursiveReadonly: true, readonly: true, propagation: 'bidirectional' }, /with bidirectional propagation/],
  ] as [Partial<VolumeMount>, RegExp][]) {
    t.throws(() => mountsOf([mount]), { code: 'ERR_INVALID_ARGUMENT', message })
  }
  t.ok(
    mountsOf([{ recursiveReadonly: true, readonly: true }])
      .at(-1)
      ?.options.includes('rro'),
  )
})

t.test('id maps and further options', async (t) => {
  const [mapped] = mountsOf([{ idMap: user }]).slice(-1)
  t.strictSame(mapped?.options, ['rbind', 'rprivate', 'rw', 'idmap'], 'by the pod’s own user namespace')
  t.notOk(mapped !== undefined && 'uidMappings' in mapped)
  const [own] = mountsOf([{ idMap: { ...user, gids: [{ hostId: 5, containerId: 0, length: 1 }] } }]).slice(-1)
  t.match(own, {
    options: ['rbind', 'rprivate', 'rw', 'idmap'],
    uidMappings: [{ hostID: 70000, containerID: 0, size: 1000 }],
    gidMappings: [{ hostID: 5, containerID: 0, size: 1 }],
  })
  t.ok(
    mountsOf([{ options: ['noexec', 'nodev'] }])
      .at(-1)
      ?.options.join()
      .endsWith(',noexec,nodev'),
  )
  for (const word of ['exec', 'rw', 'size=1', 'rshared', '']) {
    t.throws(() => mountsOf([{ options: [word] }]), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /mount \/data: mount option/,
    })
  }
})
