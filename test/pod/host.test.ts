import t from 'tap'

import { requireHost } from '#src/pod/host.ts'

t.test('root and a kernel from 6.1 on', async (t) => {
  for (const kernel of ['6.1.0-56-amd64', '6.8.0-31-generic', '6.12.95', '6.18.44-fc-v445', '7.2', '10.0.1']) {
    t.doesNotThrow(() => {
      requireHost({ uid: 0, kernel })
    }, kernel)
  }
  for (const kernel of ['6.0.19', '5.15.0-91-generic', '4.19.0', '']) {
    t.throws(
      () => {
        requireHost({ uid: 0, kernel })
      },
      { code: 'ERR_HOST_UNSUPPORTED', message: /kernel .*too old: Caisson needs Linux 6\.1 or later/ },
      kernel,
    )
  }
  t.throws(
    () => {
      requireHost({ uid: 1000, kernel: '6.18' })
    },
    { code: 'ERR_HOST_UNSUPPORTED', message: 'Caisson must run as root (this is uid 1000)' },
  )
})
