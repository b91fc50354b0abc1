import { readFileSync } from 'node:fs'
import t from 'tap'

import { allCapabilities } from '#src/oci/capabilities.ts'
import { runtimeDefaultSeccomp } from '#src/oci/seccomp-default.ts'

const rulesOf = (capabilities: readonly string[], name: string) =>
  (runtimeDefaultSeccomp(capabilities).syscalls ?? []).filter((rule) => rule.names.includes(name))
const free = (capabilities: readonly string[], name: string) =>
  rulesOf(capabilities, name).some((rule) => rule.action === 'SCMP_ACT_ALLOW' && rule.args === undefined)

// What the seccomp compiler does with the profile, for one argument and comparisons of 64 bits.
const verdict = (capabilities: readonly string[], name: string, argument: bigint): string => {
  const holds = ({ op, value, valueTwo = 0 }: { op: string; value: number; valueTwo?: number }) =>
    op === 'SCMP_CMP_EQ'
      ? argument === BigInt(value)
      : op === 'SCMP_CMP_LT'
        ? argument < BigInt(value)
        : op === 'SCMP_CMP_MASKED_EQ' && (argument & BigInt(value)) === BigInt(valueTwo)
  const rules = rulesOf(capabilities, name)
  const rule = rules.find((r) => r.args === undefined) ?? rules.find((r) => r.args?.every(holds))
  return rule === undefined ? 'EPERM' : rule.errnoRet === 38 ? 'ENOSYS' : 'ALLOW'
}

t.test('an allow-list with EPERM; no name twice, every name known to the compiler', async (t) => {
  const table = readFileSync(new URL('../../../native/core/syscalls_names.inc', import.meta.url), 'utf8')
  const known = new Set([...table.matchAll(/"(\w+)\\0"/g)].map((match) => match[1]))
  t.ok(known.size > 400)
  for (const capabilities of [[], [...allCapabilities], ['CAP_SYS_ADMIN', 'CAP_SYSLOG']]) {
    const profile = runtimeDefaultSeccomp(capabilities)
    t.equal(profile.defaultAction, 'SCMP_ACT_ERRNO')
    t.equal(profile.defaultErrnoRet, 1)
    const unconditional = (profile.syscalls ?? [])
      .filter((rule) => rule.args === undefined)
      .flatMap((rule) => rule.names)
    t.equal(new Set(unconditional).size, unconditional.length)
    const names = (profile.syscalls ?? []).flatMap((rule) => rule.names)
    t.strictSame([...new Set(names.filter((name) => !known.has(name)))], [])
  }
})

t.test('ordinary programs run', async (t) => {
  for (const name of [
    'read',
    'execve',
    'mmap',
    'futex',
    'openat2',
    'epoll_pwait2',
    'rseq',
    'statx',
    'ptrace',
    'landlock_create_ruleset',
  ]) {
    t.ok(free([], name), name)
  }
})

t.test('never: doors past the filter, keyrings, whole-machine calls', async (t) => {
  const never = [
    'io_uring_setup',
    'io_uring_enter',
    'keyctl',
    'add_key',
    'request_key',
    'userfaultfd',
    'kexec_load',
    'kexec_file_load',
    'swapon',
    'nfsservctl',
    'uselib',
    'socketcall',
  ]
  for (const name of never) t.strictSame(rulesOf(allCapabilities, name), [], name)
})

t.test('with its capability only', async (t) => {
  const gated = {
    mount: 'CAP_SYS_ADMIN',
    setns: 'CAP_SYS_ADMIN',
    bpf: 'CAP_BPF',
    chroot: 'CAP_SYS_CHROOT',
    reboot: 'CAP_SYS_BOOT',
    init_module: 'CAP_SYS_MODULE',
    settimeofday: 'CAP_SYS_TIME',
    open_by_handle_at: 'CAP_DAC_READ_SEARCH',
    syslog: 'CAP_SYSLOG',
    perf_event_open: 'CAP_PERFMON',
    iopl: 'CAP_SYS_RAWIO',
    acct: 'CAP_SYS_PACCT',
    pidfd_getfd: 'CAP_SYS_PTRACE',
  }
  for (const [name, capability] of Object.entries(gated)) {
    t.strictSame(rulesOf([], name), [], name)
    t.ok(free([capability], name), `${name} with ${capability}`)
  }
})

t.test('new namespaces need CAP_SYS_ADMIN', async (t) => {
  for (const flag of [0x20000n, 0x2000000n, 0x4000000n, 0x8000000n, 0x10000000n, 0x20000000n, 0x40000000n]) {
    for (const name of ['clone', 'unshare']) {
      t.equal(verdict([], name, flag | 17n), 'EPERM')
      t.equal(verdict(['CAP_SYS_ADMIN'], name, flag), 'ALLOW')
    }
  }
  t.equal(verdict([], 'unshare', 0x80n), 'EPERM')
  t.equal(verdict([], 'clone', 0x3d0f00n), 'ALLOW', 'a thread')
  t.equal(verdict([], 'clone', 0x1200011n), 'ALLOW', 'fork')
  t.equal(verdict([], 'clone3', 0n), 'ENOSYS')
  t.equal(verdict(['CAP_SYS_ADMIN'], 'clone3', 0n), 'ALLOW')
})

t.test('address families and personalities', async (t) => {
  for (const family of [1n, 2n, 10n, 16n, 17n, 43n, 44n]) t.equal(verdict([], 'socket', family), 'ALLOW', `${family}`)
  for (const family of [38n, 40n, (1n << 32n) + 38n, (1n << 32n) + 40n, (1n << 32n) + 2n]) {
    t.equal(verdict(allCapabilities, 'socket', family), 'EPERM', `${family}`)
  }
  for (const persona of [0n, 8n, 0x20000n, 0x20008n, 0xffffffffn]) t.equal(verdict([], 'personality', persona), 'ALLOW')
  for (const persona of [0x40000n, 0x400000n, 0x100n])
    t.equal(verdict(allCapabilities, 'personality', persona), 'EPERM')
})
