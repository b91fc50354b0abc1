import t from 'tap'

import { native } from '#src/native/index.ts'
import type { PodConfig } from '#src/pod/config.ts'
import { requireDriver } from '#src/pod/host.ts'
import { checkCgroupParent } from '#src/pod/placement.ts'

const check = (driver: 'cgroupfs' | 'systemd', cgroupParent: string): void => {
  checkCgroupParent(driver, native, { cgroupParent } as PodConfig)
}

t.test('cgroupfs: a parent is an absolute path', async (t) => {
  for (const text of ['', '/kubepods/burstable/pod1', '/test.slice']) check('cgroupfs', text)
  for (const [text, message] of [
    ['kubepods-pod1.slice', /is a systemd slice, and the cgroup driver is cgroupfs/],
    ['relative', /is not an absolute path/],
    ['/a/../b', /is not an absolute path/],
  ] as const) {
    t.throws(() => check('cgroupfs', text), { code: 'ERR_INVALID_ARGUMENT', message })
  }
})

t.test('systemd: a parent is a slice, by its name or by its whole path', async (t) => {
  const whole = '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice'
  for (const text of ['', 'kubepods-burstable-pod1.slice', whole, '/test.slice']) check('systemd', text)
  for (const [text, message] of [
    ['/kubepods/burstable/pod1', /is not a slice, and the cgroup driver is systemd/],
    ['/elsewhere/kubepods-pod1.slice', /is \/kubepods\.slice\/kubepods-pod1\.slice/],
    ['a/b.slice', /is neither a slice nor the path of one/],
    ['a--b.slice', /is not the name of a slice/],
    ['.slice', /is not the name of a slice/],
  ] as const) {
    t.throws(() => check('systemd', text), { code: 'ERR_INVALID_ARGUMENT', message })
  }
})

t.test('the default parent has to suit the driver', async (t) => {
  await requireDriver('cgroupfs', '/a/b')
  await t.rejects(requireDriver('cgroupfs', 'a.slice'), {
    code: 'ERR_CONFIG_INVALID',
    message: /cgroup\.pods "a\.slice"/,
  })
  await t.rejects(requireDriver('systemd', '/a/b'), { code: 'ERR_CONFIG_INVALID', message: /cgroup\.pods "\/a\/b"/ })
})
