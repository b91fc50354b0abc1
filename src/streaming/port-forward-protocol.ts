/** What a client of port-forward asks for. */
export const portForwardProtocol = 'portforward.k8s.io'
/** SPDY inside the binary messages of a WebSocket (KEP-4006, second part). */
export const tunnelledProtocol = `SPDY/3.1+${portForwardProtocol}`
