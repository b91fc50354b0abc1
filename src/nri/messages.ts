import { nri } from '../gen/nri.js'

export const messages = nri.pkg.api.v1alpha1
export const { Event, Field, ContainerState } = messages

export type Event = nri.pkg.api.v1alpha1.Event
export type Field = nri.pkg.api.v1alpha1.Field
export type PodSandbox = nri.pkg.api.v1alpha1.PodSandbox.$Properties
export type ContainerView = nri.pkg.api.v1alpha1.Container.$Properties
export type NriMount = nri.pkg.api.v1alpha1.Mount.$Properties
export type NriDevice = nri.pkg.api.v1alpha1.LinuxDevice.$Properties
export type NriHooks = nri.pkg.api.v1alpha1.Hooks.$Properties
export type NriHook = nri.pkg.api.v1alpha1.Hook.$Properties
export type NriResources = nri.pkg.api.v1alpha1.LinuxResources.$Properties
export type NriMemory = nri.pkg.api.v1alpha1.LinuxMemory.$Properties
export type NriCpu = nri.pkg.api.v1alpha1.LinuxCPU.$Properties
export type NriSeccomp = nri.pkg.api.v1alpha1.LinuxSeccomp.$Properties
export type NriAdjustment = nri.pkg.api.v1alpha1.ContainerAdjustment.$Properties
export type NriLinuxAdjustment = nri.pkg.api.v1alpha1.LinuxContainerAdjustment.$Properties
export type NriUpdate = nri.pkg.api.v1alpha1.ContainerUpdate.$Properties
export type NriEviction = nri.pkg.api.v1alpha1.ContainerEviction.$Properties
export type NriRlimit = nri.pkg.api.v1alpha1.POSIXRlimit.$Properties
export type NriOwners = nri.pkg.api.v1alpha1.OwningPlugins.$Properties

/** A message as the wire has it. */
export interface Encoder<T> {
  encode(message: T): { finish(): Uint8Array }
}

export interface Decoder<T> {
  decode(bytes: Uint8Array): T
}

export type Codec<T> = Encoder<T> & Decoder<T>
