// Loaded into a service before its own code (node --import): times the handlers of lists, and serves beside it, in the same process and
// by the same library, the bytes of the last list as they are: the floor of what a list can cost.
import { readFileSync } from 'node:fs'
import { Server, ServerCredentials } from '@grpc/grpc-js'

import { GrpcServer } from '../dist/cri/grpc/server.js'

const times = []
let last = Buffer.alloc(0)
const add = GrpcServer.prototype.add
GrpcServer.prototype.add = function (spec, handlers) {
  if (handlers.listContainers === undefined) return add.call(this, spec, handlers)
  return add.call(this, spec, {
    ...handlers,
    async listContainers(request, context) {
      const start = process.hrtime.bigint()
      const before = waitedMs()
      const reply = await handlers.listContainers(request, context)
      const waited = waitedMs() - before
      const wall = Number(process.hrtime.bigint() - start) / 1e6
      times.push({ wall, own: wall - waited })
      last = reply.bytes
      return reply
    },
  })
}

/** How long this thread was ready to run while others had the processor, in milliseconds: the second field, sched-stats.rst. */
function waitedMs() {
  return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[1]) / 1e6
}

const asItIs = (bytes) => bytes
const method = (path) => ({
  path,
  requestStream: false,
  responseStream: false,
  requestSerialize: asItIs,
  requestDeserialize: asItIs,
  responseSerialize: asItIs,
  responseDeserialize: asItIs,
})
const server = new Server({ 'grpc.max_send_message_length': 16 << 20, 'grpc.enable_channelz': 0 })
server.addService(
  { bytes: method('/bench.Floor/Bytes'), times: method('/bench.Floor/Times') },
  {
    bytes(_call, answer) {
      answer(null, last)
    },
    times(_call, answer) {
      answer(null, Buffer.from(JSON.stringify(times.splice(0))))
    },
  },
)
server.bindAsync(`unix:${process.env.CAISSON_BENCH_FLOOR}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error
})
process.once('SIGTERM', () => server.forceShutdown()) // it would hold the service up
