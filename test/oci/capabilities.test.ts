import t from 'tap'

import { allCapabilities, capabilitiesOfMask, capabilitySets } from '#src/oci/capabilities.ts'

const held = allCapabilities.filter((name) => name !== 'CAP_SYS_RESOURCE')
const none = { add: [], drop: [], ambient: [], privileged: false }

t.test('the default set, inheritable and ambient empty', async (t) => {
  const sets = capabilitySets(none, held)
  t.equal(sets.bounding.length, 14)
  t.strictSame(sets.bounding, sets.effective)
  t.strictSame(sets.bounding, sets.permitted)
  t.strictSame(sets.inheritable, [])
  t.strictSame(sets.ambient, [])
})

t.test('add and drop, in any spelling; ALL is all that the service holds', async (t) => {
  t.ok(capabilitySets({ ...none, add: ['net_admin'] }, held).bounding.includes('CAP_NET_ADMIN'))
  t.notOk(capabilitySets({ ...none, drop: ['Cap_Net_Raw'] }, held).bounding.includes('CAP_NET_RAW'))
  t.strictSame(capabilitySets({ ...none, add: ['ALL'] }, held).bounding, held)
  t.strictSame(capabilitySets({ ...none, drop: ['ALL'] }, held).bounding, [])
  t.strictSame(capabilitySets({ ...none, drop: ['ALL'], add: ['KILL'] }, held).bounding, ['CAP_KILL'])
  t.strictSame(
    capabilitySets({ ...none, add: ['ALL'], drop: ['SYS_ADMIN'] }, held).bounding,
    held.filter((n) => n !== 'CAP_SYS_ADMIN'),
  )
  t.strictSame(capabilitySets({ ...none, privileged: true }, held).bounding, held)
})

t.test('ambient capabilities are in all five sets', async (t) => {
  const sets = capabilitySets({ ...none, drop: ['ALL'], ambient: ['NET_BIND_SERVICE'] }, held)
  for (const set of Object.values(sets)) t.strictSame(set, ['CAP_NET_BIND_SERVICE'])
})

t.test('an unknown capability, and one that is not held, are errors that name it', async (t) => {
  t.throws(() => capabilitySets({ ...none, add: ['NET_BOSS'] }, held), { message: /NET_BOSS/ })
  t.throws(() => capabilitySets({ ...none, add: ['SYS_RESOURCE'] }, held), { message: /CAP_SYS_RESOURCE/ })
})

t.test('a kernel mask', async (t) => {
  t.strictSame(capabilitiesOfMask(0b10000101n), ['CAP_CHOWN', 'CAP_DAC_READ_SEARCH', 'CAP_SETUID'])
  t.equal(capabilitiesOfMask(0x1ff_ffff_ffffn).length, 41)
})
