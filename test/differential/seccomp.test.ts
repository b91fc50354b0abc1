/** Seccomp: what a filter makes of calls, for every action, operator and flag; profiles that must be refused. */
import { differential, type Case } from '../helpers/differential/suite.ts'
import type { Change } from '../helpers/differential/bundle.ts'
import { takesInt80 } from '../helpers/differential/world.ts'

interface Rule {
  names: string[]
  action: string
  errnoRet?: number
  args?: object[]
}
const seccomp = (profile: object): Change => ({ linux: { seccomp: profile } })
const rules = (...syscalls: Rule[]): Change => seccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls })
const only = (action: string, ...names: string[]): Rule => ({ names, action })
const denied = (errnoRet: number, ...names: string[]): Rule => ({ names, action: 'SCMP_ACT_ERRNO', errnoRet })
const argument = (index: number, value: number, op: string, valueTwo?: number): object => ({
  index,
  value,
  op,
  ...(valueTwo !== undefined && { valueTwo }),
})
const calls = (...names: string[]): string[] => names.map((name) => `call=${name}`)

/** personality(persona) with 0, 8 and 32: an argument to compare. */
const persona = calls('personality-0', 'personality-linux32', 'personality-other')
const compared = (...args: object[]): Change =>
  rules({ names: ['personality'], action: 'SCMP_ACT_ERRNO', errnoRet: 6, args })

differential('actions', {}, [
  {
    name: 'SCMP_ACT_ERRNO with the default errno',
    spec: rules(only('SCMP_ACT_ERRNO', 'fchmodat', 'chmod')),
    args: calls('chmod', 'getpid'),
    sees: { 'asked.call=chmod': 'EPERM', 'status.Seccomp': '2' },
  },
  {
    name: 'SCMP_ACT_ERRNO with errnoRet',
    spec: rules(denied(38, 'fchmodat')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'ENOSYS' },
  },
  { name: 'SCMP_ACT_ERRNO with errnoRet 0', spec: rules(denied(0, 'fchmodat')), args: calls('chmod'), sees: {} },
  {
    name: 'SCMP_ACT_KILL',
    spec: rules(only('SCMP_ACT_KILL', 'fchmodat')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'signal 31' },
  },
  {
    name: 'SCMP_ACT_KILL_THREAD',
    spec: rules(only('SCMP_ACT_KILL_THREAD', 'fchmodat')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'signal 31' },
  },
  {
    name: 'SCMP_ACT_KILL_PROCESS',
    spec: rules(only('SCMP_ACT_KILL_PROCESS', 'fchmodat')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'signal 31' },
  },
  {
    name: 'SCMP_ACT_TRAP',
    spec: rules(only('SCMP_ACT_TRAP', 'fchmodat')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'signal 31' },
  },
  {
    name: 'SCMP_ACT_TRACE',
    spec: rules(only('SCMP_ACT_TRACE', 'fchmodat')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'ENOSYS' },
  },
  {
    name: 'SCMP_ACT_TRACE with errnoRet',
    spec: rules({ names: ['fchmodat'], action: 'SCMP_ACT_TRACE', errnoRet: 5 }),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'ENOSYS' },
  },
  {
    name: 'SCMP_ACT_LOG',
    spec: rules(only('SCMP_ACT_LOG', 'fchmodat')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'ok' },
  },
  {
    name: 'SCMP_ACT_ALLOW of one',
    spec: seccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [only('SCMP_ACT_ALLOW', 'fchmodat')] }),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'ok' },
  },
  { name: 'no rules', spec: seccomp({ defaultAction: 'SCMP_ACT_ALLOW' }), sees: {} },
  { name: 'an empty list of rules', spec: seccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [] }), sees: {} },
  {
    name: 'the default SCMP_ACT_LOG',
    spec: seccomp({ defaultAction: 'SCMP_ACT_LOG' }),
    args: calls('chmod'),
    sees: { 'status.Seccomp': '2', 'asked.call=chmod': 'ok' },
  },
])

differential('rules', {}, [
  {
    name: 'several names',
    spec: rules(denied(1, 'fchmodat', 'fchownat', 'mkdirat')),
    args: calls('chmod', 'chown', 'mkdir', 'link'),
    sees: { 'asked.call=chown': 'EPERM', 'asked.call=link': 'ok' },
  },
  {
    name: 'several rules',
    spec: rules(denied(1, 'fchmodat'), denied(2, 'fchownat'), denied(3, 'mkdirat')),
    args: calls('chmod', 'chown', 'mkdir'),
    sees: { 'asked.call=mkdir': 'ESRCH' },
  },
  {
    name: 'a name twice, alike',
    spec: rules(denied(2, 'fchmodat'), denied(2, 'fchmodat')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'ENOENT' },
  },
  {
    name: 'a name twice, differently',
    spec: rules(denied(2, 'fchmodat'), denied(3, 'fchmodat')),
    args: calls('chmod'),
    sees: {},
  },
  {
    name: 'a name that no architecture has',
    spec: rules(denied(1, 'fchmodat', 'no_such_call')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'EPERM' },
  },
  {
    name: 'a name of another architecture',
    spec: rules(denied(1, 'fchmodat', 'socketcall', 'arm_fadvise64_64')),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'EPERM' },
  },
  {
    name: 'a call by its number beyond the table',
    spec: rules(denied(1, 'fchmodat')),
    args: calls('none-such', 'negative'),
    sees: {},
  },
  {
    name: 'an empty list of names',
    but: { crun: 'ignores a rule without names', runc: 'ignores a rule without names' },
    spec: rules({ names: [], action: 'SCMP_ACT_ERRNO' }),
    refused: true,
  },
  {
    name: 'a hundred rules',
    spec: rules(
      ...Array.from({ length: 100 }, (_one, index): Rule =>
        denied(6, ['fchmodat', 'fchownat', 'mkdirat', 'linkat'][index % 4] ?? ''),
      ),
    ),
    args: calls('chmod', 'link'),
    sees: { 'asked.call=link': 'ENXIO' },
  },
  {
    name: 'with no_new_privs',
    spec: (spec) => {
      spec.process['noNewPrivileges'] = true
      spec.linux['seccomp'] = { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [denied(1, 'fchmodat')] }
    },
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'EPERM', 'flags.noNewPrivileges': '1' },
  },
  {
    name: 'for a user without no_new_privs',
    spec: (spec) => {
      spec.process.user = { uid: 1000, gid: 1000 }
      spec.linux['seccomp'] = { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [denied(38, 'fchmodat')] }
    },
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'ENOSYS', 'status.Seccomp': '2' },
  },
  {
    name: 'that denies what the runtime itself uses last',
    spec: (spec) => {
      spec.process['noNewPrivileges'] = true
      spec.linux['seccomp'] = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [denied(38, 'getcwd', 'capset', 'prctl', 'setgroups')],
      }
    },
    args: calls('getcwd'),
    sees: {},
  },
])

differential('arguments', {}, [
  ...Object.entries({
    SCMP_CMP_EQ: 8,
    SCMP_CMP_NE: 8,
    SCMP_CMP_LT: 8,
    SCMP_CMP_LE: 8,
    SCMP_CMP_GT: 8,
    SCMP_CMP_GE: 8,
  }).map(([op, value]): Case => ({ name: op, spec: compared(argument(0, value, op)), args: persona, sees: {} })),
  {
    name: 'SCMP_CMP_MASKED_EQ',
    spec: compared(argument(0, 8, 'SCMP_CMP_MASKED_EQ', 8)),
    args: persona,
    sees: { 'asked.call=personality-linux32': 'ENXIO' },
  },
  {
    name: 'SCMP_CMP_MASKED_EQ of nothing',
    spec: compared(argument(0, 8, 'SCMP_CMP_MASKED_EQ', 0)),
    args: persona,
    sees: {},
  },
  {
    name: 'two of one argument',
    spec: compared(argument(0, 0, 'SCMP_CMP_NE'), argument(0, 8, 'SCMP_CMP_NE')),
    args: persona,
    sees: {},
  },
  {
    name: 'two of different arguments',
    spec: rules({
      names: ['socket'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: 6,
      args: [argument(0, 2, 'SCMP_CMP_EQ'), argument(1, 3, 'SCMP_CMP_EQ')],
    }),
    args: calls('socket-unix', 'socket-inet', 'socket-raw'),
    sees: { 'asked.call=socket-raw': 'ENXIO', 'asked.call=socket-unix': 'ok' },
  },
  {
    name: 'two rules of one name',
    spec: rules(
      ...[0, 8].map((value): Rule => ({
        names: ['personality'],
        action: 'SCMP_ACT_ERRNO',
        errnoRet: 6,
        args: [argument(0, value, 'SCMP_CMP_EQ')],
      })),
    ),
    args: persona,
    sees: { 'asked.call=personality-0': 'ENXIO', 'asked.call=personality-linux32': 'ENXIO' },
  },
  {
    name: 'allowed for some values alone',
    spec: seccomp({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        { names: ['socket'], action: 'SCMP_ACT_ERRNO', errnoRet: 6, args: [argument(0, 38, 'SCMP_CMP_EQ')] },
        { names: ['socket'], action: 'SCMP_ACT_ERRNO', errnoRet: 13, args: [argument(0, 40, 'SCMP_CMP_EQ')] },
      ],
    }),
    args: calls('socket-alg', 'socket-vsock', 'socket-unix'),
    sees: { 'asked.call=socket-alg': 'ENXIO', 'asked.call=socket-vsock': 'EACCES' },
  },
  { name: 'a value of 64 bits', spec: compared(argument(0, 0x1_0000_0008, 'SCMP_CMP_EQ')), args: persona, sees: {} },
  { name: 'an index of 6', spec: compared(argument(6, 0, 'SCMP_CMP_EQ')), refused: true },
  { name: 'an unknown operator', spec: compared(argument(0, 0, 'SCMP_CMP_LIKE')), refused: true },
  {
    name: 'a negative value',
    but: { crun: 'takes it as a large one' },
    spec: compared(argument(0, -1, 'SCMP_CMP_EQ')),
    refused: true,
  },
])

const native = process.arch === 'x64' ? 'SCMP_ARCH_X86_64' : 'SCMP_ARCH_AARCH64'
const of = (profile: object, ...names: string[]): Change =>
  seccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [denied(13, ...names)], ...profile })

differential('architectures and flags', {}, [
  {
    name: 'the native one',
    spec: of({ architectures: [native] }, 'fchmodat'),
    args: calls('chmod', 'i386-getpid', 'x32-getpid'),
    sees: { 'asked.call=chmod': 'EACCES' },
  },
  {
    name: 'with its 32-bit one',
    spec: of({ architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'] }, 'getpid'),
    args: calls('i386-getpid', 'x32-getpid'),
    sees: { 'asked.call=i386-getpid': 'EACCES' },
    skip: process.arch !== 'x64' ? 'x86-64 alone' : !takesInt80() && 'this kernel does not take int 0x80',
  },
  {
    name: 'none named',
    spec: of({}, 'getpid'),
    args: calls('i386-getpid', 'x32-getpid'),
    sees: {},
    skip: process.arch !== 'x64' && 'x86-64 alone',
  },
  {
    name: 'one twice',
    spec: of({ architectures: [native, native] }, 'fchmodat'),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'EACCES' },
  },
  { name: 'an unknown one', spec: of({ architectures: ['SCMP_ARCH_PDP11'] }, 'fchmodat'), refused: true },
  {
    name: 'SECCOMP_FILTER_FLAG_TSYNC',
    but: { runc: 'runc 1.1.5 does not know flags' },
    spec: of({ flags: ['SECCOMP_FILTER_FLAG_TSYNC'] }, 'fchmodat'),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'EACCES' },
  },
  {
    name: 'SECCOMP_FILTER_FLAG_LOG',
    but: { runc: 'runc 1.1.5 does not know flags' },
    spec: of({ flags: ['SECCOMP_FILTER_FLAG_LOG'] }, 'fchmodat'),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'EACCES' },
  },
  {
    name: 'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
    but: { runc: 'runc 1.1.5 does not know flags' },
    spec: of({ flags: ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'] }, 'fchmodat'),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'EACCES' },
  },
  {
    name: 'all three flags',
    but: { runc: 'runc 1.1.5 does not know flags' },
    spec: of(
      { flags: ['SECCOMP_FILTER_FLAG_TSYNC', 'SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_SPEC_ALLOW'] },
      'fchmodat',
    ),
    args: calls('chmod'),
    sees: { 'asked.call=chmod': 'EACCES' },
  },
  { name: 'an unknown flag', spec: of({ flags: ['SECCOMP_FILTER_FLAG_NOTHING'] }, 'fchmodat'), refused: true },
])

/** What a static program and the runtimes' last steps need. */
const needed = [
  'access',
  'arch_prctl',
  'brk',
  'capget',
  'capset',
  'chdir',
  'clone',
  'close',
  'close_range',
  'dup3',
  'epoll_create1',
  'epoll_ctl',
  'epoll_pwait',
  'execve',
  'execveat',
  'exit',
  'exit_group',
  'faccessat',
  'faccessat2',
  'fchdir',
  'fcntl',
  'fork',
  'fstat',
  'fstatfs',
  'futex',
  'getcwd',
  'getdents64',
  'getegid',
  'geteuid',
  'getgid',
  'getgroups',
  'getpgrp',
  'getpid',
  'getppid',
  'getpriority',
  'getresgid',
  'getresuid',
  'getrlimit',
  'getsid',
  'gettid',
  'getuid',
  'get_mempolicy',
  'ioctl',
  'ioprio_get',
  'keyctl',
  'lseek',
  'lstat',
  'madvise',
  'mkdir',
  'mmap',
  'mprotect',
  'munmap',
  'nanosleep',
  'newfstatat',
  'open',
  'openat',
  'personality',
  'pipe2',
  'prctl',
  'prlimit64',
  'read',
  'readlink',
  'readlinkat',
  'recvfrom',
  'recvmsg',
  'restart_syscall',
  'rmdir',
  'rt_sigaction',
  'rt_sigprocmask',
  'rt_sigreturn',
  'sched_getaffinity',
  'sched_getattr',
  'sched_yield',
  'sendmsg',
  'sendto',
  'set_robust_list',
  'set_tid_address',
  'setgid',
  'setgroups',
  'setresgid',
  'setresuid',
  'setsid',
  'setuid',
  'sigaltstack',
  'socket',
  'stat',
  'statfs',
  'tgkill',
  'umask',
  'uname',
  'wait4',
  'write',
  'writev',
  'seccomp',
  'fchown',
  'unlinkat',
  'poll',
  'ppoll',
  'mkdirat',
  'exit',
]
const deny = (profile: object): Change =>
  seccomp({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: [only('SCMP_ACT_ALLOW', ...needed)], ...profile })

differential('lists of what is allowed', {}, [
  {
    name: 'the default errno',
    spec: deny({}),
    args: calls('chown', 'link', 'mount', 'getpid'),
    sees: { 'asked.call=chown': 'EPERM', 'asked.call=getpid': 'ok' },
  },
  {
    name: 'defaultErrnoRet',
    spec: deny({ defaultErrnoRet: 38 }),
    args: calls('chown', 'link', 'mount'),
    sees: { 'asked.call=chown': 'ENOSYS' },
  },
  {
    name: 'calls that are newer than the profile',
    spec: deny({}),
    args: calls('none-such', 'fsopen', 'clone3', 'io_uring_setup'),
    sees: {},
  },
  {
    name: 'the default SCMP_ACT_KILL_PROCESS',
    spec: deny({ defaultAction: 'SCMP_ACT_KILL_PROCESS' }),
    args: ['quiet', ...calls('chown', 'getpid')],
    sees: { 'asked.call=chown': 'signal 31' },
  },
  {
    name: 'an exception for a value',
    spec: (spec) => {
      spec.linux['seccomp'] = {
        defaultAction: 'SCMP_ACT_ERRNO',
        syscalls: [
          only('SCMP_ACT_ALLOW', ...needed.filter((name) => name !== 'personality')),
          { names: ['personality'], action: 'SCMP_ACT_ALLOW', args: [argument(0, 0xffffffff, 'SCMP_CMP_EQ')] },
          { names: ['personality'], action: 'SCMP_ACT_ALLOW', args: [argument(0, 8, 'SCMP_CMP_EQ')] },
        ],
      }
    },
    args: persona,
    sees: { 'asked.call=personality-linux32': 'ok', 'asked.call=personality-other': 'EPERM' },
  },
])

differential('profiles that are refused', {}, [
  { name: 'an unknown action', spec: rules(only('SCMP_ACT_NOTHING', 'fchmodat')), refused: true },
  { name: 'an unknown default action', spec: seccomp({ defaultAction: 'SCMP_ACT_NOTHING' }), refused: true },
  { name: 'no default action', spec: seccomp({ syscalls: [denied(1, 'fchmodat')] }), refused: true },
  {
    name: 'errnoRet of an action that has none',
    but: { runc: 'ignores it; the specification says MUST be an error' },
    spec: rules({ names: ['fchmodat'], action: 'SCMP_ACT_ALLOW', errnoRet: 5 }),
    refused: true,
  },
  {
    name: 'errnoRet of SCMP_ACT_KILL',
    but: { runc: 'ignores it; the specification says MUST be an error' },
    spec: rules({ names: ['fchmodat'], action: 'SCMP_ACT_KILL', errnoRet: 5 }),
    refused: true,
  },
  {
    name: 'defaultErrnoRet of SCMP_ACT_ALLOW',
    but: { runc: 'ignores it; the specification says MUST be an error' },
    spec: seccomp({ defaultAction: 'SCMP_ACT_ALLOW', defaultErrnoRet: 5, syscalls: [denied(1, 'fchmodat')] }),
    refused: true,
  },
  {
    name: 'no names',
    but: { runc: 'ignores the rule' },
    spec: seccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ action: 'SCMP_ACT_ERRNO' }] }),
    refused: true,
  },
  {
    name: 'no action',
    spec: seccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['fchmodat'] }] }),
    refused: true,
  },
  {
    name: 'SCMP_ACT_NOTIFY without a listener',
    but: { crun: 'makes a filter that nobody listens to' },
    spec: rules(only('SCMP_ACT_NOTIFY', 'fchmodat')),
    refused: true,
  },
  {
    name: 'SCMP_ACT_NOTIFY with a listener that is not there',
    spec: seccomp({
      defaultAction: 'SCMP_ACT_ALLOW',
      listenerPath: '/nothing/here',
      syscalls: [only('SCMP_ACT_NOTIFY', 'fchmodat')],
    }),
    refused: true,
  },
  {
    name: 'SCMP_ACT_NOTIFY as the default',
    spec: seccomp({ defaultAction: 'SCMP_ACT_NOTIFY', listenerPath: '/nothing/here' }),
    refused: true,
  },
  {
    name: 'SCMP_ACT_NOTIFY of write',
    spec: seccomp({
      defaultAction: 'SCMP_ACT_ALLOW',
      listenerPath: '/nothing/here',
      syscalls: [only('SCMP_ACT_NOTIFY', 'write')],
    }),
    refused: true,
  },
  {
    name: 'listenerMetadata without a listener',
    but: {
      crun: 'ignores it; the specification says MUST be an error',
      runc: 'ignores it; the specification says MUST be an error',
    },
    spec: seccomp({ defaultAction: 'SCMP_ACT_ALLOW', listenerMetadata: 'x', syscalls: [denied(1, 'fchmodat')] }),
    refused: true,
  },
  {
    name: 'a text as syscalls',
    but: { crun: 'ignores it' },
    spec: seccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: 'all' }),
    refused: true,
  },
])
