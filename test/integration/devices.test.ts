/** Devices of the host: by path, and by their names in the Container Device Interface. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { create, NamespaceMode, refused, runPod, runShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService } from '../helpers/service.ts'

t.test('devices', { skip: needsRoot }, async (t) => {
  const directory = t.testdir({ cdi: {}, files: { 'driver.so': 'a driver\n' } })
  const [cdi, files] = [join(directory, 'cdi'), join(directory, 'files')]
  const service = await startService(t, {
    images: [busyboxImage],
    config: `[devices]\ncdi_spec_dirs = ["${cdi}"]\nownership_from_security_context = true`,
  })
  const pod = await runPod(service)
  mkdirSync(cdi, { recursive: true })

  t.test('by name: nodes, files, environment, groups', async (t) => {
    writeFileSync(
      join(cdi, 'vendor.yaml'),
      `cdiVersion: "0.7.0"
kind: vendor.com/gpu
containerEdits:
  env: [DRIVER=1, PATH=/vendor:/bin]
  mounts:
    - hostPath: ${files}
      containerPath: /usr/lib/vendor
      options: [ro, nosuid, nodev, rbind]
devices:
  - name: "0"
    containerEdits:
      env: [GPU=0]
      additionalGids: [4242]
      deviceNodes:
        - {path: /dev/gpu0, hostPath: /dev/full, permissions: rw, fileMode: 0o640}
  - name: "1"
    containerEdits:
      env: [GPU=1]
`,
    )
    const script = `echo $DRIVER $GPU $PATH; cat /usr/lib/vendor/driver.so; touch /usr/lib/vendor/x 2>&1 | grep -o Read-only
      stat -c '%t:%T %a %u:%g' /dev/gpu0; (echo x >/dev/gpu0) 2>&1 | grep -o 'No space'; id -G`
    const { stdout } = await runShell(service, pod, script, {
      envs: [{ key: 'GPU', value: Buffer.from('none') }],
      CDIDevices: [{ name: 'vendor.com/gpu=0' }],
      security: { runAsUser: { value: 1000 }, runAsGroup: { value: 2000 } },
    })
    t.equal(stdout, '1 0 /vendor:/bin\na driver\nRead-only\n1:7 640 1000:2000\nNo space\n2000 4242\n')
    const annotated = await runShell(service, pod, 'echo $GPU', {
      annotations: { 'cdi.k8s.io/plugin': 'vendor.com/gpu=1' },
    })
    t.equal(annotated.stdout, '1\n', 'by annotation, as old kubelets have it')
    const unknown = { CDIDevices: [{ name: 'vendor.com/gpu=9' }] }
    await refused(t, create(service, pod, unknown), 'FAILED_PRECONDITION', /"vendor\.com\/gpu=9" is not known/)
    await refused(t, create(service, pod, { CDIDevices: [{ name: 'x' }] }), 'INVALID_ARGUMENT', /"x" is not vendor/)
  })

  t.test('by path: at another one, and in a user namespace, where nodes are lent', async (t) => {
    const device = { hostPath: '/dev/full', containerPath: '/dev/mine', permissions: 'rw' }
    const script = `stat -c '%t:%T %u:%g' /dev/mine; (echo x >/dev/mine) 2>&1 | grep -o 'No space'`
    const security = { runAsUser: { value: 1000 }, runAsGroup: { value: 2000 } }
    t.equal((await runShell(service, pod, script, { devices: [device], security })).stdout, '1:7 1000:2000\nNo space\n')
    const map = [{ hostId: 300_000, containerId: 0, length: 65_536 }]
    const namespaceOptions = {
      pid: NamespaceMode.CONTAINER,
      usernsOptions: { mode: NamespaceMode.POD, uids: map, gids: map },
    }
    const mapped = await runPod(service, { linux: { securityContext: { namespaceOptions } } })
    const lent = await runShell(service, mapped, script, { devices: [device], security: { namespaceOptions } })
    t.equal(lent.stdout, '1:7 65534:65534\nNo space\n', 'the host’s own node')
    await service.runtime.removePodSandbox({ podSandboxId: mapped.id })
  })

  await t.test('at the end', async (t) => {
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.same(await service.leaks('--live'), [])
  })
})
