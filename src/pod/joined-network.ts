import { constants } from 'node:fs'

import { CaissonError } from '../errors.ts'
import type { Attachment } from '../network/types.ts'
import type { Native, NativeFd } from '../native/types.ts'
import type { PodConfig } from './config.ts'
import type { Pod } from './pod.ts'

/** AT_FDCWD */
const currentDirectory = -100

interface KnownPods {
  find(idOrPrefix: string): Pod | undefined
  all(): Iterable<Pod>
}

/** The network namespace that a pod is to join: of a pod or a container, by id, or of a path. */
export async function joinedNamespace(pods: KnownPods, native: Native, text: string): Promise<NativeFd> {
  if (text.startsWith('/')) {
    const { O_RDONLY, O_NONBLOCK } = constants
    return await native.openat2(currentDirectory, text, O_RDONLY | O_NONBLOCK, 0, 0)
  }
  const other = podOf(pods, text)
  if (other.config.network === 'node') {
    throw new CaissonError('ERR_FAILED_PRECONDITION', `pod ${other.id} has the host’s network`)
  }
  if (other.config.user !== null) {
    throw new CaissonError(
      'ERR_FAILED_PRECONDITION',
      `pod ${other.id} has a user namespace, and its network is of that`,
    )
  }
  if (other.monitor === null || other.state !== 'ready') {
    throw new CaissonError('ERR_SANDBOX_STATE', `pod ${other.id}, whose network is to be joined, does not run`)
  }
  return await other.monitor.namespace('network')
}

/** The addresses that a pod finds itself at. */
export function addressesOf(
  pods: KnownPods,
  config: PodConfig,
  attachment: Attachment | null,
): Pick<Attachment, 'ips' | 'dns'> | null {
  if (config.network !== 'joined' || config.networkOf.startsWith('/')) return attachment
  return podOf(pods, config.networkOf).attachment
}

function podOf(pods: KnownPods, text: string): Pod {
  const pod = pods.find(text)
  if (pod !== undefined) return pod
  const owners = [...pods.all()].filter(({ containers }) => [...containers.keys()].some((id) => id.startsWith(text)))
  const [owner, ...others] = owners
  if (owner !== undefined && others.length === 0) return owner
  throw new CaissonError(
    'ERR_SANDBOX_NOT_FOUND',
    `"${text}", whose network is to be joined, is no pod and no container`,
  )
}
