/** Debian's runsc (gVisor) as a runtime handler: its sandbox wants every controller; by ptrace, as nothing virtualizes here. */
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import {
  ContainerState,
  ended,
  exec,
  output,
  run,
  runPod,
  runShell,
  start,
  startShell,
  status,
} from '../helpers/pods.ts'
import { startService, until } from '../helpers/service.ts'
import { containerCgroup, needsVm } from '../helpers/vm.ts'

const path = '/usr/bin/runsc'

t.test('runsc', { skip: needsVm || (existsSync(path) ? false : `${path} is not installed`) }, async (t) => {
  const options = '["--network=none", "--platform=ptrace"]'
  const service = await startService(t, { config: `[runtimes.runsc]\npath = "${path}"\noptions = ${options}\n` })
  const { runtime } = service
  const { runtimeHandlers } = await runtime.status({})
  t.ok(runtimeHandlers.some(({ name }) => name === 'runsc'))
  const pod = await runPod(service, {}, 'runsc')

  t.test('what a container gives back', async (t) => {
    const script = 'echo out; echo err >&2; uname -v; id -u; id -g; hostname; exit 7'
    const result = await runShell(service, pod, script, {
      security: { runAsUser: { value: 1000 }, runAsGroup: { value: 1001 } },
    })
    t.match(result, { exitCode: 7, stderr: 'err\n' })
    const [first, version, ...rest] = result.stdout.trimEnd().split('\n')
    t.equal(first, 'out')
    t.notOk((await readFile('/proc/version', 'utf8')).includes(version ?? ''), `a kernel of its own: ${version}`)
    t.same(rest, ['1000', '1001', pod.config.hostname])
    t.match(await run(service, pod, { command: ['/bin/sh', '-c', 'kill -9 $$'] }), { exitCode: 137 })
  })

  t.test('a volume, a command, a signal', async (t) => {
    const hostPath = join(service.directory, 'volume')
    await mkdir(hostPath)
    await writeFile(join(hostPath, 'given'), 'by the host\n')
    const script = 'trap "echo told; exit 9" TERM; cat /volume/given; touch /volume/ready; while :; do sleep 1; done'
    const id = await startShell(service, pod, script, { mounts: [{ hostPath, containerPath: '/volume' }] })
    await until(() => Promise.resolve(existsSync(join(hostPath, 'ready'))), 60_000)
    t.ok(existsSync(containerCgroup(service, id)))
    const command = await exec(service, id, ['sh', '-c', 'echo here; echo there >&2; exit 5'])
    t.match(command, { exitCode: 5, stdout: 'here\n', stderr: 'there\n' })
    t.match(await exec(service, id, ['cat', '/volume/given']), { exitCode: 0, stdout: 'by the host\n' })
    await runtime.stopContainer({ containerId: id, timeout: 60 })
    const end = await ended(service, id)
    t.match(end, { exitCode: 9, reason: 'Error' })
    t.match(await output(end.logPath), { stdout: 'by the host\ntold\n' })
    await runtime.removeContainer({ containerId: id })
    t.notOk(existsSync(containerCgroup(service, id)))
  })

  t.test('it outlives the service', async (t) => {
    const id = await start(service, pod, {
      command: ['/bin/sh', '-c', 'read x; echo "got $x"; exit 8'],
      stdin: true,
      stdinOnce: true,
    })
    await service.restart()
    t.match(await status(service, id), { state: ContainerState.CONTAINER_RUNNING })
    service.spawnCli(['attach', id], 'pipe').stdin?.end('it\n')
    const end = await ended(service, id)
    t.match(end, { exitCode: 8 })
    t.equal((await output(end.logPath)).stdout, 'got it\n')
    await service.runtime.removePodSandbox({ podSandboxId: pod.id })
    await until(async () => (await service.leaks('--live')).length === 0, 60_000)
  })
})
