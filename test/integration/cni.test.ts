/** Networks by Debian's plugins of CNI: traffic, restarts, failures, and nothing left behind. */
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { receiveTraffic, throughput } from '../helpers/iperf.ts'
import { exec, monitorPid, pidOf, type Pod, type PodConfig, refused, runPod, startShell } from '../helpers/pods.ts'
import { NetHost } from '../helpers/net-host.ts'
import { busyboxImage, needsRoot, startService, type TestService, until } from '../helpers/service.ts'
import { run } from '../helpers/tools.ts'

const debian = '/usr/lib/cni'
const skip = needsRoot || (existsSync(join(debian, 'bridge')) ? false : 'not installed: containernetworking-plugins')

interface World {
  service: TestService
  host: NetHost
  /** Writes a list to the configuration directory, and waits until the service has it. */
  configure: (plugins: object[], file?: string, version?: string) => Promise<void>
  leases: string
  plugins: string
}

/** @param lines further lines of [network] */
async function world(t: Test, lines = ''): Promise<World> {
  const directory = await mkdtemp('/tmp/csn-cni-')
  for (const name of ['conf', 'plugins', 'netns']) mkdirSync(join(directory, name))
  const host = await NetHost.open(t)
  const network = [
    `cni_config_dir = "${directory}/conf"`,
    `cni_plugin_dirs = ["${directory}/plugins", "${debian}"]`,
    `netns_dir = "${directory}/netns"`,
  ]
  t.teardown(async () => {
    // made shared for daemons: the one mount that stays, as that of ip-netns(8) does
    if (readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${directory}/netns `)) {
      await run('umount', '-l', `${directory}/netns`)
    }
    rmSync(directory, { recursive: true })
  })
  const text = lines.includes('netns_dir') ? network.slice(0, 2) : network
  const service = await startService(t, { images: [busyboxImage], host, network: [...text, lines].join('\n') })
  return {
    service,
    host,
    leases: join(directory, 'leases'),
    plugins: join(directory, 'plugins'),
    configure: async (plugins, file = '10-test.conflist', cniVersion = '1.0.0') => {
      const list = { cniVersion, name: 'test-net', plugins }
      writeFileSync(join(directory, 'conf', file), JSON.stringify(list))
      await until(async () => (await service.log()).some(({ msg }) => msg === 'the configuration of CNI has changed'))
    },
  }
}

const ipam = (leases: string): object => ({
  type: 'host-local',
  dataDir: leases,
  ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd77::/64' }]],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
})
const bridge = (leases: string): object => ({
  type: 'bridge',
  bridge: 'cnit0',
  isGateway: true,
  ipMasq: false,
  hairpinMode: true,
  ipam: ipam(leases),
})
const portmap = { type: 'portmap', capabilities: { portMappings: true } }
const firewall = { type: 'firewall' }
const tuning = { type: 'tuning', sysctl: { 'net.ipv4.conf.eth0.arp_notify': '1' } }
const shaper = { type: 'bandwidth', capabilities: { bandwidth: true } }

async function addresses(service: TestService, pod: Pod): Promise<string[]> {
  const { status } = await service.runtime.podSandboxStatus({ podSandboxId: pod.id })
  const { ip, additionalIps } = status?.network ?? {}
  return [ip ?? '', ...(additionalIps ?? []).map((more) => more.ip ?? '')]
}

const webServer = 'mkdir -p /tmp/www && hostname >/tmp/www/index.html && exec httpd -f -p 80 -h /tmp/www'

async function webPod(
  { service }: World,
  config: PodConfig = {},
): Promise<{ pod: Pod; ip: string; ip6: string; container: string }> {
  const pod = await runPod(service, config)
  const container = await startShell(service, pod, webServer)
  const [ip = '', ip6 = ''] = await addresses(service, pod)
  await until(
    async () => (await exec(service, container, ['wget', '-q', '-O', '-', 'http://127.0.0.1/'])).exitCode === 0,
  )
  return { pod, ip, ip6, container }
}

const leasesLeft = (directory: string): string[] =>
  existsSync(join(directory, 'test-net'))
    ? readdirSync(join(directory, 'test-net')).filter((name) => /^(10|fd77)/.test(name))
    : []

t.test('bridge, host-local, portmap, firewall, tuning, bandwidth', { skip }, async (t) => {
  const it = await world(t)
  const { service, host, leases } = it
  const ready = async (): Promise<unknown> =>
    (await service.runtime.status({})).status?.conditions?.find(({ type }) => type === 'NetworkReady')
  await it.configure([bridge(leases), portmap, firewall, tuning, shaper])
  t.match(await ready(), { status: true, reason: '' })
  const outside = await host.neighbour(
    t,
    'uplink',
    ['192.0.2.1/24', '192.0.2.2/24'],
    ['2001:db8::1/64', '2001:db8::2/64'],
  )
  const get = async (url: string, enter: string[]): Promise<string> => {
    const [nsenter = '', ...args] = enter
    return await run(nsenter, ...args, 'busybox', 'wget', '-q', '-O', '-', url)
  }

  const mapped: PodConfig = {
    hostname: 'web',
    portMappings: [{ containerPort: 80, hostPort: 8080 }],
    annotations: { 'kubernetes.io/egress-bandwidth': '80M' },
  }
  const web = await webPod(it, mapped)
  const client = await runPod(service)
  const shell = await startShell(service, client, 'exec sleep 1000')
  t.match([web.ip, web.ip6], [/^10\.77\.0\.\d+$/, /^fd77::/], 'both families are in the status')

  t.test('traffic', async (t) => {
    const inside = async (script: string): Promise<string> => (await exec(service, shell, ['sh', '-c', script])).stdout
    t.match(await inside(`ping -c 1 -W 5 ${web.ip}`), /1 packets received/)
    t.match(await inside(`ping6 -c 1 -W 5 ${web.ip6}`), /1 packets received/)
    t.equal(await inside(`wget -q -O - http://${web.ip}/`), 'web\n')
    t.equal(await get(`http://${web.ip}/`, host.enter), 'web\n', 'from the host')
    t.equal(await get('http://192.0.2.1:8080/', outside), 'web\n', 'by a port of the host, from outside')
    t.equal(await inside('wget -q -O - http://192.0.2.1:8080/'), 'web\n', 'and from another pod')
    t.equal(await inside('cat /sys/class/net/lo/operstate').then(() => inside('ip addr show lo | grep -c UP')), '1\n')
    t.match(await inside('cat /etc/hosts'), new RegExp(`^${(await addresses(service, client))[0] ?? ''}\\t`, 'm'))
    t.match(await host.run('tc', 'qdisc'), /tbf.* rate 80Mbit/)
    const pid = await pidOf(service, shell)
    receiveTraffic(t, pid)
    const [to = ''] = await addresses(service, client)
    const rate = await throughput(await pidOf(service, web.container), to)
    t.ok(rate > 1e7, `${Math.round(rate / 1e6)} Mbit/s: within the burst that the plugin allows`)
  })

  t.test('a restart, and the death of one pod in it', async (t) => {
    const doomed = await runPod(service)
    t.equal(leasesLeft(leases).length, 6)
    const monitor = await monitorPid(service, doomed)
    await service.kill()
    process.kill(monitor, 'SIGKILL')
    await service.start()
    t.strictSame((await addresses(service, web.pod)).slice(0, 1), [web.ip])
    t.equal(await get('http://192.0.2.1:8080/', outside), 'web\n')
    await until(() => leasesLeft(leases).length === 4)
    t.strictSame(await addresses(service, doomed), [''])
    await service.runtime.removePodSandbox({ podSandboxId: doomed.id })
    await until(async () => (await host.interfaces()).filter((name) => name.startsWith('veth')).length === 2)
  })

  t.test('when pods go, all goes', async (t) => {
    for (const { id } of [web.pod, client]) {
      await service.runtime.stopPodSandbox({ podSandboxId: id })
      await service.runtime.stopPodSandbox({ podSandboxId: id })
      await service.runtime.removePodSandbox({ podSandboxId: id })
    }
    t.strictSame(leasesLeft(leases), [])
    await until(async () => (await host.interfaces()).every((name) => name === 'cnit0' || name === 'uplink'))
    t.notMatch(await host.run('iptables-save'), /10\.77\.0\.\d+[:/]/)
    t.strictSame(readdirSync(join(leases, '..', 'netns')), [])
    t.strictSame(readdirSync(join(service.root, 'instances', 'default', 'network', 'attachments')), [])
  })
})

t.test('what a plugin does wrong fails the pod, and leaves nothing', { skip }, async (t) => {
  const it = await world(t, 'cni_timeout = 1')
  const { service, host, leases, plugins } = it
  const plugin = (script: string): void => {
    writeFileSync(join(plugins, 'bad'), `#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\n${script}\n`)
    chmodSync(join(plugins, 'bad'), 0o755)
  }
  plugin('exit 1')
  await it.configure([bridge(leases), { type: 'bad' }])
  const good = await runPod(service, {}).catch((error: unknown) => error)
  t.type(good, Error)
  const cases: [string, RegExp][] = [
    ['sleep 100', /plugin "bad": ADD did not end in 1 s/],
    ['kill -SEGV $$', /plugin "bad": ADD failed: was ended by signal 11|signal 11/],
    ['echo nonsense', /plugin "bad": ADD: what it says is not a JSON object; it wrote: nonsense/],
    ['head -c 100000000 /dev/zero', /plugin "bad": ADD wrote more than/],
    [`echo '{"code":100,"msg":"no"}'; exit 1`, /network "test-net": plugin "bad": ADD failed: no/],
    [`echo '{"ips":[{"address":"nowhere"}]}'`, /network "test-net": the result of its plugins is not valid/],
  ]
  for (const [script, message] of cases) {
    plugin(script)
    await refused(t, runPod(service), 'INTERNAL', message)
    t.strictSame(leasesLeft(leases), [], `nothing is left of: ${script}`)
  }
  chmodSync(join(plugins, 'bad'), 0o644)
  await refused(t, runPod(service), 'INTERNAL', /not executable/)
  rmSync(join(plugins, 'bad'))
  await refused(t, runPod(service), 'INTERNAL', /plugin "bad": .*no such program/)
  plugin(`sed 's/.*"prevResult"://; s/}$//'`)
  const pod = await runPod(service)
  t.match(await addresses(service, pod), [/^10\.77/], 'and the network is as good as before')
  t.strictSame(readdirSync(join(leases, '..', 'netns')), [`caisson-${pod.id}`])
  await service.runtime.removePodSandbox({ podSandboxId: pod.id })
  await until(async () => (await host.interfaces()).join() === 'cnit0')
})

t.test('what plugins are given of a pod, and when they are asked', { skip }, async (t) => {
  const it = await world(t, 'driver = "cni"')
  const { service } = it
  const ready = async (): Promise<unknown> =>
    (await service.runtime.status({})).status?.conditions?.find(({ type }) => type === 'NetworkReady')
  t.match(await ready(), { status: false, reason: 'NetworkPluginNotReady', message: /no configuration of CNI/ })
  await refused(t, runPod(service), 'INTERNAL', 'no valid configuration of CNI')
  const calls = join(it.plugins, '..', 'calls')
  const script = `#!/bin/sh
input=$(cat | tr -d '\\n')
printf '{"verb":"%s","args":"%s","netns":"%s","input":%s}\\n' "$CNI_COMMAND" "\${CNI_ARGS-}" "\${CNI_NETNS-}" "$input" >>${calls}
[ "$CNI_COMMAND" != STATUS ] || [ ! -e ${calls}.sick ] || { echo '{"code":50,"msg":"the agent is not up"}'; exit 1; }
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"}]}'
`
  writeFileSync(join(it.plugins, 'told'), script, { mode: 0o755 })
  const names = ['portMappings', 'bandwidth', 'dns', 'mac', 'ips', 'ipRanges', 'aliases', 'cgroupPath']
  const capabilities = Object.fromEntries(names.map((name) => [name, true]))
  await it.configure([{ type: 'told', capabilities }], '10-test.conflist', '1.1.0')
  interface Call {
    verb: string
    args: string
    netns: string
    input: { runtimeConfig?: Record<string, unknown>; 'cni.dev/valid-attachments'?: { containerID: string }[] }
  }
  const told = (verb: string): Call[] =>
    (existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : [])
      .map((line) => JSON.parse(line) as Call)
      .filter((call) => call.verb === verb)
  await service.runtime.updateRuntimeConfig({ runtimeConfig: { networkConfig: { podCidr: '10.0.0.0/24' } } })
  const pod = await runPod(service, {
    dnsConfig: { servers: ['192.0.2.53'], searches: ['example.com'], options: ['ndots:5'] },
    portMappings: [{ containerPort: 80, hostPort: 8080, hostIp: '192.0.2.1' }],
    annotations: {
      'kubernetes.io/ingress-bandwidth': '8M',
      'io.caisson.mac': '02:00:00:00:00:07',
      'io.caisson.ip': '10.0.0.2',
      'io.caisson.aliases': 'www',
    },
    linux: { cgroupParent: `${service.slice}/pods` },
  })
  const [add] = told('ADD')
  t.match(add?.input.runtimeConfig, {
    portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.1' }],
    bandwidth: { ingressRate: 8e6 },
    dns: { servers: ['192.0.2.53'], searches: ['example.com'], options: ['ndots:5'] },
    mac: '02:00:00:00:00:07',
    ips: ['10.0.0.2'],
    ipRanges: [[{ subnet: '10.0.0.0/24' }]],
    aliases: ['www'],
    cgroupPath: `${service.slice}/pods`,
  })
  const { name = '', namespace = '', uid = '' } = pod.config.metadata ?? {}
  t.strictSame(add?.args.split(';'), [
    'IgnoreUnknown=1',
    `K8S_POD_NAMESPACE=${namespace}`,
    `K8S_POD_NAME=${name}`,
    `K8S_POD_INFRA_CONTAINER_ID=${pod.id}`,
    `K8S_POD_UID=${uid}`,
  ])
  t.match(add?.netns, `caisson-${pod.id}`)

  await service.restart()
  await until(() => told('CHECK').length === 1 && told('GC').length === 1)
  t.match(told('GC')[0]?.input['cni.dev/valid-attachments'], [{ containerID: pod.id }])
  t.match(told('CHECK')[0]?.input.runtimeConfig, { mac: '02:00:00:00:00:07' }, 'what ADD was told')
  writeFileSync(`${calls}.sick`, '')
  await until(async () => JSON.stringify(await ready()).includes('the agent is not up'), 20_000)
  t.match(await ready(), { status: false, reason: 'NetworkPluginNotReady', message: /plugin "told": STATUS/ })
  rmSync(`${calls}.sick`)
  await until(async () => JSON.stringify(await ready()).includes('true'), 20_000)
  await service.runtime.removePodSandbox({ podSandboxId: pod.id })
  t.equal(told('DEL').length, 1)
})

t.test('addresses that run out', { skip }, async (t) => {
  const it = await world(t)
  const range = {
    ...ipam(it.leases),
    ranges: [[{ subnet: '10.77.0.0/24', rangeStart: '10.77.0.2', rangeEnd: '10.77.0.3' }]],
  }
  await it.configure([{ ...bridge(it.leases), ipam: range }])
  const [one] = [await runPod(it.service), await runPod(it.service)]
  await refused(
    t,
    runPod(it.service),
    'INTERNAL',
    /network "test-net": plugin "bridge": ADD failed: .*10\.77\.0\.2-10\.77\.0\.3/,
  )
  await it.service.runtime.removePodSandbox({ podSandboxId: one.id })
  t.match(await addresses(it.service, await runPod(it.service)), [/^10\.77/])
})

t.test('the node’s ranges of addresses, as a kubelet tells them', { skip }, async (t) => {
  const it = await world(t)
  const { service } = it
  const tell = (podCidr: string): Promise<unknown> =>
    service.runtime.updateRuntimeConfig({ runtimeConfig: { networkConfig: { podCidr } } })
  const ranges = { type: 'host-local', dataDir: it.leases }
  await it.configure([{ type: 'ptp', capabilities: { ipRanges: true }, ipam: ranges }])
  await refused(t, runPod(service), 'INTERNAL', 'plugin "ptp"', 'no IP ranges')
  await tell('10.99.1.0/24,fd99::/64')
  const first = await runPod(service)
  t.match(await addresses(service, first), [/^10\.99\.1\./, /^fd99::/])
  await service.restart()
  await tell('')
  const second = await runPod(service)
  t.match(await addresses(service, second), [/^10\.99\.1\./, /^fd99::/], 'kept over a restart')
  for (const bad of ['10.99.1.0', '10.99.1.0/33', '10.0.0.0/8,', 'x'.repeat(1 << 16), '10.0.0.0/8,'.repeat(9)]) {
    await refused(t, tell(bad), 'INVALID_ARGUMENT', 'pod_cidr')
  }
  await tell('10.99.2.0/24')
  t.match(await addresses(service, await runPod(service)), [/^10\.99\.2\./])
  await service.runtime.removePodSandbox({ podSandboxId: second.id })
  t.notMatch(readdirSync(join(it.leases, 'test-net')).join(' '), /10\.99\.1\.3/, 'DEL is told what ADD was')
})

t.test('a daemon in other mount and pid namespaces opens the path', { skip }, async (t) => {
  const it = await world(t)
  const netns = join(it.leases, '..', 'netns')
  await it.configure([bridge(it.leases)])
  // the first pod has the directory made ready; a daemon's slave mount is of what is there when it starts
  await it.service.runtime.removePodSandbox({ podSandboxId: (await runPod(it.service)).id })
  const seen = join(it.leases, '..', 'seen')
  mkdirSync(seen)
  const setUp = `mount --rbind --make-rslave ${netns} ${seen} && echo ready && exec cat`
  const daemon = spawn('unshare', ['-mpf', '--propagation', 'slave', '--kill-child', 'sh', '-c', setUp], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => daemon.kill('SIGKILL'))
  await new Promise((resolve) => daemon.stdout.once('data', resolve))
  const pod = await runPod(it.service)
  const [ip = ''] = await addresses(it.service, pod)
  const path = join(seen, `caisson-${pod.id}`)
  const pid = readFileSync(`/proc/${daemon.pid ?? 0}/task/${daemon.pid ?? 0}/children`, 'utf8').trim()
  t.match(await run('nsenter', `--mount=/proc/${pid}/ns/mnt`, 'nsenter', `--net=${path}`, 'ip', '-4', 'addr'), ip)
  await it.service.runtime.removePodSandbox({ podSandboxId: pod.id })
  t.equal(await run('nsenter', `--mount=/proc/${pid}/ns/mnt`, 'ls', seen), '')
})

t.test('without a directory of namespaces nothing is mounted', { skip }, async (t) => {
  const it = await world(t, 'netns_dir = ""')
  await it.configure([bridge(it.leases)])
  const mounts = (): string => readFileSync('/proc/self/mountinfo', 'utf8')
  const before = mounts()
  const { pod, ip } = await webPod(it)
  t.equal(mounts(), before)
  t.match(await it.host.run('busybox', 'ping', '-c', '1', '-W', '5', ip), /1 received|1 packets received/)
  await it.service.restart()
  await it.service.runtime.removePodSandbox({ podSandboxId: pod.id })
  t.strictSame(leasesLeft(it.leases), [])
})

for (const [name, plugin] of Object.entries({
  ptp: (leases: string) => ({ type: 'ptp', ipam: ipam(leases) }),
  macvlan: (leases: string) => ({ type: 'macvlan', master: 'parent', ipam: ipam(leases) }),
})) {
  t.test(`${name} and loopback`, { skip }, async (t) => {
    const it = await world(t)
    await it.host.run('ip', 'link', 'add', 'parent', 'type', 'bridge')
    await it.host.run('ip', 'link', 'set', 'parent', 'up')
    await it.configure([{ type: 'loopback' }, plugin(it.leases)])
    const pods = [await webPod(it), await webPod(it)] as const
    const [one, two] = pods
    t.equal(
      (await exec(it.service, one.container, ['sh', '-c', `wget -q -O - http://${two.ip}/ | wc -l`])).stdout,
      '1\n',
    )
    for (const { pod } of pods) await it.service.runtime.removePodSandbox({ podSandboxId: pod.id })
    t.strictSame(leasesLeft(it.leases), [])
    await until(async () => (await it.host.interfaces()).join() === 'parent')
  })
}
