/** Networks of users: isolation, names, addresses that run out, the command line. */
import { spawn } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import t from 'tap'
import { NetHost } from '../helpers/net-host.ts'
import { exec, type Pod, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, needsRoot, startService, until } from '../helpers/service.ts'

interface Running extends Pod {
  container: string
  ips: string[]
}

t.test('networks of users', { skip: needsRoot }, async (t) => {
  const host = await NetHost.open(t)
  const service = await startService(t, { images: [busyboxImage], host, network: 'driver = "bridge"' })
  const there = await host.neighbour(
    t,
    'uplink',
    ['192.0.2.1/24', '192.0.2.2/24'],
    ['2001:db8::1/64', '2001:db8::2/64'],
  )
  await host.run('ip', 'route', 'add', 'default', 'via', '192.0.2.2')
  const networkCommand = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await service.cli(['network', ...args])
    if (status !== 0) throw new Error(stderr)
    return stdout
  }
  const runOn = async (network: string, annotations: Record<string, string> = {}, name?: string): Promise<Running> => {
    const all = { 'io.caisson.network': network, ...annotations }
    const pod = await runPod(service, { annotations: all, ...(name === undefined ? {} : { hostname: name }) })
    const container = await startShell(service, pod, 'mkdir /w; hostname > /w/name; httpd -h /w; exec sleep 1000000')
    const { status } = await service.runtime.podSandboxStatus({ podSandboxId: pod.id })
    const ips = [status?.network?.ip ?? '', ...(status?.network?.additionalIps ?? []).map(({ ip }) => ip ?? '')]
    return { ...pod, container, ips }
  }
  const shell = async (pod: Running, script: string): Promise<string> => {
    const { stdout, stderr } = await exec(service, pod.container, ['sh', '-c', script], 40)
    return stdout + stderr
  }
  const remove = (...pods: Pod[]): Promise<unknown> =>
    Promise.all(pods.map(({ id }) => service.runtime.removePodSandbox({ podSandboxId: id })))

  await networkCommand('create', 'front')
  await networkCommand('create', 'back', '--internal', '--subnet', '10.99.0.0/24')

  await t.test('isolation and names', async (t) => {
    const [web, db, only] = await Promise.all([
      runOn('front', { 'io.caisson.aliases': 'www' }, 'web'),
      runOn('front,back', {}, 'db'),
      runOn('back', { 'io.caisson.ip': '10.99.0.77', 'io.caisson.mac': '02:00:00:00:00:07' }, 'only'),
    ])
    t.strictSame(only.ips, ['10.99.0.77'])
    t.match(await shell(only, 'ip link show eth0'), '02:00:00:00:00:07')
    t.equal(await shell(db, 'wget -qO- http://web/name; wget -qO- http://www.front/name'), 'web\nweb\n')
    t.equal(await shell(db, 'wget -qO- http://only/name'), 'only\n', 'by the second network')
    t.equal(await shell(only, 'wget -qO- http://db/name'), 'db\n')
    t.match(await shell(only, 'nslookup db'), 'Address: 10.99.0.')
    t.notMatch(await shell(only, 'nslookup db'), web.ips[0]?.replace(/\d+$/, '') ?? '')
    t.match(await shell(only, 'nslookup web'), 'NXDOMAIN')
    t.match(await shell(db, 'nslookup 10.99.0.77'), 'only.back')
    t.match(await shell(web, 'ping -c1 -W3 192.0.2.2'), ' 0% packet loss')
    t.match(await shell(web, `ping -c1 -W3 ${db.ips[0] ?? ''}`), ' 0% packet loss')
    for (const [from, to] of [
      [web, '10.99.0.77'],
      [only, web.ips[0] ?? ''],
      [only, '192.0.2.2'],
    ] as const) {
      // the second try has a route even where the pod was given none
      await shell(from, 'ip route add default via 10.99.0.1 2>/dev/null')
      t.match(
        await shell(from, `ping -c1 -W2 ${to}`),
        /100% packet loss|unreachable/,
        `${from.config.hostname ?? ''} to ${to}`,
      )
    }
    const six = web.ips.find((ip) => ip.includes(':')) ?? ''
    const other = await runOn('default')
    t.match(await shell(other, `ping -6 -c1 -W2 ${six}`), /100% packet loss|unreachable/)
    t.match(await shell(other, `wget -qO- http://${web.ips[0] ?? ''}/name 2>&1`), /can't connect|unreachable/)
    t.match(await shell(other, 'cat /etc/resolv.conf'), readFileSync('/etc/resolv.conf', 'utf8').trim())
    await service.restart()
    t.equal(await shell(db, 'wget -qO- http://web/name'), 'web\n', 'after a restart of the service')
    await refused(t, runOn('nowhere'), 'NOT_FOUND', '"nowhere"', 'caisson network create nowhere')
    await refused(t, runOn('back', { 'io.caisson.ip': '10.99.0.77' }), 'FAILED_PRECONDITION', '10.99.0.77', only.id)
    await refused(t, runOn('front', { 'io.caisson.mac': '01:00:00:00:00:00' }), 'INVALID_ARGUMENT', 'io.caisson.mac')

    const shown = await networkCommand('show')
    t.match(shown, /front +csb[0-9a-f]{12} +10\.89\.0\.1\/22/)
    t.match(shown, /eth0 +10\.99\.0\.77/)
    const [back] = JSON.parse(await networkCommand('inspect', 'back')) as {
      pods: { name: string; received: { bytes: number } }[]
    }[]
    t.equal(back?.pods.length, 2)
    t.ok((back?.pods[0]?.received.bytes ?? 0) > 0, 'counts of the interface')
    await t.rejects(networkCommand('rm', 'front'), { message: /"front" is in use by 2 pods/ })
    await t.rejects(networkCommand('reset'), { message: /stop them first/ })
    await remove(web, db, only, other)
  })

  await t.test('names of the world by the host’s servers', async (t) => {
    const [, server = ''] = /^nameserver (\d+\.\d+\.\d+\.\d+)$/m.exec(readFileSync('/etc/resolv.conf', 'utf8')) ?? []
    if (server === '' || server.startsWith('127.')) {
      t.pass('skipped: this host’s name servers are not to be had in a test')
      return
    }
    const [nsenter = '', ...enter] = there
    await new Promise((resolve) => {
      spawn(nsenter, [...enter, 'ip', 'addr', 'add', `${server}/32`, 'dev', 'lo']).on('exit', resolve)
    })
    const script = `const s = require('dgram').createSocket('udp4')
      s.on('message', (m, { port, address }) => {
        const a = Buffer.concat([m, Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 198, 51, 100, 7])])
        a.writeUInt16BE(0x8180, 2); a.writeUInt16BE(m.includes('\\x00\\x1c\\x00\\x01') ? 0 : 1, 6)
        const forged = Buffer.from(a); forged.writeUInt16BE((m.readUInt16BE(0) + 1) & 0xffff, 0); forged[forged.length - 1] = 66
        s.send(forged, port, address, () => s.send(a, port, address))
      }).bind(53, '${server}')`
    const upstream = spawn(nsenter, [...enter, process.execPath, '-e', script], { stdio: 'ignore' })
    t.teardown(() => upstream.kill())
    const [front, back] = await Promise.all([runOn('front'), runOn('back')])
    await until(async () => (await shell(front, 'nslookup -type=a example.com')).includes('198.51.100.7'))
    t.notMatch(
      await shell(front, 'nslookup -type=a example.com'),
      '198.51.100.66',
      'an answer with another id is passed over',
    )
    t.match(await shell(back, 'nslookup -type=a example.com'), 'NXDOMAIN', 'a network without a way out')
    await remove(front, back)
  })

  await t.test('addresses that run out', async (t) => {
    await networkCommand('create', 'small', '--subnet', '10.98.0.0/29')
    const pods = await Promise.all(Array.from({ length: 5 }, () => runOn('small')))
    await refused(
      t,
      runOn('small'),
      'RESOURCE_EXHAUSTED',
      'network "small": no address is left in 10.98.0.0/29: 5 of 5 are in use',
    )
    t.match(await shell(pods[0] as Running, `ping -c1 -W3 ${pods[4]?.ips[0] ?? ''}`), ' 0% packet loss', 'others go on')
    await remove(pods[2] as Running)
    pods[2] = await runOn('small')
    await remove(...pods)
    await networkCommand('rm', 'small')
  })

  await t.test('what cannot be a network', async (t) => {
    for (const [args, says] of [
      [['a/b'], /not a name/],
      [['x', '--subnet', '10.99.0.0/16'], /clashes with network "back"/],
      [['x', '--subnet', '192.0.2.0/25'], /clashes with the address 192.0.2.1\/24 of uplink/],
      [['x', '--subnet', '10.1.2.3/24'], /not a subnet/],
      [['x', '--subnet', '10.1.2.0/31'], /prefix/],
      [['x', '--subnet', '10.1.2.0/24', '--subnet', '10.1.3.0/24'], /two subnets of one family/],
      [['x', '--mtu', '100'], /MTU 100/],
      [['front'], /exists/],
    ] as const) {
      await t.rejects(networkCommand('create', ...args), { message: says })
    }
    await host.run('ip', 'link', 'add', 'late', 'type', 'veth', 'peer', 'name', 'peer')
    await host.run('ip', 'addr', 'add', '10.99.0.200/24', 'dev', 'late')
    await until(async () => !(await host.run('ip', '-br', 'link')).includes('csb'), 20_000)
    await refused(t, runOn('back'), 'FAILED_PRECONDITION', 'network "back"', '10.99.0.0/24', 'late')
    await host.run('ip', 'link', 'del', 'late')
    const pod = await runOn('front')
    await remove(pod)
    t.match(await host.run('nft', 'list', 'ruleset'), /table inet caisson/)
    await networkCommand('reset')
    t.equal((await host.run('nft', 'list', 'ruleset')).trim(), '', 'one command takes all of it away')
    t.notMatch(await host.run('ip', '-br', 'link'), /csb|csn/)
    await networkCommand('rm', 'front', 'back')
    t.notMatch(await networkCommand('ls', '-q'), /front|back/)
  })

  await t.test('the network of another', async (t) => {
    const first = await runOn('default', {}, 'first')
    const second = await runOn(`container:${first.container.slice(0, 20)}`, {}, 'second')
    t.equal(await shell(second, 'wget -qO- http://127.0.0.1/name'), 'first\n', 'one loopback')
    t.match(
      await shell(second, 'ip addr show eth0; cat /etc/hosts'),
      new RegExp(`inet ${first.ips[0] ?? ''}/[^]*${first.ips[0] ?? ''}\tsecond`),
    )
    await service.restart()
    await remove(first)
    t.match(await shell(second, 'ip -o link'), 'LOOPBACK', 'it lives on without the one that made it')
    await remove(second)
    const holder = spawn('unshare', ['-n', 'sleep', '1000000'], { stdio: 'ignore' })
    t.teardown(() => holder.kill())
    const path = `/proc/${holder.pid ?? 0}/ns/net`
    await until(() => readlinkSync(path) !== readlinkSync('/proc/self/ns/net'))
    const named = await runOn(`ns:${path}`)
    t.equal(await shell(named, 'readlink /proc/self/ns/net'), `${readlinkSync(path)}\n`)
    await remove(named)
    await refused(t, runOn('container:ffffffffffff'), 'NOT_FOUND', 'ffffffffffff')
    await refused(t, runOn('ns:/proc/self/ns/uts'), 'INVALID_ARGUMENT', 'no network namespace')
    await refused(t, runOn('ns:/nowhere'), 'FAILED_PRECONDITION', '/nowhere')
  })

  await t.test('run by the command line', async (t) => {
    await networkCommand('create', 'apps')
    const caisson = async (...args: string[]): Promise<string> => {
      const { status, stdout, stderr } = await service.cli(args)
      if (status !== 0) throw new Error(stderr)
      return stdout
    }
    await caisson(
      'run',
      '-d',
      '--name',
      'web',
      '--network',
      'apps',
      '-p',
      '8088:80',
      busyboxImage,
      'sh',
      '-c',
      'mkdir /w; echo hi > /w/x; httpd -f -h /w',
    )
    await until(async () => (await host.run('curl', '-s', 'http://127.0.0.1:8088/x').catch(() => '')) === 'hi\n')
    t.equal(await caisson('run', '--network', 'apps', busyboxImage, 'wget', '-qO-', 'http://web/x'), 'hi\n')
    t.equal(await caisson('run', '--network', 'none', busyboxImage, 'ls', '/sys/class/net'), 'lo\n')
    t.equal(
      await caisson('run', '--network', 'container:web', busyboxImage, 'wget', '-qO-', 'http://127.0.0.1/x'),
      'hi\n',
    )
    t.match(await caisson('network', 'show', 'apps'), '◂ 8088->80/tcp')
    await t.rejects(caisson('run', '-p', '99999', busyboxImage, 'true'), { message: /--publish: "99999"/ })
    await t.rejects(caisson('run', '--network', 'host', '-p', '80', busyboxImage, 'true'), { message: /no ports/ })
    await caisson('rm', '-f', 'web')
    await networkCommand('rm', 'apps')
  })
})
