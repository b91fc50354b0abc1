/** Namespaces: new, the host's, joined by path, and what depends on them. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Change, Spec } from '../helpers/differential/bundle.ts'
import { type Case, differential } from '../helpers/differential/suite.ts'

const without =
  (...types: string[]): Change =>
  (spec) => {
    spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => !types.includes(type))
  }
const at =
  (type: string, path: string): Change =>
  (spec) => {
    spec.linux.namespaces = [...spec.linux.namespaces.filter((one) => one.type !== type), { type, path }]
  }
const joined =
  (type: string, file: string): Change =>
  (spec, place) => {
    spec.linux.namespaces = [
      ...spec.linux.namespaces.filter((one) => one.type !== type),
      { type, path: `/proc/${place.holder}/ns/${file}` },
    ]
  }
const noNetwork = (spec: Spec): void => {
  // sysfs shows a network namespace: the host's is not ours to mount without its user namespace
  spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'network')
}
const files = { ipc: 'ipc', network: 'net', uts: 'uts', pid: 'pid', cgroup: 'cgroup' }

/** Which the host's one is, and which is no longer. */
const ownCgroup = {
  at: 'mounts./sys/fs/cgroup',
  follow: { ours: /<cgroup>$/ },
  why: 'theirs is the host’s whole hierarchy, ours the container’s own cgroup (CVE-2023-25809)',
}
const leftMounts = {
  at: /^mounts\./,
  follow: 'any' as const,
  why: 'in the caller’s own mount namespace, the table also has what earlier cases of the peers have left there',
}

/** The superblock is the network namespace's: in the caller's, it is what the last runc has made of it. */
const sharedSysfs = {
  at: 'mounts./sys',
  follow: 'any' as const,
  why: 'runc makes the superblock of sysfs read-only for all',
}

differential('the host’s', { differences: [sharedSysfs] }, [
  ...['ipc', 'network', 'uts', 'cgroup'].map((type): Case => ({
    name: type,
    spec: (spec) => {
      if (type === 'uts') delete spec.hostname
      spec.linux.namespaces = spec.linux.namespaces.filter((one) => one.type !== type)
    },
    sees: { [`namespaces.${type === 'network' ? 'net' : type}`]: 'host' },
    ...(type === 'cgroup' && { differences: [ownCgroup] }),
  })),
  { name: 'pid', spec: without('pid'), sees: { 'namespaces.pid': 'host', 'session.pid': 'other' } },
  {
    name: 'mount',
    differences: [leftMounts],

    spec: without('mount'),
    sees: { 'namespaces.mnt': 'host' },
  },
  {
    name: 'all but mount',
    differences: [ownCgroup],
    spec: (spec) => {
      delete spec.hostname
      spec.linux.namespaces = [{ type: 'mount' }]
    },
    sees: { 'namespaces.uts': 'host', 'namespaces.mnt': 'own' },
  },
  {
    name: 'none',
    differences: [leftMounts],

    spec: { hostname: null, linux: { namespaces: [] } },
    sees: { 'namespaces.mnt': 'host' },
  },
  { name: 'time', spec: {}, sees: { 'namespaces.time': 'host' } },
])

differential('joined by path', {}, [
  ...Object.entries(files).map(([type, file]): Case => ({
    name: type,
    spec: joined(type, file),
    ...(type === 'network' && {
      differences: [
        {
          at: 'mounts./sys',
          follow: 'any' as const,
          why: 'runc makes the superblock of sysfs read-only for all of the network namespace',
          sometimes: true, // until that of the run before has gone
        },
      ],
    }),
    sees: { [`namespaces.${file}`]: 'holder' },
  })),
  {
    name: 'uts, with a hostname',
    spec: (spec, place) => {
      spec.hostname = 'joined'
      spec.linux.namespaces = [
        ...spec.linux.namespaces.filter((one) => one.type !== 'uts'),
        { type: 'uts', path: `/proc/${place.holder}/ns/uts` },
      ]
    },
    sees: { 'names.host': 'joined' },
  },
  {
    name: 'an empty path is none',
    but: { crun: 'takes the empty path for a file' },
    spec: (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.map(({ type }) => ({ type, path: '' }))
    },
    sees: { 'namespaces.net': 'own' },
  },
  {
    name: 'the runtime’s own',
    spec: at('ipc', '/proc/self/ns/ipc'),
    sees: { 'namespaces.ipc': 'host' },
  },
  { name: 'a path that is not there', spec: at('network', '/nothing'), refused: true },
  {
    name: 'a file that is no namespace',
    spec: (spec, place) => {
      const path = join(place.directory, 'file')
      writeFileSync(path, '')
      spec.linux.namespaces = [...spec.linux.namespaces.filter((one) => one.type !== 'ipc'), { type: 'ipc', path }]
    },
    refused: true,
  },
  { name: 'a namespace of another type', spec: joined('network', 'uts'), refused: true },
  { name: 'a relative path', spec: at('network', 'proc/self/ns/net'), refused: true },
  { name: 'a directory', spec: at('network', '/proc/self/ns'), refused: true },
])

differential('lists of namespaces', {}, [
  {
    name: 'a type twice',
    but: { crun: 'takes the last one; the specification says MUST be an error' },
    spec: (spec) => {
      spec.linux.namespaces.push({ type: 'uts' })
    },
    refused: true,
  },
  {
    name: 'a type twice, once by path',
    but: { crun: 'takes the last one; the specification says MUST be an error' },
    spec: (spec) => {
      spec.linux.namespaces.push({ type: 'uts', path: '/proc/self/ns/uts' })
    },
    refused: true,
  },
  {
    name: 'an unknown type',
    spec: (spec) => {
      spec.linux.namespaces.push({ type: 'nothing' })
    },
    refused: true,
  },
  {
    name: 'an empty type',
    spec: (spec) => {
      spec.linux.namespaces.push({ type: '' })
    },
    refused: true,
  },
  {
    name: 'a type in capitals',
    spec: (spec) => {
      spec.linux.namespaces.push({ type: 'UTS' })
    },
    refused: true,
  },
  {
    name: 'in another order',
    spec: (spec) => {
      spec.linux.namespaces.reverse()
    },
    sees: { 'namespaces.pid': 'own' },
  },
])

differential('names', {}, [
  {
    name: 'a hostname',
    spec: { hostname: 'some-name' },
    sees: { 'names.host': 'some-name', 'sysctl.kernel/hostname': 'some-name' },
  },
  { name: 'no hostname', spec: { hostname: null } },
  { name: 'an empty hostname', spec: { hostname: '' } },
  { name: 'a hostname of 64 bytes', spec: { hostname: 'x'.repeat(64) }, sees: { 'names.host': 'x'.repeat(64) } },
  { name: 'a hostname of 65 bytes', spec: { hostname: 'x'.repeat(65) }, refused: true },
  {
    name: 'a hostname with odd characters',
    spec: { hostname: 'a b/ü' },
    refused: true,
    but: { crun: 'gives the kernel any bytes', runc: 'gives the kernel any bytes' },
  },
  { name: 'a hostname without the namespace', spec: without('uts'), refused: true },
  {
    name: 'a domain name',
    spec: { domainname: 'example.org' },
    sees: { 'names.domain': 'example.org' },
    but: { runc: 'runc 1.1.5 does not know it' },
  },
  {
    name: 'a domain name without the namespace',
    spec: (spec) => {
      delete spec.hostname
      spec.domainname = 'x'
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'uts')
    },
    refused: true,
    but: { runc: 'runc 1.1.5 does not know it' },
  },
])

const offsets =
  (value: object): Change =>
  (spec) => {
    spec.linux.namespaces.push({ type: 'time' })
    spec.linux['timeOffsets'] = value
  }
const newer = { runc: 'runc 1.1.5 does not know time namespaces' }
const unable = { crun: 'crun 1.8.1 cannot make one: its sync socket breaks' }

differential(
  'time',
  {},
  (
    [
      {
        name: 'a new one',
        but: unable,
        spec: (spec) => {
          spec.linux.namespaces.push({ type: 'time' })
        },
        sees: { 'namespaces.time': 'own', 'maps.timens_offsets': 'monotonic 0 0\nboottime 0 0\n' },
      },
      {
        name: 'offsets',
        but: unable,
        spec: offsets({ monotonic: { secs: 1000, nanosecs: 5 }, boottime: { secs: 2000 } }),
        sees: { 'maps.timens_offsets': 'monotonic 1000 5\nboottime 2000 0\n' },
      },
      {
        name: 'an offset to the past',
        but: unable,
        spec: offsets({ boottime: { secs: -10, nanosecs: 0 } }),
        sees: { 'maps.timens_offsets': 'monotonic 0 0\nboottime -10 0\n' },
      },
      {
        name: 'an offset before the boot',
        spec: offsets({ boottime: { secs: -1_000_000_000, nanosecs: 0 } }),
        refused: true,
      },
      { name: 'an unknown clock', spec: offsets({ realtime: { secs: 1 } }), refused: true },
      {
        name: 'too many nanoseconds',
        spec: offsets({ monotonic: { secs: 1, nanosecs: 2_000_000_000 } }),
        refused: true,
      },
      {
        name: 'offsets without the namespace',
        but: { ...newer, crun: 'ignores them' },
        spec: { linux: { timeOffsets: { boottime: { secs: 10 } } } },
        refused: true,
      },
    ] satisfies Case[]
  ).map((one: Case): Case => (one.refused === true ? one : { ...one, but: { ...newer, ...one.but } })),
)

const sysctl =
  (values: Record<string, unknown>, ...changes: Change[]): Change =>
  (spec, place) => {
    for (const one of changes) if (typeof one === 'function') one(spec, place)
    spec.linux['sysctl'] = values
  }

differential('sysctl', {}, [
  ...Object.entries({
    'kernel.shmmax': '123456',
    'kernel.shmall': '1234',
    'kernel.shmmni': '100',
    'kernel.shm_rmid_forced': '1',
    'kernel.msgmax': '4096',
    'kernel.msgmnb': '8000',
    'kernel.msgmni': '50',
    'kernel.sem': '100\t200\t30\t40',
    'fs.mqueue.msg_max': '20',
    'fs.mqueue.msgsize_max': '4096',
    'fs.mqueue.queues_max': '10',
    'net.ipv4.ip_forward': '1',
    'net.ipv4.ip_unprivileged_port_start': '80',
    'net.ipv4.ping_group_range': '0\t100',
    'net.core.somaxconn': '100',
    'net.ipv4.conf.all.rp_filter': '2',
  }).map(([name, value]): Case => ({
    name,
    spec: sysctl({ [name]: value }),
    sees: { [`sysctl.${name.replaceAll('.', '/')}`]: value },
  })),
  {
    name: 'several',
    spec: sysctl({ 'net.ipv4.ip_forward': '1', 'kernel.msgmax': '4096' }),
    sees: { 'sysctl.net/ipv4/ip_forward': '1', 'sysctl.kernel/msgmax': '4096' },
  },
  { name: 'with slashes', spec: sysctl({ 'net/ipv4/ip_forward': '1' }), sees: { 'sysctl.net/ipv4/ip_forward': '1' } },
  {
    name: 'kernel.domainname',
    spec: sysctl({ 'kernel.domainname': 'example.org' }),
    sees: { 'names.domain': 'example.org' },
  },
  { name: 'kernel.hostname', spec: sysctl({ 'kernel.hostname': 'other' }), refused: true },
  { name: 'one of the host', spec: sysctl({ 'vm.overcommit_memory': '0' }), refused: true },
  { name: 'one of the kernel', spec: sysctl({ 'kernel.panic': '0' }), refused: true },
  { name: 'fs.file-max', spec: sysctl({ 'fs.file-max': '1000000' }), refused: true },
  { name: 'net.* in the host’s network', spec: sysctl({ 'net.ipv4.ip_forward': '0' }, noNetwork), refused: true },
  {
    name: 'kernel.shmmax in the host’s IPC namespace',
    spec: sysctl({ 'kernel.shmmax': '1' }, without('ipc')),
    refused: true,
  },
  {
    name: 'fs.mqueue in the host’s IPC namespace',
    spec: sysctl({ 'fs.mqueue.msg_max': '10' }, without('ipc')),
    refused: true,
  },
  { name: 'an unknown one', spec: sysctl({ 'net.ipv4.nothing': '1' }), refused: true },
  { name: 'a name that leaves its directory', spec: sysctl({ 'net.ipv4./../../kernel/panic': '0' }), refused: true },
  { name: 'a name with ..', spec: sysctl({ 'net/../kernel/panic': '0' }), refused: true },
  { name: 'a value that the kernel refuses', spec: sysctl({ 'net.ipv4.ip_forward': 'yes' }), refused: true },
  { name: 'a number as value', spec: sysctl({ 'net.ipv4.ip_forward': 1 }), refused: true },
  {
    name: 'a value of several lines',
    but: { crun: 'writes it as it is', runc: 'writes it as it is' },
    spec: sysctl({ 'kernel.msgmax': '4096\n1' }),
    refused: true,
  },
  {
    name: 'a value that names another (CVE-2022-0811)',
    spec: sysctl({ 'kernel.shm_rmid_forced': '1+kernel.core_pattern=|/x' }),
    refused: true,
  },
  { name: 'an empty name', spec: sysctl({ '': '1' }), refused: true },
])
