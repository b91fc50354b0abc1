/** The built-in network on kernels that lack what it needs: Debian's has it in modules, which are kept from being loaded. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import type { runtime as cri } from '#src/gen/cri.ts'
import { NetHost } from '../helpers/net-host.ts'
import { exec, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, startService, until } from '../helpers/service.ts'
import { needsVm } from '../helpers/vm.ts'

const blocked = '/etc/modprobe.d/caisson-test.conf'

interface Module {
  name: string
  users: string[]
}

function modules(): Module[] {
  const lines = readFileSync('/proc/modules', 'utf8').trimEnd().split('\n')
  return lines.map((line) => {
    const [name = '', , , users = ''] = line.split(' ')
    return { name, users: users.split(',').filter((user) => user !== '' && user !== '-') }
  })
}

/** Takes a module out, and before it those that need it. @returns whether it is gone: what is in use stays */
function unload(name: string): boolean {
  const module = modules().find((one) => one.name === name)
  if (module === undefined) return true
  for (const user of module.users) if (!unload(user)) return false
  try {
    execFileSync('modprobe', ['-r', name], { stdio: 'ignore' })
  } catch {
    // told by the list
  }
  return !modules().some((one) => one.name === name)
}

function block(...names: string[]): void {
  mkdirSync(dirname(blocked), { recursive: true })
  writeFileSync(blocked, names.map((name) => `install ${name} /bin/false\n`).join(''))
}

const parts = ['nfnetlink', 'nf_tables', 'nft_masq', 'nft_fib_inet', 'bridge', 'veth'] as const

t.test('what the kernel lacks', { skip: needsVm }, async (t) => {
  t.teardown(() => {
    rmSync(blocked, { force: true })
  })
  const inUse = ['nfnetlink', 'bridge', 'veth'].filter((name) => !unload(name))
  if (inUse.length > 0) {
    const list = modules().map(({ name, users }) => `${name}(${users.join(',')})`)
    t.comment(list.join(' '))
    t.pass('nothing is tried', { skip: `in use by what ran before: ${inUse.join(', ')}` })
    return
  }
  block(...parts)
  const host = await NetHost.open(t)
  const service = await startService(t, { images: [busyboxImage], host, network: 'driver = "bridge"' })
  const ready = async (): Promise<cri.v1.RuntimeCondition.$Properties | undefined> =>
    (await service.runtime.status({})).status?.conditions?.find(({ type }) => type === 'NetworkReady') ?? undefined
  const attachments = join(service.root, 'instances', 'default', 'network', 'attachments')
  /** A network that is whole stays for ten seconds. */
  let keeps = /^$/
  const fails = async (t: Test, code: string, ...says: (string | RegExp)[]): Promise<void> => {
    await refused(t, runPod(service), code, 'network "default"', ...says)
    t.strictSame(
      (await host.interfaces()).filter((name) => !keeps.test(name)),
      [],
    )
    t.strictSame(readdirSync(attachments), [])
  }
  t.match(await ready(), { status: false, message: /nf_tables/ })

  const unlocked: string[] = []
  const allow = (...names: string[]): void => {
    unlocked.push(...names)
    block(...parts.filter((name) => !unlocked.includes(name)))
  }
  await t.test('bridges', (t) => fails(t, 'INTERNAL', 'cannot set up its bridge', 'ENOTSUP'))
  allow('bridge')
  await t.test('netfilter', (t) => fails(t, 'FAILED_PRECONDITION', 'nf_tables', 'EPROTONOSUPPORT'))
  allow('nfnetlink')
  await t.test('nf_tables', (t) => fails(t, 'FAILED_PRECONDITION', 'nf_tables', /ENOTSUP|EINVAL/))
  allow('nf_tables')
  await t.test('one expression', async (t) => {
    await fails(t, 'FAILED_PRECONDITION', 'nf_tables', 'refuses "')
    t.match(await ready(), { status: false, message: /refuses "/ })
    await new Promise((resolve) => setTimeout(resolve, 12_000))
    t.match(await ready(), { status: false, message: /refuses "/ }, 'it is not thought ready because there are tables')
  })
  allow('nft_masq', 'nft_fib_inet')
  await t.test('ready again, without a start', async (t) => {
    await until(async () => (await ready())?.status === true, 60_000)
    t.equal((await host.run('nft', 'list', 'ruleset')).trim(), '', 'what was tried is gone')
  })
  keeps = /^csb/
  await t.test('pairs', (t) => fails(t, 'INTERNAL', 'cannot attach the pod', 'ENOTSUP'))
  allow('veth')
  await t.test('all of it', async (t) => {
    const [one, two] = [await runPod(service), await runPod(service)]
    const { status } = await service.runtime.podSandboxStatus({ podSandboxId: one.id })
    const shell = await startShell(service, two, 'exec sleep 1000000')
    const { stdout } = await exec(service, shell, ['ping', '-c', '1', '-W', '5', status?.network?.ip ?? ''])
    t.match(stdout, ' 0% packet loss')
  })
})
