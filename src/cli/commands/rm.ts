import { rm as removePath } from 'node:fs/promises'

import { runtime } from '../../gen/cri.js'
import { CaissonError } from '../../errors.ts'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect, type Service } from '../context.ts'
import { findContainer, type ListedContainer, ownLogDirectory, ownPodLabel } from '../lookup.ts'

export const rm: Command = {
  usage: `usage: caisson rm [-f] CONTAINER…
  -f, --force  kill running ones
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { force: { type: 'boolean', short: 'f', default: false } })
    if (operands.length === 0) throw new UsageError('rm takes containers')
    const service = await connect(globals)
    try {
      for (const name of operands) {
        const container = await findContainer(service, name)
        if (!values.force && container.state === runtime.v1.ContainerState.CONTAINER_RUNNING) {
          throw new CaissonError('ERR_CONTAINER_STATE', `container ${name} is running: stop it first, or use -f`)
        }
        await removeContainer(service, container)
        process.stdout.write(`${name}\n`)
      }
      return 0
    } finally {
      await service.close()
    }
  },
}

/** Removes a container, and with it the pod and the log directory that `run` made for it. */
export async function removeContainer(service: Service, container: ListedContainer): Promise<void> {
  const { podSandboxId } = container
  await service.runtime.removeContainer({ containerId: container.id })
  if (container.labels?.[ownPodLabel] === undefined) return
  const { status } = await service.runtime.podSandboxStatus({ podSandboxId })
  await service.runtime.stopPodSandbox({ podSandboxId })
  await service.runtime.removePodSandbox({ podSandboxId })
  await removePath(await ownLogDirectory(service, status?.metadata?.uid ?? ''), { recursive: true, force: true })
}
