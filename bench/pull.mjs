import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'

import { buildLayout } from '../build/test/helpers/image.js'
import { push, startRegistry } from '../build/test/helpers/registry.js'
import { figure, msSince, nanoseconds } from './statistics.mjs'

const layers = 4
const filesPerLayer = 400
const fileSize = 16 << 10

/** An image from a registry on loopback until it can be run; skopeo only stores its blobs, and unpacks nothing. */
export async function measurePull({ service, directory, spawner, skopeo, rounds, progress, notes }) {
  const registry = await startRegistry()
  try {
    const layout = join(directory, 'pull')
    await buildLayout(layout, {
      name: 'latest',
      layers: Array.from({ length: layers }, (_unused, index) => entries(index)),
    })
    await push(registry, layout, 'latest', 'bench:latest')
    const reference = `${registry.host}/bench:latest`
    const ours = []
    const theirs = skopeo === null ? null : []
    for (let round = -1; round < rounds; round++) {
      const keep = (list, value) => round >= 0 && list.push(value)
      const start = nanoseconds()
      const { imageRef } = await service.image.pullImage({ image: { image: reference } })
      keep(ours, msSince(start))
      await service.image.removeImage({ image: { image: imageRef } })
      if (theirs !== null) {
        const copy = join(directory, 'skopeo')
        const source = `docker://${reference}`
        keep(
          theirs,
          await spawner.run([
            skopeo,
            'copy',
            '--quiet',
            '--insecure-policy',
            '--src-tls-verify=false',
            source,
            `oci:${copy}`,
          ]),
        )
        await rm(copy, { recursive: true })
      }
      progress(`pull ${Math.max(round + 1, 0)}/${rounds}`)
    }
    const size = (layers * filesPerLayer * fileSize) >> 20
    notes.push(
      `pull: ${layers} gzip layers, ${layers * filesPerLayer} files, ${size} MiB unpacked; skopeo copies the blobs and does not unpack`,
    )
    return figure({
      name: 'pull',
      unit: 'ms',
      what: 'an image from a registry on loopback: fetched, verified and, by Caisson alone, unpacked',
      ours,
      peers: { skopeo: theirs },
    })
  } finally {
    await registry.stop()
  }
}

/** Files that compress to about half, the same in every run. */
function entries(layer) {
  const list = [{ name: `l${layer}/`, type: 'directory' }]
  for (let index = 0; index < filesPerLayer; index++) {
    const seed = createHash('sha512').update(`${layer}/${index}`).digest()
    const content = Buffer.alloc(fileSize)
    for (let at = 0, block = seed; at < fileSize; at += 128) {
      block = createHash('sha512').update(block).digest()
      block.copy(content, at) // and 64 bytes of nothing
    }
    list.push({ name: `l${layer}/f${index}`, content })
  }
  return list
}
