import { CaissonError } from '../../errors.ts'

/**
 * Refuses what no field of any request may hold: a NUL in a text. Paths, names and arguments all end at it in the kernel, and what was
 * looked at before would not be what is used.
 *
 * @throws CaissonError ERR_INVALID_ARGUMENT that names the field
 */
export function checkRequest(request: object): void {
  const path = fieldWithNul(request)
  if (path !== null) throw new CaissonError('ERR_INVALID_ARGUMENT', `${path} holds a NUL`)
}

/** The field's name as the proto has it: `config.linux.cgroup_parent`. */
function fieldWithNul(value: unknown): string | null {
  if (typeof value === 'string') return value.includes('\0') ? '' : null
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return null
  for (const [key, inner] of Object.entries(value)) {
    if (!Array.isArray(value) && key.includes('\0')) return 'a key'
    const found = fieldWithNul(inner)
    if (found === null) continue
    const name = Array.isArray(value) ? `[${key}]` : key.replaceAll(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`)
    return found === '' ? name : found.startsWith('[') ? name + found : `${name}.${found}`
  }
  return null
}
