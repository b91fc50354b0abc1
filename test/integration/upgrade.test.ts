/** The service is replaced by another build while containers run: monitors replace their program, and nothing of a pod is lost. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { int64 } from '#src/cri/grpc/int64.ts'
import { buildId } from '#src/native/index.ts'
import { otherBuild, otherBuildId } from '../helpers/other-build.ts'
import {
  ContainerState,
  create,
  ended,
  exec,
  monitorPid,
  output,
  pidOf,
  type Pod,
  refused,
  runPod,
  startShell,
  status,
} from '../helpers/pods.ts'
import { busyboxImage, main, needsRoot, startService, type TestService, until } from '../helpers/service.ts'

interface Replacement {
  pod?: string
  from?: string
  to?: string
}

/** Which monitors have replaced their program, as the service that asked them says. */
async function replaced(service: TestService): Promise<Replacement[]> {
  return (await service.log()).filter(({ msg }) => /replacing the program/.test(msg ?? ''))
}

/** Lines without a gap and without a double, from 1 to the last. */
function numbered(t: Test, text: string, what: string): number {
  const lines = text.split('\n').slice(0, -1)
  t.same(
    lines.filter((line, index) => line !== String(index + 1)),
    [],
    what,
  )
  return lines.length
}

const handlers = [
  { name: '', path: '' },
  { name: 'crun', path: '/usr/bin/crun' },
  { name: 'runc', path: '/usr/sbin/runc' },
]

for (const { name, path } of handlers) {
  const skip = needsRoot || (path === '' || existsSync(path) ? false : `${path} is not installed`)
  t.test(name === '' ? 'the built-in runtime' : name, { skip, timeout: 120_000 }, async (t) => {
    const config = name === '' ? '' : `[runtimes.${name}]\npath = "${path}"\n`
    const service = await startService(t, { images: [busyboxImage], config })
    const update = await otherBuild()
    const pod: Pod = await runPod(service, {}, name)
    const monitor = await monitorPid(service, pod)
    const gate = (file: string): string => join(service.directory, file)
    const mounts = [{ hostPath: service.directory, containerPath: '/host' }]
    const whileNot = (file: string): string => `while [ ! -e /host/${file} ]; do sleep 0.02; done`
    const open = async (id: string, file: string): Promise<void> => {
      const reply = await exec(service, id, ['touch', `/host/${file}`])
      if (reply.exitCode !== 0) throw new Error(reply.stderr)
    }

    const helper = await startShell(service, pod, 'sleep 100000', { mounts })
    const writer = await startShell(
      service,
      pod,
      `n=0; while [ ! -e /host/written ]; do n=$((n+1)); echo $n; done; echo over >&2; exit 21`,
      { mounts },
    )
    const waiting = await startShell(service, pod, `read x; echo "got $x"; ${whileNot('waited')}; exit 22`, {
      mounts,
      stdin: true,
      stdinOnce: true,
    })
    const terminal = await startShell(service, pod, `tty; ${whileNot('waited')}; test -t 0 && echo end; exit 23`, {
      mounts,
      tty: true,
    })
    const away = await startShell(service, pod, `${whileNot('away')}; echo unseen; exit 24`, { mounts })
    const created = await create(service, pod, { command: ['/bin/sh', '-c', 'echo late; exit 25'] })
    const before = await startShell(service, pod, 'exit 26')
    await ended(service, before)
    const running = [helper, writer, waiting, terminal, away]
    const facts = async (ids: readonly string[]): Promise<unknown> =>
      Promise.all(
        ids.map(async (id) => {
          const { state, createdAt, startedAt, user } = await status(service, id)
          return { state, times: [createdAt, startedAt].map(int64), user, pid: await pidOf(service, id) }
        }),
      )
    const known = await facts(running)

    t.test('to another build, and back', async (t) => {
      const [from, to] = [buildId, otherBuildId]
      for (const [index, program] of [update, main, update].entries()) {
        await service.kill()
        if (index === 0) {
          // an end that no service sees, before the program is replaced
          writeFileSync(gate('away'), '')
          const pid = (known as { pid: number }[])[4]?.pid ?? 0
          await until(() => !existsSync(`/proc/${pid}`))
        }
        service.program = program
        await service.start()
        const [last] = (await replaced(service)).slice(-1)
        t.match(last, { pod: pod.id, from: index === 1 ? to : from, to: index === 1 ? from : to })
        t.equal(await monitorPid(service, pod), monitor, 'the same process')
        t.equal((await service.caisson.info({})).buildId, index === 1 ? from : to)
        const others = running.slice(0, 4)
        t.same(await facts(others), (known as unknown[]).slice(0, 4), 'states, times, users, processes')
        t.match(await exec(service, helper, ['sh', '-c', 'echo $((6*7)); exit 3']), { stdout: '42\n', exitCode: 3 })
      }
      t.equal((await replaced(service)).length, 3)
      t.match(await status(service, away), { state: ContainerState.CONTAINER_EXITED, exitCode: 24, reason: 'Error' })
      t.match(await status(service, before), { exitCode: 26 })
      t.equal((await output((await status(service, away)).logPath)).stdout, 'unseen\n')
    })

    t.test('what ends afterwards: code, and every byte of the log', async (t) => {
      await open(helper, 'written')
      const end = await ended(service, writer)
      t.match(end, { exitCode: 21, reason: 'Error', state: ContainerState.CONTAINER_EXITED })
      const { stdout, stderr } = await output(end.logPath)
      t.ok(numbered(t, stdout, 'no line is lost, none comes twice') > 1000)
      t.equal(stderr, 'over\n')

      await open(helper, 'waited')
      const other = await ended(service, terminal)
      t.equal(other.exitCode, 23)
      t.match((await output(other.logPath)).stdout, /^\/dev\/(pts\/0|console)\r?\nend\r?\n$/)
    })

    t.test('its input is open still, and its log can be reopened', async (t) => {
      const { logPath } = await status(service, waiting)
      await service.runtime.reopenContainerLog({ containerId: waiting })
      const attached = service.spawnCli(['attach', waiting], 'pipe')
      attached.stdin?.end('word\n')
      const end = await ended(service, waiting)
      t.equal(end.exitCode, 22)
      t.equal((await output(logPath)).stdout, 'got word\n')
    })

    t.test('what was created is started, what runs is stopped, new ones are made', async (t) => {
      await service.runtime.startContainer({ containerId: created })
      t.equal((await ended(service, created)).exitCode, 25)
      t.equal((await output((await status(service, created)).logPath)).stdout, 'late\n')
      await service.runtime.stopContainer({ containerId: helper, timeout: 0 })
      t.match(await status(service, helper), { exitCode: 137, reason: 'Error' })
      const fresh = await startShell(service, pod, 'trap "exit 27" TERM; echo up; while :; do sleep 0.02; done')
      await until(async () => readFileSync((await status(service, fresh)).logPath, 'utf8').includes('up'))
      await service.runtime.stopContainer({ containerId: fresh, timeout: 20 })
      t.equal((await status(service, fresh)).exitCode, 27)
      await refused(t, service.runtime.startContainer({ containerId: fresh }), 'FAILED_PRECONDITION')
      await service.runtime.removePodSandbox({ podSandboxId: pod.id })
      t.same(await service.leaks('--live'), [])
    })
  })
}
