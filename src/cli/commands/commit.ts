import { parseMixed, UsageError } from '../args.ts'
import type { Command } from '../command.ts'
import { connect } from '../context.ts'
import { findContainer } from '../lookup.ts'
import { describeOptions, description } from '../image-description.ts'

export const commit: Command = {
  usage: `usage: caisson commit [OPTION…] CONTAINER [NAME]
Makes an image of what a container has changed, and prints its id: the layers of its image, and one upon them. What is mounted
into the container is no part of it, and what it was given (its environment, say) does not become the image's.
  -c, --change LINE     a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR
  -a, --author NAME
  -m, --message TEXT    stands in the image's history
  -p, --pause           stop its processes meanwhile, so that the changes are of one moment
`,
  async run(args, globals) {
    const { values, operands } = parseMixed(args, {
      ...describeOptions,
      pause: { type: 'boolean', short: 'p', default: false },
    })
    const [container, name = ''] = operands
    if (container === undefined || operands.length > 2) throw new UsageError('commit takes a container and a name')
    const service = await connect(globals)
    try {
      const { id } = await findContainer(service, container)
      const request = { containerId: id, name, description: description(values), pause: values.pause }
      process.stdout.write(`${(await service.caisson.commitContainer(request)).imageId}\n`)
      return 0
    } finally {
      await service.close()
    }
  },
}
