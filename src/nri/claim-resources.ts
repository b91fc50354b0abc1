import { Field, type NriCpu, type NriMemory, type NriResources } from './messages.ts'
import { Owners } from './owners.ts'

const memoryFields: readonly (readonly [Exclude<keyof NriMemory, '$unknowns'>, Field])[] = [
  ['limit', Field.MemLimit],
  ['reservation', Field.MemReservation],
  ['swap', Field.MemSwapLimit],
  ['kernel', Field.MemKernelLimit],
  ['kernelTcp', Field.MemTCPLimit],
  ['swappiness', Field.MemSwappiness],
  ['disableOomKiller', Field.MemDisableOomKiller],
  ['useHierarchy', Field.MemUseHierarchy],
]
const cpuFields: readonly (readonly [Exclude<keyof NriCpu, '$unknowns'>, Field])[] = [
  ['shares', Field.CPUShares],
  ['quota', Field.CPUQuota],
  ['period', Field.CPUPeriod],
  ['realtimeRuntime', Field.CPURealtimeRuntime],
  ['realtimePeriod', Field.CPURealtimePeriod],
  ['cpus', Field.CPUSetCPUs],
  ['mems', Field.CPUSetMems],
]

/**
 * What one plugin asks for on top of what there is: pure.
 *
 * @throws CaissonError ERR_FAILED_PRECONDITION where another plugin has asked for the same before
 */
export function claimResources(
  before: NriResources,
  asked: NriResources,
  owners: Owners,
  container: string,
  plugin: string,
): NriResources {
  const claim = (field: Field, key?: string): void => {
    owners.claim(container, field, plugin, key)
  }
  const memory: NriMemory = { ...before.memory }
  for (const [name, field] of memoryFields) {
    if (asked.memory?.[name] == null) continue
    claim(field)
    Object.assign(memory, { [name]: asked.memory[name] })
  }
  const cpu: NriCpu = { ...before.cpu }
  for (const [name, field] of cpuFields) {
    // an empty list of processors or nodes says nothing
    if (asked.cpu?.[name] == null || asked.cpu[name] === '') continue
    claim(field)
    Object.assign(cpu, { [name]: asked.cpu[name] })
  }
  const pages = new Map((before.hugepageLimits ?? []).map((entry) => [entry.pageSize ?? '', entry]))
  for (const entry of asked.hugepageLimits ?? []) {
    claim(Field.HugepageLimits, entry.pageSize ?? '')
    pages.set(entry.pageSize ?? '', entry)
  }
  for (const key of Object.keys(asked.unified ?? {})) claim(Field.CgroupsUnified, key)
  if (asked.blockioClass != null) claim(Field.BlockioClass)
  if (asked.rdtClass != null) claim(Field.RdtClass)
  if (asked.pids != null) claim(Field.PidsLimit)
  return {
    ...before,
    memory,
    cpu,
    hugepageLimits: [...pages.values()],
    unified: { ...before.unified, ...asked.unified },
    devices: [...(before.devices ?? []), ...(asked.devices ?? [])],
    ...(asked.blockioClass != null && { blockioClass: asked.blockioClass }),
    ...(asked.rdtClass != null && { rdtClass: asked.rdtClass }),
    ...(asked.pids != null && { pids: asked.pids }),
  }
}

/** The same without asking whose it is. */
export function claimless(before: NriResources, asked: NriResources): NriResources {
  return claimResources(before, asked, new Owners(), '', '')
}
