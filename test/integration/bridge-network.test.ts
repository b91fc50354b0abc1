/** The built-in network: traffic between pods, the host and another host, in network namespaces of the test. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { runtime } from '#src/gen/cri.ts'
import t from 'tap'
import { NetHost } from '../helpers/net-host.ts'
import { receiveTraffic, throughput } from '../helpers/iperf.ts'
import { exec, type Pod, type PodConfig, pidOf, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService, type TestService, until } from '../helpers/service.ts'
import { run } from '../helpers/tools.ts'

const { TCP: tcp, UDP: udp } = runtime.v1.Protocol

interface Running extends Pod {
  container: string
  ips: string[]
  pid: number
}

/** A pod that serves its own name by HTTP at port 80. */
async function runServer(service: TestService, overrides: PodConfig = {}): Promise<Running> {
  const pod = await runPod(service, overrides)
  const { status } = await service.runtime.podSandboxStatus({ podSandboxId: pod.id })
  const script = 'mkdir /w; hostname > /w/name; httpd -h /w; exec sleep 1000000'
  const container = await startShell(service, pod, script)
  const ips = [status?.network?.ip ?? '', ...(status?.network?.additionalIps ?? []).map(({ ip }) => ip ?? '')]
  return { ...pod, container, ips, pid: await pidOf(service, container) }
}

async function shell(service: TestService, pod: Running, script: string): Promise<string> {
  const { stdout, stderr } = await exec(service, pod.container, ['sh', '-c', script])
  return stdout + stderr
}

const get = ['curl', '-s', '-S', '--max-time', '3'] as const

t.test('the built-in network', { skip: needsRoot }, async (t) => {
  const host = await NetHost.open(t)
  const service = await startService(t, { images: [busyboxImage], host, network: 'driver = "bridge"' })
  const onHost = (program: string, ...args: string[]): Promise<string> => host.run(program, ...args)
  const remove = (pod: Pod): Promise<unknown> => service.runtime.removePodSandbox({ podSandboxId: pod.id })
  const other = await host.neighbour(
    t,
    'uplink',
    ['192.0.2.1/24', '192.0.2.2/24'],
    ['2001:db8::1/64', '2001:db8::2/64'],
  )
  const atOther = (...command: string[]): Promise<string> => run('env', ...other, ...command)
  await onHost('ip', 'route', 'add', 'default', 'via', '192.0.2.2')
  await onHost('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8::2')
  const before = { links: await onHost('ip', '-br', 'link'), forwarding: await forwarding(host) }

  await t.test('pods of one bridge', async (t) => {
    const mounts = (): string => readFileSync(`/proc/${service.pid}/mountinfo`, 'utf8')
    const mounted = mounts()
    const [a, b] = await Promise.all([runServer(service), runServer(service)])
    t.equal(mounts(), mounted, 'nothing is on the host’s mount table')
    t.equal(await onHost('cat', '/proc/sys/net/ipv4/ip_forward'), '0\n', 'it is no router')
    const [four = '', six = ''] = a.ips
    t.match(four, /^10\.88\.0\.\d+$/)
    t.match(six, /^fd[0-9a-f:]+$/)
    const inside = await shell(service, a, 'ip addr show eth0; ip route; ip -6 route; cat /etc/hosts')
    t.match(inside, 'mtu 1500')
    t.equal(await shell(service, a, 'cat /proc/sys/net/ipv6/conf/eth0/accept_ra'), '0\n', 'no neighbour is a router')
    const bytes = four.split('.').map((byte) => Number(byte).toString(16).padStart(2, '0'))
    t.match(inside, `link/ether 0a:58:${bytes.join(':')}`, 'the hardware address follows from the address')
    t.match(inside, `${four}/16`)
    t.match(inside, 'default via 10.88.0.1 dev eth0')
    t.match(inside, new RegExp(`^${four}\t${a.config.hostname ?? ''}$`, 'm'))
    t.match(inside, new RegExp(`^${six}\t${a.config.hostname ?? ''}$`, 'm'))
    for (const [index, ip] of [four, six].entries()) {
      const ping = index === 0 ? 'ping' : 'ping -6'
      t.match(await shell(service, b, `${ping} -c1 -W3 ${ip}`), ' 0% packet loss')
      const host = index === 0 ? ip : `[${ip}]`
      t.equal(await shell(service, b, `wget -qO- http://${host}/name`), `${a.config.hostname ?? ''}\n`)
      t.equal(await onHost(...get, `http://${host}/name`), `${a.config.hostname ?? ''}\n`, 'the host reaches its pods')
    }
    receiveTraffic(t, a.pid)
    const measured = await throughput(b.pid, four)
    t.ok(measured > 1e8, `${(measured / 1e9).toFixed(1)} Gbit/s from pod to pod`)
    await Promise.all([remove(a), remove(b)])
  })

  await t.test('the way out, and back in by host ports only', async (t) => {
    const pod = await runServer(service, {
      portMappings: [
        { protocol: tcp, hostPort: 8080, containerPort: 80 },
        { protocol: udp, hostPort: 8081, containerPort: 5353 },
        { protocol: tcp, hostPort: 8082, containerPort: 80, hostIp: '127.0.0.1' },
        { protocol: tcp, hostPort: 8083, containerPort: 80, hostIp: '2001:db8::1' },
      ],
    })
    const peer = await runServer(service)
    const [four = '', six = ''] = pod.ips
    const name = `${pod.config.hostname ?? ''}\n`
    t.match(await shell(service, pod, 'ping -c1 -W3 192.0.2.2'), ' 0% packet loss')
    t.match(await shell(service, pod, 'ping -6 -c1 -W3 2001:db8::2'), ' 0% packet loss')
    for (const address of ['192.0.2.1', '[2001:db8::1]']) {
      t.equal(await atOther(...get, `http://${address}:8080/name`), name, `from another host to ${address}`)
      t.equal(await onHost(...get, `http://${address}:8080/name`), name, `from the host to ${address}`)
      t.equal(await shell(service, peer, `wget -qO- http://${address}:8080/name`), name, 'from another pod')
      t.equal(await shell(service, pod, `wget -qO- http://${address}:8080/name`), name, 'from itself')
    }
    t.equal(await onHost(...get, 'http://127.0.0.1:8080/name'), name)
    t.equal(await onHost(...get, 'http://127.0.0.1:8082/name'), name)
    await t.rejects(onHost(...get, 'http://[::1]:8080/name'), { message: /refused|Couldn't connect|Failed to connect/ })
    await t.rejects(atOther(...get, 'http://192.0.2.1:8082/name'), {
      message: /Failed to connect|refused|Couldn't connect/,
    })
    t.equal(await atOther(...get, 'http://[2001:db8::1]:8083/name'), name)
    await t.rejects(atOther(...get, 'http://192.0.2.1:8083/name'))
    const echo = spawn('nsenter', [`--net=/proc/${pod.pid}/ns/net`, process.execPath, '-e', udpEcho])
    t.teardown(() => echo.kill())
    await until(async () => (await atOther(process.execPath, '-e', udpAsk('192.0.2.1', 8081))) === 'hi')
    t.equal(await onHost(process.execPath, '-e', udpAsk('127.0.0.1', 8081)), 'hi')

    await atOther('ip', 'route', 'add', '10.88.0.0/16', 'via', '192.0.2.1')
    await atOther('ip', '-6', 'route', 'add', `${six.replace(/::.*/, '::')}/64`, 'via', '2001:db8::1')
    await t.rejects(atOther(...get, `http://${four}/name`), { message: /timed out/ }, 'a port that is not published')
    await t.rejects(atOther(...get, `http://[${six}]/name`), { message: /timed out/ })

    const mapped = (hostIp: string): Promise<Pod> =>
      runPod(service, { portMappings: [{ protocol: tcp, hostPort: 8080, containerPort: 80, hostIp }] })
    await refused(t, mapped(''), 'FAILED_PRECONDITION', 'host port 8080/tcp is taken by pod', pod.id)
    await refused(t, mapped('192.0.2.1'), 'FAILED_PRECONDITION', 'host port 8080/tcp at 192.0.2.1 is taken', pod.id)
    const taken = spawn('nsenter', [`--net=/proc/${service.pid}/ns/net`, 'busybox', 'nc', '-l', '-p', '8090'])
    t.teardown(() => taken.kill())
    await until(async () => (await onHost('ss', '-ltn')).includes(':8090'))
    const portOf = (hostPort: number, hostIp = ''): Promise<Pod> =>
      runPod(service, { portMappings: [{ protocol: tcp, hostPort, containerPort: 80, hostIp }] })
    await refused(t, portOf(8090), 'FAILED_PRECONDITION', 'host port 8090/tcp is taken by another process of the host')
    await refused(t, portOf(8091, '198.51.100.1'), 'FAILED_PRECONDITION', 'the host does not have this address')
    await t.rejects(
      onHost('busybox', 'nc', '-l', '-p', '8080'),
      { message: /in use/ },
      'a port of a pod is nobody else’s',
    )
    await Promise.all([remove(pod), remove(peer)])
    await t.rejects(atOther(...get, 'http://192.0.2.1:8080/name'))
  })

  await t.test('a client of UDP goes on with the next pod', async (t) => {
    const ports = [{ protocol: udp, hostPort: 8081, containerPort: 5353 }]
    const serve = async (answer: string): Promise<Running> => {
      const pod = await runServer(service, { portMappings: ports })
      const script = udpEcho.replace('s.send(m,', `s.send('${answer}',`)
      const child = spawn('nsenter', [`--net=/proc/${pod.pid}/ns/net`, process.execPath, '-e', script])
      t.teardown(() => child.kill())
      return pod
    }
    // from one port, without a pause that would let the kernel forget by itself
    const client = spawn('env', [...other, process.execPath, '-e', udpClient('192.0.2.1', 8081)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => client.kill())
    let last = ''
    client.stdout.on('data', (data: Buffer) => (last = data.toString()))
    const first = await serve('first')
    await until(() => last.endsWith('first'))
    await remove(first)
    const second = await serve('second')
    await until(() => last.endsWith('second'))
    t.pass('answered by the second')
    await remove(second)
  })

  await t.test('the host is no router for others', async (t) => {
    const pod = await runServer(service)
    const far = await host.neighbour(t, 'behind', ['203.0.113.1/24', '203.0.113.2/24'])
    await run('env', ...far, 'ip', 'route', 'add', 'default', 'via', '203.0.113.1')
    await until(async () => (await forwarding(host)).includes('behind=1'), 15_000)
    await atOther('ip', 'route', 'add', '203.0.113.0/24', 'via', '192.0.2.1')
    t.match(await shell(service, pod, 'ping -c1 -W3 203.0.113.2'), ' 0% packet loss')
    await t.rejects(atOther('busybox', 'ping', '-c1', '-W2', '203.0.113.2'))
    await remove(pod)
  })

  await t.test('limits of bandwidth', async (t) => {
    const annotations = { 'kubernetes.io/ingress-bandwidth': '8M', 'kubernetes.io/egress-bandwidth': '16M' }
    const [limited, free] = await Promise.all([runServer(service, { annotations }), runServer(service)])
    for (const { pid } of [limited, free]) receiveTraffic(t, pid)
    for (const [from, to, rate] of [
      [free, limited, 8e6],
      [limited, free, 16e6],
    ] as const) {
      const measured = await throughput(from.pid, to.ips[0] ?? '', 3)
      t.ok(measured > rate * 0.6 && measured < rate * 1.3, `${measured} of ${rate} bits per second`)
    }
    await refused(
      t,
      runPod(service, { annotations: { 'kubernetes.io/ingress-bandwidth': 'much' } }),
      'INVALID_ARGUMENT',
      'kubernetes.io/ingress-bandwidth',
    )
    await Promise.all([remove(limited), remove(free)])
  })

  await t.test('what others break is mended', async (t) => {
    const ports = [{ protocol: tcp, hostPort: 8080, containerPort: 80 }]
    const [a, b] = await Promise.all([runServer(service, { portMappings: ports }), runServer(service)])
    const bridge = await bridgeOf(host)
    await onHost('ip', 'link', 'del', bridge)
    await onHost('nft', 'flush', 'ruleset')
    const reaches = async (): Promise<boolean> =>
      (await shell(service, b, `ping -c1 -W1 ${a.ips[0] ?? ''}; ping -c1 -W1 192.0.2.2`)).match(/ 0% packet/g)
        ?.length === 2
    await until(reaches, 20_000)
    t.equal(await atOther(...get, 'http://192.0.2.1:8080/name'), `${a.config.hostname ?? ''}\n`)
    const ends = (await onHost('ip', '-br', 'link')).match(/csn[0-9a-f]{11}0/g) ?? []
    t.equal(ends.length, 2)
    for (const end of ends) await onHost('ip', 'link', 'del', end)
    await until(reaches, 20_000)
    await Promise.all([remove(a), remove(b)])
  })

  await t.test('a service that is killed', async (t) => {
    const ports = [{ protocol: tcp, hostPort: 8080, containerPort: 80 }]
    const [a, b] = await Promise.all([runServer(service, { portMappings: ports }), runServer(service)])
    const lost = await runServer(service)
    await service.kill()
    t.equal(await atOther(...get, 'http://192.0.2.1:8080/name'), `${a.config.hostname ?? ''}\n`, 'without a service')
    await onHost('ip', 'link', 'add', 'csn000000000000', 'type', 'veth', 'peer', 'name', 'stray')
    const [line = ''] = (await onHost('ip', '-d', 'link')).match(/alias caisson \S+/) ?? []
    await onHost('ip', 'link', 'set', 'csn000000000000', 'alias', `${line.replace('alias ', '')} gone`)
    const pids = (await onHost('pgrep', '-f', lost.id)).split('\n').filter(Boolean)
    for (const pid of pids) process.kill(Number(pid), 'SIGKILL')
    await service.start()
    t.notMatch(await onHost('ip', '-br', 'link'), /csn00000000000|stray/)
    const status = async (pod: Pod): Promise<string | null | undefined> =>
      (await service.runtime.podSandboxStatus({ podSandboxId: pod.id })).status?.network?.ip
    t.equal(await status(a), a.ips[0])
    t.equal(await status(lost), '')
    t.equal(await atOther(...get, 'http://192.0.2.1:8080/name'), `${a.config.hostname ?? ''}\n`)
    await refused(t, runPod(service, { portMappings: ports }), 'FAILED_PRECONDITION', a.id)
    const next = await runServer(service)
    t.notOk([a, b].some(({ ips }) => ips.includes(next.ips[0] ?? '')))
    t.match(await shell(service, next, `ping -c1 -W3 ${b.ips[0] ?? ''}`), ' 0% packet loss')
    await Promise.all([a, b, lost, next].map(remove))
  })

  await t.test('a failure leaves nothing', async (t) => {
    const bridge = await bridgeOf(host)
    await until(async () => !(await onHost('ip', '-br', 'link')).includes(bridge), 20_000)
    await onHost('ip', 'link', 'add', bridge, 'type', 'veth', 'peer', 'name', 'stray')
    await refused(t, runPod(service), 'INTERNAL', 'network "default"', bridge)
    await onHost('ip', 'link', 'del', bridge)
    const pod = await runServer(service)
    t.match(await shell(service, pod, 'ping -c1 -W3 192.0.2.2'), ' 0% packet loss')
    await remove(pod)
  })

  await t.test('nothing is left', async (t) => {
    const { items } = await service.runtime.listPodSandbox({})
    t.equal(items.length, 0)
    await service.stop()
    t.equal((await onHost('nft', 'list', 'ruleset')).trim(), '')
    const indices = (text: string): string => text.replace(/behind.*\n/g, '')
    t.equal(indices(await onHost('ip', '-br', 'link')), indices(before.links))
    t.equal((await forwarding(host)).replace(/ behind=./, ''), before.forwarding)
    await service.start()
  })
})

const udpEcho = `const s = require('dgram').createSocket('udp4')
s.on('message', (m, { port, address }) => s.send(m, port, address)).bind(5353)`

function udpClient(address: string, port: number): string {
  return `const s = require('dgram').createSocket('udp4')
s.on('message', (m) => process.stdout.write(m)).bind(4444)
setInterval(() => s.send('hi', ${port}, '${address}'), 50)`
}

function udpAsk(address: string, port: number): string {
  return `const s = require('dgram').createSocket('udp4')
s.on('message', (m) => { process.stdout.write(m); s.close() })
setTimeout(() => process.exit(), 500)
s.send('hi', ${port}, '${address}')`
}

async function bridgeOf(host: NetHost): Promise<string> {
  const links = await host.run('ip', '-br', 'link', 'show', 'type', 'bridge')
  return /^cs\S+/m.exec(links)?.[0] ?? ''
}

/** `uplink=0 …`: of IPv4, for the interfaces of the test. */
async function forwarding(host: NetHost): Promise<string> {
  const script =
    'for i in uplink behind; do f=/proc/sys/net/ipv4/conf/$i/forwarding; [ ! -e $f ] || echo " $i=$(cat $f)"; done'
  return (await host.run('sh', '-c', script)).replaceAll('\n', '')
}
