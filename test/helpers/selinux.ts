/** SELinux in the virtual machine: the policy of test/selinux, loaded into a kernel that was booted with it. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { project } from './service.ts'
import { needsVm } from './vm.ts'

const selinuxfs = '/sys/fs/selinux'

/** A reason to skip, or false where the machine was booted with SELinux. */
export const needsSelinux =
  needsVm !== false || readFileSync('/sys/kernel/security/lsm', 'utf8').includes('selinux')
    ? needsVm
    : 'SELinux is off: scripts/test selinux'

/** Loads the policy, which is in force from now on. The kernel takes the first one as it takes any later one. */
export function enforcePolicy(): void {
  const names = Array.from({ length: 1024 }, (_, n) => `c${n}`)
  const categories = [...names.map((name) => `(category ${name})`), `(categoryorder (${names.join(' ')}))`].join('\n')
  const text = readFileSync(join(project, 'test', 'selinux', 'policy.cil'), 'utf8').replace('@CATEGORIES@', categories)
  const directory = mkdtempSync('/tmp/csn-policy-')
  try {
    writeFileSync(join(directory, 'policy.cil'), text)
    const flags = ['-M', 'true', '-c', '33', '-o', 'policy', '-f', '/dev/null']
    execFileSync('secilc', [...flags, 'policy.cil'], { cwd: directory, stdio: ['ignore', 'inherit', 'inherit'] })
    mkdirSync(selinuxfs, { recursive: true })
    execFileSync('mount', ['-t', 'selinuxfs', 'selinuxfs', selinuxfs])
    writeFileSync(join(selinuxfs, 'load'), readFileSync(join(directory, 'policy')))
    writeFileSync(join(selinuxfs, 'enforce'), '1')
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** Words before a command that runs in the domain of services: libselinux's runcon wants a configuration that is not there. */
export const inServiceDomain = [
  '/bin/sh',
  '-c',
  'printf system_u:system_r:container_runtime_t:s0 >/proc/self/attr/exec; exec "$@"',
  'sh',
]
