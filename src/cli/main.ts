#!/usr/bin/env node
import { errorMessage, isCaissonError } from '../errors.ts'
import { parseLeading, UsageError } from './args.ts'
import { watchOutput } from './broken-pipe.ts'
import type { Command } from './command.ts'
import type { Globals } from './context.ts'

/** Status of a failure of the runtime itself, as users of container tools know it; 126 and 127 are of the command to run. */
const runtimeError = 125

const commands: Record<string, () => Promise<Command>> = {
  run: async () => (await import('./commands/run.ts')).run,
  ps: async () => (await import('./commands/ps.ts')).ps,
  stats: async () => (await import('./commands/stats.ts')).stats,
  logs: async () => (await import('./commands/logs.ts')).logs,
  exec: async () => (await import('./commands/exec.ts')).exec,
  attach: async () => (await import('./commands/attach.ts')).attach,
  'port-forward': async () => (await import('./commands/port-forward.ts')).portForward,
  stop: async () => (await import('./commands/stop.ts')).stop,
  rm: async () => (await import('./commands/rm.ts')).rm,
  pull: async () => (await import('./commands/pull.ts')).pull,
  push: async () => (await import('./commands/push.ts')).push,
  images: async () => (await import('./commands/images.ts')).images,
  rmi: async () => (await import('./commands/rmi.ts')).rmi,
  tag: async () => (await import('./commands/tag.ts')).tag,
  history: async () => (await import('./commands/history.ts')).history,
  inspect: async () => (await import('./commands/inspect.ts')).inspect,
  image: async () => (await import('./commands/image.ts')).image,
  import: async () => (await import('./commands/import.ts')).importImage,
  save: async () => (await import('./commands/save.ts')).save,
  load: async () => (await import('./commands/load.ts')).load,
  commit: async () => (await import('./commands/commit.ts')).commit,
  export: async () => (await import('./commands/export.ts')).exportContainer,
  network: async () => (await import('./commands/network.ts')).network,
  info: async () => (await import('./commands/info.ts')).info,
  version: async () => (await import('./commands/version.ts')).showVersion,
  config: async () => (await import('./commands/config.ts')).showConfig,
  serve: async () => (await import('./commands/serve.ts')).serve,
}

const usage = `usage: caisson [--listen SOCKET] [--root DIR] [--state DIR] [--config FILE] [--log-level LEVEL] COMMAND …

  run IMAGE [CMD…]    run a container and show its output (-d: in the background)
  ps                  list containers (-a: those that have ended too)
  stats               show what containers use (-w: again and again)
  logs CONTAINER      show a container's output (-f: as it comes)
  exec CONTAINER CMD  run a command in a container (-it: with a terminal)
  attach CONTAINER    show what a container puts out, and give it input
  port-forward POD P… connections to ports of this host go to a pod's
  stop CONTAINER…     stop containers
  rm CONTAINER…       remove containers (-f: running ones too)
  pull IMAGE          fetch an image
  push IMAGE [NAME]   bring an image to a registry
  images              list images
  rmi IMAGE…          remove images
  tag IMAGE NAME      give an image another name
  inspect IMAGE…      configuration, layers and history, as JSON
  history IMAGE       how an image was made
  image COMMAND       more about images: ls, df, prune, check, …
  save IMAGE…         write images to an archive (-o FILE)
  load                take images from an archive (-i FILE)
  import FILE [NAME]  make an image of the archive of a root file system
  export CONTAINER    write a container's root file system to an archive
  commit CONTAINER    make an image of what a container has changed
  network ls|show|…   networks of containers
  info                what the service is and what the host offers
  version             versions
  config              what the configuration comes to
  serve               serve the Kubernetes CRI

"caisson COMMAND --help" says more.
`

const nodeMinimum = [20, 19] as const

async function main(argv: readonly string[]): Promise<number> {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major < nodeMinimum[0] || (major === nodeMinimum[0] && minor < nodeMinimum[1])) {
    throw new Error(`Node ${process.version} is too old: Caisson needs ${nodeMinimum.join('.')} or later`)
  }
  const { values, operands } = parseLeading(argv, {
    listen: { type: 'string', default: '/run/caisson/caisson.sock' },
    root: { type: 'string', default: '/var/lib/caisson' },
    state: { type: 'string', default: '/run/caisson' },
    config: { type: 'string' },
    'log-level': { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
    version: { type: 'boolean', short: 'v', default: false },
  })
  const [name, ...rest] = operands
  if (values.version) return await (await import('./commands/version.ts')).showVersion.run([], globalsOf(values))
  if (values.help) {
    process.stdout.write(usage)
    return 0
  }
  if (name === undefined) {
    process.stderr.write(usage)
    return runtimeError
  }
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load === undefined) throw new UsageError(`unknown command "${name}"; "caisson --help" lists them`)
  const command = await load()
  const options = rest.slice(0, rest.includes('--') ? rest.indexOf('--') : rest.length)
  if (options[0] === '--help' || options[0] === '-h') {
    process.stdout.write(command.usage)
    return 0
  }
  return await command.run(rest, globalsOf(values))
}

function globalsOf(values: Record<string, string | boolean | undefined>): Globals {
  return {
    listen: String(values['listen']),
    root: String(values['root']),
    state: String(values['state']),
    config: typeof values['config'] === 'string' ? values['config'] : null,
    logLevel: typeof values['log-level'] === 'string' ? values['log-level'] : null,
  }
}

/** Exit status of a failure: 127 and 126 when the container's command is what failed. */
function statusOf(error: unknown): number {
  if (!isCaissonError(error)) return runtimeError
  if (error.code === 'ERR_COMMAND_NOT_FOUND') return 127
  if (error.code === 'ERR_COMMAND_NOT_EXECUTABLE') return 126
  return runtimeError
}

watchOutput(() => process.exit(runtimeError))

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  // what the service said holds its causes already; the transport's wording of it adds nothing
  const told = isCaissonError(error) && 'method' in error.fields ? error.message : errorMessage(error)
  process.stderr.write(`caisson: ${told}\n`)
  process.exitCode = statusOf(error)
}
