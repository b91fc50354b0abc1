import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls'
import { CaissonError } from '../../errors.ts'

/** What TLS with one host is made of, beside the roots of the system. */
export interface TlsMaterial {
  /** Equal for equal material. */
  readonly id: string
  readonly ca: readonly string[]
  readonly certificates: readonly string[]
  readonly keys: readonly string[]
  readonly verify: boolean
}

const fileMax = 1 << 20
/** Where distributions keep the roots that the operator has set up; Node brings its own and looks at none of them. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
]

export interface TlsFiles {
  readonly ca: readonly string[]
  readonly client: readonly { readonly certificate: string; readonly key: string }[]
  readonly skipVerify: boolean
}

/**
 * Reads certificates and keys; null when there is nothing special about the host.
 *
 * @throws CaissonError ERR_CONFIG_INVALID naming the file
 */
export async function readTls(files: TlsFiles): Promise<TlsMaterial | null> {
  if (files.ca.length === 0 && files.client.length === 0 && !files.skipVerify) return null
  const ca = await Promise.all(files.ca.map((file) => readPem(file, 'CERTIFICATE')))
  const certificates = await Promise.all(files.client.map(({ certificate }) => readPem(certificate, 'CERTIFICATE')))
  const keys = await Promise.all(files.client.map(({ key }) => readPem(key, 'PRIVATE KEY')))
  return materialOf({ ca, certificates, keys, verify: !files.skipVerify })
}

function materialOf(parts: Omit<TlsMaterial, 'id'>): TlsMaterial {
  const id = createHash('sha256').update(JSON.stringify(parts)).digest('hex')
  return { id, ...parts }
}

/** What of a host's material holds for the other hosts that it sends a client to: whom it trusts, not who the client is. */
export function rootsOnly(tls: TlsMaterial | null): TlsMaterial | null {
  if (tls === null || tls.ca.length === 0) return null
  return materialOf({ ca: tls.ca, certificates: [], keys: [], verify: true })
}

async function readPem(file: string, kind: 'CERTIFICATE' | 'PRIVATE KEY'): Promise<string> {
  let text: string
  try {
    text = await readFile(file, 'latin1')
  } catch (cause) {
    throw new CaissonError('ERR_CONFIG_INVALID', `TLS file ${file} cannot be read: ${(cause as Error).message}`, {
      cause,
    })
  }
  if (text.length > fileMax)
    throw new CaissonError('ERR_CONFIG_INVALID', `TLS file ${file} is larger than ${fileMax} bytes`)
  if (!new RegExp(`-----BEGIN [A-Z ]*${kind}-----`).test(text)) {
    throw new CaissonError('ERR_CONFIG_INVALID', `TLS file ${file} holds no ${kind.toLowerCase()} in PEM form`)
  }
  return text
}

let roots: Promise<readonly string[]> | undefined

/** SSL_CERT_FILE, or else the system's bundle, or else what Node brings; and NODE_EXTRA_CA_CERTS. */
function systemRoots(): Promise<readonly string[]> {
  roots ??= (async () => {
    const { SSL_CERT_FILE: named = '', NODE_EXTRA_CA_CERTS: extra = '' } = process.env
    const added = extra === '' ? [] : [await readPem(extra, 'CERTIFICATE')]
    if (named !== '') return [await readPem(named, 'CERTIFICATE'), ...added]
    const bundle = systemBundles.find((file) => existsSync(file))
    return [...(bundle === undefined ? rootCertificates : [await readPem(bundle, 'CERTIFICATE')]), ...added]
  })()
  // a file that could not be read may be there for the next connection
  roots.catch(() => (roots = undefined))
  return roots
}

/** @throws CaissonError ERR_CONFIG_INVALID for material that OpenSSL does not take */
export async function secureContext(tls: TlsMaterial | null): Promise<SecureContext> {
  const ca = [...(await systemRoots()), ...(tls?.ca ?? [])]
  try {
    return createSecureContext({
      ca,
      ...(tls !== null && tls.certificates.length > 0 && { cert: [...tls.certificates], key: [...tls.keys] }),
      minVersion: 'TLSv1.2',
    })
  } catch (cause) {
    throw new CaissonError('ERR_CONFIG_INVALID', `TLS certificates and keys do not fit: ${(cause as Error).message}`, {
      cause,
    })
  }
}
