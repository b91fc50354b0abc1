import { mkdir, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'

import { isCaissonError } from '../errors.ts'
import { readRecord, writeRecord, type JsonObject } from '../records.ts'
import type { Attachment } from './types.ts'

const suffix = '.json'

/** The attachments of an instance: in memory for readers, one durable record each. */
export class Attachments {
  readonly #directory: string
  readonly #byPod = new Map<string, Attachment>()

  private constructor(directory: string) {
    this.#directory = directory
  }

  /** @param onDamaged told of a record that a power failure has cut off; it is dropped, and its driver sweeps what it stood for */
  static async open(directory: string, onDamaged: (error: unknown) => void): Promise<Attachments> {
    const attachments = new Attachments(directory)
    await mkdir(directory, { recursive: true, mode: 0o700 })
    for (const name of await readdir(directory)) {
      const path = join(directory, name)
      if (!name.endsWith(suffix)) {
        await unlink(path) // a draft
        continue
      }
      const record = await readRecord(path).catch((error: unknown) => {
        if (!isCaissonError(error) || error.fields['damaged'] !== true) throw error
        onDamaged(error)
        return null
      })
      if (record === null) await unlink(path)
      else attachments.#byPod.set(name.slice(0, -suffix.length), record as unknown as Attachment)
    }
    return attachments
  }

  get(podId: string): Attachment | undefined {
    return this.#byPod.get(podId)
  }

  all(): Attachment[] {
    return [...this.#byPod.values()]
  }

  async put(attachment: Attachment): Promise<void> {
    await writeRecord(this.#path(attachment.podId), attachment as unknown as JsonObject)
    this.#byPod.set(attachment.podId, attachment)
  }

  async remove(podId: string): Promise<void> {
    await unlink(this.#path(podId)).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    })
    this.#byPod.delete(podId)
  }

  #path(podId: string): string {
    return join(this.#directory, podId + suffix)
  }
}
