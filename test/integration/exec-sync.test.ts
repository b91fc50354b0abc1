/** ExecSync: output, codes, time-outs that leave nothing, identity, bounds, and many at once. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { create, exec, NamespaceMode, pidOf, ProfileType, refused, runPod, startShell } from '../helpers/pods.ts'
import { busyboxImage, cgroupRoot, needsRoot, startService, until } from '../helpers/service.ts'

const mebibyte = 1 << 20

t.test('exec', { skip: needsRoot }, async (t) => {
  const service = await startService(t, { images: [busyboxImage] })
  const { runtime } = service
  const pod = await runPod(service)
  const id = await startShell(service, pod, 'exec sleep 100000')
  const cgroup = join(cgroupRoot(), service.slice, 'pods', `crio-caisson-${id}`)
  const processes = async (): Promise<string> => (await exec(service, id, ['ps', '-o', 'args'])).stdout

  t.test('output and exit codes', async (t) => {
    const { stdout, stderr, exitCode } = await exec(service, id, ['sh', '-c', 'echo out; echo err >&2; exit 3'])
    t.same({ stdout, stderr, exitCode }, { stdout: 'out\n', stderr: 'err\n', exitCode: 3 })
    t.equal((await exec(service, id, ['sh', '-c', 'kill -9 $$'])).exitCode, 137, 'a signal is 128 and its number')
    t.same(await exec(service, id, ['true']), { stdout: '', stderr: '', exitCode: 0 })
    t.equal((await exec(service, id, ['cat'])).stdout, '', 'standard input is empty')
    const binary = await runtime.execSync({ containerId: id, cmd: ['printf', '\\377\\000\\n'], timeout: 10 })
    t.same([...binary.stdout], [255, 0, 10], 'bytes as they are')
    t.equal((await exec(service, id.slice(0, 13), ['true'])).exitCode, 0, 'a prefix of the id does')
  })

  t.test('what cannot be', async (t) => {
    const call = (cmd: string[], containerId = id): Promise<unknown> =>
      runtime.execSync({ containerId, cmd, timeout: 10 })
    await refused(t, call(['/bin/missing']), 'FAILED_PRECONDITION', '/bin/missing')
    await refused(t, call(['/etc/passwd']), 'FAILED_PRECONDITION', '/etc/passwd')
    await refused(t, call([]), 'INVALID_ARGUMENT', /empty/)
    await refused(t, call(['true'], 'f'.repeat(64)), 'NOT_FOUND', 'f'.repeat(64))
    const created = await create(service, pod, { command: ['true'] })
    await refused(t, call(['true'], created), 'FAILED_PRECONDITION', created, /created/)
    await runtime.removeContainer({ containerId: created })
  })

  t.test('a time-out is DEADLINE_EXCEEDED, and nothing of it is left', async (t) => {
    // children in sessions of their own, one that ignores what can be ignored
    const script = '(setsid sleep 4321 &); (trap "" TERM HUP; sleep 4322) & sleep 4323'
    const from = Date.now()
    const call = runtime.execSync({ containerId: id, cmd: ['sh', '-c', script], timeout: 1 })
    await refused(t, call, 'DEADLINE_EXCEEDED', /timed out/)
    t.ok(Date.now() - from < 5000)
    t.notMatch(await processes(), /sleep 432/)
    const leaves = (): string[] => readdirSync(cgroup).filter((name) => name.startsWith('exec-'))
    await until(() => leaves().length === 0, 5000, 'no cgroup of an exec')
    t.equal((await exec(service, id, ['true'])).exitCode, 0, 'and the container goes on')
  })

  t.test('a child in the background does not hold the answer', async (t) => {
    const from = Date.now()
    const { stdout } = await exec(service, id, ['sh', '-c', 'sleep 1234 & echo $!; exit 0'], 60)
    t.match(stdout, /^\d+\n$/)
    t.ok(Date.now() - from < 5000)
    t.match(await processes(), /sleep 1234/, 'it lives on')
    await exec(service, id, ['kill', stdout.trim()])
  })

  t.test('identity: that of the container', async (t) => {
    const user = await startShell(service, pod, 'exec sleep 100000', {
      workingDir: '/tmp',
      envs: [{ key: 'OWN', value: Buffer.from('env') }],
      security: {
        namespaceOptions: { pid: NamespaceMode.CONTAINER },
        runAsUser: { value: 1000 },
        supplementalGroups: [77],
        noNewPrivs: true,
        seccomp: { profileType: ProfileType.RuntimeDefault },
        capabilities: { dropCapabilities: ['ALL'] },
      },
    })
    const { stdout } = await exec(service, user, [
      'sh',
      '-c',
      'id -u; id -g; id -G; pwd; echo $OWN $HOME; grep -E "^(CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; cat /proc/self/cgroup; cat /proc/self/oom_score_adj',
    ])
    const lines = stdout.split('\n')
    t.same(lines.slice(0, 2), ['1000', '1000'])
    t.same(lines[2]?.split(' ').sort(), ['1000', '77'])
    t.same(lines.slice(3, 5), ['/tmp', 'env /home'])
    t.same(
      lines.slice(5, 8).map((line) => line.replace(/\s+/, ' ')),
      ['CapBnd: 0000000000000000', 'NoNewPrivs: 1', 'Seccomp: 2'],
    )
    t.match(
      lines.find((line) => line.startsWith('0::')),
      /^0::\/(exec-\d+)?$/,
      'below the container’s cgroup',
    )
    t.equal(lines.at(-2), '0')
    t.same(
      await Promise.all(
        ['net', 'pid', 'mnt', 'uts', 'ipc'].map((type) => exec(service, user, ['readlink', `/proc/self/ns/${type}`])),
      ),
      await Promise.all(
        ['net', 'pid', 'mnt', 'uts', 'ipc'].map((type) => exec(service, user, ['readlink', `/proc/1/ns/${type}`])),
      ),
      'in all its namespaces',
    )
    await runtime.removeContainer({ containerId: user })
  })

  t.test('output is bounded: the service keeps its memory', async (t) => {
    const rss = (): number =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${service.pid}/status`, 'utf8'))?.[1]) << 10
    const before = rss()
    const script = 'head -c 104857600 /dev/zero; head -c 104857600 /dev/zero >&2; exit 9'
    const reply = await runtime.execSync({ containerId: id, cmd: ['sh', '-c', script], timeout: 60 })
    t.equal(reply.exitCode, 9, 'the command ran to its end')
    const [out, err] = [reply.stdout.length, reply.stderr.length]
    t.ok(out + err <= 16 * mebibyte, 'a kubelet can take the reply')
    t.ok(out >= 7 * mebibyte && err >= 7 * mebibyte, `${out} and ${err} bytes`)
    t.ok(rss() - before < 160 * mebibyte, `${(rss() - before) >> 20} MiB more`)
  })

  t.test('50 at once', async (t) => {
    const replies = await Promise.all(
      Array.from({ length: 50 }, (_, i) => exec(service, id, ['sh', '-c', `echo ${i}; exit ${i}`], 60)),
    )
    t.same(
      replies.map(({ stdout, exitCode }) => [stdout, exitCode]),
      replies.map((_, i) => [`${i}\n`, i]),
    )
    t.same(await service.leaks('--live'), [])
  })

  t.test('one that ends while a command is put beside it is named', async (t) => {
    for (let round = 0; round < 20; round++) {
      const containerId = await startShell(service, pod, 'exec sleep 1000')
      const calls = Array.from({ length: 8 }, () => runtime.execSync({ containerId, cmd: ['true'], timeout: 20 }))
      const [outcomes] = await Promise.all([
        Promise.allSettled(calls),
        runtime.stopContainer({ containerId, timeout: 0 }),
      ])
      for (const outcome of outcomes) {
        if (outcome.status === 'fulfilled') continue
        const { message } = outcome.reason as Error
        if (!message.includes(containerId)) t.fail(message)
      }
      await runtime.removeContainer({ containerId })
    }
  })

  t.test('the end of the container ends what is exec’d in it', async (t) => {
    const other = await startShell(service, pod, 'exec sleep 100000')
    const call = runtime.execSync({ containerId: other, cmd: ['sh', '-c', 'echo on; sleep 5678'], timeout: 60 })
    const pid = await pidOf(service, other)
    const leaf = join(cgroupRoot(), service.slice, 'pods', `crio-caisson-${other}`)
    await until(() => existsSync(leaf) && readdirSync(leaf).some((name) => name.startsWith('exec-')))
    await runtime.stopContainer({ containerId: other, timeout: 0 })
    const outcome = await call.then(
      ({ exitCode }) => exitCode,
      (error: unknown) => (error as { fields: { status: string } }).fields.status,
    )
    t.ok(outcome === 137 || outcome === 'FAILED_PRECONDITION', `${outcome}`)
    t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
  })
})
