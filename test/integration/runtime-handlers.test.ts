/** Other OCI runtimes as runtime handlers: Debian's crun and runc, and a hostile one. */
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import {
  create,
  ended,
  exec,
  monitorPid,
  NamespaceMode,
  output,
  pidOf,
  refused,
  runPod,
  runShell,
  startShell,
  status,
} from '../helpers/pods.ts'
import { needsRoot, startService, type TestService } from '../helpers/service.ts'

const peers = { crun: '/usr/bin/crun', runc: '/usr/sbin/runc' }
const section = (name: string, path: string, more = ''): string => `[runtimes.${name}]\npath = "${path}"\n${more}\n`

async function said(service: TestService, id: string, words: string): Promise<void> {
  const { logPath } = await status(service, id)
  while (!existsSync(logPath) || !readFileSync(logPath, 'utf8').includes(words)) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

for (const [handler, path] of Object.entries(peers)) {
  const skip = needsRoot || (existsSync(path) ? false : `${path} is not installed`)
  t.test(handler, { skip }, async (t) => {
    const service = await startService(t, { config: section(handler, path) })
    const pod = await runPod(service, {}, handler)
    const own = await runPod(service)

    t.test('its own containers, beside those of the built-in one', async (t) => {
      const records = join(service.state, 'pods', pod.id, 'runtime')
      const theirs = await startShell(service, pod, 'echo up; sleep 1000')
      const ours = await startShell(service, own, 'echo up; sleep 1000')
      t.ok(existsSync(join(records, theirs)), 'the runtime has it in its records')
      t.notOk(existsSync(join(service.state, 'pods', own.id, 'runtime')))
      const pid = await pidOf(service, theirs)
      t.match(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), `0::${service.slice}/pods/crio-caisson-${theirs}`)
      t.match(readFileSync(`/proc/${pid}/status`, 'utf8'), `PPid:\t${await monitorPid(service, pod)}\n`)
      t.match(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'), /^\d/, 'not the monitor’s')
      await service.restart()
      await said(service, theirs, 'up')
      t.match(await exec(service, theirs, ['sh', '-c', 'echo $((6*7)); echo e >&2; exit 3']), {
        stdout: '42\n',
        stderr: 'e\n',
        exitCode: 3,
      })
      for (const id of [theirs, ours]) await service.runtime.stopContainer({ containerId: id, timeout: 0 })
      t.equal((await ended(service, theirs)).exitCode, 137)
      t.notOk(existsSync(join(records, theirs)), 'and has forgotten it')
      await service.runtime.removeContainer({ containerId: theirs })
    })

    t.test('exit codes, output, identity', async (t) => {
      for (let n = 0; n < 5; ++n) {
        const { exitCode, status: ran } = await runShell(service, pod, `echo out; echo err >&2; exit ${n}`)
        t.equal(exitCode, n)
        t.match(await output(ran.logPath), { stdout: 'out\n', stderr: 'err\n' })
      }
      const security = { runAsUser: { value: 1234 }, runAsGroup: { value: 55 }, supplementalGroups: [77] }
      const { status: ran } = await runShell(service, pod, 'id -u; id -g; id -G', { security })
      t.equal((await output(ran.logPath)).stdout, '1234\n55\n55 77\n')
      t.match([Number(ran.user?.linux?.uid), Number(ran.user?.linux?.gid)], [1234, 55])
    })

    t.test('stop signal, then the kill', async (t) => {
      const id = await startShell(
        service,
        pod,
        'trap "echo got; exit 9" TERM; echo ready; while :; do sleep 0.05; done',
      )
      await said(service, id, 'ready')
      await service.runtime.stopContainer({ containerId: id, timeout: 20 })
      t.equal((await status(service, id)).exitCode, 9)
    })

    t.test('volumes, the pod’s shared memory, its network', async (t) => {
      const volume = join(service.directory, 'volume')
      await mkdir(volume)
      await writeFile(join(volume, 'file'), 'from the host')
      const mounts = [{ containerPath: '/v', hostPath: volume, readonly: true }]
      const script = 'cat /v/file; touch /v/x || echo refused; echo shared >/dev/shm/s; hostname; ls /sys/class/net'
      const { status: ran } = await runShell(service, pod, script, { mounts })
      t.equal((await output(ran.logPath)).stdout, `from the hostrefused\n${pod.config.hostname ?? ''}\nlo\n`)
      const { status: other } = await runShell(service, pod, 'cat /dev/shm/s')
      t.equal((await output(other.logPath)).stdout, 'shared\n')
    })

    t.test('a terminal', async (t) => {
      const { status: ran } = await runShell(service, pod, 'tty; test -t 0 && echo yes', { tty: true })
      t.match((await output(ran.logPath)).stdout, /\/dev\/(pts\/0|console)\r?\nyes/)
    })

    t.test('execSync: what is missing, and a time-out', async (t) => {
      const id = await startShell(service, pod, 'echo up; sleep 1000')
      await said(service, id, 'up')
      await refused(t, service.runtime.execSync({ containerId: id, cmd: ['/nowhere'] }), 'FAILED_PRECONDITION', handler)
      const slow = service.runtime.execSync({ containerId: id, cmd: ['sleep', '100'], timeout: 1 })
      await refused(t, slow, 'DEADLINE_EXCEEDED', /sleep/)
      t.equal((await exec(service, id, ['echo', 'still'])).stdout, 'still\n')
    })

    t.test('a program that is missing', async (t) => {
      const options = { command: ['/nowhere'], args: [] }
      await refused(t, create(service, pod, options), 'FAILED_PRECONDITION', handler, path)
    })

    t.test('limits are changed', async (t) => {
      const id = await startShell(service, pod, 'sleep 1000')
      await service.runtime.updateContainerResources({ containerId: id, linux: { oomScoreAdj: 500 } })
      t.equal(readFileSync(`/proc/${await pidOf(service, id)}/oom_score_adj`, 'utf8'), '500\n')
    })
  })

  t.test(`${handler}: a user namespace`, { skip }, async (t) => {
    const service = await startService(t, { config: section(handler, path) })
    const { runtimeHandlers } = await service.runtime.status({})
    const told = runtimeHandlers.find(({ name }) => name === handler)
    t.ok(told?.features?.recursiveReadOnlyMounts)
    await chmod(service.directory, 0o711) // every way to the bundle is open, as it is to /var/lib/caisson
    const ids = [{ containerId: 0, hostId: 100_000, length: 65_536 }]
    const usernsOptions = { mode: NamespaceMode.POD, uids: ids, gids: ids }
    const linux = { securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER, usernsOptions } } }
    if (told?.features?.userNamespaces !== true) {
      await refused(t, runPod(service, { linux }, handler), 'FAILED_PRECONDITION', handler, /user namespaces/)
      return
    }
    const pod = await runPod(service, { linux }, handler)
    const { status: ran, exitCode } = await runShell(service, pod, 'id -u; cat /proc/self/uid_map; touch /x')
    t.equal(exitCode, 0)
    t.match((await output(ran.logPath)).stdout, /^0\n +0 +100000 +65536\n$/)
  })
}

t.test('hostile runtimes', { skip: needsRoot }, async (t) => {
  const scripts: Record<string, string> = {
    hangs: 'sleep 1000',
    garbage: 'head -c 300000 /dev/urandom; head -c 300000 /dev/urandom >&2; exit 1',
    talks: 'yes | head -c 5000000; exit 3',
    nothing: 'exit 0',
    wrong: 'while [ $# -gt 0 ]; do if [ "$1" = --pid-file ]; then echo 1 >"$2"; fi; shift; done',
    stranger: 'while [ $# -gt 0 ]; do if [ "$1" = --pid-file ]; then echo $PPID >"$2"; fi; shift; done',
    words: 'while [ $# -gt 0 ]; do if [ "$1" = --log ]; then yes x | head -c 999999 >"$2"; fi; shift; done; exit 1',
    logs: `while [ $# -gt 0 ]; do if [ "$1" = --log ]; then echo '{"level":"error","msg":"no luck today"}' >>"$2"; fi; shift; done; exit 1`,
  }
  const scratch = `/tmp/caisson-hostile-${process.pid}`
  await mkdir(scratch)
  t.teardown(() => import('node:fs/promises').then(({ rm }) => rm(scratch, { recursive: true })))
  let config = section('missing', '/nowhere/at/all')
  for (const [name, script] of Object.entries(scripts)) {
    const path = join(scratch, name)
    await writeFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    config += section(name, path, 'timeout = 2')
  }
  const service = await startService(t, { config })
  const { runtimeHandlers } = await service.runtime.status({})
  t.same(
    runtimeHandlers.map(({ name }) => name),
    ['', 'missing', ...Object.keys(scripts)],
  )
  for (const { name, features } of runtimeHandlers)
    t.equal(Boolean(features?.userNamespaces), name === '', String(name))
  await refused(t, runPod(service, {}, 'unheard-of'), 'INVALID_ARGUMENT', 'unheard-of', /hangs/)
  await refused(t, runPod(service, {}, 'missing'), 'FAILED_PRECONDITION', 'missing', '/nowhere/at/all')

  const expected: Record<string, RegExp> = {
    hangs: /has not ended within 2000 ms and was killed/,
    garbage: /failed with status 1 and has logged nothing/,
    talks: /failed with status 3/,
    nothing: /has written no pid file/,
    wrong: /no process id/,
    stranger: /not in the container's cgroup/,
    words: /: x/,
    logs: /create: no luck today/,
  }
  for (const name of Object.keys(scripts)) {
    const pod = await runPod(service, {}, name)
    await refused(
      t,
      create(service, pod, { args: ['true'] }),
      'INTERNAL',
      `runtime handler "${name}"`,
      expected[name] ?? '?',
    )
    const { containers } = await service.runtime.listContainers({ filter: { podSandboxId: pod.id } })
    t.same(containers, [], `${name}: nothing is left`)
  }
})

for (const [handler, path] of Object.entries(peers)) {
  const skip = needsRoot || (existsSync(path) ? false : `${path} is not installed`)
  t.test(`${handler}: streams, and the service killed in the middle of a creation`, { skip }, async (t) => {
    const service = await startService(t, { config: section(handler, path) })
    const pod = await runPod(service, {}, handler)
    const id = await startShell(service, pod, 'echo up; sleep 1000')
    await said(service, id, 'up')
    const tty = await service.cli(['exec', id, 'sh', '-c', 'echo in; exit 4'])
    t.match(tty, { status: 4, stdout: 'in\n' })
    for (const ms of [5, 20, 60]) {
      const creation = create(service, pod, { args: ['sleep', '1000'] }).catch(() => null)
      await new Promise((resolve) => setTimeout(resolve, ms))
      await service.restart()
      await creation
    }
    t.match((await exec(service, id, ['echo', 'still'])).stdout, 'still')
  })
}
