import { spawn } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'

import { tarHeader } from '../build/test/helpers/image.js'
import { push, startRegistry } from '../build/test/helpers/registry.js'
import { writeLayout } from './pull-image.mjs'
import { figure } from './statistics.mjs'

const layerBytes = 2 * 2 ** 30
const restMs = 2000

/** What the service's memory grows by, at most, while it pulls a layer of 2 GiB that does not compress. */
export async function measurePullMemory({ service, directory, rounds, progress }) {
  const registry = await startRegistry()
  try {
    progress('pull memory: making the image')
    const layout = join(directory, 'large')
    await writeLargeImage(layout)
    await push(registry, layout, 'latest', 'bench:large')
    const image = `${registry.host}/bench:large`
    const grown = []
    for (let round = -1; round < rounds; round++) {
      await sleep(restMs)
      await writeFile(`/proc/${service.pid}/clear_refs`, '5') // the peak begins anew: proc_pid_clear_refs(5)
      const before = await memory(service.pid, 'VmRSS')
      const { imageRef } = await service.image.pullImage({ image: { image } })
      if (round >= 0) grown.push((await memory(service.pid, 'VmHWM')) - before)
      await service.image.removeImage({ image: { image: imageRef } })
      progress(`pull memory ${Math.max(round + 1, 0)}/${rounds}`)
    }
    const what = 'highest resident memory of the service during the pull of a 2 GiB layer, above what it was before'
    return figure({ name: 'pull memory', unit: 'KiB', what, ours: grown })
  } finally {
    await registry.stop()
  }
}

/** Of /proc/<pid>/status, in KiB. */
async function memory(pid, key) {
  const text = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)[1])
}

async function writeLargeImage(layout) {
  const blobs = join(layout, 'blobs', 'sha256')
  await mkdir(blobs, { recursive: true })
  const draft = join(layout, 'draft')
  const gzip = spawn('gzip', ['-1', '-n'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const plain = createHash('sha256')
  const packed = createHash('sha256')
  let size = 0
  gzip.stdout.on('data', (chunk) => {
    packed.update(chunk)
    size += chunk.length
  })
  const file = createWriteStream(draft)
  gzip.stdout.pipe(file)
  const write = async (data) => {
    plain.update(data)
    if (!gzip.stdin.write(data)) await new Promise((resolve) => gzip.stdin.once('drain', resolve))
  }
  await write(tarHeader({ name: 'large' }, layerBytes))
  for (let at = 0; at < layerBytes; at += 1 << 20) await write(randomFillSync(Buffer.allocUnsafe(1 << 20)))
  await write(Buffer.alloc(1024))
  gzip.stdin.end()
  await finished(file)
  const digest = `sha256:${packed.digest('hex')}`
  await rename(draft, join(blobs, digest.slice('sha256:'.length)))
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip'
  await writeLayout(layout, [{ mediaType, digest, size }], [`sha256:${plain.digest('hex')}`])
}
