/** User namespaces: maps, who owns what, what may be done; id-mapped mounts. */
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Change, Place, Spec } from '../helpers/differential/bundle.ts'
import { type Case, differential } from '../helpers/differential/suite.ts'

interface Map {
  containerID: number
  hostID: number
  size: number
}
const map = (containerID: number, hostID: number, size: number): Map => ({ containerID, hostID, size })
const usual = [map(0, 100_000, 65_536)]
const user =
  (uids: object[] | null, gids: object[] | null = uids): Change =>
  (spec) => {
    spec.linux.namespaces.push({ type: 'user' })
    if (uids !== null) spec.linux['uidMappings'] = uids
    if (gids !== null) spec.linux['gidMappings'] = gids
  }
const and =
  (...changes: Change[]): Change =>
  (spec, place) => {
    for (const one of changes) if (typeof one === 'function') one(spec, place)
  }
const text = (...maps: Map[]): string => maps.map((one) => `${one.containerID} ${one.hostID} ${one.size}\n`).join('')
const open = ({ directory }: Place): void => chmodSync(directory, 0o755)

/** Everyone enters the directory of the tests; mount points belong to the container's root. */
const mapped = { owner: 100_000, prepare: open } satisfies Partial<Case>

differential(
  'user namespaces',
  {
    differences: [
      {
        at: 'files./dev/mqueue',
        follow: 'crun',
        why: 'the file system belongs to whoever makes it; runc has another group then',
      },
      {
        at: /^mounts\.\/dev\/(full|null|random|tty|urandom|zero)$/,
        follow: 'runc',
        why: 'crun binds devices with nosuid and noexec, too',
      },
      {
        at: /^(files\.\/(dev|proc|sys)?|devices\.\w+|asked\..*)$/,
        follow: 'either',
        why: 'devices are bound from the host, by crun with the owner that they have there',
      },
    ],
  },
  (
    [
      {
        name: 'the usual map',
        spec: user(usual),
        sees: { 'namespaces.user': 'own', 'maps.uid_map': text(...usual), 'status.CapEff': '00000000a80405fb' },
      },
      {
        name: 'two ranges',
        spec: user([map(0, 100_000, 1000), map(1000, 300_000, 10)]),
        sees: { 'maps.uid_map': text(map(0, 100_000, 1000), map(1000, 300_000, 10)) },
      },
      {
        name: 'different maps of users and groups',
        spec: user([map(0, 100_000, 10)], [map(0, 100_000, 20)]),
        sees: { 'maps.gid_map': text(map(0, 100_000, 20)) },
      },
      {
        name: 'the identity',
        spec: user([map(0, 0, 4_294_967_295)]),
        owner: 0,
        sees: { 'maps.uid_map': text(map(0, 0, 4_294_967_295)) },
      },
      {
        name: 'a user inside',
        spec: and(user(usual), (spec: Spec) => {
          spec.process.user = { uid: 1000, gid: 1000, additionalGids: [5] }
        }),
        sees: { 'ids.uid': '1000 1000 1000', 'ids.groups': '5' },
      },
      {
        name: 'a user outside of the map',
        spec: and(user([map(0, 100_000, 10)]), (spec: Spec) => {
          spec.process.user = { uid: 50, gid: 0 }
        }),
        refused: true,
      },
      {
        name: 'what root may there',
        spec: user(usual),
        args: ['mknod-null', 'mount', 'sethostname', 'chown', 'setuid-1000', 'unshare-user', 'chroot'].map(
          (name) => `call=${name}`,
        ),
        sees: { 'asked.call=mknod-null': 'EPERM' },
      },
      {
        name: 'the host’s files',
        spec: user(usual),
        args: ['look=/proc/sys/kernel/panic', 'write=/proc/sys/net/ipv4/ip_forward:1', 'look=/sys/kernel'],
        sees: {},
      },
      { name: 'without a user map', but: { crun: 'maps nobody' }, spec: user(null, usual), refused: true },
      { name: 'without a group map', spec: user(usual, null), refused: true },
      {
        name: 'maps without the namespace',
        but: { crun: 'ignores them', runc: 'ignores them' },
        spec: (spec) => {
          spec.linux['uidMappings'] = usual
          spec.linux['gidMappings'] = usual
        },
        refused: true,
      },
      { name: 'overlapping ranges', spec: user([map(0, 100_000, 10), map(5, 200_000, 10)]), refused: true },
      { name: 'a size of 0', spec: user([map(0, 100_000, 0)]), refused: true },
      { name: 'root not in the map', spec: user([map(1, 100_000, 10)]), refused: true },
      { name: 'a negative id', spec: user([{ containerID: -1, hostID: 0, size: 1 }]), refused: true },
      {
        name: 'sysctl of the network',
        spec: and(user(usual), (spec: Spec) => {
          spec.linux['sysctl'] = { 'net.ipv4.ip_forward': '1' }
        }),
        sees: { 'sysctl.net/ipv4/ip_forward': '1' },
      },
      {
        name: 'the host’s network',
        spec: and(user(usual), (spec: Spec) => {
          spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'network')
          spec.mounts = spec.mounts.filter(({ type }) => type !== 'sysfs' && type !== 'cgroup')
        }),
        sees: { 'namespaces.net': 'host' },
      },
      ...Object.entries({ network: 'net', ipc: 'ipc', uts: 'uts', cgroup: 'cgroup' }).map(([type, file]): Case => ({
        name: `a namespace of the host’s root that is joined: ${type}`,
        spec: and(user(usual), (spec: Spec, place) => {
          const path = `/proc/${place.holder}/ns/${file}`
          spec.linux.namespaces = spec.linux.namespaces.map((one) => (one.type === type ? { type, path } : one))
          // their file systems, and a host name, are for root of the namespace’s owner
          spec.mounts = spec.mounts.filter(({ type }) => !['sysfs', 'mqueue', 'cgroup'].includes(type ?? ''))
          delete spec.hostname
        }),
        sees: { [`namespaces.${file}`]: 'holder' },
      })),
      {
        name: 'masked and read-only paths',
        spec: and(user(usual), (spec: Spec) => {
          Object.assign(spec.linux, { maskedPaths: ['/proc/keys'], readonlyPaths: ['/proc/sys'] })
        }),
        args: ['look=/proc/keys', 'write=/proc/sys/net/ipv4/ip_forward:1'],
        sees: { 'asked.look=/proc/keys': /^character device/ },
        differences: [{ at: /^mounts\.\/proc\//, follow: 'any', why: 'how they are covered is each runtime’s own' }],
      },
      {
        name: 'a read-only root',
        spec: and(user(usual), (spec: Spec) => {
          spec.root.readonly = true
        }),
        args: ['look=/data'],
        sees: { 'asked.look=/data': /EROFS/ },
      },
      {
        name: 'seccomp and no_new_privs',
        spec: and(user(usual), (spec: Spec) => {
          spec.process['noNewPrivileges'] = true
          spec.linux['seccomp'] = {
            defaultAction: 'SCMP_ACT_ALLOW',
            syscalls: [{ names: ['fchmodat'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 }],
          }
        }),
        args: ['call=chmod'],
        sees: { 'asked.call=chmod': 'ENOSYS' },
      },
    ] satisfies Case[]
  ).map((one: Case): Case => ({ ...mapped, ...one })),
)

const files = (place: Place): string => join(place.directory, 'files')
const owned = (place: Place): void => {
  open(place)
  mkdirSync(files(place))
  writeFileSync(join(files(place), 'root'), 'x')
  writeFileSync(join(files(place), 'user'), 'x')
  chownSync(join(files(place), 'user'), 1000, 1000)
}
const idmap =
  (options: string[], more: object = {}): Change =>
  (spec, place) => {
    spec.mounts.push({ destination: '/mnt', type: 'bind', source: files(place), options, ...more })
  }
const shown = ['look=/mnt/root', 'look=/mnt/user']
const tooOld = { runc: 'runc 1.1.5 does not know it' }

differential('id-mapped mounts', {}, [
  {
    name: 'maps of the mount',
    prepare: owned,
    spec: idmap(['rbind', 'idmap'], { uidMappings: [map(0, 5000, 2000)], gidMappings: [map(0, 6000, 2000)] }),
    args: shown,
    sees: { 'asked.look=/mnt/root': /^file 0644 5000:6000/, 'asked.look=/mnt/user': /^file 0644 6000:7000/ },
    but: tooOld,
  },
  {
    name: 'ridmap',
    prepare: owned,
    spec: idmap(['rbind', 'ridmap'], { uidMappings: [map(0, 5000, 2000)], gidMappings: [map(0, 6000, 2000)] }),
    args: shown,
    sees: { 'asked.look=/mnt/user': /^file 0644 6000:7000/ },
    but: tooOld,
  },
  {
    name: 'the word without maps and without a user namespace',
    prepare: owned,
    spec: idmap(['rbind', 'idmap']),
    refused: true,
    but: { runc: 'ignores the word' },
  },
  {
    name: 'maps of users alone',
    prepare: owned,
    spec: idmap(['rbind', 'idmap'], { uidMappings: [map(0, 5000, 10)] }),
    refused: true,
    but: { runc: 'ignores the word' },
  },
])
