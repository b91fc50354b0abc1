/** sd_notify(3) as a manager hears it: python's socket, since Node has no datagrams of unix(7). */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import t, { type Test } from 'tap'

import { ServiceManager } from '#src/cli/commands/service-manager.ts'
import { socketGroup } from '#src/cli/commands/socket-group.ts'
import { until } from '../helpers/service.ts'

const listener = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print('up', flush=True)
while True: print(repr(s.recv(4096).decode()), flush=True)
`
const skip = spawnSync('python3', ['--version']).status !== 0 && 'needs python3'

interface Manager {
  heard: () => string[]
  process: ChildProcess
}

async function manager(t: Test, address: string): Promise<Manager> {
  const child = spawn('python3', ['-c', listener, address], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let text = ''
  child.stdout.on('data', (data: Buffer) => (text += data.toString()))
  const heard = (): string[] => text.split('\n').slice(0, -1)
  await until(() => heard().includes('up'))
  return { heard: () => heard().slice(1), process: child }
}

function quiet(t: Test): { warn: () => void } {
  return { warn: () => t.fail('nothing is to be warned of') }
}

t.test('what a service says', { skip }, async (t) => {
  const directory = await mkdtemp('/tmp/csn-')
  t.teardown(() => rm(directory, { recursive: true }))
  for (const address of [join(directory, 'notify'), `@${directory}`]) {
    const { heard } = await manager(t, address)
    const environment: NodeJS.ProcessEnv = { NOTIFY_SOCKET: address, PATH: '/bin' }
    const service = ServiceManager.of(environment, quiet(t))
    t.same(environment, { PATH: '/bin' }, 'no child speaks for it')
    await Promise.all([service.ready('serving'), service.reloading(), service.ready('serving'), service.stopping()])
    await until(() => heard().length === 4)
    const [ready, reloading, again, stopping] = heard()
    t.equal(ready, String.raw`'READY=1\nSTATUS=serving'`)
    t.match(reloading, /^'RELOADING=1\\nMONOTONIC_USEC=\d+'$/)
    t.equal(again, ready)
    t.match(stopping, /^'STOPPING=1\\n/)
  }
})

t.test('the watchdog is fed while the event loop turns', { skip }, async (t) => {
  const address = `@csn-watchdog-${process.pid}`
  const { heard } = await manager(t, address)
  const fed = (): number => heard().filter((line) => line === "'WATCHDOG=1'").length
  const other = { NOTIFY_SOCKET: address, WATCHDOG_USEC: '30000', WATCHDOG_PID: '1' }
  await ServiceManager.of({ ...other }, quiet(t)).ready('')
  // it goes on to the end of the process, which its manager does not see
  const service = ServiceManager.of({ ...other, WATCHDOG_PID: String(process.pid) }, { warn: () => undefined })
  await service.ready('')
  await service.ready('') // after a reload: one timer only
  await until(() => fed() >= 10)
  const holdUp = (): void => {
    const end = performance.now() + 200
    while (performance.now() < end); // the loop does not turn
  }
  holdUp() // what was sent before has been heard then
  const before = fed()
  holdUp()
  await new Promise((resolve) => setTimeout(resolve, 5))
  t.ok(fed() - before <= 4, `fed ${fed() - before} times in 200 ms without the event loop; every 10 ms otherwise`)
})

t.test('without a manager, and with one that is gone', async (t) => {
  const warnings: object[] = []
  const log = { warn: (fields: object) => warnings.push(fields) }
  await ServiceManager.of({}, log).ready('')
  await ServiceManager.of({ WATCHDOG_USEC: '1000' }, log).stopping()
  t.same(warnings, [])
  await ServiceManager.of({ NOTIFY_SOCKET: `@csn-nobody-${process.pid}` }, log).ready('')
  t.match(warnings, [{ err: { code: 'ECONNREFUSED' } }])
  await ServiceManager.of({ NOTIFY_SOCKET: 'vsock:2:1234' }, log).ready('')
  t.match(warnings[1], { err: { code: 'EINVAL' } })
})

t.test('the group of the socket', async (t) => {
  const file = join(await mkdtemp('/tmp/csn-'), 'group')
  t.teardown(() => rm(join(file, '..'), { recursive: true }))
  await writeFile(file, 'root:x:0:\n#caisson:x:1:\ncaisson:x:998:a,b\nbroken:x:\n')
  t.equal(await socketGroup('', file), null)
  t.equal(await socketGroup('caisson', file), 998)
  t.equal(await socketGroup('5000', file), 5000)
  for (const name of ['missing', 'broken']) {
    await t.rejects(socketGroup(name, file), {
      code: 'ERR_CONFIG_INVALID',
      message: /socket\.group is ".*no such group/,
    })
  }
})
