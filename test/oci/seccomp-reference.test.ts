/** The default filter beside the one that Debian's golang-github-containers-common installs: it allows nothing that that one does not. */
import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'

import { allCapabilities } from '#src/oci/capabilities.ts'
import { runtimeDefaultSeccomp } from '#src/oci/seccomp-default.ts'

const path = '/usr/share/containers/seccomp.json'
const skip = existsSync(path) ? false : `${path} is not there (golang-github-containers-common)`

interface Comparison {
  index: number
  value: number
  valueTwo?: number
  op: string
}
interface Rule {
  names: string[]
  action: string
  args?: Comparison[] | null
  includes?: { caps?: string[]; arches?: string[] }
  excludes?: { caps?: string[]; arches?: string[] }
}

/** Kernels after the reference was written; it answers ENOSYS to what it does not know. */
const newer = [
  'cachestat', 'fchmodat2', 'futex_requeue', 'futex_wait', 'futex_waitv', 'futex_wake', 'getxattrat', 'listmount', 'listxattrat',
  'map_shadow_stack', 'mseal', 'open_tree_attr', 'quotactl_fd', 'removexattrat', 'set_mempolicy_home_node', 'setxattrat', 'statmount',
] // prettier-ignore
/** Those that the reference has for one architecture and ours for all: no other one knows their names. */
const ofOneArchitecture = [
  'arm_fadvise64_64',
  'arm_sync_file_range',
  'breakpoint',
  'cacheflush',
  'set_tls',
  'sync_file_range2',
]

/** Capabilities of Linux 5.8, which the reference does not know: to it their calls are CAP_SYS_ADMIN's. */
const ofLaterCapability = new Map([
  ['CAP_BPF', 'bpf'],
  ['CAP_PERFMON', 'perf_event_open'],
])

const holds = ({ index, op, value, valueTwo = 0 }: Comparison, args: readonly bigint[]): boolean => {
  const argument = args[index] ?? 0n
  switch (op) {
    case 'SCMP_CMP_EQ':
      return argument === BigInt(value)
    case 'SCMP_CMP_NE':
      return argument !== BigInt(value)
    case 'SCMP_CMP_LT':
      return argument < BigInt(value)
    case 'SCMP_CMP_MASKED_EQ':
      return (argument & BigInt(value)) === BigInt(valueTwo)
    default:
      throw new Error(`the comparison ${op} is not expected`)
  }
}

/** Whether a call is allowed. As libseccomp has it, the rules of one action are alternatives. */
function allows(rules: readonly Rule[], name: string, args: readonly bigint[]): boolean {
  return rules.some(
    (rule) =>
      rule.action === 'SCMP_ACT_ALLOW' &&
      rule.names.includes(name) &&
      (rule.args ?? []).every((each) => holds(each, args)),
  )
}

/** Whether a call is allowed whatever its arguments are. */
function free(rules: readonly Rule[], name: string): boolean {
  return rules.some(
    ({ action, names, args }) => action === 'SCMP_ACT_ALLOW' && names.includes(name) && (args ?? []).length === 0,
  )
}

t.test('the default filter is at least as strict as the reference', { skip }, async (t) => {
  const profile = JSON.parse(readFileSync(path, 'utf8')) as { defaultAction: string; syscalls: Rule[] }
  t.equal(profile.defaultAction, 'SCMP_ACT_ERRNO')
  const reference = (capabilities: readonly string[]): Rule[] =>
    profile.syscalls.filter(({ includes = {}, excludes = {} }) => {
      const has = (name: string): boolean => capabilities.includes(name)
      return (includes.caps ?? []).every(has) && !(excludes.caps ?? []).some(has)
    })
  const usual = ['CAP_CHOWN', 'CAP_NET_RAW', 'CAP_SYS_CHROOT', 'CAP_AUDIT_WRITE']
  for (const capabilities of [[], usual, ...allCapabilities.map((name) => [name]), [...allCapabilities]]) {
    const ours = (runtimeDefaultSeccomp(capabilities).syscalls ?? []) as Rule[]
    const theirs = reference(capabilities)
    const shown = capabilities.length > 4 ? 'all capabilities' : capabilities.join() || 'no capabilities'
    const plain = ours.filter(({ action, args }) => action === 'SCMP_ACT_ALLOW' && args === undefined)
    const more = plain
      .flatMap(({ names }) => names)
      .filter((name) => ![...newer, ...ofOneArchitecture].includes(name))
      .filter((name) => !capabilities.some((each) => ofLaterCapability.get(each) === name))
      // only what is allowed whatever the arguments are counts
      .filter((name) => !free(theirs, name))
    t.strictSame(more, [], shown)
    // what is looked at by its arguments below; anything else has to be allowed whatever they are
    const byArguments = ours.filter(({ args }) => args !== undefined).flatMap(({ names }) => names)
    t.strictSame(
      byArguments.filter((name) => !['socket', 'personality'].includes(name) && !free(theirs, name)),
      [],
      `${shown}: rules with arguments`,
    )
    const wider: string[] = []
    const check = (name: string, ...args: bigint[]): void => {
      // the kernel looks at 32 bits, a filter at 64
      const seen = args.map((value) => value & 0xffff_ffffn)
      if (allows(ours, name, args) && !allows(theirs, name, seen)) wider.push(`${name}(${args.join()})`)
    }
    for (const high of [0n, 1n << 32n]) {
      for (let family = 0n; family < 50n; family++) {
        for (let protocol = 0n; protocol < 25n; protocol++) check('socket', family, 1n, protocol + high)
        check('socket', family + high, 1n, 0n)
      }
      for (const flag of [0n, 8n, 0x20000n, 0x20008n, 0x40000n, 0x400000n, 0xffffffffn])
        check('personality', flag + high)
    }
    t.strictSame(wider, [], `${shown}: by arguments`)
    const answers = (family: bigint): boolean => allows(ours, 'socket', [family, 5n, 0n])
    t.notOk(answers(38n) || answers((1n << 32n) + 38n), `${shown}: AF_ALG (CVE-2026-31431)`)
  }
})
