import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { push, startRegistry } from '../build/test/helpers/registry.js'
import { TestService } from '../build/test/helpers/service.js'
import { findTool } from '../build/test/helpers/tools.js'
import { Containerd } from './containerd.mjs'
import { Disk } from './disk.mjs'
import { writeImages } from './pull-image.mjs'
import { Runnable } from './runnable.mjs'
import { Spawner } from './spawner.mjs'
import { figure, idle, msSince, nanoseconds, processorMs, timeFigures } from './statistics.mjs'

const diskBytes = 8 * 2 ** 30
/** More than any of them takes: blobs, what comes out of them, and the registry's. */
const backedMiB = 2048

/**
 * An image from a registry on loopback, with everything in the page cache, until it can be run: beside containerd by the same CRI
 * call, and beside tar, which has the same layers on disk already and verifies nothing. All on one disk.
 */
export async function measurePull({ directory, programs, rounds, progress, notes, failures }) {
  const undo = []
  try {
    const prefixes = ['/tmp/csn-', '/tmp/csn-', '/tmp/csp-', '/tmp/cst-'] // short: a socket's path has 107 bytes
    const [mine, indexed, theirs, tar] = await Promise.all(prefixes.map((prefix) => mkdtemp(prefix)))
    for (const path of [mine, indexed, theirs, tar]) undo.push(() => rm(path, { recursive: true, force: true }))
    const roots = [mine, indexed, theirs].map((path) => join(path, 'root'))
    for (const path of roots) await mkdir(path)
    const disk = await Disk.open(diskBytes, [...roots, tar])
    undo.push(() => disk.close())
    const registry = await startRegistry()
    undo.push(() => registry.stop())

    progress('pull: making the image')
    const { images, files, unpacked } = await writeImages(directory)
    for (const form of ['gzip', 'zstd']) await push(registry, images[form].layout, 'latest', `bench:${form}`)
    const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`
    const sizes = Object.entries(images).map(([form, { bytes }]) => `${form} ${megabytes(bytes)}`)
    notes.push(`pull: ${images.gzip.blobs.length} layers, ${files} files, ${megabytes(unpacked)}; ${sizes.join(', ')}`)
    const reference = (form) => `${registry.host}/bench:${form}`

    const start = async (path, config) => {
      const service = new TestService(path, { host: disk, privateMounts: true, config })
      undo.push(async () => {
        const left = await service.finish()
        if (left.length > 0) failures.push(`pull: left behind: ${left.join('; ')}`)
        await service.destroy()
      })
      await service.configure()
      await service.start()
      return service
    }
    const overlay = await start(mine, '')
    const erofs = await start(indexed, '[images]\nsnapshotter = "erofs"')
    const ours = async (form, service = overlay) => {
      const cpu = processorMs(service.pid)
      const start = nanoseconds()
      const { imageRef } = await service.image.pullImage({ image: { image: reference(form) } })
      const time = { ms: msSince(start), cpuMs: processorMs(service.pid) - cpu }
      await service.image.removeImage({ image: { image: imageRef } })
      await idle(service.pid)
      return time
    }
    const { blobs } = images.gzip
    const runnable = await Runnable.open({ disk, directory: tar, layouts: directory, images, files })
    const candidates = {
      gzip: () => ours('gzip'),
      zstd: () => ours('zstd'),
      erofs: () => ours('gzip', erofs),
      ...runnable.candidates,
    }
    if (findTool('containerd') === undefined) notes.push('containerd is not installed')
    else {
      const containerd = await Containerd.start(theirs, disk)
      undo.push(() => containerd.stop())
      candidates.containerd = async () => {
        const time = await containerd.pull(reference('gzip'))
        await containerd.remove(reference('gzip'))
        return time
      }
    }
    if (findTool('igzip') === undefined) notes.push('igzip (package isal) is not installed')
    else {
      const spawner = new Spawner(programs.spawner, disk.enter)
      undo.push(() => spawner.close())
      candidates.tar = () => untar(spawner, disk, tar, blobs)
    }

    const times = Object.fromEntries(Object.keys(candidates).map((name) => [name, []]))
    for (let round = -1; round < rounds; round++) {
      for (const [name, candidate] of Object.entries(candidates)) {
        backed(programs.backed)
        const time = await candidate()
        if (round >= 0) times[name].push(time)
      }
      progress(`pull ${Math.max(round + 1, 0)}/${rounds}`)
    }
    const all = (name, key) => times[name]?.map((time) => time[key]) ?? null
    const what = 'an image from a registry on loopback until it can be run: fetched, verified, unpacked'
    const byIndex = 'the same image, indexed by the snapshotter erofs instead of unpacked'
    return [
      ...timeFigures('pull', what, (key) => ({
        ours: all('gzip', key),
        peers: { containerd: all('containerd', key), 'tar and igzip': all('tar', key) },
      })),
      figure({ name: 'pull zstd', unit: 'ms', what, ours: all('zstd', 'ms'), peers: { gzip: all('gzip', 'ms') } }),
      ...timeFigures('pull erofs', byIndex, (key) => ({
        ours: all('erofs', key),
        peers: { overlay: all('gzip', key) },
      })),
      ...runnable.figures(times),
    ]
  } finally {
    for (const step of undo.reverse()) await step()
  }
}

/**
 * Has memory that whatever comes next will take: in a virtual machine, pages that were free for some seconds may have gone to its
 * host (free page reporting of the balloon), and the first touch of each takes 2 to 8 µs more then. Those that were given back last
 * are taken first.
 */
function backed(program) {
  execFileSync(program, [String(backedMiB)])
}

/** One layer after the other, each into a directory of its own. */
async function untar(spawner, disk, directory, blobs) {
  const time = { ms: 0, cpuMs: 0 }
  for (const [index, blob] of blobs.entries()) {
    const to = join(directory, String(index))
    await mkdir(disk.path(to))
    const { ms, cpuMs } = await spawner.measure(['tar', '-I', 'igzip', '-xf', blob, '-C', to])
    time.ms += ms
    time.cpuMs += cpuMs
    await rm(disk.path(to), { recursive: true })
  }
  return time
}
