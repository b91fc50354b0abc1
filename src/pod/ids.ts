import { randomBytes } from 'node:crypto'

import { CaissonError } from '../errors.ts'

const idLength = 64

/** A new object id: 256 random bits as lower-case hex, the form that cAdvisor and log readers expect. */
export function newId(): string {
  return randomBytes(idLength / 2).toString('hex')
}

export function isId(text: string): boolean {
  return text.length === idLength && /^[0-9a-f]+$/.test(text)
}

/**
 * Finds the object whose id is `text`, or whose id alone begins with it.
 *
 * @returns undefined when there is none
 * @throws CaissonError ERR_AMBIGUOUS_ID when several begin with it
 */
export function findByPrefix<T>(objects: ReadonlyMap<string, T>, text: string): T | undefined {
  const exact = objects.get(text)
  if (exact !== undefined || text === '' || text.length >= idLength) return exact
  let found: T | undefined
  for (const [id, object] of objects) {
    if (!id.startsWith(text)) continue
    if (found !== undefined) {
      throw new CaissonError('ERR_AMBIGUOUS_ID', `id prefix "${text}" matches more than one object`)
    }
    found = object
  }
  return found
}
