import { version } from '../../index.ts'
import type { RuntimeHandlers } from '../grpc/services.ts'

/** Version: a kubelet ends when `version` is anything but 0.1.0. */
export const versionRpc = {
  version: async () => ({
    version: '0.1.0',
    runtimeName: 'caisson',
    runtimeVersion: version,
    runtimeApiVersion: 'v1',
  }),
} satisfies Partial<RuntimeHandlers>
