import { GrpcClient } from './client.ts'
import {
  type CaissonClient,
  caissonService,
  type HealthClient,
  healthService,
  type ImageClient,
  imageService,
  type RuntimeClient,
  runtimeService,
} from './services.ts'

/** A service of ours, by its gRPC services. */
export interface Connection {
  readonly runtime: RuntimeClient
  readonly image: ImageClient
  readonly caisson: CaissonClient
  readonly health: HealthClient
  /** @throws CaissonError ERR_SERVICE_UNREACHABLE after `timeoutMs` */
  ready(timeoutMs: number): Promise<void>
  close(): void
}

/** Connects to the service on a socket; the connection is made by the first call or by `ready`. */
export function connect(socketPath: string): Connection {
  const client = new GrpcClient(socketPath)
  return {
    runtime: client.service(runtimeService),
    image: client.service(imageService),
    caisson: client.service(caissonService),
    health: client.service(healthService),
    ready: (timeoutMs) => client.ready(timeoutMs),
    close: () => client.close(),
  }
}
