import { join } from 'node:path'

import type { runtime } from '../gen/cri.js'
import { CaissonError } from '../errors.ts'
import type { Service } from './context.ts'

export type ListedContainer = runtime.v1.Container.$Properties & { id: string; podSandboxId: string }

/** Set on pods that `run` made: `rm` removes them with their container. */
export const ownPodLabel = 'io.caisson.cli'

/**
 * Where `run` lets its pod of this uid keep its log. Labels and uids come from whoever made the pod, so nothing but a uid of our
 * own form is ever made into a path.
 */
export async function ownLogDirectory(service: Service, uid: string): Promise<string> {
  if (!/^[0-9a-f]{32}$/.test(uid))
    throw new CaissonError('ERR_INVALID_ARGUMENT', `pod uid "${uid}" is not one that "run" made`)
  const { paths } = await service.caisson.info({})
  return join(paths?.root ?? '', 'logs', uid)
}

/** The pod of this id, name, or unique prefix of an id, or of this container. @returns its id */
export async function findPod(service: Service, text: string): Promise<string> {
  const { items } = await service.runtime.listPodSandbox({})
  const exact = items.filter(({ id }) => id === text)
  const named = items.filter(({ metadata }) => metadata?.name === text)
  const found = [exact, named, items.filter(({ id }) => id?.startsWith(text))].find(({ length }) => length > 0) ?? []
  if (text !== '' && found.length > 1) {
    throw new CaissonError('ERR_AMBIGUOUS_ID', `"${text}" means ${found.length} pods: use an id`)
  }
  const [pod] = found
  if (text !== '' && pod?.id) return pod.id
  const container = (await listContainers(service)).find(({ id, metadata }) => id === text || metadata?.name === text)
  if (container === undefined) throw new CaissonError('ERR_SANDBOX_NOT_FOUND', `no pod "${text}"`)
  return container.podSandboxId
}

export async function listContainers(service: Service): Promise<ListedContainer[]> {
  const { containers } = await service.runtime.listContainers({})
  return containers as ListedContainer[]
}

/** The container of this name, id, or unique prefix of an id. */
export async function findContainer(service: Service, text: string): Promise<ListedContainer> {
  const all = await listContainers(service)
  const exact = all.find(({ id }) => id === text)
  const named = all.filter(({ metadata }) => metadata?.name === text)
  const found = exact !== undefined ? [exact] : named.length > 0 ? named : all.filter(({ id }) => id.startsWith(text))
  const [first] = found
  if (first === undefined || text === '') throw new CaissonError('ERR_CONTAINER_NOT_FOUND', `no container "${text}"`)
  if (found.length > 1)
    throw new CaissonError('ERR_AMBIGUOUS_ID', `"${text}" means ${found.length} containers: use an id`)
  return first
}
