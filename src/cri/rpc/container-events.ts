import { runtime as proto } from '../../gen/cri.js'
import type { LifecycleEvent, LifecycleEventType, Runtime } from '../../index.ts'
import { Encoded } from '../grpc/encoded.ts'
import { ns } from '../grpc/int64.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'
import { toContainerStatuses } from '../map/container-status.ts'
import { toPodSandboxStatus } from '../map/pod-status.ts'

const types: Record<LifecycleEventType, proto.v1.ContainerEventType> = {
  created: proto.v1.ContainerEventType.CONTAINER_CREATED_EVENT,
  started: proto.v1.ContainerEventType.CONTAINER_STARTED_EVENT,
  stopped: proto.v1.ContainerEventType.CONTAINER_STOPPED_EVENT,
  deleted: proto.v1.ContainerEventType.CONTAINER_DELETED_EVENT,
}

/**
 * GetContainerEvents: what a kubelet's evented PLEG follows. Each event has its pod's status and those of the containers that are there
 * after it, and a time that only grows, by which the kubelet tells newer from older. A caller that reads too slowly gets
 * RESOURCE_EXHAUSTED in the place of what it has missed.
 */
export function containerEventsRpc(runtime: Runtime): Pick<RuntimeHandlers, 'getContainerEvents'> {
  const encoded = new WeakMap<LifecycleEvent, Encoded>()
  /** Once for all who take it. */
  const encode = (event: LifecycleEvent): Encoded => {
    const known = encoded.get(event)
    if (known !== undefined) return known
    const { ContainerEventResponse } = proto.v1
    const bytes = ContainerEventResponse.encode({
      containerId: event.id,
      containerEventType: types[event.type],
      createdAt: ns(event.at),
      podSandboxStatus: toPodSandboxStatus(event.pod),
      containersStatuses: toContainerStatuses(event.containers),
    }).finish()
    const reply = new Encoded([Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)])
    encoded.set(event, reply)
    return reply
  }
  return {
    async *getContainerEvents(_request, { signal }) {
      for await (const event of runtime.events.subscribe(signal)) yield encode(event)
    },
  }
}
