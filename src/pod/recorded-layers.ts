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
        const listed = (await readRecord(layout.containerRecord(pod, id)))?.['layers']
        if (Array.isArray(listed)) for (const layer of listed) if (typeof layer === 'string') layers.add(layer)
      }
    }
  }
  return layers
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
