import { CaissonError } from '../../errors.ts'
import type { Descriptor } from '../manifest.ts'
import { isForeignLayer } from '../media-types.ts'
import { blobStream, isBlobAnswer, type BlobStreamOptions } from './blob-stream.ts'
import { protocolError, quoteRemote } from './errors.ts'
import type { ClientParts } from './session.ts'
import { discard, type HttpResponse } from './transport.ts'

const redirectsMax = 5
const redirectStatuses = new Set([301, 302, 303, 307, 308])

/**
 * A foreign layer, from the places that its descriptor names (image-spec descriptor.md, "urls"). These are strangers: they get
 * neither credentials nor an answer to a challenge (CVE-2020-15157).
 *
 * @returns null when the descriptor names none
 * @throws CaissonError ERR_IMAGE_UNSUPPORTED when the operator does not allow it
 */
export async function foreignBlob(
  parts: ClientParts,
  descriptor: Descriptor,
  options: Omit<BlobStreamOptions, 'open'> & { allowed: boolean },
): Promise<AsyncIterable<Buffer> | null> {
  const urls = descriptor.urls ?? []
  if (!isForeignLayer(descriptor.mediaType) || urls.length === 0) return null
  const { what, offset, signal } = options
  if (!options.allowed) {
    throw new CaissonError(
      'ERR_IMAGE_UNSUPPORTED',
      `${what} is a foreign layer, which its registry does not have; [registry] foreign_layers allows to fetch it from ${quoteRemote(urls[0] ?? '')}`,
    )
  }
  const open = async (from: number, failures: number, one: AbortSignal): Promise<HttpResponse> => {
    const text = urls[failures % urls.length] ?? ''
    let url = checked(text, parts, what)
    for (let redirects = 0; ; redirects++) {
      const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {}
      const response = await parts.transport.send({ method: 'GET', url, headers, signal: one, what })
      if (isBlobAnswer(response, descriptor, from, what)) return response
      await discard(response)
      const location = response.headers['location']
      if (!redirectStatuses.has(response.statusCode) || typeof location !== 'string' || redirects === redirectsMax) {
        throw protocolError(url.host, `it answered ${response.statusCode} for ${what}`)
      }
      url = checked(location, parts, what, url)
    }
  }
  return blobStream({ ...options, open }, await open(offset, 0, signal))
}

function checked(text: string, parts: ClientParts, what: string, from?: URL): URL {
  const url = URL.canParse(text, from?.href) ? new URL(text, from) : null
  if (url !== null && (url.protocol === 'https:' || (url.protocol === 'http:' && parts.allowsPlain(url.host)))) {
    url.username = ''
    url.password = ''
    return url
  }
  throw new CaissonError('ERR_IMAGE_INVALID', `${what}: its url "${quoteRemote(text)}" is not HTTPS`)
}
