/** What plugins want of one container, together. */
import t from 'tap'
import type { Spec } from '#src/oci/runtime-spec.ts'
import { specJson, unlimited } from '#src/oci/spec-json.ts'
import { mergeAdjustment, nothing, toMessage, type Merged } from '#src/nri/merge.ts'
import { messages, type NriAdjustment } from '#src/nri/messages.ts'
import { Owners } from '#src/nri/owners.ts'
import { resourcesOf, shownResources } from '#src/nri/resources.ts'
import { adjustSpec, refuseUnsupported } from '#src/nri/spec.ts'
import { Updates } from '#src/nri/updates.ts'
import { adjustedView } from '#src/nri/view.ts'

/** As it comes over the wire. */
function merged(...asked: NriAdjustment[]): Merged {
  const all = nothing()
  const owners = new Owners()
  asked.forEach((each, i) => {
    const wire = messages.ContainerAdjustment.decode(messages.ContainerAdjustment.encode(each).finish())
    mergeAdjustment(all, owners, 'c', `0${i}-p`, wire)
  })
  return all
}

const spec: Spec = {
  ociVersion: '1.3.0',
  process: {
    terminal: false,
    user: { uid: 0, gid: 0 },
    args: ['sh'],
    env: ['PATH=/bin', 'A=1', 'B=2'],
    cwd: '/',
    capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
    noNewPrivileges: false,
  },
  root: { path: 'rootfs', readonly: false },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: [] },
    { destination: '/data', type: 'bind', source: '/srv', options: ['rbind'] },
  ],
  linux: {
    namespaces: [{ type: 'mount' }, { type: 'network', path: 'caisson:pod' }],
    devices: [{ path: '/dev/a', type: 'c', major: 1, minor: 3, fileMode: 0o600, uid: 0, gid: 0 }],
    resources: { devices: [{ allow: false, access: 'rwm' }] },
    maskedPaths: [],
    readonlyPaths: [],
  },
}

t.test('every field that can be set, set by two plugins, is a conflict that names both and the field', async (t) => {
  const fields: [NriAdjustment, RegExp][] = [
    [{ annotations: { a: 'b' } }, /annotations \("a"\)/],
    [{ mounts: [{ destination: '/m' }] }, /mounts \("\/m"\)/],
    [{ env: [{ key: 'E', value: 'v' }] }, /env \("E"\)/],
    [{ args: ['x'] }, /args/],
    [{ rlimits: [{ type: 'RLIMIT_NOFILE', soft: 1, hard: 2 }] }, /rlimits \("RLIMIT_NOFILE"\)/],
    [{ cdiDevices: [{ name: 'v/c=d' }] }, /cdi devices \("v\/c=d"\)/],
    [{ linux: { devices: [{ path: '/dev/x' }] } }, /devices \("\/dev\/x"\)/],
    [{ linux: { namespaces: [{ type: 'ipc' }] } }, /namespace \("ipc"\)/],
    [{ linux: { sysctl: { 'net.a': '1' } } }, /sysctl \("net.a"\)/],
    [{ linux: { netDevices: { eth1: { name: 'x' } } } }, /linux net devices \("eth1"\)/],
    [{ linux: { cgroupsPath: '/a' } }, /cgroups path/],
    [{ linux: { oomScoreAdj: { value: 1 } } }, /oom score adj/],
    [{ linux: { ioPriority: { class: messages.IOPrioClass.IOPRIO_CLASS_BE, priority: 1 } } }, /io priority/],
    [{ linux: { seccompPolicy: { defaultAction: 'SCMP_ACT_ALLOW' } } }, /seccomp policy/],
    [{ linux: { scheduler: { policy: messages.LinuxSchedulerPolicy.SCHED_OTHER } } }, /linux sched/],
    [{ linux: { memoryPolicy: { mode: messages.MpolMode.MPOL_PREFERRED } } }, /memory policy/],
    [{ linux: { rdt: { closId: { value: 'x' } } } }, /rdt clos id/],
    [{ linux: { rdt: { schemata: { value: ['x'] } } } }, /rdt schemata/],
    [{ linux: { rdt: { enableMonitoring: { value: true } } } }, /rdt enable monitoring/],
    ...(
      [
        [{ memory: { limit: { value: 1 } } }, /mem limit/],
        [{ memory: { reservation: { value: 1 } } }, /mem reservation/],
        [{ memory: { swap: { value: 1 } } }, /mem swap limit/],
        [{ memory: { kernel: { value: 1 } } }, /mem kernel limit/],
        [{ memory: { kernelTcp: { value: 1 } } }, /mem tcp limit/],
        [{ memory: { swappiness: { value: 1 } } }, /mem swappiness/],
        [{ memory: { disableOomKiller: { value: true } } }, /mem disable oom killer/],
        [{ memory: { useHierarchy: { value: true } } }, /mem use hierarchy/],
        [{ cpu: { shares: { value: 1 } } }, /cpu shares/],
        [{ cpu: { quota: { value: 1 } } }, /cpu quota/],
        [{ cpu: { period: { value: 1 } } }, /cpu period/],
        [{ cpu: { realtimeRuntime: { value: 1 } } }, /cpu realtime runtime/],
        [{ cpu: { realtimePeriod: { value: 1 } } }, /cpu realtime period/],
        [{ cpu: { cpus: '0' } }, /cpu set cpus/],
        [{ cpu: { mems: '0' } }, /cpu set mems/],
        [{ pids: { limit: 1 } }, /pids limit/],
        [{ hugepageLimits: [{ pageSize: '2MB', limit: 1 }] }, /hugepage limits \("2MB"\)/],
        [{ unified: { 'memory.high': '1' } }, /cgroups unified \("memory.high"\)/],
        [{ blockioClass: { value: 'x' } }, /blockio class/],
        [{ rdtClass: { value: 'x' } }, /rdt class/],
      ] as const
    ).map(([resources, name]): [NriAdjustment, RegExp] => [{ linux: { resources } as never }, name]),
  ]
  for (const [asked, name] of fields) {
    t.doesNotThrow(() => merged(asked), name.source)
    const both = (): Merged => merged(asked, asked)
    t.throws(both, { code: 'ERR_FAILED_PRECONDITION', message: name }, name.source)
    t.throws(both, /"01-p" and "00-p"/)
  }
})

t.test('hooks are everybody’s', async (t) => {
  const hook = { path: '/h' }
  const both = merged({ hooks: { poststop: [hook] } }, { hooks: { poststop: [{ ...hook, timeout: { value: 3 } }] } })
  t.equal(both.hooks.poststop?.length, 2)
  const before = { path: '/device' }
  t.strictSame(adjustSpec({ ...spec, hooks: { poststop: [before] } }, both).hooks, {
    poststop: [before, { path: '/h', args: [], env: [] }, { path: '/h', args: [], env: [], timeout: 3 }],
  })
})

t.test('what was given up can be set: by who gives it up, and by the one after', async (t) => {
  const twice = merged({ env: [{ key: 'E', value: '1' }] }, { env: [{ key: '-E' }, { key: 'E', value: '2' }] })
  t.equal(twice.env.get('E'), '2')
  const later = merged({ annotations: { a: '1' } }, { annotations: { '-a': '' } }, { annotations: { a: '3' } })
  t.equal(later.annotations.get('a'), '3')
  t.same(merged({ args: ['a'] }, { args: ['', 'b'] }).args, ['b'])
  const rdt = merged({ linux: { rdt: { closId: { value: 'x' } } } }, { linux: { rdt: { remove: true } } }).linux.rdt
  t.match(rdt, { remove: true })
})

t.test('the message says the same, with what is taken away marked', async (t) => {
  const message = toMessage(
    merged({
      annotations: { a: '1', '-b': '' },
      env: [{ key: '-E' }],
      mounts: [{ destination: '-/m' }, { destination: '/n', source: '/s' }],
      linux: { devices: [{ path: '-/dev/x' }], sysctl: { '-k': '' }, netDevices: { '-eth0': {} } },
    }),
  )
  t.same(message.annotations, { '-b': '', a: '1' })
  t.same(message.env, [{ key: '-E', value: '' }])
  t.match(message.mounts, [{ destination: '-/m' }, { destination: '/n', source: '/s' }])
  t.match(message.linux, { devices: [{ path: '-/dev/x' }], sysctl: { '-k': '' }, netDevices: { '-eth0': {} } })
})

t.test('a specification with everything', async (t) => {
  const asked = merged({
    annotations: { note: 'n' },
    args: ['run', 'it'],
    env: [{ key: 'A', value: 'x=y' }, { key: '-B' }, { key: 'C', value: '' }],
    mounts: [
      { destination: '/data/deep', type: 'tmpfs' },
      { destination: '/data', source: '/other', type: 'bind', options: ['rbind', 'ro'] },
      { destination: '-/proc' },
    ],
    rlimits: [{ type: 'RLIMIT_NOFILE', soft: 5, hard: '18446744073709551615' as never }],
    linux: {
      devices: [{ path: '-/dev/a' }, { path: '/dev/b', type: 'c', major: 1, minor: 5, fileMode: { value: 0o640 } }],
      namespaces: [{ type: 'ipc' }, { type: '-network' }],
      sysctl: { 'net.ipv4.ip_forward': '1' },
      oomScoreAdj: { value: 7 },
      ioPriority: { class: messages.IOPrioClass.IOPRIO_CLASS_BE, priority: 3 },
      scheduler: { policy: messages.LinuxSchedulerPolicy.SCHED_BATCH, nice: 5 },
      memoryPolicy: {
        mode: messages.MpolMode.MPOL_INTERLEAVE,
        nodes: '0',
        flags: [messages.MpolFlag.MPOL_F_STATIC_NODES],
      },
      seccompPolicy: {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_ERRNO', errnoRet: { value: 5 } }],
      },
      resources: { devices: [{ allow: true, type: 'b', major: { value: 8 }, access: 'r' }] },
    },
  })
  const adjusted = adjustSpec(spec, asked)
  t.match(adjusted, {
    annotations: { note: 'n' },
    process: {
      args: ['run', 'it'],
      env: ['PATH=/bin', 'A=x=y', 'C='],
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 5, hard: unlimited }],
      oomScoreAdj: 7,
      ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 3 },
      scheduler: { policy: 'SCHED_BATCH', nice: 5 },
    },
    linux: {
      devices: [{ path: '/dev/b', type: 'c', major: 1, minor: 5, fileMode: 0o640, uid: 0 }],
      sysctl: { 'net.ipv4.ip_forward': '1' },
      memoryPolicy: { mode: 'MPOL_INTERLEAVE', nodes: '0', flags: ['MPOL_F_STATIC_NODES'] },
      seccomp: {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_ERRNO', errnoRet: 5 }],
      },
    },
  })
  t.same(adjusted.linux.namespaces, [{ type: 'mount' }, { type: 'ipc' }])
  t.same(
    adjusted.mounts.map(({ destination }) => destination),
    ['/data', '/data/deep'],
    'parents come first',
  )
  t.same(adjusted.linux.resources.devices, [
    { allow: false, access: 'rwm' },
    { allow: true, type: 'c', major: 1, minor: 5, access: 'rwm' },
    { allow: true, type: 'b', major: 8, access: 'r' },
  ])
  t.match(specJson(adjusted), /"hard":18446744073709551615\}/)
  t.same(adjustSpec(spec, nothing()), spec, 'nothing asked, nothing changed')
})

t.test('exact only where it is a limit', async (t) => {
  const text = 'x "soft":18446744073709552000'
  t.same(JSON.parse(specJson({ env: [text], soft: 1 })), { env: [text], soft: 1 })
})

t.test('what is not valid is refused by name', async (t) => {
  const bad: [NriAdjustment, RegExp][] = [
    [{ env: [{ key: 'A=B', value: 'c' }] }, /environment variable "A=B"/],
    [{ linux: { namespaces: [{ type: 'pid', path: 'caisson:target' }] } }, /namespace pid: path "caisson:target"/],
    [{ linux: { namespaces: [{ type: 'weird' }] } }, /namespace "weird"/],
    [{ linux: { devices: [{ path: '/dev/x', type: 'q' }] } }, /device \/dev\/x: type "q"/],
    [{ linux: { scheduler: { policy: 99 as never } } }, /scheduling policy 99/],
    [{ linux: { resources: { devices: [{ allow: true, type: 'x' }] } } }, /device rule: type "x"/],
  ]
  for (const [asked, why] of bad) {
    t.throws(() => adjustSpec(spec, merged(asked)), { code: 'ERR_INVALID_ARGUMENT', message: why })
  }
})

t.test('what this runtime does not do is refused, never dropped', async (t) => {
  const asked: [NriAdjustment, RegExp][] = [
    [{ linux: { cgroupsPath: '/x' } }, /cgroups path/],
    [{ linux: { netDevices: { eth1: {} } } }, /network devices/],
    [{ linux: { rdt: { closId: { value: 'x' } } } }, /RDT/],
    [{ linux: { seccompPolicy: { listenerPath: '/run/x' } } }, /listeners/],
  ]
  for (const [each, why] of asked) {
    t.throws(() => refuseUnsupported(merged(each), '00-p'), { code: 'ERR_UNIMPLEMENTED', message: why })
  }
  for (const resources of [
    { memory: { kernel: { value: 1 } } },
    { memory: { swappiness: { value: 1 } } },
    { memory: { disableOomKiller: { value: true } } },
    { cpu: { realtimeRuntime: { value: 1 } } },
    { blockioClass: { value: 'fast' } },
    { rdtClass: { value: 'gold' } },
  ]) {
    t.throws(() => resourcesOf(resources, '00-p'), { code: 'ERR_UNIMPLEMENTED', message: /NRI plugin 00-p/ })
  }
  t.throws(() => resourcesOf({ memory: { limit: { value: 2 ** 60 } } }, 'p'), { code: 'ERR_INVALID_ARGUMENT' })
  t.throws(() => resourcesOf({ memory: { limit: { value: -5 } } }, 'p'), { code: 'ERR_INVALID_ARGUMENT' })
})

t.test('limits there and back', async (t) => {
  const resources = {
    cpuShares: 512,
    cpuQuota: -1,
    cpuPeriod: 100_000,
    cpusetCpus: '0-1',
    memoryLimit: 1 << 30,
    memorySwapLimit: 1 << 30,
    memoryReservation: 1 << 20,
    hugepageLimits: [{ pageSize: '2MB', limit: 1 << 21 }],
    unified: { 'memory.high': '1' },
    pids: 7,
  }
  const wire = messages.LinuxResources.decode(messages.LinuxResources.encode(shownResources(resources)).finish())
  t.same(resourcesOf(wire, 'p'), resources)
  t.same(resourcesOf(shownResources({}), 'p'), {})
})

t.test('the next plugin sees what those before want', async (t) => {
  const view = adjustedView(
    { id: 'c', env: ['A=1'], annotations: { x: 'y' }, linux: { resources: { cpu: { cpus: '0' } } } },
    merged({
      env: [{ key: 'A', value: '2' }],
      annotations: { '-x': '', z: '1' },
      mounts: [{ destination: '/m', source: '/s' }],
      linux: { resources: { memory: { limit: { value: 5 } } }, namespaces: [{ type: 'ipc', path: '/p' }] },
    }),
  )
  t.match(view, {
    env: ['A=2'],
    annotations: { z: '1' },
    mounts: [{ destination: '/m' }],
    linux: { resources: { cpu: { cpus: '0' } }, namespaces: [{ type: 'ipc', path: '/p' }] },
  })
  t.equal(Number(view.linux?.resources?.memory?.limit?.value), 5)
  t.notOk(Object.hasOwn(view.annotations ?? {}, 'x'))
})

t.test('updates of other containers', async (t) => {
  const memory = (value: number, ignoreFailure = false): object => ({
    containerId: 'other',
    linux: { resources: { memory: { limit: { value } } } },
    ignoreFailure,
  })
  const updates = new Updates(new Owners(), { creating: 'c' })
  t.throws(() => updates.add('00-p', [{ containerId: 'c' }]), /update of the container that is being created/)
  updates.add('00-p', [memory(1)])
  t.throws(() => updates.add('01-p', [memory(2)]), { code: 'ERR_FAILED_PRECONDITION' })
  t.doesNotThrow(() => updates.add('02-p', [memory(3, true)]), 'one that may fail')
  updates.add('03-p', [{ containerId: 'other', linux: { resources: { pids: { limit: 9 } } } }])
  t.match(updates.all(), [
    {
      containerId: 'other',
      linux: { resources: { memory: { limit: { value: 1 } }, pids: { limit: 9 } } },
      ignoreFailure: false,
    },
  ])
})

t.test('owners as a message', async (t) => {
  const owners = new Owners()
  const { Field } = messages
  owners.claim('c', Field.Args, '00-p')
  owners.claim('c', Field.Env, '01-p', 'A')
  owners.share('c', Field.OciHooks, '00-p')
  owners.share('c', Field.OciHooks, '01-p')
  t.same(owners.toMessage(), {
    owners: {
      c: {
        simple: { [Field.Args]: '00-p', [Field.OciHooks]: '00-p,01-p' },
        compound: { [Field.Env]: { owners: { A: '01-p' } } },
      },
    },
  })
})
