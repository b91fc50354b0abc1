import t from 'tap'

import { containerConfigOf } from '#src/cri/map/container-config.ts'
import { matchesId, matchesLabels, matchesState } from '#src/cri/map/filters.ts'
import { toCriMount } from '#src/cri/map/mounts.ts'
import { podConfigOf } from '#src/cri/map/pod-config.ts'
import { resourcesOf } from '#src/cri/map/resources.ts'
import { fromCriSignal, toCriSignal } from '#src/cri/map/signals.ts'
import { runtime } from '#src/gen/cri.ts'

const { MountPropagation, NamespaceMode } = runtime.v1
const { ProfileType } = runtime.v1.SecurityProfile
const metadata = { name: 'web', namespace: 'prod', uid: 'u', attempt: 2 }
const pod = podConfigOf({ metadata }, '')

t.test('a sandbox with nothing but its name gets the defaults of the CRI', async (t) => {
  t.match(pod, {
    metadata,
    network: 'pod',
    pid: 'pod',
    ipc: 'pod',
    user: null,
    dns: null,
    cgroupParent: '',
    privileged: false,
  })
  t.throws(() => podConfigOf(null, ''), { message: /metadata/ })
  t.throws(() => podConfigOf({}, ''), { message: /metadata/ })
})

t.test('port mappings: those with a port of the host', async (t) => {
  const ports = (...portMappings: runtime.v1.PortMapping.$Properties[]): unknown =>
    podConfigOf({ metadata, portMappings }, '').ports
  t.strictSame(
    ports(
      { containerPort: 80 },
      { containerPort: 53, hostPort: 5353, protocol: runtime.v1.Protocol.UDP, hostIp: '::1' },
    ),
    [{ protocol: 'udp', containerPort: 53, hostPort: 5353, hostIp: '::1' }],
  )
  const bad: runtime.v1.PortMapping.$Properties[] = [
    { containerPort: 80, hostPort: 70000 },
    { containerPort: 0, hostPort: 80 },
    { containerPort: 80, hostPort: -1 },
    { containerPort: 80, hostPort: 80, hostIp: 'localhost' },
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- as the wire brings it
    { containerPort: 80, hostPort: 80, protocol: 7 as runtime.v1.Protocol },
  ]
  for (const mapping of bad)
    t.throws(() => ports(mapping), { code: 'ERR_INVALID_ARGUMENT', message: /port_mappings\./ })
  // the kubelet gives the ports of a pod with the host's network too
  const host = { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } }
  t.strictSame(
    podConfigOf({ metadata, linux: host, portMappings: [{ containerPort: 80, hostPort: 80 }] }, '').ports,
    [],
  )
})

t.test('namespace modes of a sandbox', async (t) => {
  const withOptions = (namespaceOptions: runtime.v1.NamespaceOption.$Properties): ReturnType<typeof podConfigOf> =>
    podConfigOf({ metadata, linux: { securityContext: { namespaceOptions } } }, '')
  t.match(withOptions({ network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.NODE }), {
    network: 'node',
    pid: 'container',
    ipc: 'node',
  })
  t.throws(() => withOptions({ network: NamespaceMode.CONTAINER }), { message: /network must be POD or NODE/ })
  t.throws(() => withOptions({ pid: NamespaceMode.TARGET }), { message: /TARGET/ })
  t.throws(() => withOptions({ usernsOptions: { mode: NamespaceMode.TARGET } }), { message: /userns_options\.mode/ })
  t.throws(
    () =>
      withOptions({ usernsOptions: { mode: NamespaceMode.NODE, uids: [{ hostId: 1, containerId: 0, length: 1 }] } }),
    {
      message: /takes no mappings/,
    },
  )
  t.equal(withOptions({ usernsOptions: { mode: NamespaceMode.NODE } }).user, null)
  const map = [{ hostId: 1000, containerId: 0, length: 100 }]
  t.strictSame(withOptions({ usernsOptions: { mode: NamespaceMode.POD, uids: map, gids: map } }).user, {
    uids: map,
    gids: map,
  })
})

t.test('a cgroup parent, without the slashes at its end', async (t) => {
  const parent = (cgroupParent: string): string => podConfigOf({ metadata, linux: { cgroupParent } }, '').cgroupParent
  t.equal(parent('/kubepods/burstable/pod1/'), '/kubepods/burstable/pod1')
  t.equal(parent('/'), '/')
})

const container = (config: runtime.v1.ContainerConfig.$Properties): ReturnType<typeof containerConfigOf> =>
  containerConfigOf({ metadata: { name: 'c' }, ...config }, pod)
const secured = (
  securityContext: runtime.v1.LinuxContainerSecurityContext.$Properties,
): ReturnType<typeof containerConfigOf> => container({ linux: { securityContext } })

t.test('seccomp: the new field wins, absent is unconfined', async (t) => {
  t.match(secured({}).seccomp, { type: 'unconfined' })
  t.match(secured({ seccomp: { profileType: ProfileType.RuntimeDefault } }).seccomp, { type: 'runtime-default' })
  t.match(
    secured({
      seccomp: { profileType: ProfileType.Localhost, localhostRef: '/p.json' },
      seccompProfilePath: 'unconfined',
    }).seccomp,
    {
      type: 'localhost',
      path: '/p.json',
    },
  )
  t.match(secured({ seccompProfilePath: 'runtime/default' }).seccomp, { type: 'runtime-default' })
  t.match(secured({ seccompProfilePath: 'localhost//a.json' }).seccomp, { type: 'localhost', path: '/a.json' })
  t.throws(() => secured({ seccompProfilePath: 'what' }), { message: /"what"/ })
})

t.test('ids are 32 bits, strictly', async (t) => {
  t.equal(secured({ runAsUser: { value: 0 } }).runAsUser, 0, 'zero is a user, not "unset"')
  t.equal(secured({}).runAsUser, null)
  for (const value of [-1, 4294967295, 4294967296]) {
    t.throws(() => secured({ runAsUser: { value } }), { message: /run_as_user/ })
    t.throws(() => secured({ supplementalGroups: [value] }), { message: /supplemental_groups/ })
  }
})

t.test('AppArmor: the new field wins over the deprecated one', async (t) => {
  t.equal(secured({}).apparmor, null)
  t.strictSame(secured({ apparmorProfile: 'localhost/p' }).apparmor, { type: 'localhost', name: 'p' })
  t.strictSame(secured({ apparmorProfile: 'unconfined' }).apparmor, { type: 'unconfined', name: '' })
  const { RuntimeDefault, Localhost } = ProfileType
  t.strictSame(secured({ apparmor: { profileType: RuntimeDefault }, apparmorProfile: 'localhost/p' }).apparmor, {
    type: 'runtime-default',
    name: '',
  })
  for (const localhostRef of ['p', 'localhost/p']) {
    t.strictSame(secured({ apparmor: { profileType: Localhost, localhostRef } }).apparmor, {
      type: 'localhost',
      name: 'p',
    })
  }
  t.throws(() => secured({ apparmor: { profileType: Localhost } }), { message: /name of the profile is missing/ })
  t.throws(() => secured({ apparmorProfile: 'what' }), { message: /"what"/ })
  // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- as the wire brings it
  t.throws(() => secured({ apparmor: { profileType: 9 as typeof Localhost } }), { message: /profile_type 9/ })
})

t.test('SELinux: parts that are not given are left to the default', async (t) => {
  t.equal(secured({}).selinux, null)
  t.equal(secured({ selinuxOptions: {} }).selinux, null)
  t.strictSame(secured({ selinuxOptions: { level: 's0', type: 'spc_t' } }).selinux, {
    user: '',
    role: '',
    type: 'spc_t',
    level: 's0',
  })
})

t.test('mounts: id maps, options and images come back in the status', async (t) => {
  const map = [{ hostId: 1000, containerId: 0, length: 10 }]
  const full: runtime.v1.Mount.$Properties = {
    containerPath: '/m',
    hostPath: '/h',
    readonly: true,
    recursiveReadOnly: true,
    selinuxRelabel: true,
    propagation: MountPropagation.PROPAGATION_PRIVATE,
    uidMappings: map,
    gidMappings: map,
    mountOptions: ['noexec'],
  }
  const image: runtime.v1.Mount.$Properties = {
    ...full,
    hostPath: '',
    image: { image: 'sha256:1', userSpecifiedImage: 'x:1' },
    imageSubPath: 'a/b',
  }
  for (const mount of [full, image])
    t.strictSame(
      container({ mounts: [mount] }).mounts.map((each) => toCriMount(each)),
      [mount],
    )
  t.equal(
    container({ mounts: [{ containerPath: '/m', hostPath: '/h/a', imageSubPath: 'a' }] }).mounts[0]?.image,
    null,
    'a sub-path alone makes no image volume: kubelets say it of every volume',
  )
  const bad = (mount: runtime.v1.Mount.$Properties): unknown =>
    container({ mounts: [{ containerPath: '/m', hostPath: '/h', ...mount }] })
  t.throws(() => bad({ uidMappings: map }), { message: /mount \/m: uidMappings and gidMappings/ })
  // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- as the wire brings it
  t.throws(() => bad({ propagation: 7 as runtime.v1.MountPropagation }), { message: /mount \/m: propagation 7/ })
})

t.test('the user namespace of a container is its sandbox’s', async (t) => {
  const map = [{ hostId: 1000, containerId: 0, length: 100 }]
  const usernsOptions = { mode: NamespaceMode.POD, uids: map, gids: map }
  const within = (
    of: runtime.v1.UserNamespace.$Properties | null,
    asked: runtime.v1.UserNamespace.$Properties,
  ): unknown =>
    containerConfigOf(
      { metadata: { name: 'c' }, linux: { securityContext: { namespaceOptions: { usernsOptions: asked } } } },
      podConfigOf({ metadata, linux: { securityContext: { namespaceOptions: { usernsOptions: of } } } }, ''),
    )
  t.doesNotThrow(() => within(usernsOptions, usernsOptions))
  t.doesNotThrow(() => within(null, { mode: NamespaceMode.NODE }))
  const other = { ...usernsOptions, uids: [{ hostId: 2000, containerId: 0, length: 100 }] }
  for (const [of, asked] of [
    [usernsOptions, other],
    [null, usernsOptions],
    [usernsOptions, { mode: NamespaceMode.NODE }],
  ] as const) {
    t.throws(() => within(of, asked), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /userns_options are not those of the sandbox/,
    })
  }
})

t.test('the size of a root file system, by annotation; what is for attach', async (t) => {
  const size = (text: string): unknown => container({ annotations: { 'caisson.io/rootfs-size': text } }).rootfsSize
  t.equal(size('512Mi'), 512 * 2 ** 20)
  t.equal(size('4096'), 4096)
  for (const bad of ['', '0', '1Ti', '-1', '1e9', '9'.repeat(16)])
    t.throws(() => size(bad), { message: /rootfs-size/ }, bad)
  t.match(container({ stdin: true, stdinOnce: true, tty: true }), { stdin: true, stdinOnce: true, tty: true })
})

t.test('environment values are bytes, and must be text', async (t) => {
  const value = (bytes: number[]): unknown =>
    container({ envs: [{ key: 'A', value: Uint8Array.from(bytes) }] }).env[0]?.value
  t.equal(value([0xef, 0xbb, 0xbf, 0x78]), '\ufeffx')
  t.throws(() => value([0xff]), { message: /"A" is not UTF-8/ })
})

t.test('mounts and PID modes', async (t) => {
  t.match(
    container({
      mounts: [
        {
          containerPath: '/a',
          hostPath: '/b',
          propagation: MountPropagation.PROPAGATION_BIDIRECTIONAL,
          readonly: true,
        },
      ],
    }).mounts,
    [{ containerPath: '/a', hostPath: '/b', propagation: 'bidirectional', readonly: true, recursiveReadonly: false }],
  )
  t.match(secured({ namespaceOptions: { pid: NamespaceMode.TARGET, targetId: 'x' } }), { pid: 'target', targetId: 'x' })
  t.match(secured({ namespaceOptions: { pid: NamespaceMode.CONTAINER } }), { pid: 'container' })
})

t.test('resources: zero is unset, -1 is not', async (t) => {
  t.strictSame(resourcesOf(null), {})
  t.strictSame(resourcesOf({ cpuQuota: 0, memoryLimitInBytes: 0, cpusetCpus: '' }), {})
  t.strictSame(
    resourcesOf({ cpuQuota: -1, memoryLimitInBytes: 5, oomScoreAdj: -998, unified: { 'memory.high': '1' } }),
    {
      cpuQuota: -1,
      memoryLimit: 5,
      oomScoreAdj: -998,
      unified: { 'memory.high': '1' },
    },
  )
})

t.test('every signal of the CRI has a kernel number and comes back', async (t) => {
  t.equal(fromCriSignal(runtime.v1.Signal.SIGNAL_RUNTIME_DEFAULT), 0)
  t.equal(fromCriSignal(runtime.v1.Signal.SIGNAL_SIGTERM), 15)
  t.equal(fromCriSignal(runtime.v1.Signal.SIGNAL_SIGRTMINPLUS3), 37)
  t.equal(fromCriSignal(runtime.v1.Signal.SIGNAL_SIGRTMAXMINUS1), 63)
  for (const value of Object.values(runtime.v1.Signal)) {
    if (typeof value !== 'number' || value === runtime.v1.Signal.SIGNAL_RUNTIME_DEFAULT) continue
    const number = fromCriSignal(value)
    t.ok(number > 0 && number <= 64, runtime.v1.Signal[value])
    t.equal(fromCriSignal(toCriSignal(number)), number, runtime.v1.Signal[value])
  }
})

t.test('filters are conjunctions; what is absent matches all', async (t) => {
  t.ok(matchesId('abc', null) && matchesId('abc', '') && matchesId('abc', 'ab') && !matchesId('abc', 'b'))
  t.ok(matchesState(1, null) && matchesState(1, { state: 1 }) && !matchesState(1, { state: 0 }) && matchesState(0, {}))
  t.ok(
    matchesLabels({ a: '1', b: '2' }, { a: '1' }) && matchesLabels({}, null) && !matchesLabels({ a: '1' }, { a: '2' }),
  )
})
