import { readFile } from 'node:fs/promises'

import { CaissonError } from '../../errors.ts'

/**
 * The number of a group, from /etc/group: what a directory service knows is named by its number.
 *
 * @param name a name, a number, or "" for none
 * @throws CaissonError ERR_CONFIG_INVALID for a name that is not there
 */
export async function socketGroup(name: string, file = '/etc/group'): Promise<number | null> {
  if (name === '') return null
  if (/^\d+$/.test(name)) return Number(name)
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    const [found, , id = ''] = line.split(':')
    if (found === name && /^\d+$/.test(id)) return Number(id)
  }
  throw new CaissonError(
    'ERR_CONFIG_INVALID',
    `socket.group is "${name}": ${file} has no such group; one that a directory service has is named by its number`,
  )
}
