/** The container's process: arguments, environment, directory, identity, limits, privileges, scheduling. */
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Place } from '../helpers/differential/bundle.ts'
import { usualCapabilities } from '../helpers/differential/bundle.ts'
import { holdsSysResource } from '../helpers/differential/world.ts'
import { type Case, differential } from '../helpers/differential/suite.ts'

const process = (properties: Record<string, unknown>): Record<string, unknown> => ({ process: properties })
const inRootfs =
  (make: (rootfs: string) => void) =>
  (place: Place): void =>
    make(place.rootfs)

const program = (name: string, content: string, mode = 0o755): ((place: Place) => void) =>
  inRootfs((rootfs) => {
    writeFileSync(join(rootfs, name), content)
    chmodSync(join(rootfs, name), mode)
  })

differential('arguments and environment', {}, [
  {
    name: 'several arguments',
    spec: process({ args: ['/witness', 'a b', '', 'ü'] }),
    sees: { 'args.1': 'a b', 'args.2': '', 'args.3': 'ü' },
  },
  {
    name: 'a program of $PATH',
    spec: process({ args: ['witness'], env: ['PATH=/nowhere:/'] }),
    sees: { 'args.0': 'witness' },
  },
  {
    name: 'a program of the second directory of $PATH, after one that may not be executed',
    spec: process({ args: ['w'], env: ['PATH=/data:/bin'] }),
    prepare: inRootfs((rootfs) => {
      writeFileSync(join(rootfs, 'data/w'), '', { mode: 0o644 })
      symlinkSync('/witness', join(rootfs, 'bin/w'))
    }),
    sees: { 'args.0': 'w' },
  },
  { name: 'a relative program with a slash', spec: process({ args: ['./witness'] }), sees: { 'args.0': './witness' } },
  {
    name: 'a relative program below the working directory',
    spec: process({ args: ['../witness'], cwd: '/data' }),
    sees: { cwd: '/data' },
  },
  { name: 'no $PATH', spec: process({ args: ['/witness'], env: [] }), sees: { 'env.0': 'HOME=/root' } },
  { name: 'a program that is not there', spec: process({ args: ['/nothing'] }), refused: true },
  { name: 'a program that is not in $PATH', spec: process({ args: ['nothing'] }), refused: true },
  { name: 'a program that may not be executed', spec: process({ args: ['/data/file'] }), refused: true },
  { name: 'a directory as program', spec: process({ args: ['/data'] }), refused: true },
  {
    name: 'a program of an unknown format',
    spec: process({ args: ['/data/odd'] }),
    prepare: program('data/odd', 'neither ELF nor script'),
    refused: true,
  },
  { name: 'an empty program', spec: process({ args: ['/data/odd'] }), prepare: program('data/odd', ''), refused: true },
  {
    name: 'a script',
    spec: process({ args: ['/data/script'] }),
    prepare: program('data/script', '#!/witness quiet\n'),
    sees: {},
  },
  {
    name: 'a script whose interpreter is not there',
    spec: process({ args: ['/data/script'] }),
    prepare: program('data/script', '#!/nothing\n'),
    refused: true,
  },
  { name: 'no arguments', spec: process({ args: [] }), refused: true },
  { name: 'an empty program name', spec: process({ args: [''] }), refused: true },
  { name: 'no process', spec: { process: null }, refused: true },
  {
    name: 'variables',
    spec: process({ env: ['PATH=/', 'A=1', 'B=x=y', 'C='] }),
    sees: { 'env.1': 'A=1', 'env.2': 'B=x=y', 'env.3': 'C=' },
  },
  { name: 'a variable twice', spec: process({ env: ['A=1', 'A=2', 'PATH=/'] }), sees: {} },
  {
    name: 'HOME is set from the users of the container',
    spec: process({ env: ['PATH=/'], user: { uid: 1000, gid: 1000 } }),
    sees: { 'env.1': 'HOME=/home/user' },
  },
  {
    name: 'HOME where the users of the container are masked',
    differences: [
      { at: /^env\./, follow: 'runc', why: 'crun 1.8.1 sets none then' },
      { at: 'mounts./etc/passwd', follow: 'any', why: 'how it is covered is each runtime’s own' },
    ],
    spec: { process: { env: ['PATH=/'] }, linux: { maskedPaths: ['/etc/passwd'] } },
    sees: { 'env.1': 'HOME=/' },
  },
  {
    name: 'an empty HOME',
    differences: [{ at: 'env.0', follow: 'either', why: 'runc sets an empty HOME, too' }],
    spec: process({ env: ['HOME=', 'PATH=/'] }),
    sees: {},
  },
  {
    name: 'a variable without =',
    but: { runc: 'refuses what is no variable' },
    spec: process({ env: ['PATH=/', 'NOTHING'] }),
    sees: { 'env.1': 'HOME=/root' },
  },
  {
    name: 'an empty variable',
    but: { runc: 'refuses what is no variable' },
    spec: process({ env: ['PATH=/', ''] }),
    sees: { 'env.1': 'HOME=/root' },
  },
  {
    name: 'a thousand variables',
    spec: (spec) =>
      spec.process.env.push(...Array.from({ length: 1000 }, (_one, index) => `V${index}=${'x'.repeat(100)}`)),
    sees: { 'env.1001': /^V999=x/ },
  },
  {
    name: 'nothing of the caller’s environment',
    spec: process({ env: ['PATH=/', 'HOME=/'] }),
    sees: { 'env.2': undefined },
  },
])

differential('working directory', {}, [
  { name: 'one that is there', spec: process({ cwd: '/data' }), sees: { cwd: '/data' } },
  { name: 'one that is made', spec: process({ cwd: '/made/for/it' }), sees: { cwd: '/made/for/it' } },
  {
    name: 'made with the rights of the user',
    spec: process({ cwd: '/made', user: { uid: 1000, gid: 1000 } }),
    args: ['look=/made'],
    sees: { cwd: '/made' },
  },
  {
    name: 'a link',
    spec: process({ cwd: '/link' }),
    prepare: inRootfs((rootfs) => symlinkSync('data', join(rootfs, 'link'))),
    sees: { cwd: '/data' },
  },
  { name: 'dots', spec: process({ cwd: '/data/../etc/.' }), sees: { cwd: '/etc' } },
  { name: 'dots above the root', spec: process({ cwd: '/../../etc' }), sees: { cwd: '/etc' } },
  {
    name: 'a relative one',
    but: { crun: 'takes it from the root; the specification says MUST be absolute' },
    spec: process({ cwd: 'data' }),
    refused: true,
  },
  { name: 'an empty one', spec: process({ cwd: '' }), refused: true },
  { name: 'a file', spec: process({ cwd: '/data/file' }), refused: true },
  {
    name: 'one that only root may enter, for a user',
    spec: process({ cwd: '/secret', user: { uid: 1000, gid: 1000 } }),
    prepare: inRootfs((rootfs) => mkdirSync(join(rootfs, 'secret'), { mode: 0o700 })),
    sees: { cwd: '/secret' },
  },
  {
    name: 'one that only root may enter, with the capability',
    spec: process({ cwd: '/secret' }),
    prepare: inRootfs((rootfs) => mkdirSync(join(rootfs, 'secret'), { mode: 0o700 })),
    sees: { cwd: '/secret' },
  },
  { name: 'in a mount', spec: process({ cwd: '/dev/shm' }), sees: { cwd: '/dev/shm' } },
  ...[3, 7, 9].map((fd): Case => ({
    name: `descriptor ${fd} of the runtime (CVE-2024-21626)`,
    spec: process({ cwd: `/proc/self/fd/${fd}` }),
    refused: true,
  })),
])

differential('user', {}, [
  {
    name: 'user and group',
    spec: process({ user: { uid: 1000, gid: 2000 } }),
    sees: { 'ids.uid': '1000 1000 1000', 'ids.gid': '2000 2000 2000', 'status.CapEff': '0000000000000000' },
  },
  {
    name: 'a user without an entry',
    spec: process({ user: { uid: 54321, gid: 54321 } }),
    sees: { 'ids.uid': '54321 54321 54321' },
  },
  {
    name: 'groups',
    spec: process({ user: { uid: 0, gid: 0, additionalGids: [5, 10, 4_000_000] } }),
    sees: { 'ids.groups': '5 10 4000000' },
  },
  {
    name: 'the first group again',
    differences: [
      { at: /roups$/, follow: 'either', why: 'runc leaves out what is there twice; the kernel asks membership only' },
    ],
    spec: process({ user: { uid: 0, gid: 7, additionalGids: [7, 7, 8] } }),
  },
  {
    name: 'an empty list of groups',
    spec: process({ user: { uid: 1, gid: 1, additionalGids: [] } }),
    sees: { 'ids.groups': '' },
  },
  {
    name: 'a hundred groups',
    spec: process({
      user: { uid: 0, gid: 0, additionalGids: Array.from({ length: 100 }, (_one, index) => index + 1000) },
    }),
    sees: { 'ids.groups': /^1000 1001 .* 1099$/ },
  },
  {
    name: 'the highest user',
    but: { runc: 'takes no id above 2^31 - 1' },
    spec: process({ user: { uid: 4294967294, gid: 4294967294 } }),
    sees: { 'ids.uid': /^4294967294 / },
  },
  { name: 'a user of 2^32', spec: process({ user: { uid: 4294967296, gid: 0 } }), refused: true },
  { name: 'a negative user', spec: process({ user: { uid: -1, gid: 0 } }), refused: true },
  { name: 'a fraction as user', spec: process({ user: { uid: 1.5, gid: 0 } }), refused: true },
  {
    name: 'a name as user',
    but: { crun: 'takes it as 0' },
    spec: process({ user: { uid: 'root', gid: 0 } }),
    refused: true,
  },
  { name: 'a negative group', spec: process({ user: { uid: 0, gid: 0, additionalGids: [-1] } }), refused: true },
  ...[0o000, 0o027, 0o077, 0o777].map((umask): Case => ({
    name: `umask ${umask.toString(8)}`,
    spec: process({ user: { uid: 0, gid: 0, umask } }),
    sees: { 'status.Umask': umask.toString(8).padStart(4, '0') },
  })),
])

const limits: [name: string, soft: number, hard: number][] = [
  ['CPU', 1000, 2000],
  ['FSIZE', 1 << 28, 1 << 29],
  ['DATA', 1 << 28, 1 << 29],
  ['STACK', 1 << 20, 1 << 21],
  ['CORE', 0, 4096],
  ['RSS', 1 << 28, 1 << 29],
  ['NPROC', 100, 200],
  ['NOFILE', 512, 1024],
  ['MEMLOCK', 4096, 8192],
  ['AS', 1 << 30, 2 ** 31],
  ['LOCKS', 10, 20],
  ['SIGPENDING', 10, 20],
  ['MSGQUEUE', 1000, 2000],
  ['NICE', 0, 0],
  ['RTPRIO', 0, 0],
  ['RTTIME', 100_000, 200_000],
]
const rlimits = (...list: [type: string, soft: unknown, hard: unknown][]): Record<string, unknown> =>
  process({ rlimits: list.map(([type, soft, hard]) => ({ type, soft, hard })) })

differential('limits', {}, [
  ...limits.map(([name, soft, hard]): Case => ({
    name,
    spec: rlimits([`RLIMIT_${name}`, soft, hard]),
    sees: { [`limits.${name}`]: `${soft} ${hard}` },
  })),
  {
    name: 'all at once',
    spec: rlimits(...limits.map(([name, soft, hard]): [string, number, number] => [`RLIMIT_${name}`, soft, hard])),
  },
  {
    name: 'one of 2^53 - 1',
    spec: rlimits([
      'RLIMIT_CORE',
      18446744073709551615n.toString() === '' ? 0 : Number.MAX_SAFE_INTEGER,
      Number.MAX_SAFE_INTEGER,
    ]),
    sees: { 'limits.CORE': '9007199254740991 9007199254740991' },
  },
  { name: 'soft above hard', spec: rlimits(['RLIMIT_NOFILE', 20, 10]), refused: true },
  { name: 'an unknown one', spec: rlimits(['RLIMIT_NOTHING', 1, 1]), refused: true },
  { name: 'a name without its prefix', spec: rlimits(['NOFILE', 10, 10]), refused: true },
  { name: 'one twice', spec: rlimits(['RLIMIT_NOFILE', 512, 512], ['RLIMIT_NOFILE', 1024, 1024]), refused: true },
  { name: 'a negative one', spec: rlimits(['RLIMIT_NOFILE', -1, -1]), refused: true },
  { name: 'a text as limit', spec: rlimits(['RLIMIT_NOFILE', '10', '10']), refused: true },
  {
    name: 'above the runtime’s own, without CAP_SYS_RESOURCE',
    spec: rlimits(['RLIMIT_NOFILE', 1 << 19, 1 << 19]),
    refused: true,
    skip: holdsSysResource() && 'root has CAP_SYS_RESOURCE',
  },
])

const capabilities = (sets: Record<string, string[]>): Record<string, unknown> =>
  process({ capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [], ...sets } })
const three = (...names: string[]): Record<string, string[]> => ({
  bounding: names,
  effective: names,
  permitted: names,
})

differential('capabilities', {}, [
  {
    name: 'none',
    spec: capabilities({}),
    sees: { 'status.CapEff': '0000000000000000', 'status.CapBnd': '0000000000000000' },
  },
  { name: 'no property at all', spec: process({ capabilities: null }) },
  {
    name: 'bounding alone',
    spec: capabilities({ bounding: ['CAP_KILL'] }),
    sees: { 'status.CapBnd': '0000000000000020', 'status.CapEff': '0000000000000020' },
  },
  { name: 'permitted but not effective', spec: capabilities({ bounding: ['CAP_KILL'], permitted: ['CAP_KILL'] }) },
  {
    name: 'effective but not permitted',
    spec: capabilities({ bounding: ['CAP_KILL'], effective: ['CAP_KILL'] }),
    sees: { 'status.CapPrm': '0000000000000020' },
    but: {
      crun: 'ends where the kernel refuses the set; by the specification what cannot be granted is a warning',
      runc: 'ends where the kernel refuses the set; by the specification what cannot be granted is a warning',
    },
  },
  {
    name: 'inheritable',
    spec: capabilities({ ...three('CAP_KILL'), inheritable: ['CAP_KILL'] }),
    sees: { 'status.CapInh': '0000000000000020' },
  },
  {
    name: 'ambient',
    spec: capabilities({ ...three('CAP_KILL'), inheritable: ['CAP_KILL'], ambient: ['CAP_KILL'] }),
    sees: { 'status.CapAmb': '0000000000000020' },
  },
  {
    name: 'ambient for a user',
    spec: (spec) => {
      Object.assign(spec.process, {
        user: { uid: 1000, gid: 1000 },
        capabilities: { ...three('CAP_KILL', 'CAP_CHOWN'), inheritable: ['CAP_KILL'], ambient: ['CAP_KILL'] },
      })
    },
    args: ['call=setuid-0', 'call=kill-init'],
    sees: { 'status.CapEff': '0000000000000020', 'status.CapAmb': '0000000000000020' },
  },
  { name: 'ambient without inheritable', spec: capabilities({ ...three('CAP_KILL'), ambient: ['CAP_KILL'] }) },
  { name: 'permitted but not in bounding', spec: capabilities({ effective: ['CAP_KILL'], permitted: ['CAP_KILL'] }) },
  {
    name: 'an unknown one',
    spec: capabilities(three('CAP_KILL', 'CAP_NOTHING')),
    sees: { 'status.CapBnd': '0000000000000020' },
  },
  {
    name: 'one in lower case',
    differences: [
      { at: /^status.Cap/, follow: 'either', why: 'crun takes names in any case, for runc it is an unknown one' },
    ],
    spec: capabilities(three('cap_kill')),
    sees: {},
  },
  { name: 'one without its prefix', spec: capabilities(three('KILL')), sees: {} },
  {
    name: 'one twice',
    spec: capabilities(three('CAP_KILL', 'CAP_KILL')),
    sees: { 'status.CapBnd': '0000000000000020' },
  },
  {
    name: 'a user has none effective',
    spec: (spec) => {
      spec.process.user = { uid: 1000, gid: 1000 }
    },
    sees: { 'status.CapEff': '0000000000000000', 'status.CapPrm': '0000000000000000' },
  },
  ...[
    'CAP_SYS_ADMIN',
    'CAP_NET_RAW',
    'CAP_SYS_PTRACE',
    'CAP_MKNOD',
    'CAP_SYS_CHROOT',
    'CAP_NET_ADMIN',
    'CAP_SETPCAP',
    'CAP_SYS_NICE',
    'CAP_CHECKPOINT_RESTORE',
    'CAP_BPF',
    'CAP_PERFMON',
    'CAP_AUDIT_READ',
  ].map((name): Case => ({
    name: `${name} alone, and what it allows`,
    spec: capabilities(three(name)),
    args: [
      'mount',
      'socket-raw',
      'mknod-null',
      'chroot',
      'sethostname',
      'drop-bound',
      'nice-down',
      'setuid-1000',
      'chown',
    ].map((call) => `call=${call}`),
  })),
  {
    name: 'all that are usual but one',
    spec: (spec) => {
      const names = usualCapabilities.filter((one) => one !== 'CAP_CHOWN')
      spec.process.capabilities = three(...names)
    },
    args: ['call=chown'],
    sees: { 'asked.call=chown': 'EPERM' },
  },
])

differential('privileges', {}, [
  {
    name: 'noNewPrivileges',
    spec: process({ noNewPrivileges: true }),
    sees: { 'flags.noNewPrivileges': '1', 'status.NoNewPrivs': '1' },
  },
  { name: 'no property of it', spec: process({ noNewPrivileges: null }), sees: { 'flags.noNewPrivileges': '0' } },
  { name: 'oomScoreAdj raised', spec: process({ oomScoreAdj: 500 }), sees: { 'flags.oomScoreAdj': '500' } },
  { name: 'oomScoreAdj 0', spec: process({ oomScoreAdj: 0 }), sees: { 'flags.oomScoreAdj': '0' } },
  { name: 'oomScoreAdj of 1001', spec: process({ oomScoreAdj: 1001 }), refused: true },
  { name: 'oomScoreAdj as text', but: { crun: 'takes it as 0' }, spec: process({ oomScoreAdj: '5' }), refused: true },
  {
    name: 'an AppArmor profile on a host without AppArmor',
    spec: process({ apparmorProfile: 'unconfined' }),
    refused: true,
  },
  {
    name: 'an AppArmor profile that cannot be honoured',
    spec: process({ apparmorProfile: 'docker-default' }),
    refused: true,
  },
  {
    name: 'an SELinux label on a host without SELinux',
    spec: process({ selinuxLabel: 'system_u:system_r:container_t:s0' }),
    refused: true,
  },
  {
    name: 'personality LINUX32',
    but: { runc: 'runc 1.1.5 does not know personalities' },
    spec: { linux: { personality: { domain: 'LINUX32' } } },
    sees: { 'flags.personality': '8', 'names.machine': 'i686' },
  },
  {
    name: 'personality LINUX',
    spec: { linux: { personality: { domain: 'LINUX' } } },
    sees: { 'flags.personality': '0' },
  },
  {
    name: 'an unknown personality',
    but: { runc: 'runc 1.1.5 does not know personalities' },
    spec: { linux: { personality: { domain: 'PLAN9' } } },
    refused: true,
  },
  {
    name: 'a personality with flags',
    but: { crun: 'ignores the flags', runc: 'runc 1.1.5 does not know personalities' },
    spec: { linux: { personality: { domain: 'LINUX', flags: ['ADDR_NO_RANDOMIZE'] } } },
    refused: true,
  },
])

/** What Debian 12's crun and runc are too old for. */
const newer = { crun: 'crun 1.8.1 ignores what it does not know', runc: 'runc 1.1.5 ignores what it does not know' }

const scheduling: Case[] = [
  {
    name: 'policy SCHED_BATCH with a nice value',
    spec: process({ scheduler: { policy: 'SCHED_BATCH', nice: 5 } }),
    sees: { 'scheduling.policy': '3' },
  },
  {
    name: 'policy SCHED_IDLE',
    spec: process({ scheduler: { policy: 'SCHED_IDLE' } }),
    sees: { 'scheduling.policy': '5' },
  },
  {
    name: 'policy SCHED_OTHER with a nice value',
    spec: process({ scheduler: { policy: 'SCHED_OTHER', nice: 7 } }),
    sees: { 'scheduling.nice': '7' },
  },
  {
    name: 'policy SCHED_RR',
    spec: process({ scheduler: { policy: 'SCHED_RR', priority: 10 } }),
    sees: { 'scheduling.policy': '2' },
  },
  {
    name: 'policy SCHED_FIFO and SCHED_FLAG_RESET_ON_FORK',
    spec: process({ scheduler: { policy: 'SCHED_FIFO', priority: 3, flags: ['SCHED_FLAG_RESET_ON_FORK'] } }),
    sees: { 'scheduling.policy': '1' },
  },
  {
    name: 'policy SCHED_DEADLINE',
    spec: process({
      scheduler: { policy: 'SCHED_DEADLINE', runtime: 1_000_000, deadline: 10_000_000, period: 20_000_000 },
    }),
    sees: { 'scheduling.policy': '6' },
  },
  { name: 'an unknown policy', spec: process({ scheduler: { policy: 'SCHED_FAST' } }), refused: true },
  {
    name: 'an unknown flag',
    spec: process({ scheduler: { policy: 'SCHED_OTHER', flags: ['SCHED_FLAG_FAST'] } }),
    refused: true,
  },
  { name: 'a nice value of 20', spec: process({ scheduler: { policy: 'SCHED_OTHER', nice: 20 } }), refused: true },
  {
    name: 'a priority for SCHED_OTHER',
    spec: process({ scheduler: { policy: 'SCHED_OTHER', priority: 5 } }),
    refused: true,
  },
  {
    name: 'a deadline for SCHED_FIFO',
    spec: process({ scheduler: { policy: 'SCHED_FIFO', priority: 1, deadline: 5 } }),
    refused: true,
  },
  ...(['IOPRIO_CLASS_RT', 'IOPRIO_CLASS_BE', 'IOPRIO_CLASS_IDLE'] as const).map((name, index): Case => ({
    name: `I/O priority ${name}`,
    spec: process({ ioPriority: { class: name, priority: name === 'IOPRIO_CLASS_IDLE' ? 0 : 3 } }),
    sees: { 'scheduling.ioPriority': `class ${index + 1} level ${index === 2 ? 0 : 3}` },
  })),
  {
    name: 'an unknown class of I/O priority',
    spec: process({ ioPriority: { class: 'IOPRIO_CLASS_FAST', priority: 1 } }),
    refused: true,
  },
  {
    name: 'an I/O priority of 8',
    spec: process({ ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 8 } }),
    refused: true,
  },
  {
    name: 'memory policy MPOL_BIND',
    spec: { linux: { memoryPolicy: { mode: 'MPOL_BIND', nodes: '0' } } },
    sees: { 'scheduling.memoryPolicy': '2 nodes 1' },
  },
  {
    name: 'memory policy MPOL_INTERLEAVE with a flag',
    spec: { linux: { memoryPolicy: { mode: 'MPOL_INTERLEAVE', nodes: '0', flags: ['MPOL_F_STATIC_NODES'] } } },
    sees: { 'scheduling.memoryPolicy': /^32771 nodes 1$/ },
  },
  {
    name: 'memory policy MPOL_PREFERRED',
    spec: { linux: { memoryPolicy: { mode: 'MPOL_PREFERRED', nodes: '0' } } },
    sees: { 'scheduling.memoryPolicy': '1 nodes 1' },
  },
  {
    name: 'memory policy MPOL_LOCAL',
    spec: { linux: { memoryPolicy: { mode: 'MPOL_LOCAL', nodes: '' } } },
    sees: { 'scheduling.memoryPolicy': '4 nodes 0' },
  },
  {
    name: 'an unknown memory policy',
    spec: { linux: { memoryPolicy: { mode: 'MPOL_FAST', nodes: '0' } } },
    refused: true,
  },
  {
    name: 'a memory policy with a node that is not there',
    spec: { linux: { memoryPolicy: { mode: 'MPOL_BIND', nodes: '900' } } },
    refused: true,
  },
]

differential(
  'scheduling',
  {},
  scheduling.map((one) => ({ ...one, but: newer })),
)
