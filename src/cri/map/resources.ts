import type { runtime } from '../../gen/cri.js'
import type { Resources } from '../../index.ts'
import { integerField } from '../grpc/int64.ts'

/** LinuxContainerResources in the domain's terms; zero is unset. */
export function resourcesOf(linux: runtime.v1.LinuxContainerResources.$Properties | null | undefined): Resources {
  if (linux == null) return {}
  const resources: Resources = {}
  const set = <Key extends keyof Resources>(key: Key, value: Resources[Key] & {}): void => {
    if (value !== 0 && value !== '') resources[key] = value
  }
  set('cpuPeriod', integerField(linux.cpuPeriod, 'cpu_period'))
  set('cpuQuota', integerField(linux.cpuQuota, 'cpu_quota'))
  set('cpuShares', integerField(linux.cpuShares, 'cpu_shares'))
  set('memoryLimit', integerField(linux.memoryLimitInBytes, 'memory_limit_in_bytes'))
  set('memorySwapLimit', integerField(linux.memorySwapLimitInBytes, 'memory_swap_limit_in_bytes'))
  set('oomScoreAdj', integerField(linux.oomScoreAdj, 'oom_score_adj'))
  set('cpusetCpus', linux.cpusetCpus ?? '')
  set('cpusetMems', linux.cpusetMems ?? '')
  const pages = (linux.hugepageLimits ?? []).map(({ pageSize, limit }) => ({
    pageSize: pageSize ?? '',
    limit: integerField(limit, 'hugepage_limits.limit'),
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
