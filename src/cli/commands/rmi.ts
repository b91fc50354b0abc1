import { UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { printable } from '../format.ts'

export const rmi: Command = {
  usage: `usage: caisson rmi IMAGE…
Takes names of images away, and an image with its last one; by its id, all of its names. A container that was made from an image
keeps what it needs.
`,
  async run(args, globals) {
    if (args.length === 0) throw new UsageError('rmi takes images')
    const service = await connect(globals)
    try {
      for (const image of args) {
        const { names, removed } = await service.caisson.untagImage({ image })
        for (const name of names) process.stdout.write(`untagged: ${printable(name)}\n`)
        if (removed !== '') process.stdout.write(`removed: ${removed}\n`)
      }
      return 0
    } finally {
      await service.close()
    }
  },
}
