import { parseCount, parseLeading, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { findContainer } from '../lookup.ts'
import { remoteCommand } from '../remote-command.ts'

export const exec: Command = {
  usage: `usage: caisson exec [-i] [-t] [--timeout SECONDS] CONTAINER CMD [ARG…]
Runs a command in a running container, with its user and limits; ends with the command's status.
  -i, --interactive  standard input goes to the command
  -t, --tty          with a terminal
  --timeout SECONDS  kill it, and all that it started, after that time; its output comes when it has ended then
`,
  async run(args, globals) {
    const { values, operands } = parseLeading(args, {
      interactive: { type: 'boolean', short: 'i', default: false },
      tty: { type: 'boolean', short: 't', default: false },
      timeout: { type: 'string', default: '0' },
    })
    const [name, ...cmd] = operands
    if (name === undefined || cmd.length === 0) throw new UsageError('exec takes a container and a command')
    const { interactive: stdin, tty } = values
    const timeout = parseCount(values.timeout, '--timeout')
    if (timeout > 0 && (stdin || tty)) throw new UsageError('--timeout goes with neither -i nor -t')
    if (stdin && tty && !process.stdin.isTTY) throw new UsageError('-t with -i needs a terminal as standard input')
    const service = await connect(globals)
    try {
      const { id: containerId } = await findContainer(service, name)
      if (timeout > 0) {
        const { stdout, stderr, exitCode } = await service.runtime.execSync({ containerId, cmd, timeout })
        process.stdout.write(stdout)
        process.stderr.write(stderr)
        return exitCode
      }
      const { url } = await service.runtime.exec({ containerId, cmd, tty, stdin, stdout: true, stderr: !tty })
      return (await remoteCommand(url, { stdin, tty })) ?? 0
    } finally {
      await service.close()
    }
  },
}
