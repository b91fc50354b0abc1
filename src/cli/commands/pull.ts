import { readFileSync } from 'node:fs'

import type { caisson } from '../../gen/caisson.js'
import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connectOrStart } from '../context.ts'
import { showPull } from '../pull-view.ts'

export const pull: Command = {
  usage: `usage: caisson pull [--username NAME --password-stdin] IMAGE
Fetches an image and prints its id.
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      username: { type: 'string' },
      'password-stdin': { type: 'boolean', default: false },
    })
    const [image] = operands
    if (image === undefined || operands.length > 1) throw new UsageError('pull takes one image')
    if ((values.username !== undefined) !== values['password-stdin']) {
      throw new UsageError('--username and --password-stdin go together')
    }
    const request: caisson.v1.PullImageRequest.$Properties = { image }
    if (values.username !== undefined) {
      request.auth = { username: values.username, password: readFileSync(0, 'utf8').trimEnd() }
    }
    const service = await connectOrStart(globals)
    try {
      process.stdout.write(`${await showPull(service, request)}\n`)
      return 0
    } finally {
      await service.close()
    }
  },
}
