import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connectOrStart } from '../context.ts'
import { authOptions, givenAuth } from '../registry-auth.ts'
import { showPull } from '../transfer-view.ts'

export const pull: Command = {
  usage: `usage: caisson pull [--username NAME --password-stdin] IMAGE
Fetches an image and prints its id. Without a name and a password, the logins of this user are used (docker login, podman login).
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, authOptions)
    const [image] = operands
    if (image === undefined || operands.length > 1) throw new UsageError('pull takes one image')
    const request = { image, ...givenAuth(values) }
    const service = await connectOrStart(globals)
    try {
      process.stdout.write(`${await showPull(service, request)}\n`)
      return 0
    } finally {
      await service.close()
    }
  },
}
