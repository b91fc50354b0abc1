import { readFileSync } from 'node:fs'

import t from 'tap'

import { native } from '#src/native/index.ts'

t.test('capabilities by number', async (t) => {
  t.equal(native.capabilityNames.length, 41)
  t.equal(native.capabilityNames[0], 'CAP_CHOWN')
  t.equal(native.capabilityNames[12], 'CAP_NET_ADMIN')
  t.equal(native.capabilityNames[40], 'CAP_CHECKPOINT_RESTORE')
  t.ok(Object.isFrozen(native.capabilityNames))
})

t.test('resource limits', async (t) => {
  const limits = native.resourceLimits()
  t.equal(Object.keys(limits).length, 16)
  const line = /^Max open files +(\d+|unlimited) +(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'))
  const number = (text: string | undefined) => (text === 'unlimited' ? Infinity : Number(text))
  t.same(limits['RLIMIT_NOFILE'], { soft: number(line?.[1]), hard: number(line?.[2]) })
  t.same(native.resourceLimits(process.pid), limits)
  t.throws(() => native.resourceLimits(0x7fffffff), { code: 'ESRCH', syscall: 'prlimit' })
})
