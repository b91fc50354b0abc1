import { readFileSync } from 'node:fs'

import { parseReference } from '../image/reference.ts'
import { CredentialStore, userCredentialFiles } from '../image/registry/credential-store.ts'
import type { caisson } from '../gen/caisson.js'
import { isCaissonError } from '../errors.ts'
import { UsageError } from './args.ts'

export const authOptions = {
  username: { type: 'string' },
  'password-stdin': { type: 'boolean', default: false },
} as const

/** Credentials that stand on the command line; the password comes on standard input, never as an argument. */
export function givenAuth(values: { username?: string | undefined; 'password-stdin'?: boolean | undefined }): {
  auth?: caisson.v1.RegistryAuth.$Properties
} {
  if ((values.username !== undefined) !== (values['password-stdin'] === true)) {
    throw new UsageError('--username and --password-stdin go together')
  }
  if (values.username === undefined) return {}
  return { auth: { username: values.username, password: readFileSync(0, 'utf8').trimEnd() } }
}

/**
 * What the logins of this user (`docker login`, `podman login`, `skopeo login`) have for an image's registry.
 *
 * @throws CaissonError ERR_CONFIG_INVALID for a file or a helper that cannot be used
 */
export async function userAuth(image: string): Promise<caisson.v1.RegistryAuth.$Properties | null> {
  let reference
  try {
    reference = parseReference(image)
  } catch (error) {
    // an id, or a mistake that the service will name
    if (isCaissonError(error)) return null
    throw error
  }
  const found = await new CredentialStore(userCredentialFiles()).find(reference.domain, reference.path)
  switch (found.kind) {
    case 'anonymous':
      return null
    case 'basic':
      return { username: found.username, password: found.password }
    case 'identity':
      return { username: found.username, identityToken: found.token }
    case 'registry':
      return { registryToken: found.token }
  }
}
