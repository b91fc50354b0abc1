import { parseCount, parseLeading, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { findContainer } from '../lookup.ts'

export const exec: Command = {
  usage: `usage: caisson exec [--timeout SECONDS] CONTAINER CMD [ARG…]
Runs a command in a running container, with its user and limits; ends with the command's status.
  --timeout SECONDS  kill it, and all that it started, after that time
`,
  async run(args, globals) {
    const { values, operands } = parseLeading(args, { timeout: { type: 'string', default: '0' } })
    const [name, ...cmd] = operands
    if (name === undefined || cmd.length === 0) throw new UsageError('exec takes a container and a command')
    const timeout = parseCount(values.timeout, '--timeout')
    const service = await connect(globals)
    try {
      const { id } = await findContainer(service, name)
      const { stdout, stderr, exitCode } = await service.runtime.execSync({ containerId: id, cmd, timeout })
      process.stdout.write(stdout)
      process.stderr.write(stderr)
      return exitCode
    } finally {
      await service.close()
    }
  },
}
