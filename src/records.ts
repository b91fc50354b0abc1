import { randomBytes } from 'node:crypto'
import { open, readFile, rename, unlink } from 'node:fs/promises'

import { CaissonError } from './errors.ts'
import { ifPresent } from './files.ts'

/**
 * Durable records: one JSON file an object, `{"v":1,…}`, written beside and renamed over. A reader takes the present version and the
 * one before, refuses newer ones, and hands unknown fields back when it writes.
 */
export const recordVersion = 1

const recordMax = 4 << 20

export type JsonObject = Record<string, unknown>

/** Nanoseconds are kept as decimal text: JSON numbers end at 2^53. */
function encode(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}

export async function writeRecord(path: string, record: JsonObject): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  const text = JSON.stringify({ ...record, v: recordVersion }, encode) + '\n'
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(text)
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => undefined) // absent when open failed; the first error is the one to tell
    throw error
  }
}

/**
 * @returns null when the file does not exist
 * @throws CaissonError ERR_RECORD_INVALID when it is not a record that this version reads
 */
export async function readRecord(path: string): Promise<JsonObject | null> {
  const text = await ifPresent(readFile(path, 'utf8'))
  if (text === null) return null
  if (text.length > recordMax) throw damaged(path, `larger than ${recordMax} bytes`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw damaged(path, 'not JSON', error)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw damaged(path, 'not an object')
  const record = value as JsonObject
  const version = record['v']
  if (typeof version !== 'number') throw damaged(path, 'no version')
  if (version > recordVersion) {
    throw new CaissonError(
      'ERR_RECORD_INVALID',
      `record ${path}: written by a newer Caisson (record version ${version}, this one reads up to ${recordVersion})`,
    )
  }
  return record
}

/** `fields.damaged` tells it from a record that is whole and too new. */
function damaged(path: string, why: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_RECORD_INVALID', `record ${path}: ${why}`, { cause, fields: { damaged: true } })
}
