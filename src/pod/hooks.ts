import type { Spec } from '../oci/runtime-spec.ts'
import type { ContainerConfig, Nanoseconds, PodResources, Resources } from './config.ts'
import type { Container } from './container.ts'
import type { Pod } from './pod.ts'

/** A container whose specification is there, and nothing else of it yet. */
export interface ContainerDraft {
  readonly id: string
  readonly pod: Pod
  readonly config: ContainerConfig
  readonly spec: Spec
  readonly createdAt: Nanoseconds
  readonly image: { readonly name: string; readonly digest: string; readonly configDigest: string }
}

/** What is to be different about a container than its caller asked for. */
export interface ContainerAdjustment {
  /** Devices of CDI beside those of the request. */
  readonly cdiDevices: readonly string[]
  /** In place of the request's. */
  readonly resources: Resources
  /** Everything else. */
  apply(spec: Spec): Spec
}

/**
 * Who is asked, or told, at the steps in the life of pods and containers. Where a step may be refused, the promise rejects; the others
 * never do. What `podStarting` and `containerCreating` have passed is told of once more, when it is there or has failed.
 */
export interface LifecycleHooks {
  /** Its sandbox and network are there, and nobody knows of it. @throws refuses the pod */
  podStarting(pod: Pod): Promise<void>
  podStarted(pod: Pod): void
  podFailed(pod: Pod): void
  /** @throws refuses the change */
  podUpdating(pod: Pod, change: PodResources): Promise<void>
  podUpdated(pod: Pod): Promise<void>
  /** Its containers have ended. @param ips the addresses that it had */
  podStopped(pod: Pod, ips: readonly string[]): Promise<void>
  podRemoved(pod: Pod): Promise<void>

  /** @returns null: as it is. @throws refuses the container */
  containerCreating(draft: ContainerDraft): Promise<ContainerAdjustment | null>
  containerCreated(container: Container): Promise<void>
  containerFailed(draft: Pick<ContainerDraft, 'id' | 'pod' | 'config'>): void
  /** @throws refuses the start; it can be tried again */
  containerStarting(container: Container): Promise<void>
  containerStarted(container: Container): Promise<void>
  /** @returns the change as it is to be made. @throws refuses it */
  containerUpdating(container: Container, change: Resources): Promise<Resources>
  containerUpdated(container: Container): Promise<void>
  /** It has ended, by itself or not: told once. */
  containerStopped(container: Container): Promise<void>
  containerRemoved(container: Container): Promise<void>
}
