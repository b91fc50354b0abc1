import type { runtime as proto } from '../../gen/cri.js'
import type { Runtime } from '../../index.ts'
import { containerStates } from '../map/container-status.ts'
import { matchesId, matchesLabels, matchesState } from '../map/filters.ts'
import { podStates } from '../map/pod-status.ts'

export type Container = NonNullable<ReturnType<Runtime['containers']['find']>>
export type Pod = NonNullable<ReturnType<Runtime['pods']['find']>>

/** The containers that a filter takes, of ListContainers or, which has no state, of ListContainerStats. */
export function* selectedContainers(
  runtime: Runtime,
  filter: proto.v1.ContainerFilter.$Properties | null | undefined,
): Generator<Container, void, undefined> {
  for (const container of runtime.containers.all()) {
    const { id, pod, config, state } = container
    if (
      matchesId(id, filter?.id) &&
      matchesId(pod.id, filter?.podSandboxId) &&
      matchesState(containerStates[state], filter?.state) &&
      matchesLabels(config.labels, filter?.labelSelector)
    )
      yield container
  }
}

/** The same of pods. */
export function* selectedPods(
  runtime: Runtime,
  filter: proto.v1.PodSandboxFilter.$Properties | null | undefined,
): Generator<Pod, void, undefined> {
  for (const pod of runtime.pods.all()) {
    if (
      matchesId(pod.id, filter?.id) &&
      matchesState(podStates[pod.state], filter?.state) &&
      matchesLabels(pod.config.labels, filter?.labelSelector)
    )
      yield pod
  }
}

/** A list that is gathered in parts, none of which lets the caller wait for all. */
export function* partsOf<T>(subjects: Iterable<T>, size: number): Generator<T[], void, undefined> {
  let part: T[] = []
  for (const subject of subjects) {
    part.push(subject)
    if (part.length < size) continue
    yield part
    part = []
  }
  if (part.length > 0) yield part
}
