import type { runtime as proto } from '../../gen/cri.js'
import { now } from '../../clock.ts'
import type { PodMetricSource, Runtime } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { cgroupMetrics, containerMetrics, interfaceMetrics, metricDescriptors } from '../map/metrics.ts'
import { partsOf, type Pod } from './selection.ts'

/** Pods of one message of a stream: each is read when its message is made. */
const partSize = 20

/** ListMetricDescriptors, ListPodSandboxMetrics and StreamPodSandboxMetrics: what a kubelet shows as /metrics/cadvisor. */
export function metricsRpcs(
  runtime: Runtime,
): Pick<RuntimeHandlers, 'listMetricDescriptors' | 'listPodSandboxMetrics' | 'streamPodSandboxMetrics'> {
  const read = async (pods: Iterable<Pod>): Promise<proto.v1.PodSandboxMetrics.$Properties[]> =>
    (await runtime.statistics.metrics(pods)).map(toPodSandboxMetrics)
  return {
    async listMetricDescriptors() {
      return { descriptors: [...metricDescriptors] }
    },
    async listPodSandboxMetrics() {
      return { podMetrics: await read(runtime.pods.all()) }
    },
    async *streamPodSandboxMetrics() {
      for (const part of partsOf([...runtime.pods.all()], partSize)) {
        const podSandboxMetrics = await read(part)
        if (podSandboxMetrics.length > 0) yield { podSandboxMetrics }
      }
    },
  }
}

function toPodSandboxMetrics(source: PodMetricSource): proto.v1.PodSandboxMetrics.$Properties {
  const { pod, cgroup, cgroupPath, interfaces, containers } = source
  const { name, namespace } = pod.config.metadata
  const ofPod = [cgroupPath, pod.id, '', name, namespace, ''] as const
  return {
    podSandboxId: pod.id,
    metrics: [
      ...(cgroup === undefined ? [] : cgroupMetrics(cgroup, ofPod)),
      ...interfaceMetrics(interfaces, ofPod, Number(now() / 1000n)),
    ],
    containerMetrics: containers.map((each) => {
      const { container, cgroupPath } = each
      const { config, id } = container
      return {
        containerId: id,
        metrics: containerMetrics(each, [
          cgroupPath,
          id,
          config.userSpecifiedImage || config.image,
          name,
          namespace,
          config.metadata.name,
        ]),
      }
    }),
  }
}
