import type { Socket } from 'node:net'
import { CaissonError } from '../../errors.ts'

/** The process at the other end of a connection, as it was when it connected (SO_PEERCRED, unix(7)). */
export interface Peer {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

/** Reads SO_PEERCRED of a connected unix socket: the addon's `peerCredentials`. */
export type PeerCredentials = (fd: number) => Peer

/**
 * The peer of a connection that was just accepted.
 *
 * @throws what `credentials` throws; Error when the socket has no descriptor any more
 */
export function peerOf(socket: Socket, credentials: PeerCredentials): Peer {
  // Undocumented, and the same on Node 20 to 26: the only way from a socket to its descriptor.
  const handle: unknown = '_handle' in socket ? socket._handle : undefined
  const fd = typeof handle === 'object' && handle !== null && 'fd' in handle ? handle.fd : undefined
  if (typeof fd !== 'number' || fd < 0) throw new Error('the connection ended before its peer was known')
  return credentials(fd)
}

/**
 * Makes grpc-js report the peer from `getPeer()`: it gives out `remoteAddress`, which a unix socket has none of. That is the
 * one thing of a connection that reaches a call.
 */
export function tagConnection(socket: Socket, peer: Peer): void {
  Object.defineProperty(socket, 'remoteAddress', { value: `unix:pid=${peer.pid},uid=${peer.uid},gid=${peer.gid}` })
}

/**
 * Reads back what {@link tagConnection} wrote.
 *
 * @throws CaissonError ERR_CANCELLED when the connection has gone: grpc-js then says `unknown`
 */
export function parsePeer(tag: string): Peer {
  const match = /^unix:pid=(\d+),uid=(\d+),gid=(\d+)$/.exec(tag)
  if (match === null) throw new CaissonError('ERR_CANCELLED', `the caller has gone (its connection is ${tag})`)
  return { pid: Number(match[1]), uid: Number(match[2]), gid: Number(match[3]) }
}
