/** Devices: nodes that are made, rules that say which may be used, paths that are masked or read-only, and the root itself. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { all, type Change, mount, type Place } from '../helpers/differential/bundle.ts'
import { type Case, differential } from '../helpers/differential/suite.ts'

const devices = (...list: object[]): Change => ({ linux: { devices: list } })
const fuse = { path: '/dev/fuse', type: 'c', major: 10, minor: 229 }

/** Without rules crun limits nothing; runc and we allow the default devices. */
const unlimited = /^asked\.look=.*(fuse|kmsg|loop)$/
const noRules: Case['differences'] = [
  {
    at: unlimited,
    follow: 'runc',
    why: 'crun limits nothing where the configuration has no rules',
  },
]

differential('device nodes', {}, [
  {
    name: 'a character device',
    spec: devices({ ...fuse, fileMode: 0o666, uid: 0, gid: 0 }),
    sees: { 'devices.fuse': 'character device 0666 0:0 10:229' },
  },
  {
    name: 'a block device',
    spec: devices({ path: '/dev/block', type: 'b', major: 7, minor: 100, fileMode: 0o640, uid: 0, gid: 6 }),
    sees: { 'devices.block': 'block device 0640 0:6 7:100' },
  },
  {
    name: 'an unbuffered one',
    spec: devices({ path: '/dev/raw', type: 'u', major: 1, minor: 3, fileMode: 0o600 }),
    sees: { 'devices.raw': 'character device 0600 0:0 1:3' },
  },
  {
    name: 'a fifo',
    spec: devices({ path: '/dev/pipe', type: 'p', fileMode: 0o622 }),
    sees: { 'devices.pipe': 'fifo 0622 0:0' },
  },
  {
    name: 'an owner',
    spec: devices({ ...fuse, fileMode: 0o600, uid: 1000, gid: 2000 }),
    sees: { 'devices.fuse': 'character device 0600 1000:2000 10:229' },
  },
  { name: 'no mode', spec: devices(fuse), sees: { 'devices.fuse': /^character device / } },
  {
    name: 'a mode whatever the umask',
    spec: all({ process: { user: { umask: 0o077 } } }, devices({ ...fuse, fileMode: 0o777 })),
    sees: { 'devices.fuse': /0777/ },
  },
  {
    name: 'below a directory that is not there',
    differences: noRules,
    spec: devices({ ...fuse, path: '/dev/deep/er/fuse' }),
    args: ['look=/dev/deep', 'look=/dev/deep/er/fuse'],
    sees: { 'asked.look=/dev/deep/er/fuse': /^character device/ },
  },
  {
    name: 'outside /dev',
    differences: noRules,
    spec: devices({ ...fuse, path: '/data/fuse', fileMode: 0o644 }),
    args: ['look=/data/fuse'],
    sees: { 'asked.look=/data/fuse': /^character device 0644/ },
  },
  {
    name: 'two',
    spec: devices(fuse, { path: '/dev/two', type: 'c', major: 1, minor: 3 }),
    sees: { 'devices.two': /1:3$/ },
  },
  {
    name: 'one that is there, alike',
    but: { runc: 'takes a default device out of the rules that it names again' },
    spec: devices({ path: '/dev/null', type: 'c', major: 1, minor: 3, fileMode: 0o666 }),
    sees: { 'devices.null': /1:3$/ },
  },
  {
    name: 'one that is there, another',

    spec: devices({ path: '/dev/null', type: 'c', major: 1, minor: 5 }),
    sees: { 'devices.null': /1:[35]$/ },
  },
  { name: 'one twice', spec: devices(fuse, fuse), sees: { 'devices.fuse': /10:229$/ } },
  {
    name: 'a file in its place',
    but: {
      crun: 'keeps the file; the specification says MUST be an error',
      runc: 'keeps the file; the specification says MUST be an error',
    },
    prepare: ({ rootfs }) => {
      writeFileSync(join(rootfs, 'data/fuse'), '')
    },
    spec: devices({ ...fuse, path: '/data/fuse' }),
    refused: true,
  },
  {
    name: 'through a link of the image',
    differences: noRules,
    prepare: ({ rootfs }) => {
      symlinkSync('/data', join(rootfs, 'link'))
    },
    spec: devices({ ...fuse, path: '/link/fuse' }),
    args: ['look=/data/fuse'],
    sees: { 'asked.look=/data/fuse': /^character device/ },
  },
  {
    name: 'an unknown type',
    but: { crun: 'makes nothing and says nothing' },
    spec: devices({ ...fuse, type: 'x' }),
    refused: true,
  },
  { name: 'no type', spec: devices({ path: '/dev/fuse', major: 10, minor: 229 }), refused: true },
  {
    name: 'a relative path',
    spec: devices({ ...fuse, path: 'dev/fuse' }),
    args: ['look=/dev/fuse'],
    sees: { 'asked.look=/dev/fuse': /^character device/ },
    but: { crun: 'finds no place for it' },
  },
  {
    name: 'a path with ..',
    differences: noRules,
    spec: devices({ ...fuse, path: '/dev/../../data/fuse' }),
    args: ['look=/data/fuse'],
    sees: { 'asked.look=/data/fuse': /^character device/ },
  },
  {
    name: 'no path',
    but: { runc: 'makes nothing and says nothing' },
    spec: devices({ type: 'c', major: 10, minor: 229 }),
    refused: true,
  },
  {
    name: 'no numbers',
    but: { crun: 'makes the device 0:0', runc: 'makes the device 0:0' },
    spec: devices({ path: '/dev/fuse', type: 'c' }),
    refused: true,
  },
  { name: 'a negative number', but: { runc: 'truncates it' }, spec: devices({ ...fuse, major: -5 }), refused: true },
])

const rules = (...list: object[]): Change => ({ linux: { resources: { devices: list } } })
const deny = { allow: false, access: 'rwm' }
const allow = (type: string, major?: number, minor?: number, access = 'rwm'): object => ({
  allow: true,
  type,
  ...(major !== undefined && { major }),
  ...(minor !== undefined && { minor }),
  access,
})
const forbid = (type: string, major?: number, minor?: number, access = 'rwm'): object => ({
  ...allow(type, major, minor, access),
  allow: false,
})
const uses = [
  'call=mknod-null',
  'call=mknod-kmsg',
  'call=mknod-fuse',
  'call=mknod-loop',
  'look=/dev/null',
  'look=/dev/zero',
  'look=/dev/kmsg',
  'look=/dev/loop',
  'look=/dev/fuse',
]
const nodes = devices(
  { path: '/dev/kmsg', type: 'c', major: 1, minor: 11, fileMode: 0o666 },
  { path: '/dev/loop', type: 'b', major: 7, minor: 0, fileMode: 0o666 },
  { ...fuse, fileMode: 0o666 },
)

const allowed: Partial<Record<string, Pick<Case, 'but' | 'differences'>>> = {
  'all allowed, one denied': {
    differences: [
      {
        at: 'asked.call=mknod-kmsg',
        follow: 'crun',
        why: 'the defaults, which come after the configuration’s rules, allow to make every node; runc keeps the denial',
      },
    ],
  },
  'a wide rule after a narrow one': {
    differences: [
      { at: unlimited, follow: 'crun', why: 'runc takes away only what was given in the same words, as cgroup v1 did' },
    ],
  },
  'a narrow rule after a wide one': { but: { runc: 'refuses what cgroup v1 could not take away' } },
  'no access is all of it': { but: { runc: 'refuses it, although the property is optional' } },
  'the type a with numbers': {
    differences: [{ at: unlimited, follow: 'either', why: 'the numbers have no meaning for runc, as in cgroup v1' }],
  },
  none: { differences: noRules },
}

/** Each is asked to make and to open devices of both types. */
differential(
  'device rules',
  { spec: nodes },
  Object.entries<object[]>({
    'all denied': [deny],
    'all denied, one allowed': [deny, allow('c', 10, 229)],
    'read alone': [deny, allow('c', 10, 229, 'r')],
    'write alone': [deny, allow('c', 10, 229, 'w')],
    'making alone': [deny, allow('c', 10, 229, 'm')],
    'reading and writing': [deny, allow('b', 7, 0, 'rw')],
    'every minor of a major': [deny, allow('c', 10)],
    'every major of a minor': [deny, allow('c', undefined, 11)],
    'all of a type': [deny, allow('b')],
    'all allowed': [allow('a')],
    'all allowed, one denied': [allow('a'), forbid('c', 1, 11)],
    'allowed, then denied again': [deny, allow('c', 10, 229), forbid('c', 10, 229)],
    'denied, then allowed again': [deny, forbid('c', 10, 229), allow('c', 10, 229)],
    'one right taken away again': [deny, allow('c', 10, 229), forbid('c', 10, 229, 'w')],
    'a wide rule after a narrow one': [deny, allow('c', 10, 229), forbid('c', 10)],
    'a narrow rule after a wide one': [deny, allow('c', 10), forbid('c', 10, 229)],
    'a denial of all at the end': [allow('c', 10, 229), deny],
    'a default device denied': [deny, forbid('c', 1, 3)],
    'numbers of -1 are every number': [deny, { allow: true, type: 'c', major: -1, minor: -1, access: 'rwm' }],
    'no access is all of it': [deny, { allow: true, type: 'c', major: 10, minor: 229 }],
    'the type a with numbers': [deny, { allow: true, type: 'a', major: 10, minor: 229, access: 'rwm' }],
    none: [],
  }).map(([name, list]): Case => ({ ...allowed[name], name, spec: rules(...list), args: uses, sees: {} })),
)

differential('bad device rules', {}, [
  { name: 'an unknown type', but: { crun: 'ignores the rule' }, spec: rules(deny, allow('x', 1, 1)), refused: true },
  {
    name: 'an unknown access',
    but: { crun: 'ignores what it does not know', runc: 'ignores what it does not know' },
    spec: rules(deny, allow('c', 1, 1, 'rwx')),
    refused: true,
  },
  {
    name: 'a text as number',
    but: { crun: 'takes it as 0' },
    spec: rules(deny, { allow: true, type: 'c', major: '1', minor: 1, access: 'rwm' }),
    refused: true,
  },
  {
    name: 'a hundred',
    spec: rules(deny, ...Array.from({ length: 100 }, (_one, index) => allow('c', 200, index))),
    args: uses,
    sees: {},
  },
])

const masked = (...paths: string[]): Change => ({ linux: { maskedPaths: paths } })
const readonly = (...paths: string[]): Change => ({ linux: { readonlyPaths: paths } })
const looked = (...paths: string[]): string[] => paths.map((path) => `look=${path}`)

/** How a path is covered is each runtime's own; what it then shows is not. */

const coverOf = (at: RegExp): NonNullable<Case['differences']> => [
  {
    at,
    follow: 'any',
    why: 'crun binds the host’s null device, runc 1.1.5 the container’s, and flags differ: what the path shows is compared',
  },
]

differential(
  'masked paths',
  {
    differences: [
      {
        at: /^asked\.look=/,
        follow: { ours: /^directory 0555 0:0, list ok, empty, make EROFS$/ },
        why: 'the empty directory is nobody’s to write by its mode, too; theirs is 1777',
      },
    ],
  },
  [
    {
      name: 'a file',
      spec: masked('/data/file'),
      args: looked('/data/file'),
      sees: { 'asked.look=/data/file': /^character device 0666 0:0 1:3.*empty/ },
      differences: coverOf(/^mounts\.\/data/),
    },
    {
      name: 'a directory',
      spec: masked('/data'),
      args: looked('/data', '/data/file'),
      sees: { 'asked.look=/data': /empty, make EROFS/, 'asked.look=/data/file': 'ENOENT' },
      differences: coverOf(/^mounts\.\/data/),
    },
    {
      name: 'what is not there',
      spec: masked('/nothing', '/data/nothing/deeper'),
      args: looked('/nothing'),
      sees: { 'asked.look=/nothing': 'ENOENT' },
    },
    {
      name: 'below a file',
      spec: masked('/data/file/x'),
      args: looked('/data/file'),
      sees: { 'asked.look=/data/file': /^file/ },
      but: {
        crun: 'fails where a file stands in the way of what is not there',
        runc: 'fails where a file stands in the way of what is not there',
      },
    },
    {
      name: 'of /proc',
      spec: masked('/proc/keys', '/proc/timer_list', '/proc/acpi', '/sys/firmware'),
      args: looked('/proc/keys', '/proc/timer_list', '/sys/firmware'),
      sees: { 'asked.look=/proc/keys': /^character device/ },
      differences: coverOf(/^mounts\.\/(proc|sys)\/./),
    },
    {
      name: 'a link',
      prepare: ({ rootfs }) => {
        symlinkSync('file', join(rootfs, 'data/link'))
      },
      spec: masked('/data/link'),
      args: looked('/data/link', '/data/file'),
      sees: {},
      differences: coverOf(/^mounts\.\/data/),
    },
    {
      name: 'a link out of the root',
      prepare: ({ rootfs }) => {
        symlinkSync('../../../../../../../etc/passwd', join(rootfs, 'data/link'))
      },
      spec: masked('/data/link'),
      args: looked('/etc/passwd'),
      sees: {},
      differences: coverOf(/^mounts\./),
    },
    {
      name: 'a mount',
      spec: all(mount('/mnt', 'tmpfs', 'x'), masked('/mnt')),
      args: looked('/mnt'),
      sees: { 'asked.look=/mnt': /empty, make EROFS/ },
      differences: coverOf(/^mounts\.\/mnt/),
    },
    {
      name: 'one twice',
      spec: masked('/data', '/data'),
      args: looked('/data'),
      sees: { 'asked.look=/data': /EROFS/ },
      differences: coverOf(/^mounts\.\/data/),
    },
    {
      name: 'a relative one',
      differences: coverOf(/^mounts\.\/data/),

      spec: masked('data'),
      sees: { 'asked.look=/data': /EROFS/ },
      args: looked('/data'),
    },
    {
      name: 'an empty one',
      but: { crun: 'masks nothing', runc: 'covers the root with nothing' },
      spec: masked(''),
      refused: true,
    },
    {
      name: 'a device',
      spec: masked('/dev/zero'),
      args: looked('/dev/zero'),
      sees: { 'asked.look=/dev/zero': /1:3/ },
      differences: coverOf(/^mounts\.\/dev\/zero/),
    },
  ],
)

differential(
  'read-only paths',
  {
    differences: [
      {
        at: /^mounts\.\/(proc|mnt|data)/,
        follow: 'runc',
        why: 'crun 1.8.1 loses nosuid, nodev and noexec of what it makes read-only',
      },
    ],
  },
  [
    {
      name: 'a file',
      spec: readonly('/data/file'),
      args: looked('/data/file'),
      sees: { 'asked.look=/data/file': /filled, write EROFS/ },
    },
    {
      name: 'a directory',
      spec: readonly('/data'),
      args: looked('/data', '/data/file'),
      sees: { 'asked.look=/data': /make EROFS/, 'asked.look=/data/file': /write EROFS/ },
    },
    {
      name: 'what is not there',
      spec: readonly('/nothing'),
      args: looked('/nothing'),
      sees: { 'asked.look=/nothing': 'ENOENT' },
    },
    {
      name: 'of /proc',
      spec: readonly('/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'),
      args: [...looked('/proc/sys', '/proc/sysrq-trigger'), 'write=/proc/sys/net/ipv4/ip_forward:1'],
      sees: { 'asked.write=/proc/sys/net/ipv4/ip_forward:1': 'EROFS' },
    },
    {
      name: 'a mount with flags keeps them',
      spec: all(mount('/mnt', 'tmpfs', 'x', ['nosuid', 'nodev', 'noexec', 'noatime']), readonly('/mnt')),
      args: looked('/mnt'),
      sees: { 'asked.look=/mnt': /EROFS/ },
    },
    {
      name: 'a tree',
      differences: [
        { at: /\/mnt\/sub/, follow: { ours: /EROFS|\| ro,/ }, why: 'theirs leave what is mounted below writable' },
      ],
      spec: all(mount('/mnt', 'tmpfs', 'x'), mount('/mnt/sub', 'tmpfs', 'x'), readonly('/mnt')),
      args: looked('/mnt', '/mnt/sub'),
      sees: { 'asked.look=/mnt': /EROFS/ },
    },
    {
      name: 'a link',
      prepare: ({ rootfs }) => {
        symlinkSync('file', join(rootfs, 'data/link'))
      },
      spec: readonly('/data/link'),
      args: looked('/data/link', '/data/file'),
      sees: {},
    },
    {
      name: 'and masked',
      spec: all(masked('/data/file'), readonly('/data')),
      args: looked('/data/file', '/data'),
      sees: { 'asked.look=/data': /EROFS/ },
      differences: coverOf(/^mounts\.\/data/),
    },
    {
      name: 'a relative one',

      spec: readonly('data'),
      sees: { 'asked.look=/data': /EROFS/ },
      args: looked('/data'),
    },
  ],
)

const propagated: Partial<Record<string, Pick<Case, 'but' | 'differences'>>> = {
  shared: { differences: [{ at: /^mounts\./, follow: 'crun', why: 'runc 1.1.5 shares nothing after its pivot' }] },
  rshared: { differences: [{ at: /^mounts\./, follow: 'crun', why: 'runc 1.1.5 shares nothing after its pivot' }] },
  unbindable: { but: { runc: 'cannot bind the root that it has just made unbindable' } },
  runbindable: { but: { runc: 'cannot bind the root that it has just made unbindable' } },
}

const elsewhere = (place: Place): string => join(place.directory, 'elsewhere')

differential('root', {}, [
  {
    name: 'read-only',
    spec: { root: { readonly: true } },
    args: looked('/', '/data', '/data/file', '/dev/shm'),
    sees: { 'asked.look=/data': /EROFS/, 'asked.look=/dev/shm': /make ok/ },
  },
  {
    name: 'an absolute path',
    prepare: (place) => {
      renameSync(place.rootfs, elsewhere(place))
    },
    spec: (spec, place) => {
      spec.root.path = elsewhere(place)
    },
    sees: { outcome: 'ran' },
  },
  {
    name: 'a path with ..',
    prepare: (place) => {
      renameSync(place.rootfs, elsewhere(place))
    },
    spec: { root: { path: '../elsewhere' } },
    sees: { outcome: 'ran' },
  },
  {
    name: 'a link',
    but: { crun: 'follows it' },
    prepare: (place) => {
      renameSync(place.rootfs, elsewhere(place))
      symlinkSync('../elsewhere', place.rootfs)
    },
    refused: true,
  },
  { name: 'one that is not there', spec: { root: { path: 'nothing' } }, refused: true },
  { name: 'a file', spec: { root: { path: 'config.json' } }, refused: true },
  { name: 'no root', spec: { root: null }, refused: true },
  { name: 'an empty path', spec: { root: { path: '' } }, refused: true },
  {
    name: 'of root alone, for a user with CAP_DAC_OVERRIDE until the exec',
    prepare: ({ rootfs }) => {
      chmodSync(rootfs, 0o700)
    },
    spec: { process: { user: { uid: 1000, gid: 1000 } } },
    sees: { 'ids.uid': '1000 1000 1000' },
  },
  ...['private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared', 'unbindable', 'runbindable'].map((word): Case => ({
    name: `rootfsPropagation ${word}`,
    ...propagated[word],
    spec: all({ linux: { rootfsPropagation: word } }, mount('/mnt', 'tmpfs', 'x')),
    sees: { 'mounts./': /./ },
  })),
  {
    name: 'an unknown rootfsPropagation',
    but: { crun: 'ignores it' },
    spec: { linux: { rootfsPropagation: 'nothing' } },
    refused: true,
  },
  {
    name: 'without /dev, /proc and /sys',
    prepare: ({ rootfs }) => {
      for (const name of ['dev', 'proc', 'sys']) execFileSync('rmdir', [join(rootfs, name)])
    },
    sees: { 'mounts./proc': /^proc/ },
  },
  {
    name: 'with files in /dev',
    but: {
      crun: 'takes every descriptor without a device number for the null device that it finds, and writes to the file',
      runc: 'takes every descriptor without a device number for the null device that it finds, and writes to the file',
    },
    prepare: ({ rootfs }) => {
      writeFileSync(join(rootfs, 'dev/null'), 'x')
    },
    spec: (spec) => {
      spec.mounts = spec.mounts.filter(({ destination }) => !destination.startsWith('/dev'))
    },
    args: ['look=/dev/null'],
    refused: true,
  },
  {
    name: 'with a link as /dev/null',
    but: {
      crun: 'takes every descriptor without a device number for the null device that it finds, and writes to the file',
      runc: 'takes every descriptor without a device number for the null device that it finds, and writes to the file',
    },
    prepare: ({ rootfs }) => {
      symlinkSync('/data/file', join(rootfs, 'dev/null'))
    },
    spec: (spec) => {
      spec.mounts = spec.mounts.filter(({ destination }) => !destination.startsWith('/dev'))
    },
    args: ['look=/dev/null', 'cat=/data/file'],
    refused: true,
  },
  {
    name: 'without the witness',
    prepare: ({ rootfs }) => {
      unlinkSync(join(rootfs, 'witness'))
    },
    refused: true,
  },
  {
    name: 'with /etc/mtab',
    prepare: ({ rootfs }) => {
      mkdirSync(join(rootfs, 'run'))
      symlinkSync('/proc/mounts', join(rootfs, 'etc/mtab'))
    },
    args: ['look=/etc/mtab'],
    sees: {},
  },
])
