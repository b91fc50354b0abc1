import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import t from 'tap'
import { native } from '#src/native/index.ts'
import { addLink, askStatus, checkLink, collectGarbage, deleteLink, type Link } from '#src/network/cni/chain.ts'
import { parseNetworkList, type NetworkList } from '#src/network/cni/config.ts'
import { EarlierPlugins } from '#src/network/cni/earlier-plugins.ts'
import { runPlugin, type PluginHost } from '#src/network/cni/plugin.ts'

const directory = t.testdir()
const host: PluginHost = {
  native,
  directories: [join(directory, 'none'), directory],
  timeoutMs: 10_000,
  earlier: new EarlierPlugins(native, join(directory, 'locks')),
}

function plugin(name: string, script: string): void {
  writeFileSync(join(directory, name), `#!/bin/sh -u\n${script}\n`)
  chmodSync(join(directory, name), 0o755)
}

const call = (type: string, limits: Partial<PluginHost> = {}, signal?: AbortSignal): Promise<unknown> =>
  runPlugin(
    { ...host, ...limits },
    { verb: 'ADD', network: 'net-a', type, config: { x: 1 }, parameters: { CNI_IFNAME: 'eth0' }, signal },
  )

t.test('a plugin gets its configuration and parameters, and says its result', async (t) => {
  plugin(
    'echo',
    `printf '{"in":%s,"verb":"%s","if":"%s","path":"%s"}' "$(cat)" "$CNI_COMMAND" "$CNI_IFNAME" "$CNI_PATH"`,
  )
  t.strictSame(await call('echo'), {
    in: { x: 1 },
    verb: 'ADD',
    if: 'eth0',
    path: `${directory}/none:${directory}`,
  })
  plugin('silent', 'exit 0')
  t.equal(await call('silent'), null)
  plugin('large', `head -c 500000 /dev/zero | tr '\\0' ' '; echo '{"ok":true}'`)
  t.strictSame(await call('large'), { ok: true })
})

t.test('what plugins do wrong is told with network and plugin', async (t) => {
  const bad: [string, string, RegExp][] = [
    [
      'error',
      `echo '{"code":11,"msg":"no address is left","details":"pool 10.0.0.0/30"}'; exit 1`,
      /no address is left; pool/,
    ],
    ['complains', 'echo "iptables: not found" >&2; exit 3', /exit code 3.*iptables: not found/],
    ['garbage', 'printf "\\001\\002 not json"', /not a JSON object; it wrote: not json/],
    ['list', 'echo "[1]"', /not a JSON object/],
    ['crashes', 'kill -SEGV $$', /signal 11/],
    ['endless', 'cat /dev/zero', /more than 1048576 bytes/],
  ]
  for (const [name, script, message] of bad) {
    plugin(name, script)
    const prefix = new RegExp(`^network "net-a": plugin "${name}": ADD.*${message.source}`)
    await t.rejects(call(name), { code: 'ERR_NETWORK_SETUP', message: prefix })
  }
  t.match(await call('error').catch((error: unknown) => error), { pluginCode: 11 })
  await t.rejects(call('absent'), { message: /plugin "absent".*no such program in/ })
  writeFileSync(join(directory, 'text'), '#!/bin/sh\n')
  await t.rejects(call('text'), { message: /cannot execute .*text: it is not executable/ })
  writeFileSync(join(directory, 'lost'), '#!/no/such/shell\n', { mode: 0o755 })
  await t.rejects(call('lost'), { message: /cannot execute .*lost: ENOENT/ })
  writeFileSync(join(directory, 'junk'), 'not a program', { mode: 0o755 })
  await t.rejects(call('junk'), { message: /cannot execute .*junk: ENOEXEC/ })
})

t.test('one that hangs is ended with its children', async (t) => {
  const pids = join(directory, 'pids')
  plugin('hangs', `trap '' TERM INT; sh -c 'echo $$ >>${pids}; sleep 100' & echo $$ >>${pids}; wait; sleep 100`)
  const began = performance.now()
  await t.rejects(call('hangs', { timeoutMs: 400 }), { message: /plugin "hangs": ADD did not end in 0\.4 s/ })
  t.ok(performance.now() - began < 5000)
  for (const pid of readFileSync(pids, 'utf8').trim().split('\n')) {
    const state = (): string | undefined =>
      existsSync(`/proc/${pid}/stat`) ? /\) (.)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1] : undefined
    for (let i = 0; i < 50 && ![undefined, 'Z'].includes(state()); i++) await sleep(20)
    t.ok([undefined, 'Z'].includes(state()), `process ${pid} has ended`)
  }
})

t.test('one that is cancelled ends, and one whose child keeps its output is not waited for', async (t) => {
  plugin('waits', 'sleep 100')
  const abort = new AbortController()
  const waiting = call('waits', {}, abort.signal)
  setTimeout(() => {
    abort.abort()
  }, 100)
  await t.rejects(waiting, { message: /was cancelled/ })
  await t.rejects(call('waits', {}, AbortSignal.abort()))
  plugin('leaves', `sleep 5 & echo '{"left":true}'`)
  const began = performance.now()
  t.strictSame(await call('leaves'), { left: true })
  t.ok(performance.now() - began < 3000)
})

/** Every call by one line: verb, plugin, and what it was given. */
function recorder(name: string, extra = ''): void {
  plugin(
    name,
    `printf '%s ${name} %s %s %s %s\\n' "$CNI_COMMAND" "\${CNI_NETNS-}" "\${CNI_IFNAME-}" "\${CNI_ARGS-}" "$(tr -d '\\n')" >>${directory}/calls
${extra}
case $CNI_COMMAND in ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}],"by":"${name}"}';; esac`,
  )
}

const calls = (): { verb: string; plugin: string; netns: string; config: Record<string, unknown> }[] =>
  readFileSync(join(directory, 'calls'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const [verb = '', name = '', netns = ''] = line.split(' ')
      return { verb, plugin: name, netns, config: JSON.parse(line.slice(line.indexOf('{'))) as Record<string, unknown> }
    })

function link(list: Partial<NetworkList> = {}): Link {
  const text = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'net-a',
    plugins: [
      { type: 'one', capabilities: { portMappings: true, dns: false } },
      { type: 'two', mtu: 1400 },
    ],
  })
  return {
    list: { ...parseNetworkList(text, 'file'), ...list },
    containerId: 'c1',
    ifName: 'eth0',
    args: [
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAME', 'web'],
    ],
    capabilities: { portMappings: [{ hostPort: 80 }], dns: { servers: [] }, bandwidth: undefined },
    begun: 2,
    result: null,
  }
}

t.test('a chain: results go down it, and back up', async (t) => {
  recorder('one')
  recorder('two')
  writeFileSync(join(directory, 'calls'), '')
  const one = link()
  const kept: unknown[] = []
  await addLink(host, one, '/run/netns/x', AbortSignal.timeout(10_000), async () => void kept.push(one.result))
  t.match(kept, [{ by: 'one' }, { by: 'two' }], 'also known to who comes after a kill')
  t.match(one.result, { by: 'two' })
  await checkLink(host, one, '/run/netns/x', AbortSignal.timeout(10_000))
  await deleteLink(host, one, '')
  const said = calls()
  t.strictSame(
    said.map(({ verb, plugin: name }) => `${verb} ${name}`),
    ['ADD one', 'ADD two', 'CHECK one', 'CHECK two', 'DEL two', 'DEL one'],
  )
  t.strictSame(said[0]?.config, {
    type: 'one',
    name: 'net-a',
    cniVersion: '1.0.0',
    runtimeConfig: { portMappings: [{ hostPort: 80 }] },
  })
  t.match(said[1]?.config, { mtu: 1400, prevResult: { by: 'one' } })
  t.notOk('runtimeConfig' in (said[1]?.config ?? {}))
  for (const { config } of said.slice(2)) t.match(config, { prevResult: { by: 'two' } })
  t.match(
    readFileSync(join(directory, 'calls'), 'utf8'),
    /^ADD one \/run\/netns\/x eth0 IgnoreUnknown=1;K8S_POD_NAME=web /,
  )
  const evil = link()
  evil.args.push(['K8S_POD_NAME', 'a;K8S_POD_NAMESPACE=kube-system'])
  await t.rejects(addLink(host, evil, 'x', AbortSignal.timeout(10_000)), { code: 'ERR_INVALID_ARGUMENT' })
})

t.test('older lists: no result at DEL, no CHECK; newer ones: GC and STATUS', async (t) => {
  recorder('one')
  recorder('two')
  writeFileSync(join(directory, 'calls'), '')
  const old = { ...link({ cniVersion: '0.3.1' }), result: { by: 'two' } }
  await checkLink(host, old, 'x', AbortSignal.timeout(10_000))
  await deleteLink(host, old, 'x')
  t.notOk(calls().some(({ config }) => 'prevResult' in config))
  await collectGarbage(host, old.list, [old])
  await askStatus(host, old.list, AbortSignal.timeout(10_000))
  t.equal(calls().length, 2)
  const { list } = link({ cniVersion: '1.1.0' })
  await collectGarbage(host, list, [old])
  await askStatus(host, list, AbortSignal.timeout(10_000))
  t.match(calls().slice(2), [
    { verb: 'GC', config: { 'cni.dev/valid-attachments': [{ containerID: 'c1', ifname: 'eth0' }] } },
    { verb: 'GC' },
    { verb: 'STATUS' },
    { verb: 'STATUS' },
  ])
  recorder('two', `[ "$CNI_COMMAND" != STATUS ] || { echo '{"code":50,"msg":"the agent is not up"}'; exit 1; }`)
  await t.rejects(askStatus(host, list, AbortSignal.timeout(10_000)), { message: /plugin "two".*the agent is not up/ })
})

t.test('a plugin that cannot DEL does not keep the others from it', async (t) => {
  recorder('one')
  recorder('two', '[ "$CNI_COMMAND" != DEL ] || { echo broken >&2; exit 1; }')
  writeFileSync(join(directory, 'calls'), '')
  await t.rejects(deleteLink(host, link(), ''), { message: /plugin "two": DEL failed.*broken/ })
  t.strictSame(
    calls().map(({ plugin: name }) => name),
    ['two', 'one'],
  )
})

t.test('a plugin that an earlier service has left is waited for', async (t) => {
  const said = join(directory, 'said')
  plugin('slow', `sleep 1; echo slow >>${said}; echo '{}'`)
  plugin('quick', `echo quick >>${said}; echo '{}'`)
  plugin('forker', `sleep 30 >/dev/null 2>&1 & echo '{}'`)
  const run = (of: EarlierPlugins, type: string, timeoutMs = 10_000): Promise<unknown> =>
    runPlugin(
      { ...host, earlier: of, timeoutMs },
      { verb: 'ADD', network: 'net-a', type, config: {}, parameters: { CNI_CONTAINERID: 'pod' } },
    )
  const earlier = new EarlierPlugins(native, join(directory, 'locks'))
  const later = new EarlierPlugins(native, join(directory, 'locks'))
  const slow = run(earlier, 'slow')
  await sleep(200)
  await run(later, 'quick')
  await slow
  t.equal(readFileSync(said, 'utf8'), 'slow\nquick\n')
  await run(later, 'quick')
  await later.forget('pod')
  t.notOk(existsSync(join(directory, 'locks/pod')))

  const began = performance.now()
  await run(later, 'forker')
  await run(later, 'quick')
  t.ok(performance.now() - began < 5000, 'its own it does not wait for: it knows of their end')
  const last = new EarlierPlugins(native, join(directory, 'locks'))
  await run(last, 'quick', 500)
  t.ok(performance.now() - began >= 500, 'what was left in the background is waited for as long as a plugin may take')
  t.match(readFileSync(said, 'utf8'), /^slow\n(quick\n){4}$/)
})
