import { CaissonError } from '../../errors.ts'
import { UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'

export const rmi: Command = {
  usage: `usage: caisson rmi IMAGE…
Removes images with all their names; a container that was made from one keeps what it needs.
`,
  async run(args, globals) {
    if (args.length === 0) throw new UsageError('rmi takes images')
    const service = await connect(globals)
    try {
      for (const image of args) {
        const { image: found } = await service.images.imageStatus({ image: { image } })
        if (!found?.id) throw new CaissonError('ERR_IMAGE_NOT_FOUND', `no image "${image}"`)
        await service.images.removeImage({ image: { image: found.id } })
        process.stdout.write(`${image}\n`)
      }
      return 0
    } finally {
      await service.close()
    }
  },
}
