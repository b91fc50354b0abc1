import type { NetworkRequest } from '#src/network/types.ts'

/** A pod that asks for nothing in particular. */
export function networkRequest(podId: string, overrides: Partial<NetworkRequest> = {}): NetworkRequest {
  return {
    podId,
    metadata: { name: podId, namespace: 'n', uid: 'u' },
    hostname: podId,
    networks: [],
    aliases: [],
    ports: [],
    mac: '',
    addresses: [],
    dns: null,
    labels: {},
    annotations: {},
    cgroupParent: '',
    userNamespace: false,
    ...overrides,
  }
}
