/** podman with the runtime under test: how containers begin, are entered, watched, stopped, and end. */
import { chmodSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cannotRun, type Known, noDeviceProgram, runtime, subtests } from '../helpers/conformance.ts'
import { put } from '../helpers/enclave.ts'
import { image, openPodman, sleeps } from '../helpers/podman.ts'
import { until } from '../helpers/service.ts'

const known: Known = {}

const skip = cannotRun('podman', 'conmon', 'skopeo') || noDeviceProgram()

void t.test('podman', { skip, timeout: 280_000 }, async (t) => {
  const podman = await openPodman(t)
  const { enclave } = podman
  const { directory } = enclave
  const test = subtests(t, known)

  test('a process, its output, its status', async (t) => {
    const { status, stdout, stderr } = await podman.once([], 'sh', '-c', 'echo out; echo err >&2; exit 3')
    t.same({ status, stdout, stderr }, { status: 3, stdout: 'out\n', stderr: 'err\n' })
    const fed = await podman.run(['run', '--rm', '-i', image, 'cat'], 'through standard input')
    t.equal(fed.stdout, 'through standard input')
    t.equal(await podman.ok('ps', '-aq'), '', '--rm leaves none')
  })

  test('what podman classifies by the text of the error', async (t) => {
    const missing = await podman.once([], '/bin/none')
    t.equal(missing.status, 127, missing.stderr)
    const unfound = await podman.once([], 'none')
    t.equal(unfound.status, 127, unfound.stderr)
    const denied = await podman.once([], '/etc/passwd')
    t.equal(denied.status, 126, denied.stderr)
    const directoryIsNone = await podman.once([], '/etc')
    t.equal(directoryIsNone.status, 126, directoryIsNone.stderr)
    t.equal(await podman.ok('ps', '-aq'), '', 'nothing is left of them')
  })

  test('exec', async (t) => {
    await podman.ok('run', '-d', '--name', 'e', '--env', 'A=1', image, ...sleeps)
    t.equal(
      await podman.ok(
        'exec',
        '-w',
        '/tmp',
        '-u',
        '1000:1000',
        '-e',
        'B=2',
        'e',
        'sh',
        '-c',
        'echo $A $B $(pwd) $(id -u) $(id -g)',
      ),
      '1 2 /tmp 1000 1000',
    )
    const failed = await podman.run(['exec', 'e', 'sh', '-c', 'echo out; echo err >&2; exit 9'])
    t.same([failed.status, failed.stdout, failed.stderr], [9, 'out\n', 'err\n'])
    const fed = await podman.run(['exec', '-i', 'e', 'cat'], 'through standard input')
    t.equal(fed.stdout, 'through standard input')
    t.equal((await podman.run(['exec', 'e', 'none'])).status, 127, 'a missing program')
    t.equal((await podman.run(['exec', 'e', '/etc/passwd'])).status, 126, 'no program')
    t.equal(
      await podman
        .ok('exec', '--privileged', 'e', 'grep', 'CapBnd', '/proc/self/status')
        .then((text) => /[1-9a-f]/.test(text)),
      true,
    )
    await podman.ok('exec', '-d', 'e', 'touch', '/tmp/made')
    await until(async () => (await podman.run(['exec', 'e', 'test', '-e', '/tmp/made'])).status === 0)
    const many = await Promise.all(Array.from({ length: 4 }, (_, at) => podman.ok('exec', 'e', 'echo', String(at))))
    t.same(many, ['0', '1', '2', '3'], 'four at once')
    await podman.remove('e')
  })

  test('a terminal', async (t) => {
    // the size is told once the process is there
    const size = 'until stty size 2>/dev/null | grep -v "^0 0"; do :; done'
    const run = await podman.terminal(['run', '--rm', '-it', image, 'sh', '-c', `tty; ${size}; exit 4`])
    t.match(run.stdout, '/dev/pts/0')
    t.match(run.stdout, '33 77', 'with the size of the one outside')
    t.equal(run.status, 4)
    await podman.ok('run', '-d', '--name', 'tty', image, ...sleeps)
    const exec = await podman.terminal([
      'exec',
      '-it',
      'tty',
      'sh',
      '-c',
      `test -t 0 && test -t 1 && echo terminal; ${size}; exit 5`,
    ])
    t.match(exec.stdout, 'terminal')
    t.match(exec.stdout, '33 77')
    t.equal(exec.status, 5)
    const typed = await podman.terminal(['exec', '-it', 'tty', 'sh'], 'echo $((40 + 2))\nexit 6\n')
    t.match(typed.stdout, '42')
    t.equal(typed.status, 6)
    const console = await podman.ok('run', '--rm', '-t', image, 'ls', '-l', '/dev/console')
    t.match(console, /^c/, '/dev/console is the terminal')
    await podman.remove('tty')
  })

  test('logs, wait, inspect, top', async (t) => {
    await podman.ok(
      'run',
      '-d',
      '--name',
      'l',
      image,
      'sh',
      '-c',
      'echo one; echo two >&2; until test -e /go; do sleep 0.1; done',
    )
    t.equal(await podman.inspect('l', '.State.Status'), 'running')
    const pid = Number(await podman.inspect('l', '.State.Pid'))
    t.ok(existsSync(enclave.path(`/proc/${pid}/exe`)), 'the pid is the process')
    t.match(await podman.ok('top', 'l', 'args'), 'until test -e /go')
    await podman.ok('exec', 'l', 'touch', '/go')
    t.equal(await podman.ok('wait', 'l'), '0')
    const { stdout, stderr } = await podman.run(['logs', 'l'])
    t.same([stdout, stderr], ['one\n', 'two\n'])
    t.equal(await podman.inspect('l', '.State.Status'), 'exited')
    t.equal(await podman.inspect('l', '.OCIRuntime'), runtime)
    await podman.ok('rm', 'l')
  })

  test('create, init, start, attach, restart', async (t) => {
    await podman.ok('create', '--name', 's', '-i', image, 'sh', '-c', 'read line; echo "got $line"; exit 2')
    await podman.ok('init', 's')
    t.equal(await podman.inspect('s', '.State.Status'), 'initialized')
    const attached = await podman.run(['start', '-a', '-i', 's'], 'a line\n')
    t.same([attached.status, attached.stdout], [2, 'got a line\n'])
    await podman.ok('rm', 's')

    await podman.ok('run', '-d', '--name', 'r', image, 'sh', '-c', 'echo started >>/count; exec sleep 100')
    const before = await podman.inspect('r', '.State.Pid')
    await podman.ok('restart', '-t', '0', 'r')
    t.not(await podman.inspect('r', '.State.Pid'), before)
    await until(async () => (await podman.ok('exec', 'r', 'cat', '/count')) === 'started\nstarted')
    await podman.remove('r')
  })

  test('stop and kill', async (t) => {
    await podman.ok('run', '-d', '--name', 'k', image, ...sleeps)
    await until(async () => (await podman.ok('logs', 'k')) === 'ready')
    await podman.ok('stop', '-t', '10', 'k')
    t.equal(await podman.inspect('k', '.State.ExitCode'), '7', 'SIGTERM is handled')
    await podman.ok('start', 'k')
    await podman.ok('kill', 'k')
    await podman.waitFor('k', '.State.Status', 'exited')
    t.equal(await podman.inspect('k', '.State.ExitCode'), '137')
    await podman.ok('rm', 'k')

    await podman.ok(
      'run',
      '-d',
      '--name',
      'k',
      '--stop-signal',
      'USR1',
      image,
      'sh',
      '-c',
      'trap "exit 8" USR1; trap "" TERM; echo ready; while :; do sleep 0.1; done',
    )
    await until(async () => (await podman.ok('logs', 'k')) === 'ready')
    await podman.ok('kill', '-s', 'TERM', 'k')
    t.equal(await podman.inspect('k', '.State.Status'), 'running', 'an ignored signal')
    await podman.ok('stop', 'k')
    t.equal(await podman.inspect('k', '.State.ExitCode'), '8', '--stop-signal')
    t.not((await podman.run(['kill', 'k'])).status, 0, 'nothing to kill')
    await podman.ok('rm', 'k')

    await podman.ok('run', '-d', '--name', 'k', image, 'sleep', '100')
    await podman.ok('stop', '-t', '1', 'k')
    t.equal(await podman.inspect('k', '.State.ExitCode'), '137', 'SIGKILL when the time is up')
    await podman.ok('rm', 'k')

    await podman.ok('run', '-d', '--name', 'k', image, 'sleep', '100')
    await podman.remove('k')
    t.equal(await podman.ok('ps', '-aq'), '', 'rm -f')
    // the first process of the host's pid namespace ends on signals that others get from a parent: all must go
    await podman.ok('run', '-d', '--name', 'k', '--pid', 'host', image, 'sh', '-c', 'sleep 101 & sleep 102 & wait')
    await podman.remove('k')
    const processes = await enclave.must(['ps', 'ax', '-o', 'args'])
    t.notMatch(processes, /sleep 10[12]/, 'no process is left of a container without a pid namespace')
  })

  test('pause and unpause', async (t) => {
    await podman.ok('run', '-d', '--name', 'p', image, ...sleeps)
    await podman.ok('pause', 'p')
    t.equal(await podman.inspect('p', '.State.Status'), 'paused')
    t.not((await podman.run(['exec', 'p', 'true'])).status, 0, 'no exec into it')
    const cgroups = readdirSync(join(enclave.cgroup, 'libpod_parent')).filter((name) => name.startsWith('libpod-'))
    const events = await Promise.all(
      cgroups.map((name) => readFile(join(enclave.cgroup, 'libpod_parent', name, 'cgroup.events'), 'utf8')),
    )
    t.ok(
      events.some((text) => text.includes('frozen 1')),
      'the cgroup is frozen',
    )
    await podman.ok('unpause', 'p')
    t.equal(await podman.inspect('p', '.State.Status'), 'running')
    t.equal(await podman.ok('exec', 'p', 'echo', 'awake'), 'awake')
    await podman.ok('pause', 'p')
    await podman.remove('p')
    t.equal(await podman.ok('ps', '-aq'), '', 'a paused one can be removed')
  })

  test('a health check', async (t) => {
    await podman.ok(
      'run',
      '-d',
      '--name',
      'h',
      '--health-cmd',
      'test -e /tmp/well',
      '--health-interval',
      'disable',
      '--health-retries',
      '1',
      image,
      ...sleeps,
    )
    t.not((await podman.run(['healthcheck', 'run', 'h'])).status, 0)
    t.equal(await podman.inspect('h', '.State.Health.Status'), 'unhealthy')
    await podman.ok('exec', 'h', 'touch', '/tmp/well')
    await podman.ok('healthcheck', 'run', 'h')
    t.equal(await podman.inspect('h', '.State.Health.Status'), 'healthy')
    await podman.remove('h')
  })

  test('hooks', async (t) => {
    const log = join(directory, 'hooks.log')
    const program = await put(
      join(directory, 'hook'),
      `#!/bin/sh\nread -r state || true\necho "$1 $state" >>${log}\n`,
      0o755,
    )
    const stages = ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop']
    for (const stage of stages) {
      const hook = {
        version: '1.0.0',
        hook: { path: program, args: ['hook', stage] },
        when: { annotations: { '^hooked$': 'yes' } },
        stages: [stage],
      }
      await put(join(directory, 'hooks', `${stage}.json`), JSON.stringify(hook))
    }
    const { status, stderr } = await podman.once(['--annotation', 'hooked=yes'], 'true')
    t.equal(status, 0, stderr)
    await until(async () => (await readFile(log, 'utf8')).includes('poststop'))
    const lines = (await readFile(log, 'utf8')).trimEnd().split('\n')
    t.same(
      lines.map((line) => line.split(' ')[0]),
      stages,
      'in their order',
    )
    for (const line of lines) {
      const state = JSON.parse(line.slice(line.indexOf(' '))) as {
        ociVersion: string
        id: string
        status: string
        annotations: Record<string, string>
      }
      t.match(state.ociVersion, /^1\./)
      t.match(state.id, /^[0-9a-f]{64}$/)
      t.equal(state.annotations['hooked'], 'yes')
    }
    await put(program, '#!/bin/sh\necho "no" >&2\nexit 1\n')
    chmodSync(program, 0o755)
    const failed = await podman.once(['--annotation', 'hooked=yes'], 'true')
    t.not(failed.status, 0, 'a hook that fails')
    t.equal(await podman.ok('ps', '-aq'), '')
  })

  test('--rootfs', async (t) => {
    const container = await podman.ok('create', image)
    const root = join(directory, 'root')
    mkdirSync(root)
    await podman.ok('export', '-o', join(directory, 'root.tar'), container)
    await podman.ok('rm', container)
    await enclave.must(['tar', '-xf', join(directory, 'root.tar'), '-C', root])
    const { status, stdout, stderr } = await podman.run(['run', '--rm', '--rootfs', root, 'cat', '/etc/motd'])
    t.same([status, stdout], [0, 'second layer\n'], stderr)
    t.equal(
      await podman.ok(
        'run',
        '--rm',
        '--systemd',
        'always',
        '--rootfs',
        root,
        'sh',
        '-c',
        'grep -c " /run " /proc/self/mountinfo',
      ),
      '1',
      'as systemd wants it',
    )
  })

  test('many at once', async (t) => {
    const results = await Promise.all(
      Array.from({ length: 6 }, (_, at) => podman.once([], 'sh', '-c', `echo ${at}; exit ${at}`)),
    )
    t.same(
      results.map(({ status, stdout }) => [status, stdout]),
      [0, 1, 2, 3, 4, 5].map((at) => [at, `${at}\n`]),
    )
    t.equal(await podman.ok('ps', '-aq'), '')
  })
})
