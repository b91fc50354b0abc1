import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connectOrStart } from '../context.ts'
import { authOptions, givenAuth } from '../registry-auth.ts'
import { showPush } from '../transfer-view.ts'

export const push: Command = {
  usage: `usage: caisson push [--username NAME --password-stdin] IMAGE [DESTINATION]
Brings an image to a registry, under its own name or DESTINATION, and prints what it is called there, with its digest. Without a
name and a password, the logins of this user are used (docker login, podman login).
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, authOptions)
    const [image, destination = ''] = operands
    if (image === undefined || operands.length > 2) throw new UsageError('push takes an image and a destination')
    const request = { image, destination, ...givenAuth(values) }
    const service = await connectOrStart(globals)
    try {
      process.stdout.write(`${await showPush(service, request)}\n`)
      return 0
    } finally {
      await service.close()
    }
  },
}
