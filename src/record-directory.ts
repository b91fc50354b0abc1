import { mkdir, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'

import { isCaissonError } from './errors.ts'
import { ifPresent } from './files.ts'
import { readRecord, writeRecord, type JsonObject } from './records.ts'

const suffix = '.json'

/** The things of one kind that an instance has: in memory for readers, one durable record each, named by its key. */
export class RecordDirectory<T extends object> {
  readonly #directory: string
  readonly #keyOf: (value: T) => string
  readonly #byKey = new Map<string, T>()

  private constructor(directory: string, keyOf: (value: T) => string) {
    this.#directory = directory
    this.#keyOf = keyOf
  }

  /**
   * Reads what is there; drafts of writes that were cut off go.
   *
   * @param onDamaged told of a record that a power failure has cut off, which is dropped; without it such a record is an error
   * @throws CaissonError ERR_RECORD_INVALID
   */
  static async open<T extends object>(
    directory: string,
    keyOf: (value: T) => string,
    onDamaged?: (error: unknown) => void,
  ): Promise<RecordDirectory<T>> {
    const records = new RecordDirectory<T>(directory, keyOf)
    await mkdir(directory, { recursive: true, mode: 0o700 })
    for (const name of await readdir(directory)) {
      const path = join(directory, name)
      if (!name.endsWith(suffix)) {
        await unlink(path) // a draft
        continue
      }
      const record = await readRecord(path).catch((error: unknown) => {
        if (onDamaged === undefined || !isCaissonError(error) || error.fields['damaged'] !== true) throw error
        onDamaged(error)
        return null
      })
      if (record === null) await ifPresent(unlink(path))
      else records.#byKey.set(name.slice(0, -suffix.length), record as T)
    }
    return records
  }

  get(key: string): T | undefined {
    return this.#byKey.get(key)
  }

  all(): T[] {
    return [...this.#byKey.values()]
  }

  async put(value: T): Promise<void> {
    const key = this.#keyOf(value)
    await writeRecord(this.#path(key), value as JsonObject)
    this.#byKey.set(key, value)
  }

  async remove(key: string): Promise<void> {
    await ifPresent(unlink(this.#path(key)))
    this.#byKey.delete(key)
  }

  #path(key: string): string {
    return join(this.#directory, key + suffix)
  }
}
