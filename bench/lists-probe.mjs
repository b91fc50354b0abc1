// Loaded into a service before its own code (node --import): times the handlers of lists, and serves beside it, in the same process and
// by the same library, the bytes of a list as they are: the floor of what a list can cost.
import { openSync, readSync } from 'node:fs'
import { Server, ServerCredentials } from '@grpc/grpc-js'

import { Encoded } from '../dist/cri/grpc/encoded.js'
import { GrpcServer } from '../dist/cri/grpc/server.js'

const schedstat = openSync('/proc/thread-self/schedstat')
const room = Buffer.alloc(128)
const times = []
let last = new Encoded([])
let kept = Buffer.alloc(0)
const add = GrpcServer.prototype.add
GrpcServer.prototype.add = function (spec, handlers) {
  if (handlers.listContainers === undefined) return add.call(this, spec, handlers)
  return add.call(this, spec, {
    ...handlers,
    async listContainers(request, context) {
      const before = moment()
      last = await handlers.listContainers(request, context)
      times.push(since(before))
      return last
    },
  })
}

// what is left to do when gRPC asks for the bytes belongs to the list
const { bytes } = Encoded.prototype
Encoded.prototype.bytes = function () {
  if (this !== last) return bytes.call(this)
  const before = moment()
  const joined = bytes.call(this)
  const { wall, own } = since(before)
  const time = times.at(-1)
  time.wall += wall
  time.own += own
  return joined
}

const moment = () => ({ at: process.hrtime.bigint(), waited: waitedMs() })

function since({ at, waited }) {
  const others = waitedMs() - waited
  const wall = Number(process.hrtime.bigint() - at) / 1e6
  return { wall, own: wall - others }
}

/** How long this thread was ready to run while others had the processor, in milliseconds: the second field, sched-stats.rst. */
function waitedMs() {
  const length = readSync(schedstat, room, 0, room.length, 0)
  return Number(room.toString('latin1', 0, length).split(' ')[1]) / 1e6
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
  { keep: method('/bench.Floor/Keep'), bytes: method('/bench.Floor/Bytes'), times: method('/bench.Floor/Times') },
  {
    keep(_call, answer) {
      kept = Buffer.from(bytes.call(last))
      answer(null, Buffer.alloc(0))
    },
    bytes(_call, answer) {
      answer(null, kept)
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
