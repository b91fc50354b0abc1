import { randomBytes } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { parseLeading, UsageError } from '../args.ts'
import { brokenPipeStatus, onBrokenPipe } from '../broken-pipe.ts'
import type { Command } from '../command.ts'
import { connectOrStart, type Service } from '../context.ts'
import { LogReader } from '../log-follow.ts'
import { findContainer, listContainers, ownLogDirectory, ownPodLabel } from '../lookup.ts'
import { showPull } from '../transfer-view.ts'
import { newName } from '../names.ts'
import { remoteCommand } from '../remote-command.ts'
import { removeContainer } from './rm.ts'
import { containerConfig, podConfig, runOptions } from './run-options.ts'

const stopSeconds = 10

export const run: Command = {
  usage: `usage: caisson run [OPTION…] IMAGE [CMD [ARG…]]
Runs a container, shows its output, ends with its status (125: Caisson failed, 126: the command cannot be executed, 127: it was
not found, 128+n: signal n). Without a service on the socket it starts one for itself.
  -d, --detach         in the background: prints the id; "caisson rm" removes it (without -d that happens at its end)
  -i, --interactive    standard input goes to it
  -t, --tty            with a terminal; with -i, ctrl-p ctrl-q leaves it running in the background
      --name NAME      default: two random words
  -e, --env K[=V]      environment; without a value, the caller's
  -v, --volume H:C[:ro] mount host path H at C
  -w, --workdir DIR    -u, --user USER[:GID]    --entrypoint CMD    --hostname NAME
      --network NAME   a network, or several; default: the host's choice; "none": loopback only; "host": the host's own;
                       "container:NAME" and "ns:/PATH" are joined
      --network-alias N    --ip ADDRESS    --mac-address MAC    --dns SERVER
  -p, --publish [[ADDRESS:]PORT:]PORT[/udp]   a port of the host leads to one of the container
  -m, --memory SIZE    --cpus N    --pids-limit N
      --cap-add CAP    --cap-drop CAP    --read-only    --privileged
      --pull WHEN      missing (default), always, never
`,
  async run(args, globals) {
    const { values, operands } = parseLeading(args, runOptions)
    const [reference, ...command] = operands
    if (reference === undefined) throw new UsageError('run takes an image; "caisson run --help" says more')
    const { detach, interactive, tty } = values
    if (interactive && tty && !detach && !process.stdin.isTTY) {
      throw new UsageError('-t with -i needs a terminal as standard input')
    }
    const service = await connectOrStart(globals)
    try {
      if (values.name !== undefined && (await listContainers(service)).some((c) => c.metadata?.name === values.name)) {
        throw new CaissonError(
          'ERR_ALREADY_EXISTS',
          `a container named "${values.name}" exists: remove it, or choose another name`,
        )
      }
      const id = await ensureImage(service, reference, values.pull)
      const name = values.name ?? newName()
      const uid = randomBytes(16).toString('hex')
      const logDirectory = await ownLogDirectory(service, uid)
      const labels = { [ownPodLabel]: 'run' }
      const network = await Promise.all(values.network.map((text) => joinedNetwork(service, text)))
      const pod = podConfig({ ...values, network }, { name, uid, labels, logDirectory })
      const config = containerConfig(values, { reference, id }, command, { name, labels })
      await mkdir(logDirectory, { recursive: true, mode: 0o700 })
      let podSandboxId = ''
      let containerId = ''
      let stays = detach
      try {
        ;({ podSandboxId } = await service.runtime.runPodSandbox({ config: pod }))
        ;({ containerId } = await service.runtime.createContainer({ podSandboxId, config, sandboxConfig: pod }))
        const log = join(logDirectory, 'output.log')
        if (detach) await service.runtime.startContainer({ containerId })
        const status = detach ? null : await attend(service, { containerId, log, interactive, tty })
        stays = status === null
        if (stays) process.stdout.write(`${containerId}\n`)
        return status ?? 0
      } finally {
        if (!stays || containerId === '') {
          if (containerId !== '') await removeContainer(service, { id: containerId, podSandboxId, labels })
          else if (podSandboxId !== '') await service.runtime.removePodSandbox({ podSandboxId })
          await rm(logDirectory, { recursive: true, force: true })
        }
      }
    } finally {
      await service.close()
    }
  },
}

/** A container is known to the service by its pod. */
async function joinedNetwork(service: Service, text: string): Promise<string> {
  const [, name] = /^container:(.*)$/.exec(text) ?? []
  return name === undefined ? text : `container:${(await findContainer(service, name)).podSandboxId}`
}

async function ensureImage(service: Service, reference: string, pull: string): Promise<string> {
  if (!['missing', 'always', 'never'].includes(pull))
    throw new UsageError(`--pull: "${pull}" is not missing, always or never`)
  if (pull !== 'always') {
    const { image } = await service.images.imageStatus({ image: { image: reference } })
    if (image?.id) return image.id
    if (pull === 'never') throw new CaissonError('ERR_IMAGE_NOT_FOUND', `image "${reference}" is not present`)
    process.stderr.write(`image "${reference}" is not present; pulling it\n`)
  }
  return await showPull(service, { image: reference })
}

interface Attended {
  containerId: string
  log: string
  interactive: boolean
  tty: boolean
}

/**
 * Starts the container and shows its output until the end; an interrupt stops it, a second one kills it, and so does an output that
 * is closed.
 *
 * @returns its status; null: the user has left its terminal, and it goes on
 */
async function attend(service: Service, container: Attended): Promise<number | null> {
  const { containerId } = container
  let interrupts = 0
  const unread = new AbortController()
  const stop = (timeout: number): void => {
    service.runtime.stopContainer({ containerId, timeout }).catch((error: unknown) => {
      process.stderr.write(`caisson: cannot stop the container: ${(error as Error).message}\n`)
    })
  }
  const onSignal = (): void => {
    stop(interrupts++ === 0 ? stopSeconds : 0)
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  const restore = onBrokenPipe(() => {
    unread.abort()
    stop(0)
  })
  try {
    const left = container.tty ? await onTerminal(service, container) : await byLog(service, container)
    if (left) return null
    const { exitCode, oomKilled } = await service.caisson.waitContainer({ containerId })
    if (oomKilled) process.stderr.write('caisson: the container was killed for want of memory\n')
    return unread.signal.aborted ? brokenPipeStatus : exitCode
  } finally {
    restore()
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
}

/** What a terminal shows is not made of lines, as a log is. @returns whether the user has left it */
async function onTerminal(service: Service, { containerId, interactive }: Attended): Promise<boolean> {
  const request = { containerId, tty: true, stdin: interactive, stdout: true, stderr: false }
  const { url } = await service.runtime.attach(request)
  const attached = async (): Promise<void> => {
    await service.runtime.startContainer({ containerId })
  }
  return (await remoteCommand(url, { stdin: interactive, tty: true, detachable: true, attached })) === null
}

/** The log holds nobody up, and nothing of it is lost; input goes to the container beside it. */
async function byLog(service: Service, { containerId, log, interactive }: Attended): Promise<false> {
  const start = async (): Promise<void> => {
    await service.runtime.startContainer({ containerId })
  }
  let input: Promise<unknown> = Promise.resolve()
  if (interactive) {
    const request = { containerId, tty: false, stdin: true, stdout: false, stderr: false }
    const { url } = await service.runtime.attach(request)
    await new Promise<void>((resolve, reject) => {
      input = remoteCommand(url, { stdin: true, tty: false, attached: () => start().then(resolve) })
      input.then(() => resolve(), reject)
    })
  } else {
    await start()
  }
  const reader = await LogReader.open(log, process)
  try {
    await reader.follow(log, service.caisson.waitContainer({ containerId }))
    await input
  } finally {
    await reader.close()
  }
  return false
}
