import { addressOf } from '../config/sections/metrics.ts'
import { CaissonError, errorMessage } from '../errors.ts'
import type { Logger } from '../index.ts'
import { PageServer, type Page } from '../page-server.ts'
import type { LockFile } from '../unix-socket.ts'
import type { ServiceMetrics } from './service-metrics.ts'

const connectionsMax = 32

/**
 * Serves /metrics by HTTP: to be read, and nothing else.
 *
 * @param place `ADDRESS:PORT`, or the absolute path of a socket
 * @throws CaissonError ERR_SOCKET_IN_USE, ERR_SOCKET_PATH, ERR_CONFIG_INVALID: the address cannot be listened on
 */
export async function serveMetrics(
  metrics: ServiceMetrics,
  place: string,
  { logger, lockFile }: { logger: Logger; lockFile: LockFile },
): Promise<PageServer> {
  const server = new PageServer(connectionsMax, (method, url) =>
    page(metrics, method, url).catch((error: unknown) => {
      logger.warn({ err: error }, 'a scrape of the metrics failed')
      return plain(500, errorMessage(error))
    }),
  )
  const address = addressOf(place)
  if (address === null) {
    await server.listenUnix(place, lockFile)
    return server
  }
  try {
    await server.listenTcp(address)
    return server
  } catch (cause) {
    throw new CaissonError('ERR_CONFIG_INVALID', `metrics.listen: ${errorMessage(cause)}`, { cause })
  }
}

async function page(metrics: ServiceMetrics, method: string, url: string): Promise<Page> {
  if (url !== '/metrics') return plain(404, 'there is /metrics')
  if (method !== 'GET' && method !== 'HEAD') return plain(405, 'to be read only', { allow: 'GET, HEAD' })
  const { type, body } = await metrics.text()
  const headers = { 'content-type': type, 'content-length': Buffer.byteLength(body) }
  return { status: 200, headers, body: method === 'HEAD' ? '' : body }
}

function plain(status: number, text: string, headers: Record<string, string> = {}): Page {
  return { status, headers: { ...headers, 'content-type': 'text/plain' }, body: `${text}\n` }
}
