/** SCTP on the built-in network: from pod to pod, and by host ports. Most kernels have it as a module. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import t, { type Test } from 'tap'
import { runtime as cri } from '#src/gen/cri.ts'
import { NetHost } from '../helpers/net-host.ts'
import { type Pod, type PodConfig, pidOf, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, startService, until } from '../helpers/service.ts'
import { run } from '../helpers/tools.ts'
import { needsVm } from '../helpers/vm.ts'

const { SCTP: sctp } = cri.v1.Protocol
const isLoaded = (): boolean => existsSync('/proc/net/sctp')

/** Whether there is a module; it is not loaded. */
function hasModule(): boolean {
  if (isLoaded()) return true
  try {
    execFileSync('modprobe', ['--dry-run', 'sctp'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

const skip = needsVm || (hasModule() ? false : 'the kernel has no SCTP (CONFIG_IP_SCTP)')

/** Answers every association with a word and what it was sent. */
const server = `
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
s.bind(("::", 38412))
s.listen(8)
print("listens", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(sys.argv[1].encode() + b" " + c.recv(100))
    c.close()`

/** address, port, own port or 0 */
const client = `
import socket, sys
address, port, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
s.settimeout(20)
if own: s.bind(("", own))
s.connect((address, port))
s.sendall(b"hello")
print(s.recv(100).decode())`

/** Holds a port that is nobody's. */
const holder = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
s.bind(("0.0.0.0", int(sys.argv[1])))
print("holds", flush=True)
sys.stdin.read()`

t.test('SCTP', { skip }, async (t) => {
  const host = await NetHost.open(t)
  // before 6.17 IPv6 comes in from other hosts only so
  const network = 'driver = "bridge"\nipv6_forwarding = true'
  const service = await startService(t, { images: [busyboxImage], host, network })
  const other = await host.neighbour(
    t,
    'uplink',
    ['192.0.2.1/24', '192.0.2.2/24'],
    ['2001:db8::1/64', '2001:db8::2/64'],
  )
  const remove = (pod: Pod): Promise<unknown> => service.runtime.removePodSandbox({ podSandboxId: pod.id })
  const addresses = async (pod: Pod): Promise<string[]> => {
    const { network } = (await service.runtime.podSandboxStatus({ podSandboxId: pod.id })).status ?? {}
    return [network?.ip ?? '', ...(network?.additionalIps ?? []).map(({ ip }) => ip ?? '')]
  }
  /** Words that go before a command which is to run in the pod's network. */
  const inside = async (pod: Pod): Promise<string[]> => {
    const container = await startShell(service, pod, 'exec sleep 1000000')
    return ['nsenter', `--net=/proc/${await pidOf(service, container)}/ns/net`]
  }
  const serve = async (t: Test, word: string, config: PodConfig = {}): Promise<Pod> => {
    const pod = await runPod(service, config)
    await background(t, [...(await inside(pod)), 'python3', '-c', server, word])
    return pod
  }
  const ask = async (from: string[], address: string, port = 38412, own = 0): Promise<string> =>
    (await run('env', ...from, 'python3', '-c', client, address, String(port), String(own))).trim()
  const mapped = (hostPort: number, hostIp = ''): PodConfig => ({
    portMappings: [{ protocol: sctp, hostPort, containerPort: 38412, hostIp }],
  })

  await t.test('a host port does not load the module', async (t) => {
    if (isLoaded()) {
      t.pass('it was loaded before')
      return
    }
    await remove(await runPod(service, mapped(38412)))
    t.notOk(isLoaded())
  })

  await t.test('from pod to pod', async (t) => {
    const [pod, peer] = [await serve(t, 'first'), await runPod(service)]
    const from = await inside(peer)
    for (const address of await addresses(pod)) {
      t.equal(await ask(from, address), 'first hello', address)
      t.equal(await ask(host.enter, address), 'first hello', `from the host to ${address}`)
    }
    await Promise.all([pod, peer].map(remove))
  })

  await t.test('by a port of the host', async (t) => {
    const pod = await serve(t, 'mapped', mapped(3868))
    const peer = await inside(await runPod(service))
    for (const address of ['192.0.2.1', '2001:db8::1']) {
      t.equal(await ask(other, address, 3868), 'mapped hello', `from another host to ${address}`)
      t.equal(await ask(host.enter, address, 3868), 'mapped hello', `from the host to ${address}`)
      t.equal(await ask(peer, address, 3868), 'mapped hello', `from another pod to ${address}`)
    }
    await refused(
      t,
      runPod(service, mapped(3868)),
      'FAILED_PRECONDITION',
      'host port 3868/sctp is taken by pod',
      pod.id,
    )
    await t.rejects(
      run('env', ...host.enter, 'python3', '-c', holder, '3868'),
      { message: /in use/ },
      'it is nobody else’s while it is the pod’s',
    )
    await background(t, [...host.enter, 'python3', '-c', holder, '3869'])
    await refused(t, runPod(service, mapped(3869)), 'FAILED_PRECONDITION', 'host port 3869/sctp is taken by another')
    const bound = await serve(t, 'bound', mapped(3870, '192.0.2.1'))
    t.equal(await ask(other, '192.0.2.1', 3870), 'bound hello')
    await t.rejects(ask(other, '2001:db8::1', 3870), 'at that address only')
    await Promise.all([pod, bound].map(remove))
    await t.rejects(ask(other, '192.0.2.1', 3868))
  })

  await t.test('a peer with a port of its own reaches the next pod', async (t) => {
    for (const word of ['one', 'two', 'three']) {
      const pod = await serve(t, word, mapped(3868))
      t.equal(await ask(other, '192.0.2.1', 3868, 5000), `${word} hello`)
      await remove(pod)
    }
  })
})

/** A program that goes on until the end of the test; returns when it has said something. */
async function background(t: Test, [program = '', ...args]: string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let said = ''
  child.stdout.on('data', (data: Buffer) => (said += data.toString()))
  await until(() => said !== '', undefined, `${program} says something`)
}
