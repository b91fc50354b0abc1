import { closeSync, existsSync, openSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { native } from '#src/native/index.ts'

if (process.getuid?.() !== 0) {
  t.plan(0, 'needs root')
} else {
  t.test('device rules of a cgroup', async (t) => {
    const root = await native.cgroupRoot()
    const name = `caisson-addon-devices-${process.pid}`
    t.teardown(() => native.cgroupDestroy(root.path, name))
    const cgroup = await native.cgroupEnsure(root.path, name, [])
    const reads = async (device: string): Promise<boolean> => {
      const shell = openSync('/bin/sh', 'r')
      const child = native.spawn({
        exe: shell,
        argv: ['sh', '-c', `exec 3<${device}`],
        env: [],
        fds: [-1, -1, -1],
        cgroup: cgroup.fd,
      })
      closeSync(shell)
      return (await child.exited).code === 0
    }
    t.ok(await reads('/dev/kmsg'), 'no rules yet')
    const denied = await native.cgroupSetDevices(cgroup.fd, '[{"allow":false,"access":"rwm"}]')
    t.notOk(await reads('/dev/kmsg'))
    t.ok(await reads('/dev/zero'), 'a default device')
    const kmsg = { allow: true, type: 'c', major: 1, minor: 11, access: 'r' }
    const allowed = await native.cgroupSetDevices(cgroup.fd, JSON.stringify([{ allow: false }, kmsg]), denied.fd)
    t.ok(await reads('/dev/kmsg'), 'replaced')
    await t.rejects(native.cgroupSetDevices(cgroup.fd, '[{"allow":true}]'), {
      code: 'EINVAL',
      message: /all is allowed/,
    })
    await t.rejects(native.cgroupSetDevices(cgroup.fd, '[{"type":"c"}]'), {
      code: 'EINVAL',
      message: /devices\[0\]\.allow/,
    })
    for (const fd of [denied, allowed, cgroup]) fd.close()
  })

  t.test('a cgroup from its making to its removal', async (t) => {
    const root = await native.cgroupRoot()
    t.match(root.path, /^\/sys\/fs\/cgroup/)
    const name = `caisson-addon-test-${process.pid}`
    t.teardown(() => native.cgroupDestroy(root.path, name))

    const cgroup = await native.cgroupEnsure(root.path, `${name}/inner`, [])
    const shell = openSync('/bin/sh', 'r')
    const child = native.spawn({
      exe: shell,
      argv: ['sh', '-c', 'sleep 1000 & exec sleep 1000'],
      env: ['PATH=/bin'],
      fds: [-1, -1, -1],
      cgroup: cgroup.fd,
    })
    closeSync(shell)
    t.match((await native.cgroupRead(cgroup.fd, 'cgroup.procs')).split('\n'), [String(child.pid)], 'born in it')
    await native.cgroupFreeze(cgroup.fd, true)
    t.match(await native.cgroupRead(cgroup.fd, 'cgroup.events'), /frozen 1/)
    await native.cgroupFreeze(cgroup.fd, false)
    t.match(await native.cgroupRead(cgroup.fd, 'cgroup.events'), /frozen 0/)
    await native.cgroupWrite(cgroup.fd, 'cgroup.max.descendants', '5')
    t.equal(await native.cgroupRead(cgroup.fd, 'cgroup.max.descendants'), '5')

    await native.cgroupDestroy(root.path, name)
    t.same(await child.exited, { code: null, signal: 9 })
    t.notOk(existsSync(join(root.path, name)))
    await native.cgroupDestroy(root.path, name)
    cgroup.close()
  })

  t.test('what is refused', async (t) => {
    const { path } = await native.cgroupRoot()
    await t.rejects(native.cgroupEnsure(path, '/caisson-addon-none', ['nosuch']), {
      code: 'ENOTSUP',
      path: /^nosuch \(not in cgroup.controllers of /,
    })
    await t.rejects(native.cgroupEnsure(path, '../x', []), { code: 'EINVAL' })
    t.notOk(existsSync(join(path, 'caisson-addon-none')))
    const root = await native.openDirectory(path)
    await t.rejects(native.cgroupRead(root.fd, '../../../etc/passwd'), { code: 'EINVAL' })
    root.close()
  })
}
