import type { runtime } from '../../gen/cri.js'
import type { Resources } from '../../index.ts'
import { safeInt } from '../grpc/int64.ts'

/** LinuxContainerResources in the domain's terms; zero is unset. */
export function resourcesOf(linux: runtime.v1.LinuxContainerResources.$Properties | null | undefined): Resources {
  if (linux == null) return {}
  const resources: Resources = {}
  const set = <Key extends keyof Resources>(key: Key, value: Resources[Key] & {}): void => {
    if (value !== 0 && value !== '') resources[key] = value
  }
  set('cpuPeriod', safeInt(linux.cpuPeriod))
  set('cpuQuota', safeInt(linux.cpuQuota))
  set('cpuShares', safeInt(linux.cpuShares))
  set('memoryLimit', safeInt(linux.memoryLimitInBytes))
  set('memorySwapLimit', safeInt(linux.memorySwapLimitInBytes))
  set('oomScoreAdj', safeInt(linux.oomScoreAdj))
  set('cpusetCpus', linux.cpusetCpus ?? '')
  set('cpusetMems', linux.cpusetMems ?? '')
  const pages = (linux.hugepageLimits ?? []).map(({ pageSize, limit }) => ({
    pageSize: pageSize ?? '',
    limit: safeInt(limit),
  }))
  if (pages.length > 0) resources.hugepageLimits = pages
  if (linux.unified != null && Object.keys(linux.unified).length > 0) resources.unified = linux.unified
  return resources
}

export function toCriResources(resources: Resources): runtime.v1.ContainerResources.$Properties {
  return {
    linux: {
      cpuPeriod: resources.cpuPeriod ?? 0,
      cpuQuota: resources.cpuQuota ?? 0,
      cpuShares: resources.cpuShares ?? 0,
      memoryLimitInBytes: resources.memoryLimit ?? 0,
      memorySwapLimitInBytes: resources.memorySwapLimit ?? 0,
      oomScoreAdj: resources.oomScoreAdj ?? 0,
      cpusetCpus: resources.cpusetCpus ?? '',
      cpusetMems: resources.cpusetMems ?? '',
      hugepageLimits: resources.hugepageLimits ?? [],
      unified: resources.unified ?? {},
    },
  }
}
