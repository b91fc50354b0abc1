import t from 'tap'

import { decodeFrame, encodeFrame, frameMax, frameType } from '#src/pod/monitor/frames.ts'

t.test('the header is what native/monitor/protocol.h says, byte for byte', async (t) => {
  const frame = encodeFrame(frameType.containerStart, 0x01020304, { id: 'x' })
  t.equal(frame.subarray(0, 16).toString('hex'), '43534e31' + '0100' + '4200' + '04030201' + '00000000')
  t.strictSame(decodeFrame(frame), { type: 66, request: 0x01020304, flags: 0, payload: { id: 'x' } })
})

t.test('what is no frame is refused, whatever it is', async (t) => {
  const good = encodeFrame(frameType.list, 1, {})
  for (const bytes of [Buffer.alloc(0), good.subarray(0, 15), Buffer.alloc(64), Buffer.from(good).fill(9, 4, 6)]) {
    t.throws(() => decodeFrame(bytes), { code: 'ERR_MONITOR_PROTOCOL' })
  }
  t.throws(() => decodeFrame(Buffer.concat([good.subarray(0, 16), Buffer.from('{')])), { code: 'ERR_MONITOR_PROTOCOL' })
  t.throws(() => encodeFrame(frameType.kill, 1, { container: 'x'.repeat(frameMax) }), { code: 'ERR_MONITOR_PROTOCOL' })
})
