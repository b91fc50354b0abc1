import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { native } from '../dist/native/index.js'
import { writeImages } from './pull-image.mjs'
import { figure, msSince, nanoseconds, timeFigures } from './statistics.mjs'

const limits = { maxEntries: 1e6, maxBytes: 2 ** 38, maxExpanded: 2 ** 38, maxRatio: 1032, ratioFloor: 0 }
const together = 100

/**
 * From blobs that are there until their layers can be mounted: indexed, beside unpacked. Layer by layer, so that no layer fills the
 * pauses of another; without the network, so that nothing else is in it. gzip, zstd and bare layers, since what comes out of a blob
 * must be expanded and hashed either way; and the same bytes in few files.
 */
export class Runnable {
  /** Each measures once. */
  candidates
  #images
  #few

  static async open({ disk, directory, layouts, images, files }) {
    const folded = await writeImages(join(layouts, 'few'), ['plain'], together)
    const runnable = new Runnable()
    runnable.#images = { ...images, few: folded.images.plain }
    runnable.#few = { many: files, few: folded.files }
    runnable.candidates = Object.fromEntries(
      Object.entries(runnable.#images).flatMap(([form, { blobs }]) => [
        [`unpacked ${form}`, () => make(disk, directory, blobs)],
        [`indexed ${form}`, () => make(disk, directory, blobs, 512)],
        [`expanded ${form}`, () => expand(blobs)],
      ]),
    )
    return runnable
  }

  /** @param times of each candidate: {ms, cpuMs} of each round */
  figures(times) {
    const all = (name, key) => times[name].map((time) => time[key])
    const what = 'the layers of that image from blobs in the store until they can be mounted, one after the other'
    const forms = Object.keys(this.#images).filter((form) => form !== 'few')
    const { many, few } = this.#few
    return [
      ...forms.flatMap((form) =>
        timeFigures(`runnable erofs ${form}`, what, (key) => ({
          ours: all(`indexed ${form}`, key),
          peers: { 'own unpack': all(`unpacked ${form}`, key) },
          // its wall time tells nothing: one thread does both
          ...(key === 'cpuMs' && { limit: all(`expanded ${form}`, key) }),
        })),
      ),
      ...['indexed', 'unpacked'].map((way) =>
        figure({
          name: `${way}, ${many} files`,
          unit: 'ms',
          what: 'processor time for bare layers; beside it the same bytes in fewer files',
          ours: all(`${way} plain`, 'cpuMs'),
          peers: { [`${few} files`]: all(`${way} few`, 'cpuMs') },
        }),
      ),
    ]
  }
}

/** What a layer costs in any form: it is expanded and its diff id taken, and nothing comes of it. */
async function expand(blobs) {
  let cpuMs = 0
  for (const blob of blobs) {
    const from = await open(blob)
    const cpu = process.cpuUsage()
    await native.recodeBlob(from.fd, null, { gzip: false, ...limits }).done
    const { user, system } = process.cpuUsage(cpu)
    cpuMs += (user + system) / 1000
    await from.close()
  }
  return { cpuMs }
}

/** Layers unpacked, or with `erofsBlock` indexed and mounted, each in a directory of its own. */
async function make(disk, directory, blobs, erofsBlock) {
  const time = { ms: 0, cpuMs: 0 }
  for (const [index, blob] of blobs.entries()) {
    const to = disk.path(join(directory, String(index)))
    await mkdir(to)
    const [from, target] = [await open(blob), await native.openDirectory(to)]
    const cpu = process.cpuUsage()
    const start = nanoseconds()
    await native.unpackLayer(from.fd, target.fd, { ...limits, ...(erofsBlock !== undefined && { erofsBlock }) }).done
    if (erofsBlock !== undefined) (await native.mountErofs(target.fd)).close()
    time.ms += msSince(start)
    const { user, system } = process.cpuUsage(cpu)
    time.cpuMs += (user + system) / 1000
    target.close()
    await from.close()
    await rm(to, { recursive: true })
  }
  return time
}
