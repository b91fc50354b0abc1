import { UsageError } from '../args.ts'
import type { Command } from '../command.ts'

const commands: Record<string, () => Promise<Command>> = {
  ls: async () => (await import('./images.ts')).images,
  pull: async () => (await import('./pull.ts')).pull,
  push: async () => (await import('./push.ts')).push,
  rm: async () => (await import('./rmi.ts')).rmi,
  tag: async () => (await import('./tag.ts')).tag,
  import: async () => (await import('./import.ts')).importImage,
  save: async () => (await import('./save.ts')).save,
  load: async () => (await import('./load.ts')).load,
  inspect: async () => (await import('./inspect.ts')).inspect,
  history: async () => (await import('./history.ts')).history,
  df: async () => (await import('./image-df.ts')).imageDf,
  prune: async () => (await import('./image-prune.ts')).imagePrune,
  check: async () => (await import('./image-check.ts')).imageCheck,
}

/** Commands about images by the names that users of docker know; most are commands of their own, too. */
export const image: Command = {
  usage: `usage: caisson image COMMAND …
  ls, pull, push, rm, tag, save, load, import, inspect, history
           as "caisson images", "pull", "push", "rmi", "tag", …
  df       what images take on disk, and what they share
  prune    remove images that no container uses
  check    re-hash the store and say what is wrong
`,
  async run([name = '', ...args], globals) {
    const load = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (load === undefined) throw new UsageError(`image: "${name}" is none of ${Object.keys(commands).join(', ')}`)
    const command = await load()
    if (args[0] === '--help' || args[0] === '-h') {
      process.stdout.write(command.usage)
      return 0
    }
    return await command.run(args, globals)
  },
}
