import { CaissonError } from '../errors.ts'
import type { PodConfig } from './config.ts'
import { firstDifference } from './joins.ts'
import { checkSelinux } from './selinux.ts'

const nameMax = 253

/** @throws CaissonError ERR_INVALID_ARGUMENT for what no pod can be */
export function checkPodConfig(config: PodConfig): void {
  const { name, namespace, uid } = config.metadata
  for (const [field, value] of Object.entries({ name, namespace, uid })) {
    if (value === '' || value.length > nameMax) {
      throw new CaissonError('ERR_INVALID_ARGUMENT', `metadata.${field} must have 1 to ${nameMax} characters`)
    }
  }
  if (config.network !== 'pod' && config.ports.length + config.networks.length > 0) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      `ports and networks are of pods with a network of their own; this one has "${config.network}"`,
    )
  }
  if (config.logDirectory !== '' && !config.logDirectory.startsWith('/')) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `log directory "${config.logDirectory}" is not absolute`)
  }
  checkSelinux(config.selinux)
  const { user } = config
  if ((config.network === 'joined') !== (config.networkOf !== '')) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'a pod joins a network exactly if it says whose')
  }
  if (user === null) return
  if (config.network === 'joined') {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'a user namespace with the network of another pod is not supported')
  }
  const [uids, gids] = [user.uids, user.gids]
  const [first] = uids
  if (uids.length !== 1 || gids.length !== 1 || first === undefined || firstDifference(uids, gids) !== null) {
    throw new CaissonError(
      'ERR_INVALID_ARGUMENT',
      'a user namespace takes exactly one mapping, equal for uids and gids',
    )
  }
  if (first.containerId !== 0 || first.length <= 0) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'the mapping of a user namespace must begin at container id 0')
  }
  if (config.network === 'node') {
    throw new CaissonError('ERR_INVALID_ARGUMENT', 'a user namespace with the host’s network is not supported')
  }
}
