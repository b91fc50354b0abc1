/** Mounts: every option word of the specification on a file system and on a bind mount, and what else a mount may be. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { all, mount, type Place } from '../helpers/differential/bundle.ts'
import { type Case, differential } from '../helpers/differential/suite.ts'

/** The words of config.md, section mounts; those of AT_RECURSIVE apart. */
const words = [
  'async',
  'atime',
  'bind',
  'defaults',
  'dev',
  'diratime',
  'dirsync',
  'exec',
  'iversion',
  'lazytime',
  'loud',
  'mand',
  'noatime',
  'nodev',
  'nodiratime',
  'noexec',
  'noiversion',
  'nolazytime',
  'nomand',
  'norelatime',
  'nostrictatime',
  'nosuid',
  'nosymfollow',
  'private',
  'ratime',
  'rbind',
  'rdev',
  'rdiratime',
  'relatime',
  'remount',
  'rexec',
  'rnoatime',
  'rnodev',
  'rnodiratime',
  'rnoexec',
  'rnorelatime',
  'rnostrictatime',
  'rnosuid',
  'rnosymfollow',
  'ro',
  'rprivate',
  'rrelatime',
  'rro',
  'rrw',
  'rshared',
  'rslave',
  'rstrictatime',
  'rsuid',
  'rsymfollow',
  'runbindable',
  'rw',
  'shared',
  'silent',
  'slave',
  'strictatime',
  'suid',
  'symfollow',
  'sync',
  'unbindable',
  'tmpcopyup',
] as const

const recursive = words.filter((word) =>
  /^r(?:ro|rw|no\w+|suid|dev|exec|atime|diratime|relatime|strictatime|symfollow)$/.test(word),
)

const source = (place: Place): string => join(place.directory, 'source')
const makeSource = (place: Place): void => {
  mkdirSync(join(source(place), 'deeper'), { recursive: true })
  writeFileSync(join(source(place), 'file'), 'of the host\n')
}
const bind =
  (options: string[], destination = '/mnt', from = source) =>
  (spec: { mounts: object[] }, place: Place): void => {
    spec.mounts.push({ destination, type: 'bind', source: from(place), options })
  }
const looks = ['look=/mnt', 'look=/mnt/file', 'call=mknod-null']

type Allowed = Pick<Case, 'but' | 'differences' | 'refused'>

const asData = 'gives the word to the file system, which refuses it'
const alone: Allowed = { but: { crun: 'clears the times without MOUNT_ATTR__ATIME, which the kernel refuses' } }
const neither: Allowed = {
  but: {
    crun: 'clears the times without MOUNT_ATTR__ATIME, which the kernel refuses',
    runc: 'clears the times without MOUNT_ATTR__ATIME, which the kernel refuses',
  },
}
const follow = (peer: 'crun' | 'runc', why: string): Allowed => ({
  differences: [{ at: /^(mounts\.|asked\.look=)\/mnt(\/sub)?$/, follow: peer, why }],
})
const notRecursive = follow('crun', 'runc leaves words for trees out on what is no bind mount')
const propagation = follow('runc', 'crun 1.8.1 makes every mount private at the end')
/** Its peer, where runc makes it its slave first unless the root is shared, too. */
const bidirectional: Allowed = {
  differences: [
    {
      at: /^mounts\.\/mnt(\/sub)?$/,
      follow: { ours: /\| shared \|/ },
      why: 'in the peer group of its source, as a volume that is Bidirectional must be; under runc only with rootfsPropagation',
    },
  ],
}
const wrongFlag = follow('runc', 'crun 1.8.1 takes nosymfollow and relatime of trees for each other')

const shows = (ours: RegExp): Allowed => ({
  differences: [
    { at: 'mounts./mnt', follow: { ours }, why: 'runc leaves words for trees out on what is no bind mount' },
  ],
})

const onTmpfs: Partial<Record<(typeof words)[number], Allowed>> = {
  defaults: { but: { runc: asData } },
  iversion: { but: { crun: asData } },
  loud: { but: { crun: asData } },
  noiversion: { but: { crun: asData } },
  nosymfollow: { but: { crun: asData } },
  ratime: alone,
  rdiratime: alone,
  rnoatime: { ...alone, ...shows(/noatime/) },
  rnodev: notRecursive,
  rnodiratime: { ...alone, ...shows(/nodiratime/) },
  rnoexec: notRecursive,
  rnostrictatime: alone,
  rnosuid: notRecursive,
  rnosymfollow: { but: { crun: asData }, ...shows(/nosymfollow/) },
  rrelatime: wrongFlag,
  rro: notRecursive,
  rshared: propagation,
  rstrictatime: { ...alone, ...shows(/rw \|/) },
  rsymfollow: { but: { crun: asData } },
  runbindable: propagation,
  shared: propagation,
  silent: { but: { crun: asData } },
  symfollow: { but: { crun: asData } },
  unbindable: propagation,
  tmpcopyup: {
    differences: [
      { at: 'asked.look=/mnt', follow: { ours: /^directory 0755/ }, why: 'the mode of what it covers is copied, too' },
    ],
  },
}

const onBind: Partial<Record<(typeof words)[number], Allowed>> = {
  nosymfollow: follow('runc', 'crun 1.8.1 does not know the word'),
  ratime: neither,
  rdiratime: alone,
  remount: { refused: true },
  rnoatime: alone,
  rnodiratime: alone,
  rnostrictatime: neither,
  rnosymfollow: follow('runc', 'crun 1.8.1 does not know the word'),
  rrelatime: wrongFlag,
  rshared: propagation,
  rstrictatime: alone,
  runbindable: propagation,
  shared: propagation,
  unbindable: propagation,
  tmpcopyup: { refused: true, but: { runc: 'ignores the word for what is no tmpfs' } },
}

differential(
  'option words on a tmpfs',
  {},
  words
    .filter((word) => word !== 'bind' && word !== 'rbind' && word !== 'remount')
    .map((word): Case => ({
      name: word,
      spec: mount('/mnt', 'tmpfs', 'tmpfs', [word]),
      args: ['look=/mnt'],
      sees: { 'mounts./mnt': /^tmpfs / },
      ...onTmpfs[word],
    })),
)

differential(
  'option words on a bind mount',
  {},
  words.map((word): Case => ({
    name: word,
    prepare: makeSource,
    spec: bind(word === 'bind' ? ['bind'] : ['rbind', word]),
    args: looks,
    sees: { 'mounts./mnt': /^ext4|^tmpfs|^overlay/ },
    ...onBind[word],
  })),
)

differential(
  'recursive words on a bind mount of a tree',
  {},
  recursive.map((word): Case => ({
    name: word,
    spec: bind(['rbind', word], '/mnt', (place) => place.tree),
    args: ['look=/mnt', 'look=/mnt/sub'],
    sees: { 'mounts./mnt/sub': /^tmpfs / },
    ...onBind[word],
  })),
)

/** As runc does since 1.2. */
const coveredMode = {
  at: 'mounts./data',
  follow: { ours: /mode=755/ },
  why: 'a tmpfs without a mode has that of the directory that it covers',
}

differential('options together', {}, [
  {
    name: 'of containers',
    spec: mount('/mnt', 'tmpfs', 'x', ['nosuid', 'nodev', 'noexec', 'mode=1777', 'size=1m']),
    sees: { 'mounts./mnt': /^tmpfs \| rw,nosuid,nodev,noexec,relatime .*size=1024k/ },
  },
  {
    name: 'the last of two that exclude each other',
    but: { crun: 'sets and clears: the flag remains' },
    spec: mount('/mnt', 'tmpfs', 'x', ['ro', 'rw', 'nosuid', 'suid', 'noexec', 'exec']),
    sees: { 'mounts./mnt': /^tmpfs \| rw,relatime / },
  },
  {
    name: 'data of the file system',
    spec: mount('/mnt', 'tmpfs', 'x', ['uid=7', 'gid=8', 'mode=0711', 'nr_inodes=100']),
    args: ['look=/mnt'],
    sees: { 'asked.look=/mnt': /^directory 0711 7:8/ },
  },
  { name: 'unknown data', spec: mount('/mnt', 'tmpfs', 'x', ['nothing=1']), refused: true },
  { name: 'an unknown word for a bind mount', prepare: makeSource, spec: bind(['bind', 'nothing']), sees: {} },
  {
    name: 'an empty word',
    spec: mount('/mnt', 'tmpfs', 'x', ['', 'ro']),
    refused: true,
    but: { crun: 'ignores it', runc: 'ignores it' },
  },
  {
    name: 'the type bind alone',
    sees: { 'asked.look=/mnt/file': /filled/ },
    but: {
      crun: 'takes the type for a file system unless the options say bind, too',
      runc: 'takes the type for a file system unless the options say bind, too',
    },
    prepare: makeSource,
    spec: bind([]),
    args: looks,
  },
  {
    name: 'bind without the type',
    prepare: makeSource,
    spec: (spec, place) => {
      spec.mounts.push({ destination: '/mnt', source: source(place), options: ['bind'] })
    },
    args: looks,
    sees: { 'asked.look=/mnt/file': /filled/ },
  },
  {
    name: 'bind with the type none',
    prepare: makeSource,
    spec: (spec, place) => {
      spec.mounts.push({ destination: '/mnt', type: 'none', source: source(place), options: ['rbind', 'ro'] })
    },
    args: looks,
    sees: { 'asked.look=/mnt/file': /write EROFS/ },
  },
  {
    name: 'bind with the type of a file system',
    prepare: makeSource,
    spec: (spec, place) => {
      spec.mounts.push({ destination: '/mnt', type: 'tmpfs', source: source(place), options: ['bind'] })
    },
    args: looks,
    sees: { 'asked.look=/mnt/file': /filled/ },
  },
  {
    name: 'a read-only bind mount of a tree',
    spec: bind(['rbind', 'ro'], '/mnt', (place) => place.tree),
    args: ['look=/mnt', 'look=/mnt/sub'],
    sees: { 'asked.look=/mnt': /EROFS/, 'asked.look=/mnt/sub': /make ok/ },
  },
  {
    name: 'a bind mount of the top alone',
    spec: bind(['bind'], '/mnt', (place) => place.tree),
    sees: { 'mounts./mnt/sub': undefined },
  },
  {
    name: 'nosuid and noexec on a bind mount',
    prepare: makeSource,
    spec: bind(['rbind', 'nosuid', 'noexec', 'nodev']),
    args: looks,
  },
  {
    name: 'noatime then relatime',
    spec: mount('/mnt', 'tmpfs', 'x', ['noatime', 'relatime']),
    sees: { 'mounts./mnt': /noatime/ },
  },
  {
    name: 'propagation and flags',
    but: { crun: 'makes every mount of an own mount namespace private at the end' },
    spec: bind(['rbind', 'rslave', 'ro'], '/mnt', (place) => place.shared),
    sees: { 'mounts./mnt': /\| ro,.*\| master \|/ },
  },
  ...['private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared', 'unbindable', 'runbindable'].map((word): Case => ({
    name: `${word} of a source that is shared`,
    ...(word.includes('shared') ? bidirectional : word !== 'rprivate' && propagation),
    spec: bind(['rbind', word], '/mnt', (place) => place.shared),
    sees: { 'mounts./mnt': /^tmpfs / },
  })),
  {
    name: 'tmpcopyup',
    differences: [
      coveredMode,
      { at: 'asked.look=/data', follow: 'runc', why: 'crun 1.8.1 copies what is in the directory, not its mode' },
    ],
    spec: mount('/data', 'tmpfs', 'x', ['tmpcopyup']),
    args: ['look=/data/file', 'look=/data/deep/link', 'look=/data/deep', 'look=/data'],
    prepare: ({ rootfs }) => {
      mkdirSync(join(rootfs, 'data/deep'), { mode: 0o750 })
      symlinkSync('../file', join(rootfs, 'data/deep/link'))
    },
    sees: { 'asked.look=/data/file': /^file 0644 0:0.*filled/ },
  },
  {
    name: 'tmpcopyup over a directory that is not there',
    spec: mount('/nothing', 'tmpfs', 'x', ['tmpcopyup']),
    sees: { 'mounts./nothing': /^tmpfs/ },
  },
  {
    name: 'tmpcopyup and read-only',
    differences: [coveredMode],
    spec: mount('/data', 'tmpfs', 'x', ['tmpcopyup', 'ro']),
    args: ['look=/data/file'],
    sees: { 'asked.look=/data/file': /^file 0644/ },
  },
])

const ownCgroup: Case['differences'] = [
  {
    at: /fs\/cgroup/,
    follow: { ours: /<cgroup>$|^file/ },
    why: 'theirs is the host’s whole hierarchy, ours the container’s own cgroup (CVE-2023-25809)',
  },
]

differential('file systems', {}, [
  { name: 'an unknown one', spec: mount('/mnt', 'nothing', 'nothing'), refused: true },
  {
    name: 'no type and no bind',
    spec: (spec) => {
      spec.mounts.push({ destination: '/mnt', source: 'tmpfs' })
    },
    refused: true,
  },
  { name: 'an empty type', but: { crun: 'takes it as tmpfs' }, spec: mount('/mnt', '', 'tmpfs'), refused: true },
  { name: 'ramfs', spec: mount('/mnt', 'ramfs', 'x'), sees: { 'mounts./mnt': /^ramfs/ } },
  {
    name: 'an overlay',
    prepare: (place) => {
      for (const name of ['lower', 'upper', 'work']) mkdirSync(join(place.directory, name))
      writeFileSync(join(place.directory, 'lower/below'), 'x')
    },
    spec: (spec, place) => {
      spec.mounts.push({
        destination: '/mnt',
        type: 'overlay',
        source: 'overlay',
        options: [
          `lowerdir=${place.directory}/lower`,
          `upperdir=${place.directory}/upper`,
          `workdir=${place.directory}/work`,
        ],
      })
    },
    args: ['look=/mnt/below', 'look=/mnt'],
    sees: { 'asked.look=/mnt/below': /^file .*filled/ },
  },
  { name: 'mqueue of the IPC namespace', spec: mount('/mnt', 'mqueue', 'x'), sees: { 'mounts./mnt': /^mqueue/ } },
  { name: 'a second proc', spec: mount('/mnt', 'proc', 'x'), sees: { 'mounts./mnt': /^proc/ } },
  { name: 'proc with hidepid', spec: mount('/mnt', 'proc', 'x', ['hidepid=2']), sees: { 'mounts./mnt': /hidepid/ } },
  {
    name: 'no proc at all',
    differences: [
      {
        at: /^devices\.(fd|std\w+)$/,
        follow: { ours: undefined },
        why: 'links into a /proc that is not there: the specification has them only where /proc/self/fd exists',
      },
    ],
    but: { runc: 'counts on /proc of the container to close its descriptors' },
    spec: (spec) => {
      spec.mounts = spec.mounts.filter(({ type }) => type !== 'proc')
    },
    sees: { 'mounts./proc': undefined },
  },
  {
    name: 'no mounts at all',
    differences: [
      {
        at: /^devices\.(fd|std\w+)$/,
        follow: { ours: undefined },
        why: 'links into a /proc that is not there: the specification has them only where /proc/self/fd exists',
      },
    ],
    but: { runc: 'counts on /proc of the container to close its descriptors' },
    spec: { mounts: [] },
    sees: { 'mounts./dev': undefined },
  },
  {
    name: 'mounts that are null',

    but: {
      crun: 'wants the property, which is optional',
      runc: 'counts on /proc of the container to close its descriptors',
    },
    spec: (spec) => {
      Object.assign(spec, { mounts: undefined })
    },
    sees: { 'mounts./dev': undefined },
  },
  {
    name: 'no /dev',
    spec: (spec) => {
      spec.mounts = spec.mounts.filter(({ destination }) => !destination.startsWith('/dev'))
    },
  },
  {
    name: '/dev of the host',
    spec: (spec) => {
      spec.mounts = spec.mounts
        .map((one) =>
          one.destination === '/dev'
            ? { destination: '/dev', type: 'bind', source: '/dev', options: ['rbind', 'rslave'] }
            : one,
        )
        .filter(({ destination }) => !destination.startsWith('/dev/'))
    },
    args: ['look=/dev/null'],
    sees: { 'asked.look=/dev/null': /^character device/ },
    differences: [
      { at: /^(devices|mounts)\./, follow: 'any', why: 'the host’s own, which other tests change meanwhile' },
    ],
  },
  {
    name: 'a read-only /dev',
    spec: (spec) => {
      spec.mounts[1]?.options?.push('ro')
    },
    args: ['look=/dev'],
    sees: { 'asked.look=/dev': /EROFS/ },
  },
  {
    name: 'devpts without newinstance',
    spec: (spec) => {
      spec.mounts[2]!.options = ['nosuid', 'noexec']
    },
  },
  {
    name: 'a writable cgroup',
    spec: (spec) => {
      spec.mounts[6]!.options = ['nosuid', 'noexec', 'nodev', 'rw']
    },
    args: ['look=/sys/fs/cgroup'],
    sees: { 'asked.look=/sys/fs/cgroup': /make ok/ },
  },
  {
    name: 'cgroup2 as the type',
    spec: (spec) => {
      spec.mounts[6]!.type = 'cgroup2'
    },
    sees: { 'mounts./sys/fs/cgroup': /^cgroup2/ },
  },
  {
    name: 'a writable sysfs',
    spec: (spec) => {
      spec.mounts[5]!.options = ['nosuid']
    },
  },
  {
    name: 'a cgroup mount without the namespace',
    differences: ownCgroup,
    spec: (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'cgroup')
    },
    args: ['look=/sys/fs/cgroup/cgroup.procs', 'look=/sys/fs/cgroup/cgroup.subtree_control'],
    sees: { 'namespaces.cgroup': 'host' },
  },
])

const link =
  (target: string, name: string) =>
  ({ rootfs }: Place): void =>
    symlinkSync(target, join(rootfs, name))

differential('destinations', {}, [
  {
    name: 'made where it is not',
    differences: [{ at: /look=/, follow: 'runc', why: 'crun 1.8.1 makes directories with the sticky bit' }],
    spec: mount('/made/for/it', 'tmpfs', 'x'),
    args: ['look=/made', 'look=/made/for'],
    sees: { 'mounts./made/for/it': /^tmpfs/ },
  },
  {
    name: 'a file made for a file',
    prepare: makeSource,
    spec: bind(['bind'], '/made/file', (place) => join(source(place), 'file')),
    args: ['look=/made/file'],
    sees: { 'asked.look=/made/file': /^file .*filled/ },
  },
  {
    name: 'a file over a file',
    prepare: makeSource,
    spec: bind(['bind', 'ro'], '/etc/passwd', (place) => join(source(place), 'file')),
    args: ['look=/etc/passwd'],
    sees: { 'asked.look=/etc/passwd': /write EROFS/ },
  },
  { name: 'a directory over a file', prepare: makeSource, spec: bind(['bind'], '/etc/passwd'), refused: true },
  {
    name: 'a file over a directory',
    prepare: makeSource,
    spec: bind(['bind'], '/data', (place) => join(source(place), 'file')),
    refused: true,
  },
  { name: 'a file system over a file', spec: mount('/etc/passwd', 'tmpfs', 'x'), refused: true },
  { name: 'a relative one', spec: mount('mnt/here', 'tmpfs', 'x'), sees: { 'mounts./mnt/here': /^tmpfs/ } },
  { name: 'dots', spec: mount('/data/../mnt/./x', 'tmpfs', 'x'), sees: { 'mounts./mnt/x': /^tmpfs/ } },
  { name: 'dots above the root', spec: mount('/../../mnt', 'tmpfs', 'x'), sees: { 'mounts./mnt': /^tmpfs/ } },
  { name: 'several slashes', spec: mount('//mnt///x/', 'tmpfs', 'x'), sees: { 'mounts./mnt/x': /^tmpfs/ } },
  {
    name: 'an absolute link',
    differences: [coveredMode],
    prepare: link('/data', 'link'),
    spec: mount('/link', 'tmpfs', 'x'),
    sees: { 'mounts./data': /^tmpfs/ },
  },
  {
    name: 'below an absolute link',
    prepare: link('/data', 'link'),
    spec: mount('/link/x', 'tmpfs', 'x'),
    sees: { 'mounts./data/x': /^tmpfs/ },
  },
  {
    name: 'a relative link',
    differences: [coveredMode],
    prepare: link('data', 'link'),
    spec: mount('/link', 'tmpfs', 'x'),
    sees: { 'mounts./data': /^tmpfs/ },
  },
  {
    name: 'a link out of the root',
    prepare: link('../../../../../../../../etc', 'link'),
    spec: mount('/link/witness.d', 'tmpfs', 'x'),
    sees: { 'mounts./etc/witness.d': /^tmpfs/ },
  },
  {
    name: 'a link to nothing',
    but: { crun: 'makes nothing behind a link' },
    prepare: link('/nothing/here', 'link'),
    spec: mount('/link', 'tmpfs', 'x'),
    sees: { 'mounts./nothing/here': /^tmpfs/ },
  },
  {
    name: 'links in a circle',
    prepare: link('circle', 'circle'),
    spec: mount('/circle/x', 'tmpfs', 'x'),
    refused: true,
  },
  { name: 'with a blank', spec: mount('/with blank', 'tmpfs', 'x'), sees: { 'mounts./with\\040blank': /^tmpfs/ } },
  { name: 'with a colon and a comma', spec: mount('/a:b,c', 'tmpfs', 'x'), sees: { 'mounts./a:b,c': /^tmpfs/ } },
  { name: 'an empty one', spec: mount('', 'tmpfs', 'x'), refused: true },
  {
    name: 'no destination',
    spec: (spec) => {
      spec.mounts.push({ type: 'tmpfs', source: 'x' } as never)
    },
    refused: true,
  },
  {
    name: 'below one that came before',
    spec: all(mount('/mnt', 'tmpfs', 'x'), mount('/mnt/a/b', 'tmpfs', 'y')),
    sees: { 'mounts./mnt/a/b': /^tmpfs/ },
  },
  {
    name: 'over one that came before',
    spec: all(mount('/mnt', 'tmpfs', 'x'), mount('/mnt', 'tmpfs', 'y', ['ro'])),
    args: ['look=/mnt'],
    sees: { 'mounts./mnt#2': /^tmpfs \| ro/ },
  },
  {
    name: 'below a read-only one',
    spec: all(mount('/mnt', 'tmpfs', 'x', ['ro']), mount('/mnt/a', 'tmpfs', 'y')),
    sees: { 'mounts./mnt/a': /^tmpfs/ },
  },
  {
    name: 'below a read-only root',
    spec: all({ root: { readonly: true } }, mount('/made', 'tmpfs', 'x')),
    args: ['look=/', 'look=/made'],
    sees: { 'asked.look=/made': /make ok/, 'asked.look=/': /EROFS/ },
  },
  {
    name: 'a hundred mounts',
    spec: (spec) => {
      for (let i = 0; i < 100; i++)
        spec.mounts.push({ destination: `/mnt/${i}`, type: 'tmpfs', source: 'x', options: ['ro'] })
    },
    sees: { 'mounts./mnt/99': /^tmpfs/ },
  },
  {
    name: '/proc/sys of a tmpfs',
    but: { crun: 'mounts anything below /proc', runc: 'looks at bind mounts only' },
    spec: mount('/proc/sys/kernel', 'tmpfs', 'x'),
    refused: true,
  },
  {
    name: 'over a file of /proc that engines cover',
    prepare: makeSource,
    spec: bind(['bind'], '/proc/uptime', (place) => join(source(place), 'file')),
    args: ['cat=/proc/uptime'],
    sees: { 'asked.cat=/proc/uptime': 'of the host\n' },
  },
  {
    name: 'over /proc itself',
    but: { crun: 'mounts anything over /proc' },
    spec: mount('/proc', 'tmpfs', 'x'),
    refused: true,
  },
  {
    name: '/proc that is a link of the image (CVE-2019-19921)',
    prepare: ({ rootfs }) => {
      execFileSync('rmdir', [join(rootfs, 'proc')])
      symlinkSync('/data', join(rootfs, 'proc'))
    },
    refused: true,
  },
  {
    name: '/sys that is a link of the image',
    prepare: ({ rootfs }) => {
      execFileSync('rmdir', [join(rootfs, 'sys')])
      symlinkSync('/data', join(rootfs, 'sys'))
    },
    refused: true,
  },
  {
    name: '/dev that is a link of the image',
    prepare: ({ rootfs }) => {
      execFileSync('rmdir', [join(rootfs, 'dev')])
      symlinkSync('/data', join(rootfs, 'dev'))
    },
    refused: true,
  },
])

differential('sources', {}, [
  {
    name: 'one that is not there',
    spec: (spec) => {
      spec.mounts.push({ destination: '/mnt', type: 'bind', source: '/nothing/here', options: ['rbind'] })
    },
    refused: true,
  },
  {
    name: 'a relative one is of the bundle',
    prepare: ({ bundle }) => {
      mkdirSync(join(bundle, 'beside'))
      writeFileSync(join(bundle, 'beside/file'), 'x')
    },
    spec: (spec) => {
      spec.mounts.push({ destination: '/mnt', type: 'bind', source: 'beside', options: ['rbind'] })
    },
    args: looks,
    sees: { 'asked.look=/mnt/file': /filled/ },
  },
  {
    name: 'a link',
    prepare: (place) => {
      makeSource(place)
      symlinkSync('source', join(place.directory, 'link'))
    },
    spec: bind(['rbind'], '/mnt', (place) => join(place.directory, 'link')),
    args: looks,
    sees: { 'asked.look=/mnt/file': /filled/ },
  },
  {
    name: 'a fifo',
    prepare: (place) => {
      execFileSync('mkfifo', [join(place.directory, 'fifo')])
    },
    spec: bind(['bind'], '/mnt/fifo', (place) => join(place.directory, 'fifo')),
    args: ['look=/mnt'],
    sees: { 'mounts./mnt/fifo': /./ },
  },
  {
    name: 'a device',
    spec: bind(['bind'], '/mnt/zero', () => '/dev/zero'),
    args: ['look=/mnt/zero'],
    sees: { 'asked.look=/mnt/zero': /^character device/ },
  },
  {
    name: 'a device with nodev',
    spec: bind(['bind', 'nodev'], '/mnt/zero', () => '/dev/zero'),
    args: ['look=/mnt/zero'],
  },
  {
    name: 'a directory that only root may enter',
    prepare: (place) => {
      makeSource(place)
      chmodSync(source(place), 0o700)
    },
    spec: all({ process: { user: { uid: 1000, gid: 1000 } } }, bind(['rbind'])),
    args: looks,
    sees: { 'asked.look=/mnt/file': 'EACCES' },
  },
  {
    name: 'none for a bind mount',
    but: { runc: 'takes the working directory' },
    spec: (spec) => {
      spec.mounts.push({ destination: '/mnt', type: 'bind', options: ['rbind'] })
    },
    refused: true,
  },
  {
    name: 'none for a file system',
    differences: [
      {
        at: 'mounts./mnt',
        follow: 'either',
        why: 'the source of a tmpfs is a name without a meaning: its type for crun',
      },
    ],
    spec: (spec) => {
      spec.mounts.push({ destination: '/mnt', type: 'tmpfs' })
    },
    sees: { 'mounts./mnt': /^tmpfs/ },
  },
  {
    name: 'the root of the container in itself',
    spec: bind(['bind'], '/mnt', ({ rootfs }) => rootfs),
    args: ['look=/mnt/witness'],
    sees: { 'asked.look=/mnt/witness': /^file/ },
  },
])
