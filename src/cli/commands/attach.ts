import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { findContainer } from '../lookup.ts'
import { remoteCommand } from '../remote-command.ts'

export const attach: Command = {
  usage: `usage: caisson attach [--no-stdin] CONTAINER
Shows the output of a container's first process as it comes, and gives it standard input where it was made to have one.
Ends with it; ctrl-p ctrl-q leaves a terminal before.
  --no-stdin  only look
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, { 'no-stdin': { type: 'boolean', default: false } })
    const [name, ...rest] = operands
    if (name === undefined || rest.length > 0) throw new UsageError('attach takes one container')
    const service = await connect(globals)
    try {
      const { id: containerId } = await findContainer(service, name)
      const { info } = await service.runtime.containerStatus({ containerId, verbose: true })
      const { config } = JSON.parse(info['info'] ?? '{}') as { config: { stdin: boolean; tty: boolean } }
      const stdin = config.stdin && !values['no-stdin']
      const { tty } = config
      const { url } = await service.runtime.attach({ containerId, tty, stdin, stdout: true, stderr: !tty })
      if ((await remoteCommand(url, { stdin, tty, detachable: true })) === null) return 0
      const { status } = await service.runtime.containerStatus({ containerId })
      return status?.exitCode ?? 0
    } finally {
      await service.close()
    }
  },
}
