/** Pods that say nothing of DNS get the host's servers, also where the host asks the stub of systemd-resolved. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { exec, NamespaceMode, runPod, start } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService } from '../helpers/service.ts'

const behind = 'nameserver 192.0.2.7\nnameserver 192.0.2.8\nsearch behind.example\n'

/** Its mounts are nobody else's: /run is empty, and the two files are there. */
const asHost = `
  mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/resolve &&
  cp "$1/behind" /run/systemd/resolve/resolv.conf && mount --bind "$1/host" /etc/resolv.conf && shift && exec "$@"
`

t.test('resolv.conf of the host', { skip: needsRoot }, async (t) => {
  const directory = t.testdir({ behind, host: '' })
  const host = (text: string): void => {
    writeFileSync(join(directory, 'host'), text)
  }
  const stub = '# /run/systemd/resolve/stub-resolv.conf\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n'
  host(stub)
  const before = (): readonly string[] => ['sh', '-c', asHost, 'sh', directory]
  const service = await startService(t, { images: [busyboxImage], privateMounts: true, before })
  const seen = async (network = NamespaceMode.POD): Promise<string> => {
    const options = { namespaceOptions: { network, pid: NamespaceMode.CONTAINER } }
    const hostname = network === NamespaceMode.NODE ? { hostname: '' } : {}
    const pod = await runPod(service, { ...hostname, linux: { securityContext: options } })
    const id = await start(service, pod, {
      command: ['/bin/sleep', '1000'],
      security: { namespaceOptions: { network, pid: NamespaceMode.CONTAINER } },
    })
    const { stdout } = await exec(service, id, ['cat', '/etc/resolv.conf'])
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    return stdout
  }
  t.equal(await seen(), behind, 'with a stub, the servers behind it')
  t.equal(await seen(NamespaceMode.NODE), stub, 'which a pod on the host’s network reaches')

  const own = 'nameserver 192.0.2.1\nsearch host.example\n'
  host(own)
  t.equal(await seen(), own, 'else the file as it is')
  const unreachable = 'nameserver 127.0.0.1\nnameserver 192.0.2.1\n'
  host(unreachable)
  t.equal(await seen(), 'nameserver 192.0.2.1\n', 'without servers that a pod does not reach')
  t.equal(await seen(NamespaceMode.NODE), unreachable, 'which one on the host’s network does')
})
