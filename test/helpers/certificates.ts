import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './tools.ts'

export interface Certificates {
  /** An authority that nobody but the test trusts. */
  readonly ca: string
  /** Of 127.0.0.1 and localhost. */
  readonly server: { certificate: string; key: string }
  readonly client: { certificate: string; key: string }
}

/** Makes an authority, and what it has signed. Needs openssl. */
export async function makeCertificates(directory: string): Promise<Certificates> {
  await mkdir(directory, { recursive: true })
  const path = (name: string): string => join(directory, name)
  const key = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
  await run(
    'openssl',
    ...`req -x509 ${key} -days 2 -subj /CN=caisson-test-ca`.split(' '),
    ...['-keyout', path('ca.key'), '-out', path('ca.crt')],
  )
  const signed = async (name: string, extensions: string): Promise<{ certificate: string; key: string }> => {
    const files = { certificate: path(`${name}.pem`), key: path(`${name}.key`) }
    await writeFile(path(`${name}.ext`), extensions)
    await run(
      'openssl',
      ...`req ${key} -subj /CN=${name}`.split(' '),
      ...['-keyout', files.key, '-out', path(`${name}.csr`)],
    )
    await run(
      'openssl',
      ...['x509', '-req', '-days', '2', '-in', path(`${name}.csr`), '-out', files.certificate],
      ...['-CA', path('ca.crt'), '-CAkey', path('ca.key'), '-CAcreateserial', '-extfile', path(`${name}.ext`)],
    )
    return files
  }
  return {
    ca: path('ca.crt'),
    server: await signed('server', 'subjectAltName = IP:127.0.0.1, DNS:localhost\nextendedKeyUsage = serverAuth\n'),
    client: await signed('client', 'extendedKeyUsage = clientAuth\n'),
  }
}
