import { caisson } from '../../gen/caisson.js'
import { runtime } from '../../gen/cri.js'
import { grpc } from '../../gen/health.js'
import type { CallOptions } from './client.ts'
import type { CallContext } from './context.ts'
import { type Calls, type Handlers, serviceSpec } from './definition.ts'

type CriNamespace = typeof runtime.v1
type CaissonNamespace = typeof caisson.v1
type HealthNamespace = typeof grpc.health.v1

export const runtimeService = serviceSpec(runtime.v1, runtime.v1.RuntimeService)
export const imageService = serviceSpec(runtime.v1, runtime.v1.ImageService)
export const caissonService = serviceSpec(caisson.v1, caisson.v1.Caisson)
export const healthService = serviceSpec(grpc.health.v1, grpc.health.v1.Health)

/** What the rooms above implement. A method that is left out answers UNIMPLEMENTED. */
export type RuntimeHandlers = Handlers<CriNamespace, runtime.v1.RuntimeService, CallContext>
export type ImageHandlers = Handlers<CriNamespace, runtime.v1.ImageService, CallContext>
export type CaissonHandlers = Handlers<CaissonNamespace, caisson.v1.Caisson, CallContext>
export type HealthHandlers = Handlers<HealthNamespace, grpc.health.v1.Health, CallContext>

export type RuntimeClient = Calls<CriNamespace, runtime.v1.RuntimeService, CallOptions>
export type ImageClient = Calls<CriNamespace, runtime.v1.ImageService, CallOptions>
export type CaissonClient = Calls<CaissonNamespace, caisson.v1.Caisson, CallOptions>
export type HealthClient = Calls<HealthNamespace, grpc.health.v1.Health, CallOptions>
