import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

import { isId } from './ids.ts'
import { Layout } from './layout.ts'
import { readRecord } from '../records.ts'

/**
 * The layers that container records below a root list, of every instance: what must not be collected, whatever has become of the
 * image store's own metadata.
 *
 * @throws CaissonError ERR_RECORD_INVALID: a record that cannot be read might list anything
 */
export async function recordedLayers(root: string): Promise<ReadonlySet<string>> {
  const layers = new Set<string>()
  for (const instance of await names(join(root, 'instances'))) {
    const layout = new Layout({ root, state: '', instance })
    for (const pod of (await names(layout.pods)).filter(isId)) {
      for (const id of (await names(join(layout.pod(pod), 'containers'))).filter(isId)) {
        const record = await readRecord(layout.containerRecord(pod, id))
        for (const layer of listed(record)) layers.add(layer)
        const volumes = record?.['imageVolumes']
        if (Array.isArray(volumes)) for (const volume of volumes) for (const layer of listed(volume)) layers.add(layer)
      }
    }
  }
  return layers
}

function listed(of: unknown): string[] {
  const layers: unknown = (of as { layers?: unknown } | null)?.layers
  return Array.isArray(layers) ? layers.filter((layer) => typeof layer === 'string') : []
}

/** Empty for what is not there. */
async function names(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  }
}
