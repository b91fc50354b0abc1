/**
 * The validation programs of runtime-tools, the conformance suite of the OCI runtime specification, against the runtime under
 * test. Debian ships only the library of runtime-tools, not the programs: they are taken, built, from the directory that
 * RUNTIME_TOOLS names (`runtimetest`, `rootfs-<arch>.tar.gz`, `validation/X/X.t`).
 */
import { existsSync, readdirSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cannotRun, type Known, noDeviceProgram, runtime, subtests } from '../helpers/conformance.ts'
import { type Enclave, openEnclave } from '../helpers/enclave.ts'
import type { CommandResult } from '../helpers/service.ts'
import { findTool } from '../helpers/tools.ts'

const tree = process.env['RUNTIME_TOOLS'] ?? ''
const skip =
  cannotRun() ||
  noDeviceProgram() ||
  (existsSync(join(tree, 'validation'))
    ? false
    : 'RUNTIME_TOOLS names no tree with the built validation programs (Debian ships only their library)')

const controllers = ['blkio', 'cpus', 'devices', 'hugetlb', 'memory', 'network', 'pids']
/** Programs that nothing can pass on cgroup v2: their library has no cgroup v2, or they open files of cgroup v1. */
const cgroup1Only = new Set([
  ...controllers.flatMap((name) => [`linux_cgroups_${name}`, `linux_cgroups_relative_${name}`]),
  'delete_only_create_resources',
  'delete_resources',
])

const ours: Record<string, string> = {}
for (const name of cgroup1Only) ours[name] = 'made for cgroup v1'

const noGetcwd = 'Debian 12: does not start what denies the call getcwd'
const known: Known = {
  'caisson-oci': ours,
  runc: {
    ...ours,
    hooks_stdin: 'Debian 12: calls a container whose process runs "created" in poststart',
    linux_seccomp: noGetcwd,
    poststart: 'Debian 12: its poststart hooks precede the process',
    poststop_fail: 'Debian 12: a poststop hook that fails is the last',
    linux_rootfs_propagation: 'Debian 12: mounts "shared" as a slave, refuses "unbindable"',
  },
  crun: ours,
}

/**
 * Assertions that runtimes as they are used fail on purpose, and caisson-oci with them: the text of the assertion, and why. They
 * may pass as well.
 */
const disputed: Readonly<Record<string, readonly [RegExp, string][]>> = {
  delete: [[/container that is not `stopped`/, 'runc and crun delete a created container: callers rely on it']],
  hooks: [[/called in the listed order/, 'it expects lines that its own hooks do not write']],
  hooks_stdin: [
    [/"prestart" hook over stdin/, 'prestart runs while the container is creating, as the specification says now'],
  ],
  misc_props: [[/unknown annotation key/, 'its first bundle lacks the /runtimetest that it asks to be run']],
  mounts: [
    [
      /\/mnt\/etc-\w+\) found in order/,
      'Linux 6.8 and later list mounts by number, not by place; a bind has its number early',
    ],
  ],
  pidfile: [[/create with '--pid-file' option works/, 'it kills what may have ended by itself']],
  poststart_fail: [
    [/poststart hook fails/, 'a poststart hook that fails stops the container, as the specification says now'],
  ],
  prestart: [[/after the `start` operation/, 'prestart hooks are called by create, as the specification says now']],
  process_capabilities_fail: [
    [
      /cannot be mapped to a relevant kernel interface/,
      'an unknown capability is a warning, as the specification says now',
    ],
  ],
  start: [[/^exit status 1$/, 'a container without a process is refused by create already']],
}

/** Programs that fail here for what the host lacks: excused only if runc fails on it too, in this run. */
const lacking: Readonly<Record<string, string>> = {
  linux_mount_label: 'SELinux is not enabled',
  linux_process_apparmor_profile: 'AppArmor is not enabled',
  process_capabilities: 'it asks for every capability, and this root does not have them all',
  process_rlimits: 'runtimetest, built by Go 1.19 or later, raises its own soft limit of files',
}

/** Programs that race with the process that they start: a pass among five tries counts. */
const racing: Readonly<Record<string, string>> = {
  killsig: 'it signals a shell that may not have set its trap yet',
  poststart: 'it wants the first line of the process before that of a hook that follows execve',
}

interface Verdict {
  passed: number
  failed: string[]
}

/**
 * Lines of the first level; diagnostics are indented. Programs about hooks have no such lines: what they find is the error of a
 * diagnostic.
 */
function judge({ status, signal, stdout, stderr }: CommandResult): Verdict {
  const lines = stdout.split('\n')
  const passed = lines.filter((line) => line.startsWith('ok ')).length
  const failed = lines.filter((line) => line.startsWith('not ok ')).map((line) => line.replace(/^not ok \d+ - /, ''))
  if (passed + failed.length === 0) {
    for (const [, text] of stdout.matchAll(/^ *"error": ("[^\n]*?"),?$/gm))
      failed.push(JSON.parse(text ?? '""') as string)
  }
  if (status !== 0 && failed.length === 0) failed.push(`ends with ${String(status ?? signal)}: ${stderr.trim()}`)
  return { passed, failed }
}

async function validate(enclave: Enclave, name: string, command: string): Promise<CommandResult> {
  const temporary = join(enclave.directory, name)
  await mkdir(temporary, { recursive: true })
  return await enclave.run([join(tree, 'validation', name, `${name}.t`)], {
    cwd: tree, // where they look for the root file system and runtimetest
    env: { RUNTIME: command, TMPDIR: temporary },
  })
}

void t.test('runtime-tools', { skip, timeout: 280_000 }, async (t) => {
  // they leave the cgroups and containers of their failed cases, and never wait for one they killed
  const enclave = await openEnclave(t, [/./])
  const names = readdirSync(join(tree, 'validation')).filter((name) =>
    existsSync(join(tree, 'validation', name, `${name}.t`)),
  )
  t.ok(names.length >= 55, `${names.length} programs`)

  // they sleep most of their time: four at once, and the slowest first
  const results = new Map<string, Promise<CommandResult>>()
  const slow = ['delete', 'kill', 'linux_rootfs_propagation', 'linux_masked_paths', 'linux_ns_path']
  const queue = [...slow, ...names.filter((name) => !slow.includes(name))].filter((name) => !cgroup1Only.has(name))
  const lanes = Array.from({ length: 4 }, () => Promise.resolve<unknown>(undefined))
  queue.forEach((name, at) => {
    const lane = at % lanes.length
    const result = (lanes[lane] ?? Promise.resolve()).then(() => validate(enclave, name, runtime))
    results.set(name, result)
    lanes[lane] = result.catch(() => undefined)
  })

  const test = subtests(t, known)
  for (const name of names) {
    test(name, async (t) => {
      const result = await results.get(name)
      if (result === undefined) throw new Error('it has not run')
      let { passed, failed } = judge(result)
      for (let tries = 1; failed.length > 0 && racing[name] !== undefined && tries < 5; tries++) {
        ;({ passed, failed } = judge(await validate(enclave, name, runtime)))
      }
      const excuses = disputed[name] ?? []
      const left = failed.filter((text) => !excuses.some(([pattern]) => pattern.test(text)))
      const excused = failed.length - left.length
      for (const [pattern, reason] of excuses) {
        if (failed.some((text) => pattern.test(text))) t.pass(pattern.source, { skip: reason })
      }
      if (left.length > 0 && lacking[name] !== undefined) {
        const peer = findTool('runc')
        const theirs = peer === undefined ? undefined : judge(await validate(enclave, name, peer))
        if (theirs !== undefined && theirs.failed.length > 0) {
          t.pass(name, { skip: `${lacking[name]}: runc fails too` })
          return
        }
      }
      for (const text of left) t.fail(text)
      if (left.length > 0) t.comment(result.stderr.slice(-2000), result.stdout.slice(-4000))
      else t.ok(passed > 0 || result.status === 0, `${passed} assertions passed, ${excused} disputed`)
    })
  }
})
