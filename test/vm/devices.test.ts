/** Device rules: the eBPF program of a container's cgroup decides who makes and opens which node (v2 has no devices controller). */
import t from 'tap'
import { create, exec, runPod, runShell, startShell } from '../helpers/pods.ts'
import { startService } from '../helpers/service.ts'
import { needsVm } from '../helpers/vm.ts'

/** Makes a node in /tmp and opens it: `made opened`, or the reason of the first refusal. */
const tryNode = (name: string, type: string, major: number, minor: number, mode = 'r'): string => `
  if mknod /tmp/${name} ${type} ${major} ${minor} 2>/dev/null; then
    ${mode === 'r' ? `r=$(head -c 1 /tmp/${name} 2>&1 >/dev/null)` : `r=$( (echo x >/tmp/${name}) 2>&1)`} &&
      echo ${name}: opened || echo "${name}: \${r##*: }"
  else echo ${name}: not made; fi`

t.test('device rules', { skip: needsVm }, async (t) => {
  const service = await startService(t)
  const { runtime } = service
  const pod = await runPod(service)

  t.test('by default', async (t) => {
    const { stdout } = await runShell(
      service,
      pod,
      [
        tryNode('null', 'c', 1, 3, 'w'),
        tryNode('zero', 'c', 1, 5),
        tryNode('urandom', 'c', 1, 9),
        tryNode('mem', 'c', 1, 1),
        tryNode('kmsg', 'c', 1, 11),
        tryNode('fuse', 'c', 10, 229),
        tryNode('disk', 'b', 254, 0),
        tryNode('diskw', 'b', 254, 0, 'w'),
      ].join('\n'),
    )
    t.same(stdout.trim().split('\n'), [
      'null: opened',
      'zero: opened',
      'urandom: opened',
      'mem: Operation not permitted',
      'kmsg: Operation not permitted',
      'fuse: Operation not permitted',
      'disk: Operation not permitted',
      'diskw: Operation not permitted',
    ])
  })

  t.test('the standard nodes are there and work', async (t) => {
    const script = `for n in null zero full random urandom tty; do stat -c '%n %F %t:%T %a %u:%g' /dev/$n; done
      head -c 4 /dev/zero | wc -c; echo x >/dev/null && echo written; echo x >/dev/full || echo full
      for l in fd stdin stdout stderr ptmx core; do readlink /dev/$l; done`
    const { stdout } = await runShell(service, pod, script)
    t.same(stdout.trim().split('\n'), [
      '/dev/null character special file 1:3 666 0:0',
      '/dev/zero character special file 1:5 666 0:0',
      '/dev/full character special file 1:7 666 0:0',
      '/dev/random character special file 1:8 666 0:0',
      '/dev/urandom character special file 1:9 666 0:0',
      '/dev/tty character special file 5:0 666 0:0',
      '4',
      'written',
      'full',
      '/proc/self/fd',
      '/proc/self/fd/0',
      '/proc/self/fd/1',
      '/proc/self/fd/2',
      'pts/ptmx',
      '/proc/kcore',
    ])
  })

  t.test('a device of the host, read-only', async (t) => {
    const devices = [{ hostPath: '/dev/vda', containerPath: '/dev/disk0', permissions: 'r' }]
    const script = `head -c 4 /dev/disk0 >/dev/null && echo read
      (: <>/dev/disk0) 2>&1 | sed 's/.*: //'
      stat -c '%F %t:%T' /dev/disk0
      ${tryNode('own', 'b', 254, 0)}
      ${tryNode('other', 'b', 7, 0)}`
    const { stdout } = await runShell(service, pod, script, { devices })
    t.same(stdout.trim().split('\n'), [
      'read',
      'Operation not permitted',
      'block special file fe:0',
      'own: opened',
      'other: Operation not permitted',
    ])
  })

  t.test('exec is under the same rules', async (t) => {
    const id = await startShell(service, pod, 'sleep 1000', {
      devices: [{ hostPath: '/dev/fuse', containerPath: '/dev/fuse', permissions: 'rwm' }],
    })
    const inside = await exec(service, id, [
      '/bin/sh',
      '-c',
      [tryNode('kmsg', 'c', 1, 11), '(: <>/dev/fuse) && echo fuse: opened'].join('\n'),
    ])
    t.equal(inside.stdout, 'kmsg: Operation not permitted\nfuse: opened\n')
    await runtime.removeContainer({ containerId: id })
  })

  t.test('a privileged container has the host’s devices', async (t) => {
    const security = { privileged: true }
    const privileged = await runPod(service, { linux: { securityContext: security } })
    const { stdout } = await runShell(
      service,
      privileged,
      `head -c 1 /dev/vda >/dev/null && echo vda
      head -c 1 /dev/kmsg >/dev/null && echo kmsg
      ${tryNode('mem', 'c', 1, 1)}
      [ -e /dev/mapper/control ] && echo in directories, too`,
      { security },
    )
    t.same(stdout.trim().split('\n'), ['vda', 'kmsg', 'mem: opened', 'in directories, too'])
    await runtime.removePodSandbox({ podSandboxId: privileged.id })
  })

  t.test('without CAP_MKNOD nothing is made', async (t) => {
    const { stdout } = await runShell(service, pod, tryNode('null', 'c', 1, 3), {
      security: { capabilities: { dropCapabilities: ['MKNOD'] } },
    })
    t.equal(stdout, 'null: not made\n')
  })

  t.test('bad devices are refused by name', async (t) => {
    const attempt = (hostPath: string, permissions: string): Promise<string> =>
      create(service, pod, { devices: [{ hostPath, containerPath: hostPath, permissions }] })
    await t.rejects(attempt('/dev/nothing', 'r'), /\/dev\/nothing/)
    await t.rejects(attempt('/etc/passwd', 'r'), /\/etc\/passwd/)
    await t.rejects(attempt('/dev/vda', 'rx'), /rx/)
  })

  t.test('a terminal', async (t) => {
    const { stdout } = await runShell(service, pod, 'tty; ls -l /dev/console | cut -c1; (: </dev/tty) && echo own', {
      tty: true,
    })
    t.same(stdout.replaceAll('\r', '').trim().split('\n'), ['/dev/pts/0', 'c', 'own'])
  })

  await t.test('at the end', async (t) => {
    await runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
})
