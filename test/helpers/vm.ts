/** What the files of test/vm and test/systemd share: they run as root in the virtual machine of scripts/vm, where every controller is. */
import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cgroupRoot, type TestService } from './service.ts'

/** A reason to skip, or false inside the virtual machine. These tests write where only a throw-away machine may be written. */
export const needsVm = process.env['CAISSON_VM'] === '1' ? false : 'runs in the virtual machine: scripts/test vm'

/** A reason to skip, or false where systemd is the machine's first process as well. */
export const needsSystemd =
  needsVm !== false || existsSync('/run/systemd/system') ? needsVm : 'systemd is not pid 1: scripts/test systemd'

/** The host's directory of a container's cgroup; `parent` as the pod's cgroup_parent gave it. */
export function containerCgroup(service: TestService, containerId: string, parent = `${service.slice}/pods`): string {
  return join(cgroupRoot(), parent, `crio-caisson-${containerId}`)
}

/** The content of a cgroup's files, by name. */
export async function cgroupValues(directory: string, names: readonly string[]): Promise<Record<string, string>> {
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, (await readFile(join(directory, name), 'utf8')).trimEnd()])),
  ) as Record<string, string>
}

/** The cgroup of a process, from the host's root: `/a/b`. */
export function cgroupOf(pid: number): string {
  const line = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('0::'))
  return line?.slice(3) ?? ''
}

/** The field of /proc/<pid>/status, as the host sees it. */
export function processStatus(pid: number, name: string): string {
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''
}
