import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { peerCommands, peerConfig, requests, writeBundle } from './peers.mjs'
import { Spawner } from './spawner.mjs'
import { figure, msSince, nanoseconds } from './statistics.mjs'

/**
 * The figures `run`, `command` and `exec`. Every round measures each candidate once, in turn, so that all of them meet the
 * same noise.
 */
export async function measureContainers({
  service,
  cgroupRoot,
  directory,
  programs,
  image,
  peers,
  rounds,
  progress,
  notes,
}) {
  const bench = await prepare({ service, cgroupRoot, directory, programs, image, peers, notes })
  try {
    return await measure({ ...bench, rounds, progress })
  } finally {
    await bench.close()
  }
}

async function prepare({ service, cgroupRoot, directory, programs, image, peers, notes }) {
  const files = join(directory, 'files')
  const scratch = join(directory, 'bare')
  await mkdir(files, { recursive: true })
  for (const name of ['upper', 'work', 'root']) await mkdir(join(scratch, name), { recursive: true })
  for (const name of ['hostname', 'hosts', 'resolv.conf']) {
    for (const where of [files, scratch]) await writeFile(join(where, name), 'bench\n')
  }
  const layer = await unpackedLayer(service)
  const slice = `${service.slice}/peers`
  await mkdir(join(cgroupRoot, slice), { recursive: true })

  // crun and runc look at /sys/fs/cgroup only: on a hybrid host cgroup v2 is bound there, for them alone
  const hybrid = cgroupRoot !== '/sys/fs/cgroup'
  if (hybrid) notes.push(`peers run in a mount namespace of their own, with ${cgroupRoot} bound over /sys/fs/cgroup`)
  const limited = !(await holdsSysResource())
  if (limited) notes.push('root lacks CAP_SYS_RESOURCE here: bench/memlock.c keeps crun from ending at RLIMIT_MEMLOCK')
  const wrapper = peerWrapper({ hybrid, cgroupRoot, preload: limited ? programs.memlock : null })
  const theirs = new Spawner(programs.spawner, wrapper)
  const plain = new Spawner(programs.spawner)

  notes.push(
    'peers get the root file system as a plain directory; Caisson and the limit mount an overlay over the layer',
  )
  const usable = {}
  for (const name of peers) {
    const rootfs = await copyOfLayer(service, join(directory, `rootfs-${name}`))
    const spec = await peerConfig({ image, args: ['exit', '0'], files })
    const sleeping = { ...spec, process: { ...spec.process, args: ['/bin/probe', 'sleep', '1000000'] } }
    const commands = peerCommands(name, directory)
    usable[name] = {
      commands,
      once: await writeBundle(join(directory, `${name}-once`), spec, { rootfs, cgroup: `${slice}/${name}-once` }),
      hold: await writeBundle(join(directory, `${name}-hold`), sleeping, { rootfs, cgroup: `${slice}/${name}-hold` }),
    }
  }
  return {
    service,
    usable,
    theirs,
    plain,
    image,
    directory,
    bare: { program: programs.bare, layer, scratch, cgroup: join(cgroupRoot, slice, 'bare') },
    async close() {
      await theirs.close()
      await plain.close()
    },
  }
}

/** A command in front of a peer's: what this host needs so that it runs at all. */
export function peerWrapper({ hybrid, cgroupRoot, preload }) {
  const bind = hybrid ? 'mount --bind "$1" /sys/fs/cgroup; ' : ''
  const script = `${bind}${preload === null ? '' : 'export LD_PRELOAD="$2"; '}shift 2; exec "$@"`
  return ['unshare', '-m', 'sh', '-euc', script, 'bench', cgroupRoot, preload ?? '-']
}

/** CAP_SYS_RESOURCE is number 24: capabilities(7). */
export async function holdsSysResource() {
  const [, mask] = /^CapEff:\s*([0-9a-f]+)$/m.exec(await readFile('/proc/self/status', 'utf8'))
  return ((BigInt(`0x${mask}`) >> 24n) & 1n) === 1n
}

/** The directory that the service made of the image's one layer. */
async function unpackedLayer(service) {
  const layers = join(service.root, 'layers', 'fs')
  const [name, ...others] = await readdir(layers)
  if (name === undefined || others.length > 0) throw new Error(`${layers} does not hold one layer`)
  return join(layers, name)
}

/** The same root file system as a plain directory: what a peer is given, whose overlay would be its engine's work. */
export async function copyOfLayer(service, target) {
  await cp(await unpackedLayer(service), target, { recursive: true, preserveTimestamps: true })
  return target
}

async function measure({ service, usable, theirs, plain, image, directory, bare, rounds, progress }) {
  const bareRun = [bare.program, 'run', bare.layer, bare.scratch, bare.cgroup, '/bin/probe', 'exit', '0']
  const cli = [process.execPath, 'dist/cli/main.js', ...service.globals, 'run', image, 'exit', '0']
  const names = ['runPodSandbox', 'createContainer', 'startContainer', 'exit', 'stopPodSandbox', 'removePodSandbox']
  const phases = Object.fromEntries(names.map((name) => [name, []]))
  const ours = []
  const results = { bare: [], cli: [], peers: {} }
  const dropped = {}
  for (const name of Object.keys(usable)) results.peers[name] = []

  for (let round = -1; round < rounds; round++) {
    // the first is for caches, and is not counted
    const keep = (list, value) => round >= 0 && list.push(value)
    const times = await lifeCycle(service, image, `bench-${round + 1}`, join(directory, 'logs'))
    for (const name of names) keep(phases[name], times[name])
    keep(ours, times.whole)
    keep(results.bare, await plain.run(bareRun))
    for (const [name, peer] of Object.entries(usable)) {
      if (dropped[name] !== undefined) continue
      try {
        keep(results.peers[name], await theirs.run(peer.commands.run(peer.once, `${name}-once`)))
      } catch (error) {
        dropped[name] = error.message
        results.peers[name] = null
      }
    }
    if (round < Math.ceil(rounds / 2)) keep(results.cli, await plain.run(cli))
    progress(`run ${Math.max(round + 1, 0)}/${rounds}`)
  }
  const run = figure({
    name: 'run',
    unit: 'ms',
    what: 'from no container to none: created, started, its exit seen, all of it removed',
    ours,
    phases,
    peers: results.peers,
    limit: results.bare,
  })
  if (Object.keys(dropped).length > 0) run.failed = dropped
  const command = figure({
    name: 'command',
    unit: 'ms',
    what: 'the same by the command line, one process each: caisson run with a service running, crun run, runc run',
    ours: results.cli,
    peers: results.peers,
    limit: results.bare,
  })
  return [
    run,
    command,
    await measureExec({ service, usable, dropped, theirs, plain, image, directory, bare, rounds, progress }),
  ]
}

/** One pod with one container that ends at once, over one connection: milliseconds by phase. */
async function lifeCycle(service, image, name, logs) {
  const logDirectory = join(logs, name)
  await mkdir(logDirectory, { recursive: true })
  const { pod, container } = requests(image, ['exit', '0'], { name, uid: name, logDirectory })
  const times = {}
  const timed = async (phase, call) => {
    const start = nanoseconds()
    const reply = await call()
    times[phase] = msSince(start)
    return reply
  }
  const { runtime, caisson } = service
  const { podSandboxId } = await timed('runPodSandbox', () => runtime.runPodSandbox({ config: pod }))
  const create = { podSandboxId, config: container, sandboxConfig: pod }
  const { containerId } = await timed('createContainer', () => runtime.createContainer(create))
  // waited for from before its start: its end is not behind the reply
  const exit = caisson.waitContainer({ containerId })
  await timed('startContainer', () => runtime.startContainer({ containerId }))
  const { exitCode } = await timed('exit', () => exit)
  if (exitCode) throw new Error(`the container ended with ${exitCode}`)
  await timed('stopPodSandbox', () => runtime.stopPodSandbox({ podSandboxId }))
  await timed('removePodSandbox', () => runtime.removePodSandbox({ podSandboxId }))
  times.whole = Object.values(times).reduce((sum, time) => sum + time, 0)
  return times
}

/** A running container of ours: a pod's id and its own. */
export async function hold(service, image, name, logs) {
  const logDirectory = join(logs, name)
  await mkdir(logDirectory, { recursive: true })
  const { pod, container } = requests(image, ['sleep', '1000000'], { name, uid: name, logDirectory })
  const { podSandboxId } = await service.runtime.runPodSandbox({ config: pod })
  const { containerId } = await service.runtime.createContainer({ podSandboxId, config: container, sandboxConfig: pod })
  await service.runtime.startContainer({ containerId })
  return { podSandboxId, containerId }
}

async function measureExec({ service, usable, dropped, theirs, plain, image, directory, bare, rounds, progress }) {
  const command = ['/bin/probe', 'exit', '0']
  const { podSandboxId, containerId } = await hold(service, image, 'bench-exec', join(directory, 'logs'))
  const holder = spawn(bare.program, ['hold', bare.layer, bare.scratch, bare.cgroup, '/bin/probe', 'sleep', '1000000'])
  const ended = once(holder, 'exit')
  const held = []
  const ours = []
  const limit = []
  const peers = {}
  const failed = {}
  try {
    const { value: pid } = await createInterface({ input: holder.stdout })[Symbol.asyncIterator]().next()
    if (pid === undefined) throw new Error('bare did not start')
    await untilExecuted(pid)
    for (const [name, peer] of Object.entries(usable)) {
      peers[name] = null
      if (dropped[name] !== undefined) continue
      try {
        await theirs.run(peer.commands.hold(peer.hold, `${name}-hold`))
        held.push(name)
        peers[name] = []
      } catch (error) {
        failed[name] = error.message
      }
    }
    for (let round = -1; round < rounds; round++) {
      const keep = (list, value) => round >= 0 && list.push(value)
      const start = nanoseconds()
      const { exitCode } = await service.runtime.execSync({ containerId, cmd: command, timeout: 10 })
      keep(ours, msSince(start))
      if (exitCode) throw new Error(`ExecSync: ${exitCode}`)
      keep(limit, await plain.run([bare.program, 'exec', pid, ...command]))
      for (const name of held) {
        const { commands } = usable[name]
        keep(peers[name], await theirs.run(commands.exec(`${name}-hold`, command)))
      }
      progress(`exec ${Math.max(round + 1, 0)}/${rounds}`)
    }
    process.kill(Number(pid), 'SIGKILL')
    await ended
  } finally {
    holder.kill('SIGKILL')
    for (const name of held) await theirs.run(usable[name].commands.remove(`${name}-hold`))
    await service.runtime.removePodSandbox({ podSandboxId })
  }
  return {
    ...figure({
      name: 'exec',
      unit: 'ms',
      what: 'one program in a running container, to its end: ExecSync, crun exec, runc exec',
      ours,
      peers,
      limit,
    }),
    ...(Object.keys(failed).length > 0 && { failed }),
  }
}

/** bare names its child before the child has become the program. */
async function untilExecuted(pid) {
  for (let tries = 0; tries < 500; tries++) {
    if ((await readFile(`/proc/${pid}/cmdline`, 'utf8')).startsWith('/bin/probe\0')) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error('bare did not execute its program')
}
