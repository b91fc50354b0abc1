/** dockerd with the runtime under test as its default one. Where it is installed: scripts/setup does not bring a daemon of its own. */
import { closeSync, openSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cannotRun, type Known, noDeviceProgram, runtime, subtests, words } from '../helpers/conformance.ts'
import { openEnclave, put, quoted } from '../helpers/enclave.ts'
import { saveBusybox } from '../helpers/image.ts'
import { image, sleeps, statusField } from '../helpers/podman.ts'
import { type CommandResult, until } from '../helpers/service.ts'

const known: Known = { runc: { privileged: 'Debian 12: refuses a capability that this root has not got to give' } }
const skip = cannotRun('dockerd', 'containerd', 'skopeo') || noDeviceProgram()
// a wrapper of that name may stand in front of Debian's
const client = ['/usr/bin/docker', '-H', 'unix:///run/docker.sock']

void t.test('docker', { skip, timeout: 280_000 }, async (t) => {
  const stop = async (): Promise<void> => {
    await enclave.run(['pkill', '-x', 'dockerd'])
    await until(async () => (await enclave.run(['pgrep', '-x', 'dockerd'])).status !== 0, 30_000, 'dockerd ends')
  }
  const enclave = await openEnclave(
    t,
    [/^cgroup \/docker$/, /^mount .*\/(data|vfs|netns)$/, /^mount \/run\/docker/],
    stop,
  )
  const { directory } = enclave
  const configuration = {
    runtimes: { tested: { path: runtime } },
    'default-runtime': 'tested',
    bridge: 'none',
    iptables: false,
    'data-root': join(directory, 'data'),
    'storage-driver': 'vfs',
    'exec-opts': ['native.cgroupdriver=cgroupfs'],
    hosts: ['unix:///run/docker.sock'],
  }
  const file = await put(join(directory, 'daemon.json'), JSON.stringify(configuration))
  const log = openSync(join(directory, 'dockerd.log'), 'a')
  enclave.spawn(['dockerd', '--config-file', file], { stdio: ['ignore', log, log] })
  closeSync(log)

  const docker = (args: readonly string[], input = ''): Promise<CommandResult> =>
    enclave.run([...client, ...args], { input, env: { HOME: directory } })
  const ok = (...args: string[]): Promise<string> =>
    enclave.must([...client, ...args], { env: { HOME: directory } }).then((text) => text.trimEnd())
  const once = (options: readonly string[], ...command: string[]): Promise<CommandResult> =>
    docker(['run', '--rm', '--network', 'none', ...options, image, ...command])
  const shell = (options: readonly string[], script: string): Promise<string> =>
    ok('run', '--rm', '--network', 'none', ...options, image, 'sh', '-c', script)
  const inspect = (name: string, field: string): Promise<string> => ok('inspect', name, '--format', `{{${field}}}`)
  await until(async () => (await docker(['version'])).status === 0, 30_000, 'dockerd is ready')
  await ok('load', '-q', '-i', await saveBusybox(directory, image))

  const test = subtests(t, known)

  test('a process, its output, its status', async (t) => {
    const { status, stdout, stderr } = await once([], 'sh', '-c', 'echo out; echo err >&2; exit 3')
    t.same({ status, stdout, stderr }, { status: 3, stdout: 'out\n', stderr: 'err\n' })
    const missing = await once([], 'none')
    t.equal(missing.status, 127)
    t.match(missing.stderr, words.notInPath)
    t.equal((await once([], '/etc/passwd')).status, 126)
    t.equal(await ok('ps', '-aq'), '')
  })

  test('exec, logs, top, pause, stop, restart, kill', async (t) => {
    await ok('run', '-d', '--name', 'life', '--init', '--network', 'none', image, ...sleeps)
    t.equal(await inspect('life', '.HostConfig.Runtime'), 'tested')
    t.equal(await ok('exec', '-u', '1000', '-w', '/tmp', 'life', 'sh', '-c', 'id -u; pwd'), '1000\n/tmp')
    t.equal((await docker(['exec', 'life', 'sh', '-c', 'exit 9'])).status, 9)
    t.match((await docker(['exec', 'life', 'none'])).stdout, words.notInPath)
    t.equal(await ok('logs', 'life'), 'ready')
    t.match(await ok('top', 'life'), 'docker-init')
    await ok('pause', 'life')
    t.equal(await inspect('life', '.State.Status'), 'paused')
    await ok('unpause', 'life')
    const line = quoted([
      ...client,
      'exec',
      '-it',
      'life',
      'sh',
      '-c',
      'tty; until stty size 2>/dev/null | grep -v "^0 0"; do :; done',
    ])
    t.match((await enclave.terminal(line, { env: { HOME: directory } })).stdout, /\/dev\/pts\/0\s+33 77/)
    await ok('stop', '-t', '10', 'life')
    t.equal(await inspect('life', '.State.ExitCode'), '7')
    await ok('restart', 'life')
    await ok('kill', 'life')
    await until(async () => (await inspect('life', '.State.Status')) === 'exited')
    t.equal(await inspect('life', '.State.ExitCode'), '137')
    await ok('rm', 'life')
  })

  test('privileged', async (t) => {
    t.match(
      await shell(['--privileged'], 'grep Seccomp: /proc/self/status; touch /proc/sys/kernel/panic && echo made'),
      /0\nmade$/,
    )
  })

  test('options, seen from inside', async (t) => {
    const shared = join(directory, 'shared')
    await mkdir(shared)
    const options = ['--read-only', '--user', '1000:2000', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges']
    options.push('--tmpfs', '/t', '--hostname', 'named', '-v', `${shared}:/e:ro`)
    const text = await shell(options, 'id -u; hostname; touch /t/x && echo made; cat /proc/self/status')
    t.match(text, /^1000\nnamed\nmade\n/)
    t.match(
      [statusField(text, 'CapEff'), statusField(text, 'NoNewPrivs'), statusField(text, 'Seccomp')],
      [/^0+$/, '1', '2'],
    )
    t.match(await once(options, 'touch', '/x'), { stderr: 'Read-only file system' })
    t.match(await once(options, 'touch', '/e/x'), { stderr: 'Read-only file system' })
    await ok('run', '-d', '--name', 'first', '--network', 'none', '--ipc', 'shareable', image, ...sleeps)
    const links = 'for n in net ipc pid; do readlink /proc/self/ns/$n; done'
    const joined = ['--network', 'container:first', '--ipc', 'container:first', '--pid', 'container:first']
    t.equal(await ok('run', '--rm', ...joined, image, 'sh', '-c', links), await ok('exec', 'first', 'sh', '-c', links))
    await ok('rm', '-f', 'first')
  })
})
