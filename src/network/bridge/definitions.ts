import { mkdir, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'

import { readRecord, writeRecord, type JsonObject } from '../../records.ts'
import type { NetworkDefinition } from './definition.ts'

const suffix = '.json'

/** The networks of an instance: in memory for readers, one durable record each. */
export class Definitions {
  readonly #directory: string
  readonly #byName = new Map<string, NetworkDefinition>()

  private constructor(directory: string) {
    this.#directory = directory
  }

  static async open(directory: string): Promise<Definitions> {
    const definitions = new Definitions(directory)
    await mkdir(directory, { recursive: true, mode: 0o700 })
    for (const file of await readdir(directory)) {
      if (!file.endsWith(suffix)) {
        await unlink(join(directory, file)) // a draft
        continue
      }
      const record = await readRecord(join(directory, file))
      if (record !== null)
        definitions.#byName.set(file.slice(0, -suffix.length), record as unknown as NetworkDefinition)
    }
    return definitions
  }

  get(name: string): NetworkDefinition | undefined {
    return this.#byName.get(name)
  }

  all(): NetworkDefinition[] {
    return [...this.#byName.values()]
  }

  async put(definition: NetworkDefinition): Promise<void> {
    await writeRecord(join(this.#directory, definition.name + suffix), definition as unknown as JsonObject)
    this.#byName.set(definition.name, definition)
  }

  async remove(name: string): Promise<void> {
    await unlink(join(this.#directory, name + suffix)).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    })
    this.#byName.delete(name)
  }
}
