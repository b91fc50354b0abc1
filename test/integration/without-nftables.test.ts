/** The built-in network under a kernel without nf_tables: test/vm/network-modules.test.ts has kernels that lack parts of it. */
import { join } from 'node:path'
import { readdirSync } from 'node:fs'
import t from 'tap'
import { runtime as cri } from '#src/gen/cri.ts'
import { NetHost } from '../helpers/net-host.ts'
import { exec, NamespaceMode, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, project, startService, until } from '../helpers/service.ts'

const { TCP: tcp } = cri.v1.Protocol
const absent = ['python3', join(project, 'test', 'helpers', 'without_nftables.py')]

t.test('nf_tables absent', { skip: needsRoot }, async (t) => {
  const host = await NetHost.open(t)
  let before: readonly string[] = absent
  const service = await startService(t, {
    images: [busyboxImage],
    host,
    network: 'driver = "bridge"',
    before: () => before,
  })
  await host.neighbour(t, 'uplink', ['192.0.2.1/24', '192.0.2.2/24'])

  const ready = async (): Promise<cri.v1.RuntimeCondition.$Properties | undefined> =>
    (await service.runtime.status({})).status?.conditions?.find(({ type }) => type === 'NetworkReady') ?? undefined
  const forwarding = (): Promise<string> => host.run('cat', '/proc/sys/net/ipv4/conf/uplink/forwarding')
  const attachments = join(service.root, 'instances', 'default', 'network', 'attachments')

  await t.test('a pod of a network is refused, and nothing of it is left', async (t) => {
    t.match(await ready(), { status: false, reason: 'BridgeNetworkFailed', message: /nf_tables/ })
    const links = await host.interfaces()
    const open = await forwarding()
    const portMappings = [{ protocol: tcp, hostPort: 8080, containerPort: 80 }]
    for (const overrides of [{}, { portMappings }]) {
      await refused(t, runPod(service, overrides), 'FAILED_PRECONDITION', 'network "default"', 'nf_tables')
      t.strictSame(await host.interfaces(), links, 'no bridge, no pair')
      t.equal(await forwarding(), open)
      t.strictSame(readdirSync(attachments), [])
      t.equal((await service.runtime.listPodSandbox({})).items.length, 0)
    }
    t.equal((await service.cli(['network', 'create', 'front'])).status, 0)
    const annotations = { 'io.caisson.network': 'front' }
    await refused(t, runPod(service, { annotations }), 'FAILED_PRECONDITION', 'network "front"', 'nf_tables')
    await refused(t, runPod(service), 'FAILED_PRECONDITION', 'network "default"')
    t.match(await service.cli(['network', 'ls']), { status: 0, stdout: /front/ })
    t.match(await service.cli(['network', 'reset']), { status: 0 })
    t.equal((await service.cli(['network', 'rm', 'front'])).status, 0)
  })

  await t.test('pods that need none of it run', async (t) => {
    const own = await runPod(service, { annotations: { 'io.caisson.network': 'none' } })
    const node = await runPod(service, {
      hostname: '',
      linux: {
        securityContext: { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } },
      },
    })
    for (const [pod, interfaces] of [
      [own, 'lo\n'],
      [node, 'lo\nuplink\n'],
    ] as const) {
      const container = await startShell(service, pod, 'exec sleep 1000000')
      t.equal((await exec(service, container, ['ls', '/sys/class/net'])).stdout, interfaces)
      await service.runtime.stopPodSandbox({ podSandboxId: pod.id })
      await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    }
  })

  await t.test('pods that it had before keep their network, and can be taken away', async (t) => {
    before = []
    await service.restart()
    t.match(await ready(), { status: true })
    const portMappings = [{ protocol: tcp, hostPort: 8080, containerPort: 80 }]
    const [server, gone] = [await runPod(service, { portMappings }), await runPod(service)]
    const script = 'mkdir /w; echo here > /w/x; exec httpd -f -h /w'
    await startShell(service, server, script)
    const get = (): Promise<string> => host.run('curl', '-s', '--max-time', '3', 'http://127.0.0.1:8080/x')
    await until(async () => (await get().catch(() => '')) === 'here\n')

    before = absent
    await service.restart()
    t.match(await ready(), { status: false, reason: 'BridgeNetworkFailed', message: /nf_tables/ })
    t.equal(await get(), 'here\n', 'a host port')
    await refused(t, runPod(service), 'FAILED_PRECONDITION', 'network "default"', 'nf_tables')
    t.equal(await get(), 'here\n', 'after another was refused')
    for (const { id } of [gone, server]) {
      await service.runtime.stopPodSandbox({ podSandboxId: id })
      await service.runtime.removePodSandbox({ podSandboxId: id })
    }
    t.strictSame(readdirSync(attachments), [])
    await until(async () => (await host.interfaces()).every((name) => name === 'uplink'), 20_000)

    before = []
    await service.restart()
    t.match(await ready(), { status: true })
    const next = await runPod(service, { portMappings })
    await service.runtime.removePodSandbox({ podSandboxId: next.id })
  })
})
