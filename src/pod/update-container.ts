import { CaissonError } from '../errors.ts'
import { ifPresent } from '../files.ts'
import { containerResources } from '../oci/resources.ts'
import type { Resources } from './config.ts'
import { notRunning, type Container } from './container.ts'
import { writeContainerRecord } from './container-record.ts'
import { oomScoreAdj } from './container-spec.ts'
import type { Context } from './context.ts'
import { containerCgroupPath } from './placement.ts'

/** Puts new limits in force, and then into the record: one that cannot be applied leaves all as it was. */
export async function updateContainer(context: Context, container: Container, change: Resources): Promise<void> {
  const { native, host, cgroup, logger } = context
  const { id, pod } = container
  // one that waits for its start has its cgroup, and a process in it
  if ((container.state !== 'created' && container.state !== 'running') || container.removal !== null) {
    throw notRunning(container, 'update')
  }
  const wanted = change.oomScoreAdj
  if (wanted !== undefined && !(Number.isInteger(wanted) && Math.abs(wanted) <= 1000)) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `oom_score_adj ${wanted} is not from -1000 to 1000`)
  }
  const { memory, ...others } = containerResources(change)
  const document = { ...others, ...(memory !== undefined && { memory: { ...memory, checkBeforeUpdate: true } }) }
  const merged = merge(container.resources, change)
  const score = oomScoreAdj(merged, host)
  const adjust = score !== oomScoreAdj(container.resources, host)
  const process = adjust ? { ...container.process, oomScoreAdj: score } : container.process
  // the record first: where it cannot be written, nothing has changed yet
  await writeContainerRecord(context, container, { resources: merged, process })
  try {
    const warnings = await native.cgroupUpdate(
      host.cgroupRoot,
      containerCgroupPath(context, pod, id),
      JSON.stringify(document),
      cgroup.missingController === 'warn',
      ...(adjust ? [score] : []),
    )
    for (const warning of warnings) logger.warn({ container: id, pod: pod.id }, warning)
  } catch (error) {
    // it may have been removed meanwhile
    await ifPresent(writeContainerRecord(context, container))
    // or have ended, and its cgroup gone
    throw container.exit === null ? error : notRunning(container, 'update')
  }
  container.resources = merged
  container.process = process
  logger.info({ container: id, pod: pod.id, resources: change }, 'container has new limits')
}

/** The resources after a change: single values replace, page sizes and unified files are added to. */
export function merge(before: Resources, change: Resources): Resources {
  const pages = new Map((before.hugepageLimits ?? []).map((entry) => [entry.pageSize, entry]))
  for (const entry of change.hugepageLimits ?? []) if (entry.limit > 0) pages.set(entry.pageSize, entry)
  const unified = { ...before.unified, ...change.unified }
  return {
    ...before,
    ...change,
    ...(pages.size > 0 && { hugepageLimits: [...pages.values()] }),
    ...(Object.keys(unified).length > 0 && { unified }),
  }
}
