import { isIP } from 'node:net'

import { absolutePath, integer, key, type Kind } from '../schema.ts'

const ipAddress: Kind<string> = {
  allowed: 'an IP address',
  parse: (value) => (typeof value === 'string' && isIP(value) !== 0 ? value : undefined),
}

/** `[streaming]`: the server for exec, attach and port-forward, whose URLs a kubelet or crictl is given. */
export const streaming = {
  /** Loopback: a kubelet on the same machine is the only client. */
  address: key(ipAddress, '127.0.0.1'),
  /** 0: any that is free. */
  port: key(integer(0, 65535), 0),
  /** Certificate chain, PEM; with it and its key the server speaks TLS. "": plain HTTP. */
  tlsCert: key(absolutePath({ empty: true }), ''),
  /** The certificate's key, PEM. */
  tlsKey: key(absolutePath({ empty: true }), ''),
  /** Seconds after which a connection on which nothing passes is closed. */
  idleTimeout: key(integer(1, 7 * 86400), 4 * 3600),
}
